#!/usr/bin/env python3
"""same_answer() beside Math-Verify, on the pairs of tests/data/judge/pairs.jsonl.

    python tests/judge_pairs.py             prints the agreement, and every pair on which the two differ
    python tests/judge_pairs.py --write     also writes the tables of docs/judge.md
    python tests/judge_pairs.py --ours      ours only, against the verdicts written into the file

Needs the Python door (PYTHONPATH=build/release/python). Math-Verify goes into a virtual environment
of its own, .setup/judge, which is made where it is missing (from PyPI). Answers are given to it between
dollars, as its documentation asks, and once more in \\boxed{}; a pair counts as the same where it
says so with the reference as gold."""
import argparse
import collections
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAIRS = ROOT / "tests" / "data" / "judge" / "pairs.jsonl"
DOCUMENT = ROOT / "docs" / "judge.md"
PEER = ROOT / ".setup" / "judge"
VERSION = "0.9.0"
REQUIREMENTS = [f"math-verify=={VERSION}", "latex2sympy2_extended==1.11.0", "sympy==1.14.0",
                "antlr4-python3-runtime==4.13.2"]
BEGIN, END = "<!-- tests/judge_pairs.py --write -->", "<!-- end -->"


def pairs():
    return [json.loads(line) for line in PAIRS.read_text().splitlines()]


def judge_as_peer():
    """Runs inside the peer's environment: one JSON list of verdicts for each way to write answers."""
    import logging

    from math_verify import parse, verify
    logging.disable(logging.CRITICAL)

    def verdicts(before, after):
        return [bool(verify(parse(before + pair["reference"] + after),
                            parse(before + pair["answer"] + after))) for pair in pairs()]

    print(json.dumps({"dollars": verdicts("$", "$"), "boxed": verdicts("\\boxed{", "}")}))


def peer_verdicts():
    python = PEER / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", PEER], check=True)
    has = subprocess.run([python, "-c", "import math_verify"], capture_output=True, check=False)
    if has.returncode != 0:
        subprocess.run([python, "-m", "pip", "install", "-q", *REQUIREMENTS], check=True)
    done = subprocess.run([python, __file__, "--as-peer"], check=True, capture_output=True,
                          text=True)
    return json.loads(done.stdout)


def code(text):
    return "`" + text.replace("|", "\\|") + "`"


def word(same):
    return "the same" if same else "different"


def agreement(ours, peer):
    agree = sum(a == b for a, b in zip(ours, peer))
    return f"{agree} of {len(ours)}, {100 * agree / len(ours):.1f}%"


def tables(rows, ours, peers):
    peer = peers["dollars"]
    lines = ["| | pairs | agree | ours right | Math-Verify right |", "|---|---|---|---|---|"]
    kinds = collections.defaultdict(lambda: [0, 0, 0, 0])
    for row, our, their in zip(rows, ours, peer):
        for kind in (row["kind"], "all"):
            counts = kinds[kind]
            for i, holds in enumerate((True, our == their, our == row["same"],
                                       their == row["same"])):
                counts[i] += holds
    kinds["**all**"] = kinds.pop("all")
    for kind, counts in kinds.items():
        lines.append(f"| {kind} | " + " | ".join(map(str, counts)) + " |")
    lines += ["", f"Agreement: {agreement(ours, peer)} (with answers in `\\boxed{{}}`: "
              f"{agreement(ours, peers['boxed'])}).", "",
              "| kind | reference | answer | ours | Math-Verify | right |", "|---|---|---|---|---|---|"]
    for row, our, their in zip(rows, ours, peer):
        if our != their:
            right = "ours" if our == row["same"] else "Math-Verify"
            lines.append(f"| {row['kind']} | {code(row['reference'])} | {code(row['answer'])} | "
                         f"{word(our)} | {word(their)} | {right} |")
    return "\n".join(lines)


def write(text):
    document = DOCUMENT.read_text()
    before, rest = document.split(BEGIN, 1)
    DOCUMENT.write_text(before + BEGIN + "\n" + text + "\n" + END + rest.split(END, 1)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", action="store_true", help="Math-Verify is not asked")
    parser.add_argument("--write", action="store_true", help="writes docs/judge.md")
    parser.add_argument("--as-peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_peer:
        judge_as_peer()
        return 0
    import pensive
    rows = pairs()
    ours = [pensive.same_answer(row["reference"], row["answer"]) for row in rows]
    swapped = [pensive.same_answer(row["answer"], row["reference"]) for row in rows]
    wrong = [row for row, our, back in zip(rows, ours, swapped)
             if our != row["same"] or back != our]
    for row in wrong:
        print(f"{row['kind']}: {row['reference']} and {row['answer']}: expected "
              f"{word(row['same'])}")
    if options.ours:
        print(f"{len(rows)} pairs, {len(wrong)} wrong")
        return 1 if wrong else 0
    text = tables(rows, ours, peer_verdicts())
    print(text)
    if options.write:
        write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
