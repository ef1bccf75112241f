"""The demo's claim, put to the test: several seeds, controls, times and budgets that the row never saw.

    python claim.py run --command ../../build/release/bin/pensive --folder claim --seeds 5
    python claim.py report claim

For each seed a row is trained (kept as claim/row-SEED.safetensors) and examined on the same test problems as nothing,
the fixed words, and the best fixed policy (`make.py check --part scan` chose it on dev from every token, every pair and
every marker with two more, x1 to x3). Controls: a random row of the trained row's norm, once a seed. What is finished is
kept and not done again. Tokens are all that was decoded after the prompt.
"""
import argparse
import json
import pathlib
import subprocess
import sys

import numpy as np

from exams import Exams, accuracy, add_options, against, in_parallel, interval, mean

BEST = 'continue:with="Wait, Alternatively, ",times=3'
FIXED = ["none", *(f"continue:with=Wait,times={n}" for n in (1, 2, 3)), BEST]
NAME = "continue"
BUDGET = 160  # most thinking tokens; no rollout had a budget
BUDGETED = ("--think-max", BUDGET)


def learned(times):
    return f"continue:with={NAME},times={times}"


def train(args, seed):
    """A row of this seed, unless it is there; its path."""
    out = args.folder / f"row-{seed}.safetensors"
    if not out.exists():
        call = [args.command, "train", args.model / "problems/train.jsonl", "-m", args.model, "--system", "brief", "--out", out,
                "--name", NAME, "--start", "Wait", "--steps", args.steps, "--prompts", 24, "--group", 8, "--lr", .03,
                "--branch", "soft-token", "--temp", 1, "--max-tokens", 900, "--device", args.train_device, "--precision",
                "float32", "--seed", seed, "--log", args.folder / f"train-{seed}.jsonl"]
        with (args.folder / f"train-{seed}.log").open("w") as log:
            subprocess.run(list(map(str, call)), check=True, stdout=log, stderr=log)
    return out


def random_twin(args, seed):
    """A random row of the trained row's norm, or None where the Python module is not there."""
    out = args.folder / f"random-{seed}.safetensors"
    if not out.exists():
        sys.path.insert(0, str(args.command.parents[1] / "python"))
        try:
            import torch  # noqa: F401  (its libraries come first)
            import pensive
        except ImportError as error:
            print(f"no random rows: {error}", file=sys.stderr)
            return None
        soft = pensive.SoftVocab.load(pensive.Model.load(args.model, device="cpu"), args.folder / f"row-{seed}.safetensors")
        row = soft.find(NAME)
        noise = np.random.default_rng(seed).standard_normal(len(soft.row(row)))
        soft.set_row(row, noise * np.linalg.norm(soft.row(row)) / np.linalg.norm(noise))
        soft.save(out)
    return out


