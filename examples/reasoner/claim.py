"""The demo's claim, put to the test: several seeds, controls, times and budgets that the row never saw.

    python claim.py run --command ../../build/release/bin/pensive --folder claim --seeds 5
    python claim.py report claim

For each seed a row is trained (kept as claim/row-SEED.safetensors) and examined on the same test problems as nothing,
the fixed words, and the best fixed policy: of every token, every pair and every marker with two more, x1 to x3, the one
that `make.py check --part scan --log LOG` found best on dev (--scan LOG, for a model of one's own). Controls: a random
row of the trained row's norm, once a seed. What is finished is kept and not done again. Tokens are all that was decoded
after the prompt.
"""
import argparse
import collections
import json
import pathlib
import subprocess
import sys

import numpy as np

from exams import MODES, Exams, accuracy, add_options, against, in_parallel, interval, mean, two_errors

SHIPPED_BEST = 'continue:with="Wait, Alternatively, ",times=3'
WAITS = [f"continue:with=Wait,times={n}" for n in (1, 2, 3)]
NAME = "continue"
SAMPLES = 8  # a problem, where the error over samples is asked for
BUDGET = 160  # most thinking tokens; no rollout had a budget
BUDGETED = ("--think-max", BUDGET)
SAMPLED = ("--samples", SAMPLES, "--majority", 2, "--majority", 3)


def learned(times):
    return f"continue:with={NAME},times={times}"


