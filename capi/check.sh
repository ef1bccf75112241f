#!/bin/sh
# check.sh LIBRARY SYMBOLS: the library exports exactly these symbols, and needs nothing but libc.
set -eu
found=$(nm -D --defined-only "$1" | awk '$2 == "T" {sub(/@.*/, "", $3); print $3}' | LC_ALL=C sort)
[ "$found" = "$(cat "$2")" ] || {
  echo "exported symbols differ from $2:"
  printf '%s\n' "$found" | diff "$2" - || true
  exit 1
}
needed=$(readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' | grep -v -E '^(libc|libdl|libpthread|ld-linux.*)\.so' || true)
[ -z "$needed" ] || { echo "expected to need libc only; found: $needed"; exit 1; }
readelf -d "$1" | grep -q 'SONAME.*\[libpensive\.so\.1\]' || { echo "SONAME is not libpensive.so.1"; exit 1; }
