#!/usr/bin/env bash
# The experiment of "Learning a Continue-Thinking Token" (Ringel, Tolochinsky, Romano, arXiv
# 2506.11274) as commands of pensive: train the row, examine every arm, compare. README.md says what
# it needs and what it cannot repeat. What a run has done already is not done again.
set -euo pipefail

out=${1:?usage: continue_token.sh OUT (README.md lists the variables)}
pensive=${PENSIVE:-pensive}
model=${MODEL:-deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B}
data=${DATA:?DATA: the folder of train.jsonl and of the files to be examined on}
system='You are a helpful AI Assistant. First, think through the reasoning inside <think>...</think>. Then, always present the final answer in \boxed{}'

# The paper's numbers. A dry run makes them small.
steps=${STEPS:-936} prompts=${PROMPTS:-64} group=${GROUP:-16}  # 64 x 16 generations an update
train_budget=${TRAIN_BUDGET:-8192}                             # B_max in training; C_max is 1
budgets=${BUDGETS:-8192 9216}                                  # B_max, examined
times=${TIMES:-1 2 3}                                          # C_max, examined
answer=${ANSWER:-1024}                                         # tokens kept for the answer
words=${WORDS:-Alternatively Hmm Wait}
limit=${LIMIT:-0}                                              # problems a file; 0: all
# The paper's grader is Qwen/Qwen2.5-7B-Instruct, asked where a response has no box. Empty: nobody is.
grading=()
[[ -z ${GRADER:-} ]] || grading=(--grader "$GRADER")
# Samples a problem: 6 for GSM8K-Platinum, 16 for MATH500, 64 for each AIME.
files=${FILES:-gsm8k_platinum:6 math500:16 aime24:64 aime25:64}
common=(-m "$model" --device "${DEVICE:-auto}" --system "$system" --temp 0.9 --top-p 1 --top-k 0
  --seed "${SEED:-0}")

mkdir -p "$out"
row=$out/continue.safetensors state=$out/train.state
train() {
  local resume=()
  [[ ! -e $state ]] || resume=(--resume)
  "$pensive" train "${common[@]}" "$data/train.jsonl" --out "$row" --name continue --start Wait \
    --think-max "$train_budget" --times 1 -n $((train_budget + answer)) \
    --steps "$steps" --prompts "$prompts" --group "$group" --inner-steps 4 --lr 1e-4 --reward boxed+correct \
    --checkpoint "$state" --save-every 1 --log "$out/train.jsonl" "${resume[@]}"
  touch "$out/trained"
}

# examine FILE SAMPLES BUDGET FOLDER [flags of the arm]
examine() {
  local file=$1 samples=$2 budget=$3 folder=$4
  shift 4
  [[ ! -e $folder/done ]] || return 0
  echo "== $folder"
  "$pensive" exam "${common[@]}" "$file" --limit "$limit" --samples "$samples" \
    --think-max "$budget" -n $((budget + answer)) --run "$folder" \
    "${grading[@]}" "$@"
  touch "$folder/done"
}

[[ -e $out/trained ]] || train
for entry in $files; do
  name=${entry%:*} samples=${entry#*:}
  file=
  for ending in jsonl json; do
    [[ ! -e $data/$name.$ending ]] || file=$data/$name.$ending
  done
  [[ -n $file ]] || { echo "left out: no $data/$name.jsonl" >&2; continue; }
  for budget in $budgets; do
    at=$out/$name-$budget
    mkdir -p "$at"
    examine "$file" "$samples" "$budget" "$at/none"
    arms=("$at/none")
    for c in $times; do
      for word in $words; do
        examine "$file" "$samples" "$budget" "$at/$word-x$c" --continue "$word" --times "$c"
        arms+=("$at/$word-x$c")
      done
      examine "$file" "$samples" "$budget" "$at/learned-x$c" --soft "$row" --continue continue --times "$c"
      arms+=("$at/learned-x$c")
    done
    "$pensive" compare "${arms[@]}" --html "$at/arms.html" --overwrite > "$at/against-none.txt"
    for c in $times; do
      [[ " $words " != *" Wait "* ]] ||
        "$pensive" compare "$at/Wait-x$c" "$at/learned-x$c" > "$at/learned-against-Wait-x$c.txt"
    done
    echo "== $at/arms.html"
  done
done
