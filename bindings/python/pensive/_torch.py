"""Opens libtorch before the module that needs it, without importing torch.

The libraries are those that `import torch` would take, so both can live in one process, in any
order; and a missing or other torch ends in a message, not in the loader's.
"""

import ctypes
import importlib.util
import os

from ._build import TORCH_VERSION


def _folder():
    spec = importlib.util.find_spec("torch")
    places = spec.submodule_search_locations if spec else None
    return os.path.join(places[0], "lib") if places else None


def open_libraries():
    folder = _folder()
    wanted = os.path.join(folder, "libtorch_cpu.so") if folder else "libtorch_cpu.so"
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
