#!/usr/bin/env bash
# run.sh BUILD PEERS [ARGUMENTS of pensive-bench]: every benchmark, into benchmarks/results; then the tables of
# docs/performance.md. On a card (--device cuda) the goals P1 to P7 and P9, on shapes of random weights, written to the
# temporary folder the first time (6 GB). PEERS = 1: the other programs, in the same run as ours (P1 to P3 and P5 on a
# card, P8).
set -euo pipefail
build=$1
peers=$2
shift 2
bench="$build/bin/pensive-bench"
out=benchmarks/results

on_card() {
  [[ " $* " == *" --device cuda"* ]]
}

if [[ $peers == 1 ]]; then
  python=.setup/peers/bin/python
  tests/smollm2.sh
  "$python" -c 'import llama_cpp' 2>/dev/null || .setup/peers/bin/pip install --quiet llama-cpp-python  # builds: minutes
  [[ -f .setup/gguf/bfloat16.gguf ]] || "$python" benchmarks/peers.py --make-gguf .setup/gguf
  "$python" benchmarks/peers.py "$bench" .setup/smollm2 --gguf .setup/gguf --out "$out/smollm2-peers.jsonl" "$@"
  if on_card "$@"; then
    "$python" benchmarks/peers_decode.py "$bench" examples/reasoner --out "$out/peers-decode.jsonl" "$@"
    "$python" benchmarks/peers_backward.py "$bench" examples/reasoner --out "$out/r1-1.5b-peers-training.jsonl" "$@"
  fi
else
  "$bench" --out "$out" "$@"
  if on_card "$@"; then
    for shape in r1-1.5b llama-1b; do
      "$bench" --shape "$shape" --repetitions 3 --out "$out" "$@"
      "$bench" --shape "$shape" --training --repetitions 5 --out "$out" "$@"
      "$bench" --shape "$shape" --grid --out "$out" "$@"
    done
    "$bench" --shape r1-1.5b --training --grpo --new-tokens 2048 --mean-tokens 256 --out "$out" "$@"
    "$bench" --shape r1-1.5b --training --overlap --out "$out" "$@"
    "$bench" --shape r1-1.5b --profile --out "$out" "$@"
    "$bench" --shape r1-1.5b --engine --repetitions 3 --out "$out" "$@"
    "$bench" --shape r1-1.5b --memory --out "$out" "$@"
  fi
fi
python3 benchmarks/report.py