def wanted(args, seed):
    """Every exam of one seed: problems, guide, further options."""
    row, twin = train(args, seed), random_twin(args, seed)
    few = max(args.n // 4, 1)
    return [*((args.n, learned(times), ("--soft", row)) for times in (1, 2, 3)),
            *([(few, learned(1), ("--soft", twin))] if twin else []),
            *((few, learned(times), ("--soft", row, *BUDGETED)) for times in (1, 2))]


def run(args):
    args.folder.mkdir(parents=True, exist_ok=True)
    args.out = args.folder / "exams.jsonl"
    exams = Exams(args, args.folder)

    def one(seed):
        for n, spec, extra in wanted(args, seed):
            exams.sit("test", n, spec, "brief", extra)

    few = max(args.n // 4, 1)
    calls = [*(lambda spec=spec: exams.sit("test", args.n, spec, "brief") for spec in FIXED),
             *(lambda spec=spec: exams.sit("test", few, spec, "brief", BUDGETED) for spec in ("none", FIXED[1], BEST))]
    in_parallel([*(lambda seed=seed: one(seed) for seed in range(1, args.seeds + 1)), *calls], args.jobs)


def removed(learned_line, fixed_line):
    """Share of the fixed policy's errors that are gone, with its 95% interval, in percent: paired by problem."""
    gap, low, high, _ = against(learned_line, fixed_line)
    errors = 100 * (1 - accuracy(fixed_line))
    return 100 * gap / errors, 100 * low / errors, 100 * high / errors


def flips(line, base):
    pairs = list(zip(base["right"], line["right"]))
    return pairs.count(("0", "1")) / len(pairs), pairs.count(("1", "0")) / len(pairs)


def bins(line, edges=(0, 80, 120, 160, 220, 10_000)):
    """Accuracy of responses of so many tokens."""
    found = []
    for low, high in zip(edges, edges[1:]):
        here = [int(right) for right, tokens in zip(line["right"], line["tokens"]) if low <= tokens < high]
        found.append(f"{100 * sum(here) / len(here):.0f}% ({len(here):,})" if len(here) >= 20 else "")
    return found


def report(args):
    lines = list(map(json.loads, (args.folder / "exams.jsonl").read_text().splitlines()))

    def find(spec, soft=None, budget=False):
        return next((line for line in lines if line["spec"] == spec and ("--think-max" in line["extra"]) == budget
                     and (soft is None) == ("--soft" not in line["extra"]) and (soft is None or f"{soft}.safe" in str(line["extra"]))), None)

    def row(name, line, base):
        right, low, high = interval(line)
        ups, downs = flips(line, base) if len(line["right"]) == len(base["right"]) else (0, 0)
        print(f"| {name} | {len(line['right']):,} | {right:.1f}% ({low:.1f} to {high:.1f}) | {mean(line):.1f} | "
              f"{100 * ups:.1f}% | {100 * downs:.1f}% | {' | '.join(bins(line))} |")

    none, best = find("none"), find(BEST)
    print("| *brief* | n | accuracy (95%) | tokens | wrong to right | right to wrong | <80 | 80 to 119 | 120 to 159 | 160 to 219 | 220 on |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for spec in FIXED:
        row(f"`{spec}`", find(spec), none)
    seeds = [seed for seed in range(1, args.seeds + 1) if find(learned(3), f"row-{seed}")]
    for seed in seeds:
        for times in (1, 2, 3):
            row(f"learned x{times}, seed {seed}", find(learned(times), f"row-{seed}"), none)
        if random := find(learned(1), f"random-{seed}"):
            row(f"random row x1, seed {seed}", random, none)
    print("\n| seed | times | errors of the best fixed policy removed (95%, paired) | tokens, difference |\n|---|---|---|---|")
    for seed in seeds:
        for times in (1, 2, 3):
            line = find(learned(times), f"row-{seed}")
            share, low, high = removed(line, best)
            print(f"| {seed} | x{times} | {share:.0f}% ({low:.0f} to {high:.0f}) | {mean(line) - mean(best):+.0f} |")
    print(f"\n| with `--think-max {BUDGET}` | accuracy (95%) | tokens |\n|---|---|---|")
    arms = [(spec, None) for spec in ("none", FIXED[1], BEST)] + [(learned(times), f"row-{seed}") for seed in seeds for times in (1, 2)]
    for spec, soft in arms:
        if line := find(spec, soft, True):
            right, low, high = interval(line)
            print(f"| `{spec}` {soft or ''} | {right:.1f}% ({low:.1f} to {high:.1f}) | {mean(line):.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(dest="what", required=True)
    sit = parts.add_parser("run")
    add_options(sit, with_out=False)
    sit.add_argument("--folder", type=pathlib.Path, required=True)
    sit.add_argument("--seeds", type=int, default=5)
    sit.add_argument("--steps", type=int, default=120)
    sit.add_argument("--train-device", default="cpu")
    tell = parts.add_parser("report")
    tell.add_argument("folder", type=pathlib.Path)
    tell.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    run(args) if args.what == "run" else report(args)


if __name__ == "__main__":
    main()
