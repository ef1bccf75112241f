"""The gradient of one trained row the way Transformers gives it, by whole sequences: goal P5's peer.

python peers_backward.py [pensive-bench MODEL [ARGUMENTS ...]] [--completion 512] [--out FILE]

R1-Distill-Qwen-1.5B's shape with random frozen weights in bfloat16, prompts of 128 tokens, one row in
the middle of the completion, log-probabilities over the completion, one sequence's logits at a time.
Each line is the median of five; tokens are those of the completions, as `pensive-bench --training`
counts them. With the program and a folder that gives the tokenizer, that runs next on the same card, and the
last line is the ratio of its backward to the peer's best without recomputation.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
import transformers

PROMPT = 128


def make_model(device):
    config = transformers.Qwen2Config(
        vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, max_position_embeddings=32768, tie_word_embeddings=False, rope_theta=10000.0,
        rms_norm_eps=1e-6)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(device):
        model = transformers.Qwen2ForCausalLM(config)
    torch.set_default_dtype(torch.float32)
    return model.requires_grad_(False)


def step(model, row, sequences, completion):
    device = row.device
    ids = torch.randint(100, 30000, (sequences, PROMPT + completion), device=device)
    is_row = torch.zeros(ids.shape, dtype=torch.bool, device=device)
    is_row[:, PROMPT + completion // 2] = True
    embeddings = torch.where(is_row[..., None], row.to(torch.bfloat16), model.get_input_embeddings()(ids))
    hidden = model.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, PROMPT - 1:-1]

    def logprobs(states):
        return model.lm_head(states).float().log_softmax(-1)

    loss = 0
    for states, tokens in zip(hidden.split(1), ids[:, PROMPT:].split(1)):
        every = torch.utils.checkpoint.checkpoint(logprobs, states, use_reentrant=False)
        loss = loss - every.gather(-1, tokens[..., None]).mean()
    loss.backward()


def measure(model, row, sequences, completion, is_checkpointed, repetitions):
    if is_checkpointed:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()
    model.train(is_checkpointed)
    step(model, row, sequences, completion)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    rates = []
    for _ in range(repetitions):
        began = time.perf_counter()
        step(model, row, sequences, completion)
        torch.cuda.synchronize()
        rates.append(sequences * completion / (time.perf_counter() - began))
    return rates, torch.cuda.max_memory_allocated() / 1e9


def peers(args, tell):
    model = make_model("cuda")
    row = torch.randn(1536, device="cuda", requires_grad=True)
    best = {"median": 0}
    for sequences in args.sequences:
        for is_checkpointed in (False, True):
            try:
                rates, peak = measure(model, row, sequences, args.completion, is_checkpointed, args.repetitions)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                continue
            line = {
                "case": "peer: whole-sequence backward", "goal": "P5", "unit": "rollout tokens/s",
                "shape": f"r1-1.5b, {sequences} x {args.completion}, prompts of {PROMPT}", "checkpointed": is_checkpointed,
                "median": round(statistics.median(rates)), "low": round(min(rates)), "high": round(max(rates)),
                "n": args.repetitions, "peak_GB": round(peak, 2), "device": torch.cuda.get_device_name(),
                "versions": f"torch {torch.__version__}, transformers {transformers.__version__}"}
            tell(line)
            best = max(best, line, key=lambda one: one["median"])
    return best


def ours(args, tell):
    command = [args.bench, "--model", args.model, "--shape", "r1-1.5b", "--training", *args.arguments]
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    found = [json.loads(line) for line in lines]
    for line in found:
        tell(line)
    return {line["case"]: line for line in found}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench", nargs="?")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--completion", type=int, default=512)
    parser.add_argument("--sequences", type=int, nargs="+", default=[16, 32])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--out")
    args, args.arguments = parser.parse_known_args()
    out = open(args.out, "w") if args.out else None

    def tell(line):
        for file in filter(None, (sys.stdout, out)):
            print(json.dumps(line), file=file, flush=True)

    best = peers(args, tell)
    torch.cuda.empty_cache()
    if args.bench:
        lines = ours(args, tell)
        mine, extra = lines["backward"], lines["backward: memory beside weights and cache"]
        tell({"case": "backward over the whole-sequence peer", "goal": "P5", "unit": "ratio of rollout tokens/s",
              "shape": mine["shape"], "pensive": mine["median"], "transformers": best["median"],
              "ratio": round(mine["median"] / best["median"], 2), "pensive_GB": extra["median"],
              "transformers_GB": best["peak_GB"], "n": mine["n"], "device": best["device"]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
