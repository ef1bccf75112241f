#!/usr/bin/env bash
# run.sh BUILD ALL: every check of a finished build; with ALL = 1 also what is slow or needs downloads:
# a real checkpoint beside Transformers, clang-tidy, fuzzing, the sanitizers.
set -euo pipefail
build=$1
all=$2

git ls-files '*.h' '*.cpp' '*.cu' '*.c' | xargs clang-format --dry-run --Werror
ctest --test-dir "$build" --output-on-failure --no-tests=error
[[ $all == 1 ]] || exit 0

smollm2=.setup/smollm2
if [[ ! -f $smollm2/golden.json ]]; then
  python3 -m venv .setup/peers
  .setup/peers/bin/pip install --quiet torch==2.11.0 transformers==5.23.0 gguf accelerate
  .setup/peers/bin/python tests/make_smollm2.py "$smollm2"
fi
PENSIVE_SMOLLM2=$PWD/$smollm2 ctest --test-dir "$build" --output-on-failure -R '^(text|model|engine)_test$'

if command -v clang-tidy >/dev/null; then
  git ls-files 'lib/*.cpp' 'bindings/shell/*.cpp' | xargs -P "$(nproc)" -n 4 clang-tidy -quiet -p "$build"
else
  echo "clang-tidy is not installed: not run"
fi

# Ten minutes for each reader of files.
if ! command -v clang++-14 >/dev/null; then
  sudo=""; [[ $(id -u) == 0 ]] || sudo=sudo
  $sudo apt-get install -y -q --no-install-recommends clang-14 libclang-rt-14-dev
fi
torch=$(sed -n 's/^PENSIVE_TORCH:[A-Z]*=//p' "$build/CMakeCache.txt")
cmake --preset fuzz -DPENSIVE_TORCH="$torch"
cmake --build --preset fuzz --parallel "$(nproc)"
tests/fuzz/run.sh "$PWD/build/fuzz" 600

cmake --preset sanitize -DPENSIVE_TORCH="$torch"
cmake --build --preset sanitize --parallel "$(nproc)"
ctest --preset sanitize -R '^(base|text|judge|think|trace|kernels|model|engine|train|exam)_test$'