def train(args, seed):
    """A row of this seed, unless it is there; its path."""
    out = args.folder / f"row-{seed}.safetensors"
    if not out.exists():
        call = [args.command, "train", args.model / "problems/train.jsonl", "-m", args.model, "--system", "brief", "--out", out,
                "--name", NAME, "--start", "Wait", "--steps", args.steps, "--prompts", 24, "--group", 8, "--lr", args.lr,
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


def best_fixed(logs):
    """What did best on dev, as a guide: of the words and phrases of a scan, or the shipped model's."""
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    found = [line["fixed"] for line in lines if "fixed" in line]
    if not found:
        return SHIPPED_BEST
    found.sort(key=lambda figure: (-figure["dev"], figure["tokens"]))
    # markers in turn are no guide's text, and the command takes a forced <answer> for the end of the thinking
    best = next(figure for figure in found if "|" not in figure["name"] and "<answer>" not in figure["name"])
    if best != found[0]:
        print(f"no guide says {found[0]['name']!r} ({found[0]['dev']:.3f} on dev): {best['name']!r} is taken ({best['dev']:.3f})", file=sys.stderr)
    text = best["name"].replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'continue:with="{text}",times={best["times"]}'


def wanted(args, seed):
    """Every exam of one seed: problems, guide, further options."""
    row, twin = train(args, seed), random_twin(args, seed)
    few = max(args.n // 4, 1)
    return [*((args.n, learned(times), ("--soft", row)) for times in (1, 2, 3)),
            *([(few, learned(1), ("--soft", twin))] if twin else []),
            *((few, learned(times), ("--soft", row, *BUDGETED)) for times in (1, 2)),
            *([(few, learned(1), ("--soft", row, *SAMPLED))] if seed == 1 else [])]


def run(args):
    args.folder.mkdir(parents=True, exist_ok=True)
    args.out = args.folder / "exams.jsonl"
    seeds = range(1, args.seeds + 1)
    if args.rows:
        return in_parallel([lambda seed=seed: train(args, seed) for seed in seeds], args.jobs)
    exams = Exams(args, args.folder)
    best = best_fixed(args.scan)
    (args.folder / "best.txt").write_text(best)

    def one(seed):
        for n, spec, extra in wanted(args, seed):
            exams.sit("test", n, spec, "brief", extra)

    few = max(args.n // 4, 1)
    fixed = ["none", *WAITS, *(f'continue:with="{word}, ",times=1' for word in ("Hmm", "Alternatively")), best]
    calls = [*(lambda spec=spec: exams.sit("test", args.n, spec, "brief") for spec in fixed),
             *(lambda spec=spec: exams.sit("test", few, spec, "brief", BUDGETED) for spec in ("none", WAITS[0], best)),
             *(lambda spec=spec: exams.sit("test", few, spec, "brief", SAMPLED) for spec in ("none", best))]
    in_parallel([*(lambda seed=seed: one(seed) for seed in seeds), *calls], args.jobs)


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


class Found:
    """What a folder holds of finished exams."""

    def __init__(self, folder):
        self.lines = list(map(json.loads, (folder / "exams.jsonl").read_text().splitlines()))

    def __call__(self, spec, soft=None, option=None):
        """The exam of a guide, with a row of this name and an option, or without; None where it is missing."""
        for line in self.lines:
            extra = line["extra"]
            ours = soft is None and "--soft" not in extra or soft is not None and any(e.endswith(f"/{soft}.safetensors") for e in extra)
            others = {"--think-max", "--samples"} & set(extra) - {option}
            if line["spec"] == spec and ours and not others and (option is None or option in extra):
                return line
        return None


def arms_of(found, best, seeds):
    """Name, exam and row of every arm without further options: fixed ones, learned, random."""
    fixed = ["none", *WAITS, *(f'continue:with="{word}, ",times=1' for word in ("Hmm", "Alternatively")), best]
    arms = [(f"`{spec}`", found(spec)) for spec in dict.fromkeys(fixed)]
    for seed in seeds:
        arms += [(f"learned x{times}, seed {seed}", found(learned(times), f"row-{seed}")) for times in (1, 2, 3)]
        arms.append((f"random row x1, seed {seed}", found(learned(1), f"random-{seed}")))
    return [(name, line) for name, line in arms if line]


def shares(line):
    count = collections.Counter(line["modes"])
    return " | ".join(f"{100 * count[mode] / len(line['modes']):.1f}%" for mode in MODES)


def report(args):
    found, best = Found(args.folder), (args.folder / "best.txt").read_text()
    none, rival = found("none"), found(best)
    seeds = [seed for seed in range(1, args.seeds + 1) if found(learned(3), f"row-{seed}")]
    arms = arms_of(found, best, seeds)
    print("| *brief* | n | accuracy (95%) | tokens | wrong to right | right to wrong | <80 | 80 to 119 | 120 to 159 | 160 to 219 | 220 on |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, line in arms:
        right, low, high = interval(line)
        ups, downs = flips(line, none)
        print(f"| {name} | {len(line['right']):,} | {right:.1f}% ({low:.1f} to {high:.1f}) | {mean(line):.1f} | "
              f"{100 * ups:.1f}% | {100 * downs:.1f}% | {' | '.join(bins(line))} |")
    print(f"\n| first look | {' | '.join(MODES.values())} |\n|---|{'---|' * len(MODES)}")
    for name, line in arms:
        print(f"| {name} | {shares(line)} |")
    print("\n| seed | times | errors of the best fixed policy removed (95%, paired) | points (95%) | tokens, difference |\n|---|---|---|---|---|")
    for seed in seeds:
        for times in (1, 2, 3):
            line = found(learned(times), f"row-{seed}")
            share, low, high = removed(line, rival)
            gap, least, most, _ = against(line, rival)
            print(f"| {seed} | x{times} | {share:.0f}% ({low:.0f} to {high:.0f}) | {gap:+.1f} ({least:+.1f} to {most:+.1f}) | "
                  f"{mean(line) - mean(rival):+.0f} |")
    print(f"\n| with `--think-max {BUDGET}` | accuracy (95%) | tokens |\n|---|---|---|")
    budgeted = [(spec, None) for spec in ("none", WAITS[0], best)] + [(learned(times), f"row-{seed}") for seed in seeds for times in (1, 2)]
    for spec, soft in budgeted:
        if line := found(spec, soft, "--think-max"):
            right, low, high = interval(line)
            print(f"| `{spec}` {soft or ''} | {right:.1f}% ({low:.1f} to {high:.1f}) | {mean(line):.1f} |")
    print(f"\n| {SAMPLES} samples a problem | pass@1 | error over samples on these problems | over problems | majority of 2, of 3 |\n|---|---|---|---|---|")
    for spec, soft in (("none", None), (best, None), (learned(1), "row-1")):
        if line := found(spec, soft, "--samples"):
            drawn, problems = two_errors(line)
            votes = ", ".join(f"{100 * line['said'][key]['value']:.1f}%" for key in ("majority@2", "majority@3"))
            print(f"| `{spec}` | {100 * accuracy(line):.1f}% | {drawn:.2f} | {problems:.2f} | {votes} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(dest="what", required=True)
    sit = parts.add_parser("run")
    add_options(sit, with_out=False)
    sit.add_argument("--folder", type=pathlib.Path, required=True)
    sit.add_argument("--seeds", type=int, default=5)
    sit.add_argument("--steps", type=int, default=120)
    sit.add_argument("--lr", type=float, default=.03)
    sit.add_argument("--train-device", default="cpu")
    sit.add_argument("--rows", action="store_true", help="only train the rows")
    sit.add_argument("--scan", type=pathlib.Path, nargs="*", default=[], help="logs of make.py check --part scan")
    tell = parts.add_parser("report")
    tell.add_argument("folder", type=pathlib.Path)
    tell.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    run(args) if args.what == "run" else report(args)


if __name__ == "__main__":
    main()
