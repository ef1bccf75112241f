#!/usr/bin/env bash
# cpu_build.sh SOURCE TORCH FOLDER: with PENSIVE_CUDA=OFF, and with a libtorch that has no CUDA, the whole
# project configures and nothing of CUDA is in it.
set -euo pipefail
source=$1 torch=$2 folder=$3
rm -rf "$folder"
mkdir -p "$folder/torch/lib"
ln -s "$torch/include" "$folder/torch/include"
ln -s "$torch"/lib/libtorch_cpu.so "$torch"/lib/libc10.so "$torch"/lib/libgomp*.so.1 "$folder/torch/lib"

check() { # NAME ARGUMENTS...
  local name=$1; shift
  cmake -S "$source" -B "$folder/$name" -G Ninja -DPENSIVE_TESTS=ON -DPENSIVE_PYTHON=ON -DPENSIVE_TOOLS=ON "$@" \
    >"$folder/$name.log" 2>&1 || { cat "$folder/$name.log"; exit 1; }
  grep -q "CUDA: OFF" "$folder/$name.log" || { echo "$name: expected CUDA: OFF"; cat "$folder/$name.log"; exit 1; }
  if grep -E "libpensive-cuda|torch_cuda|nvcc|c10_cuda" "$folder/$name/build.ninja"; then
    echo "$name: expected a build without CUDA"; exit 1
  fi
}
check switched_off -DPENSIVE_CUDA=OFF -DPENSIVE_TORCH="$torch"
check without_cuda_in_torch -DPENSIVE_TORCH="$folder/torch"
rm -rf "$folder"
