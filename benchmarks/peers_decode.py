"""Decode and prefill by Transformers beside ours, in turns on one card: peers of goals P1, P2 and P3.

python peers_decode.py pensive-bench MODEL [ARGUMENTS ...] [--of r1-1.5b llama-1b FOLDER] [--rounds 3] [--out FILE]

Random weights of a shape, or a checkpoint's, in bfloat16. The peer decodes greedily, eagerly (its growing cache) and compiled (a static
cache, torch.compile with CUDA graphs); it reads prompts with its default attention, the last position's logits only.
Ours draws at temperature 1. A round is one turn of each: batch 1 from 64 to 576 positions, batch 64 from 512 to 640,
one and four prompts of 2,048. MODEL gives ours a tokenizer. A ratio is of two figures of one round.
"""
import argparse
import json
import statistics
import subprocess
import sys
import time

import torch
import transformers

import peers_models

DECODE = {1: (64, 512), 64: (512, 128)}  # batch: prompt, new tokens
PREFILL = {1: 2048, 4: 2048}  # prompts: tokens of each


class Peer:
    def __init__(self, shape):
        self.model = peers_models.load(shape)
        self.config = self.model.config
        self.compiled = {batch: self.compile(batch) for batch in DECODE}

    def ids(self, rows, tokens):
        return torch.randint(100, 30000, (rows, tokens), device="cuda")

    def compile(self, batch):
        """-> a function that decodes `batch` rows into a static cache and returns tokens/s."""
        length, new = DECODE[batch]
        cache = transformers.StaticCache(config=self.config, max_cache_len=length + new)

        def step(ids, position):
            out = self.model(ids, past_key_values=cache, cache_position=position, position_ids=position[None],
                             use_cache=True, logits_to_keep=1)
            return out.logits[:, -1].argmax(-1, keepdim=True)

        compiled = torch.compile(step, mode="reduce-overhead", fullgraph=True)

        def decode(tokens=new - 1):
            cache.reset()
            last = step(self.ids(batch, length), torch.arange(length, device="cuda"))
            position = torch.tensor([length], device="cuda")
            start = now()
            for _ in range(tokens):
                torch.compiler.cudagraph_mark_step_begin()
                last = compiled(last, position).clone()
                position = position + 1
            return batch * tokens / (now() - start)

        for _ in range(2):
            decode(8)  # compiled, recorded
        return decode

    def eager(self, batch, tokens=24):
        length, _ = DECODE[batch]
        cache = transformers.DynamicCache(config=self.config)
        last = self.model(self.ids(batch, length), past_key_values=cache, logits_to_keep=1).logits.argmax(-1)
        start = now()
        for _ in range(tokens):
            last = self.model(last, past_key_values=cache, logits_to_keep=1).logits.argmax(-1)
        return batch * tokens / (now() - start)

    def prefill(self, prompts):
        ids = self.ids(prompts, PREFILL[prompts])
        start = now()
        self.model(ids, use_cache=True, logits_to_keep=1)
        return ids.numel() / (now() - start)

    def turn(self):
        rates = {}
        for batch in DECODE:
            rates["decode beside Transformers, eager", batch] = self.eager(batch)
            rates["decode beside Transformers, compiled", batch] = self.compiled[batch]()
        for prompts in PREFILL:
            rates["prefill beside Transformers", prompts] = self.prefill(prompts)
        return rates


def now():
    torch.cuda.synchronize()
    return time.perf_counter()


def our_turn(args, shape):
    """-> tokens/s, and what part of the limit that is, of each case."""
    torch.cuda.empty_cache()
    made = subprocess.run([args.bench, *peers_models.arguments(shape, args.model), "--single", "--repetitions", "1",
                           *args.arguments], check=True, capture_output=True, text=True)
    rates = {}
    for line in map(json.loads, made.stdout.splitlines()):
        if line["case"] == "decode share":
            batch = int(line["shape"].split("batch ")[1].split(",")[0])
            for way in ("eager", "compiled"):
                rates[f"decode beside Transformers, {way}", batch] = line["median"]
        else:
            prompts = int(line["shape"].split(", ")[1].split(" x ")[0])
            rates["prefill beside Transformers", prompts] = line["tokens_per_s"]
    return rates


def shape_of(case, rows):
    if case.startswith("prefill"):
        return f"{rows} x {PREFILL[rows]}"
    length, new = DECODE[rows]
    return f"batch {rows}, context {length} to {length + new}"


def compare(args, shape, tell):
    label = peers_models.label(shape)
    peer = Peer(shape)
    peer.turn()  # warms up
    turns = [(peer.turn(), our_turn(args, shape)) for _ in range(args.rounds)]
    for case, rows in turns[0][0]:
        theirs, ours = ([turn[who][case, rows] for turn in turns] for who in (0, 1))
        ratios = [mine / other for mine, other in zip(ours, theirs)]
        tell({"case": case, "goal": "P3" if case.startswith("prefill") else "P1" if rows == 1 else "P2",
              "unit": "tokens/s", "shape": f"{label}, {shape_of(case, rows)}", "median": round(statistics.median(ours), 1),
              "peer": round(statistics.median(theirs), 1), "ratio": round(statistics.median(ratios), 2),
              "low": round(min(ratios), 2), "high": round(max(ratios), 2), "n": args.rounds, "model": label,
              "precision": "bfloat16", "device": torch.cuda.get_device_name(),
              "versions": f"torch {torch.__version__}, transformers {transformers.__version__}"})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("model")
    parser.add_argument("--of", nargs="+", default=["r1-1.5b", "llama-1b"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out")
    args, args.arguments = parser.parse_known_args()
    out = open(args.out, "w") if args.out else None

    def tell(line):
        for file in filter(None, (sys.stdout, out)):
            print(json.dumps(line), file=file, flush=True)

    with torch.inference_mode():
        for shape in args.of:
            compare(args, shape, tell)
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
