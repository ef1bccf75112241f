"""What the C door was at its version: abi.py LIBRARY [--write].

capi/abi.txt holds the version with the size of every struct and a hash of the exported symbols. What grows raises
PENSIVE_ABI_MINOR, so that an older library refuses a newer program by name instead of misreading it; --write then
writes the new sizes down. A struct that shrinks, or a symbol that goes, would need a new PENSIVE_ABI_MAJOR.
"""
import ctypes
import hashlib
import pathlib
import re
import sys

CAPI = pathlib.Path(__file__).resolve().parent.parent / "capi"
RECORD = CAPI / "abi.txt"


def found_in(library):
    door = ctypes.CDLL(library)
    door.pensive_struct_size.argtypes, door.pensive_struct_size.restype = [ctypes.c_char_p], ctypes.c_uint32
    headers = "".join(header.read_text() for header in sorted((CAPI / "pensive" / "c").glob("*.h")))
    version = [int(re.search(rf"#define PENSIVE_ABI_{part} (\d+)", headers)[1]) for part in ("MAJOR", "MINOR")]
    names = re.findall(r"typedef struct (pensive_\w+) \{\s*uint32_t struct_size", headers)
    sizes = {name: door.pensive_struct_size(name.encode()) for name in sorted(names)}
    unknown = [name for name, size in sizes.items() if size == 0]
    if len(sizes) < 40 or unknown:
        sys.exit(f"expected pensive_struct_size() to know every struct of the header; found none for {unknown}")
    symbols = hashlib.sha256((CAPI / "symbols.txt").read_bytes()).hexdigest()[:16]
    return version, {**sizes, "symbols": symbols}


def recorded():
    head, *lines = RECORD.read_text().splitlines()
    kept = dict(line.split() for line in lines)
    return [int(part) for part in head.split(".")], {name: int(value) if name != "symbols" else value
                                                     for name, value in kept.items()}


def main():
    version, now = found_in(sys.argv[1])
    before, then = recorded() if RECORD.exists() else ([0, 0], {})
    different = sorted(name for name in now.keys() | then.keys() if now.get(name) != then.get(name))
    shown = ", ".join(f"{name} {then.get(name)} -> {now.get(name)}" for name in different)
    if different and version == before:
        sys.exit(f"expected PENSIVE_ABI_MINOR to rise where the C door grows; found {version[0]}.{version[1]} as before "
                 f"with {shown}")
    if sys.argv[2:] == ["--write"]:
        lines = [f"{name} {value}" for name, value in now.items()]
        RECORD.write_text("\n".join([".".join(map(str, version)), *lines]) + "\n")
    elif different or version != before:
        sys.exit(f"expected capi/abi.txt to tell {version[0]}.{version[1]}; found {before[0]}.{before[1]}: {shown} "
                 f"(write it with tests/abi.py LIBRARY --write)")


main()
