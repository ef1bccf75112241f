#!/usr/bin/env bash
# run.sh BUILD SECONDS [--keep]: fuzzes each reader for so long, from the seeds and the tests' own data. What breaks one
# stays in BUILD/fuzz. --keep brings what was learnt into tests/fuzz/seeds, as few and as small files as cover it.
set -euo pipefail
build=$1 seconds=$2 keep=${3:-}
here=$(cd "$(dirname "$0")" && pwd)
data=$here/../data
export ASAN_OPTIONS=detect_container_overflow=0:allocator_may_return_null=1:detect_leaks=0
export UBSAN_OPTIONS=halt_on_error=1 GOMP_SPINCOUNT=1000

inputs() { # READER FOLDER: the tests' data that this reader takes
  local at=$2
  case $1 in
    config) for f in "$data"/models/*/config.json; do cp "$f" "$at/$(basename "$(dirname "$f")")"; done ;;
    safetensors) for f in "$data"/models/*/model*.safetensors; do head -c 4000 "$f" >"$at/$(basename "$(dirname "$f")")"; done ;;
    tokenizer) for f in "$data"/text/*/tokenizer.json; do cp "$f" "$at/$(basename "$(dirname "$f")")"; done ;;
    template) cp "$data"/text/templates/*.jinja "$data"/text/published/*.jinja "$at" ;;
  esac
}

fuzz() { # READER
  local reader=$1 work=$build/fuzz/$1
  mkdir -p "$work/corpus" "$work/given" "$here/seeds/$reader"
  inputs "$reader" "$work/given"
  # Children of their own: a template that is stopped keeps its memory to the end of the process.
  (cd "$work" && nice "$build/bin/fuzz_$reader" -fork=1 -max_total_time="$seconds" -timeout=60 -max_len=40000 \
    -rss_limit_mb=4096 -dict="$here/words.txt" corpus given "$here/seeds/$reader" >log 2>&1) ||
    { tail -40 "$work/log"; echo "$reader: broken by an input in $work"; exit 1; }
  echo "$reader: $(grep -oE 'cov: [0-9]+ ft: [0-9]+ corp: [0-9]+' "$work/log" | tail -1), $seconds s"
  [[ $keep == --keep ]] || return 0
  mkdir -p "$work/merged"
  "$build/bin/fuzz_$reader" -merge=1 -max_len=3000 -rss_limit_mb=4096 "$work/merged" "$work/corpus" >"$work/merge.log" 2>&1
  find "$work/merged" -type f -size -3k -printf '%s %p\n' | sort -n | head -60 | cut -d' ' -f2 |
    xargs -r cp -t "$here/seeds/$reader"
}

# As many at once as there are cores.
for reader in config safetensors tokenizer template; do
  (($(jobs -rp | wc -l) < $(nproc))) || wait -n
  fuzz "$reader" &
done
while (($(jobs -p | wc -l) > 0)); do wait -n; done
