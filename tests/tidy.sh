#!/usr/bin/env bash
# tidy.sh TORCH: clang-tidy over the library and the command, by .clang-tidy's short list.
set -euo pipefail
tidy=.setup/tidy/bin/clang-tidy  # Debian 12's own cannot read the ranges of its own libstdc++
[[ -x $tidy ]] || {
  python3 -m venv .setup/tidy
  .setup/tidy/bin/pip install --quiet --disable-pip-version-check clang-tidy==19.1.0.1
}
cmake --preset tidy -DPENSIVE_TORCH="$1"
cmake --build build/tidy --target pensive_commit
# Diagnostics go to standard output; what goes to the other one is counts of what is suppressed. clang cannot read GCC's
# omp.h.
git ls-files 'lib/*.cpp' 'bindings/shell/*.cpp' | xargs -P "$(nproc)" -n 1 \
  "$tidy" -quiet -p build/tidy -extra-arg=-fno-openmp 2>/dev/null
