#!/usr/bin/env bash
# run.sh BUILD PEERS [ARGUMENTS of pensive-bench]: every benchmark, into benchmarks/results; then the tables of
# docs/performance.md. On a card (--device cuda) the goals P1 to P7 and P9, on shapes of random weights, written to the
# temporary folder the first time (6 GB), and on SmolLM2 where --peers made it. PEERS = 1: the other programs, in the
# same run as ours (P1 to P5 and P9 on a card, P8).
set -euo pipefail
build=$1
peers=$2
shift 2
bench="$build/bin/pensive-bench"
out=benchmarks/results

on_card() {
  [[ " $* " == *" --device cuda"* ]]
}

# P1 and P2; P3, P4, P5 and P9; P6 and P7, of one model.
goals() {
  "$bench" --repetitions 3 --out "$out" "$@"
  "$bench" --training --repetitions 5 --out "$out" "$@"
  "$bench" --engine --repetitions 3 --out "$out" "$@"
}

if [[ $peers == 1 ]]; then
  python=.setup/peers/bin/python
  tests/smollm2.sh
  "$python" -c 'import llama_cpp' 2>/dev/null || .setup/peers/bin/pip install --quiet llama-cpp-python  # builds: minutes
  [[ -f .setup/gguf/bfloat16.gguf ]] || "$python" benchmarks/peers.py --make-gguf .setup/gguf
  "$python" benchmarks/peers.py "$bench" .setup/smollm2 --gguf .setup/gguf --out "$out/smollm2-peers.jsonl" "$@"
  if on_card "$@"; then
    "$python" benchmarks/peers_decode.py "$bench" examples/reasoner --of r1-1.5b llama-1b .setup/smollm2 \
      --out "$out/peers-decode.jsonl" "$@"
    for model in r1-1.5b llama-1b .setup/smollm2; do
      "$python" benchmarks/peers_backward.py "$bench" examples/reasoner --of "$model" \
        --out "$out/$(basename "$model")-peers-training.jsonl" "$@"
    done
  fi
else
  "$bench" --out "$out" "$@"
  if on_card "$@"; then
    for shape in r1-1.5b llama-1b; do
      goals --shape "$shape" "$@"
      "$bench" --shape "$shape" --grid --out "$out" "$@"
    done
    [[ ! -f .setup/smollm2/config.json ]] || goals --model .setup/smollm2 --shape own "$@"
    "$bench" --shape smollm2 --grid --out "$out" "$@"
    "$bench" --shape r1-1.5b --training --grpo --new-tokens 2048 --mean-tokens 256 --out "$out" "$@"
    "$bench" --shape r1-1.5b --training --grpo --exact-logprobs --repetitions 5 --out "$out" "$@"
    "$bench" --shape r1-1.5b --training --overlap --out "$out" "$@"
    "$bench" --shape r1-1.5b --profile --out "$out" "$@"
    "$bench" --shape r1-1.5b --invariant --out "$out" "$@"
    "$bench" --shape r1-1.5b --memory --out "$out" "$@"
  fi
fi
python3 benchmarks/report.py
