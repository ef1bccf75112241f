"""Opens libtorch before the module that needs it, without importing torch.

The libraries are those that `import torch` would take, or else those of the build, so both can live
in one process, in any order; and a missing or other torch ends in a message, not in the loader's.
"""

import ctypes
import importlib.util
import os

from ._build import TORCH_FOLDER, TORCH_VERSION


def _folder():
    spec = importlib.util.find_spec("torch")
    places = list(spec.submodule_search_locations or []) if spec else []
    for place in places + [TORCH_FOLDER]:
        folder = os.path.join(place, "lib")
        if os.path.exists(os.path.join(folder, "libtorch_cpu.so")):
            return folder
    return ""  # wherever the loader looks


def _open_cuda(folder):
    """The halves that ours for CUDA needs; of no use where there is no driver."""
    names = [os.path.join(folder, name) for name in ("libc10_cuda.so", "libtorch_cuda.so")]
    try:
        ctypes.CDLL("libcuda.so.1")
        for name in filter(os.path.exists, names):
            ctypes.CDLL(name)
    except OSError:
        pass  # Model.load says what is missing, when somebody asks for CUDA


def open_libraries():
    folder = _folder()
    wanted = os.path.join(folder, "libtorch_cpu.so")
    try:
        library = ctypes.CDLL(wanted)
        version = library.aoti_torch_abi_version
    except (OSError, AttributeError) as error:
        raise ImportError(
            f"expected torch {TORCH_VERSION} (pip install torch=={TORCH_VERSION}.0); "
            f"found none that opens: {error} ({wanted})"
        ) from error
    version.restype = ctypes.c_uint64
    found = f"{version() >> 56}.{version() >> 48 & 0xFF}"
    if found != TORCH_VERSION:
        raise ImportError(f"expected torch {TORCH_VERSION}; found torch {found} ({wanted})")
    _open_cuda(folder)
