#!/bin/sh
# needed.sh FILES...: of libtorch these need the CPU's two libraries only, and nothing of CUDA.
set -eu
for file in "$@"; do
  needed=$(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
  wrong=$(echo "$needed" | grep -iE 'torch|c10|cuda|cudart|cublas|nvrtc|nccl' | grep -vxE 'libtorch_cpu\.so|libc10\.so' || true)
  [ -z "$wrong" ] || { echo "expected torch_cpu and c10 only; found $wrong ($file)"; exit 1; }
done
