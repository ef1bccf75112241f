"""pensive beside Transformers on one checkpoint, in turns: the same threads, precision and shapes.

    python benchmarks/peers.py BENCH MODEL [--device cpu] [--threads 2] [--rounds 3] [--out FILE]

BENCH is the built pensive-bench. Every round runs both, so that a machine that slows down slows both; a case's ratio is
the median of its rounds' ratios. One JSON line a case. Needs torch and transformers.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time

PROMPT, NEW, LONG = 64, 96, 512  # as pensive-bench --single has them


def peer(model, device):
    """tokens/s of greedy generation and of one forward over a long prompt."""
    import torch
    ids = torch.randint(100, model.config.vocab_size - 100, (1, PROMPT), device=device)
    long = torch.randint(100, model.config.vocab_size - 100, (1, LONG), device=device)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None

    def seconds(call):
        wait()
        began = time.perf_counter()
        call()
        wait()
        return time.perf_counter() - began

    generate = dict(do_sample=False, pad_token_id=0)
    with torch.inference_mode():
        model.generate(ids, max_new_tokens=8, min_new_tokens=8, **generate)
        first = seconds(lambda: model.generate(ids, max_new_tokens=1, min_new_tokens=1, **generate))
        whole = seconds(lambda: model.generate(ids, max_new_tokens=NEW, min_new_tokens=NEW, **generate))
        model(long, logits_to_keep=1)
        return {"decode": (NEW - 1) / (whole - first),
                "prefill": LONG / seconds(lambda: model(long, logits_to_keep=1))}


def ours(bench, folder, precision, device, threads):
    command = [bench, "--model", folder, "--precision", precision, "--device", device, "--single", "--repetitions", "1"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True,
                           env=os.environ | {"OMP_NUM_THREADS": str(threads)}).stdout.splitlines()
    return {line["case"]: line["median"] for line in map(json.loads, lines)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench")
    parser.add_argument("model")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out")
    args = parser.parse_args()

    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    import torch
    import transformers
    torch.set_num_threads(args.threads)
    transformers.logging.set_verbosity_error()
    out = open(args.out, "w") if args.out else None
    for precision in ("float32", "bfloat16"):
        model = transformers.AutoModelForCausalLM.from_pretrained(args.model, dtype=getattr(torch, precision))
        model.to(args.device)
        rounds = []
        for _ in range(args.rounds):
            theirs = peer(model, args.device)
            rounds.append((ours(args.bench, args.model, precision, args.device, args.threads), theirs))
        for case in ("decode", "prefill"):
            mine, other = ([figures[side][case] for figures in rounds] for side in (0, 1))
            ratios = sorted(a / b for a, b in zip(mine, other))
            line = json.dumps({
                "case": case, "precision": precision, "unit": "tokens/s", "pensive": round(statistics.median(mine), 1),
                "transformers": round(statistics.median(other), 1), "ratio": round(statistics.median(ratios), 2),
                "low": round(ratios[0], 2), "high": round(ratios[-1], 2), "n": args.rounds, "threads": args.threads,
                "device": args.device, "model": os.path.basename(os.path.normpath(args.model)),
                "versions": f"torch {torch.__version__}, transformers {transformers.__version__}"})
            print(line, flush=True)
            if out:
                print(line, file=out, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
