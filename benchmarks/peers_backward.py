"""The gradient of one trained row the way Transformers gives it, by whole sequences: goal P5's peer.

python peers_backward.py [pensive-bench MODEL [ARGUMENTS ...]] [--of r1-1.5b] [--completion 512] [--out FILE]

Frozen weights in bfloat16, random ones of a shape or a checkpoint's own (--of FOLDER), prompts of 128 tokens, one row in
the middle of the completion, log-probabilities over the completion, one sequence's logits at a time.
Each line is the median of five; tokens are those of the completions, as `pensive-bench --training`
counts them. With the program and a folder that gives the tokenizer, whole training steps of ours (P4)
are taken in turns with the peer, on the same card: as many sequences as fit beside ours. The last
lines are the ratios: of each turn, and to the peer's best when it had the card to itself.
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

PROMPT = 128


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


def keep_all(model, is_checkpointed):
    """Whether the backward finds what the forward made, or makes it again."""
    if is_checkpointed:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    else:
        model.gradient_checkpointing_disable()
    model.train(is_checkpointed)


def timed(model, row, sequences, completion):
    torch.cuda.synchronize()
    start = time.perf_counter()
    step(model, row, sequences, completion)
    torch.cuda.synchronize()
    return sequences * completion / (time.perf_counter() - start)


def peers(args, tell):
    """The peer alone on the card, every number of sequences with and without recomputation."""
    model = peers_models.load(args.of)
    row = torch.randn(model.config.hidden_size, device="cuda", requires_grad=True)
    held = torch.cuda.memory_allocated() / 1e9
    lines = []
    for sequences in args.sequences:
        for is_checkpointed in (False, True):
            keep_all(model, is_checkpointed)
            try:
                step(model, row, sequences, args.completion)
                torch.cuda.reset_peak_memory_stats()
                rates = [timed(model, row, sequences, args.completion) for _ in range(args.repetitions)]
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
                continue
            peak = torch.cuda.max_memory_allocated() / 1e9
            lines.append({
                "case": "peer: whole-sequence backward" + (", computed twice" if is_checkpointed else ""), "goal": "P5",
                "unit": "rollout tokens/s", "shape": f"{peers_models.label(args.of)}, {sequences} x {args.completion}, prompts of {PROMPT}",
                "checkpointed": is_checkpointed, "median": round(statistics.median(rates)), "low": round(min(rates)),
                "high": round(max(rates)), "n": args.repetitions, "peak_GB": round(peak, 2),
                "beside_weights_GB": round(peak - held, 2), "device": torch.cuda.get_device_name(),
                "versions": f"torch {torch.__version__}, transformers {transformers.__version__}"})
            tell(lines[-1])
    keep_all(model, False)
    torch.cuda.empty_cache()
    return model, row, lines


class Ours:
    """pensive-bench, whose training steps wait for their turns."""

    def __init__(self, args):
        self.sizes = [str(size) for size in args.batch_tokens]
        self.steps = len(self.sizes) * (args.repetitions + 1)
        command = [args.bench, *peers_models.arguments(args.of, args.model), "--training", "--grpo", "--wait",
                   "--repetitions", str(args.repetitions), "--batch-tokens", *self.sizes, *args.arguments]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def line(self):
        text = self.process.stdout.readline()
        if not text:
            raise SystemExit(f"expected a line of pensive-bench; it ended with {self.process.wait()}")
        return json.loads(text)

    def turn(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return self.line()

    def rest(self):
        self.process.stdin.close()
        return [json.loads(text) for text in self.process.stdout]


def most_beside(model, row, args):
    """How many sequences fit beside ours; the peer's memory is given back between its turns."""
    for sequences in sorted(args.sequences, reverse=True):
        try:
            step(model, row, sequences, args.completion)
            return sequences
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
    raise SystemExit("expected room for the peer beside ours")


def in_turns(args, model, row):
    """-> the peer's sequences, and of each turn (the peer's rate, ours)."""
    ours, turns, sequences = Ours(args), [], 0
    for number in range(ours.steps):
        mine = ours.turn()
        if mine["repeat"] == 0:
            continue  # warms up
        sequences = sequences or most_beside(model, row, args)
        step(model, row, sequences, args.completion)  # what the allocator gave back is there again
        turns.append((timed(model, row, sequences, args.completion), mine))
        torch.cuda.empty_cache()
    return sequences, turns, ours.rest()


def compare(args, model, row, lines, tell):
    label = peers_models.label(args.of)
    sequences, turns, summary = in_turns(args, model, row)
    for line in summary:
        tell(line)
    best = max((line for line in lines if not line["checkpointed"]), key=lambda line: line["median"])
    spread = lambda values: {"low": round(min(values), 2), "high": round(max(values), 2)}
    for size in args.batch_tokens:
        mine = [(peer, turn) for peer, turn in turns if turn["batch_tokens"] == size]
        ratios = [turn["rate"] / peer for peer, turn in mine]
        rate = statistics.median(turn["rate"] for _, turn in mine)
        extra = max(turn["extra_GB"] for _, turn in mine)
        in_all = max(turn["held_GB"] for _, turn in mine)
        common = {"goal": "P5", "unit": "rollout tokens/s", "n": len(mine), "batch_tokens": size,
                  "pensive_GB": extra, "pensive_in_all_GB": in_all, "device": best["device"], "precision": "bfloat16",
                  "median": round(rate), "model": label, "versions": best["versions"]}
        tell({"case": "backward beside the peer, in turns", "peer": round(statistics.median(peer for peer, _ in mine)),
              "shape": f"{label}, batches of {size}; the peer {sequences} x {args.completion}",
              "ratio": round(statistics.median(ratios), 2), **spread(ratios), **common})
        ratios = [turn["rate"] / best["median"] for _, turn in mine]
        tell({"case": "backward beside the peer's best", "peer": best["median"],
              "shape": f"{label}, batches of {size}; the peer {best['shape'].split(', ')[1]}, alone",
              "ratio": round(statistics.median(ratios), 2), **spread(ratios), **common,
              "peer_GB": best["beside_weights_GB"], "peer_in_all_GB": best["peak_GB"],
              "memory_share": round(extra / best["beside_weights_GB"], 3)})


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("bench", nargs="?")
    parser.add_argument("model", nargs="?")
    parser.add_argument("--of", default="r1-1.5b", help="a shape, or a checkpoint's folder")
    parser.add_argument("--completion", type=int, default=512)
    parser.add_argument("--sequences", type=int, nargs="+", default=[16, 24, 32])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--batch-tokens", type=int, nargs="+", default=[4096, 8192], help="of our backward")
    parser.add_argument("--out")
    args, args.arguments = parser.parse_known_args()
    out = open(args.out, "w") if args.out else None

    def tell(line):
        for file in filter(None, (sys.stdout, out)):
            print(json.dumps(line), file=file, flush=True)

    model, row, lines = peers(args, tell)
    if args.bench:
        compare(args, model, row, lines, tell)
    return 0


if __name__ == "__main__":
    sys.exit(main())
