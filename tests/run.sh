#!/usr/bin/env bash
# run.sh BUILD ALL: every check of a finished build; with ALL = 1 also what is slow or needs downloads:
# a real checkpoint beside Transformers, clang-tidy, fuzzing, the sanitizers.
set -euo pipefail
build=$1
all=$2

git ls-files '*.h' '*.cpp' '*.cu' '*.c' | xargs clang-format --dry-run --Werror
ctest --test-dir "$build" --output-on-failure --no-tests=error
[[ $all == 1 ]] || exit 0

PENSIVE_LONG=1 ctest --test-dir "$build" --output-on-failure -R '^(engine_test|shell|shell_train)$'
for _ in 1 2 3; do
  seed=$RANDOM  # other random inputs each time
  echo "PENSIVE_SEED=$seed"
  PENSIVE_SEED=$seed ctest --test-dir "$build" --output-on-failure -R '^kernels_test$'
done
tests/smollm2.sh
PENSIVE_SMOLLM2=$PWD/.setup/smollm2 ctest --test-dir "$build" --output-on-failure -R '^(text|model|engine)_test$'

.setup/peers/bin/python tests/exported.py "$build" .setup/smollm2

torch=$(sed -n 's/^PENSIVE_TORCH:[A-Z]*=//p' "$build/CMakeCache.txt")
tests/tidy.sh "$torch"

if ! command -v clang++-14 >/dev/null; then
  sudo=""; [[ $(id -u) == 0 ]] || sudo=sudo
  $sudo apt-get install -y -q --no-install-recommends clang-14 libclang-rt-14-dev
fi
for preset in sanitize threads fuzz; do
  cmake --preset $preset -DPENSIVE_TORCH="$torch"
  cmake --build --preset $preset --parallel "$(nproc)"
done
ctest --preset sanitize
ctest --preset threads
tests/fuzz/run.sh "$PWD/build/fuzz" 600  # ten minutes for each reader of files
