#!/usr/bin/env bash
# run.sh BUILD ALL: every check of a finished build, the quick tier or (ALL = 1) everything.
set -euo pipefail
build=$1
all=$2
label=(-LE slow)
[[ $all == 1 ]] && label=()
if command -v clang-format >/dev/null; then
  git ls-files '*.h' '*.cpp' '*.cu' '*.c' | xargs clang-format --dry-run --Werror
else
  echo "clang-format is not installed: formatting not checked"
fi
ctest --test-dir "$build" --output-on-failure --no-tests=error "${label[@]}"
