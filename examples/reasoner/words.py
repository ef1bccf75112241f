"""What replaces the closer of *brief*: nothing and fixed words, one to three times.

    python words.py run --command ../../build/release/bin/pensive --out words.jsonl
    python words.py report words.jsonl

`run` keeps what is finished and does not do it again. Tokens are all that was decoded after the prompt.
"""
import argparse
import json
import pathlib
import tempfile

from exams import Exams, add_options, against, in_parallel, interval, mean

WORDS = ["Wait, ", "Hmm, ", "Alternatively, ", "Wait, Alternatively, "]
TIMES = [1, 2, 3]


def run(args):
    with tempfile.TemporaryDirectory() as folder:
        exams = Exams(args, folder)
        wanted = ["none", *(f'continue:with="{word}",times={times}' for word in WORDS for times in TIMES)]
        in_parallel([lambda spec=spec: exams.sit("test", args.n, spec, "brief") for spec in wanted], args.jobs)


def report(args):
    lines = {line["spec"]: line for line in map(json.loads, args.results.read_text().splitlines())}
    base = lines["none"]
    right, low, high = interval(base)
    print(f"| *brief*, n = {base['n']:,} | accuracy (95%) | tokens | against nothing, points, paired (95%) |\n|---|---|---|---|")
    print(f"| nothing | {right:.1f}% ({low:.1f} to {high:.1f}) | {mean(base):.1f} | |")
    for word in WORDS:
        for times in TIMES:
            line = lines.get(f'continue:with="{word}",times={times}')
            if line is None:
                continue
            right, low, high = interval(line)
            gap, least, most, _ = against(line, base)
            print(f"| *{word.strip()}* x{times} | {right:.1f}% ({low:.1f} to {high:.1f}) | {mean(line):.1f} "
                  f"| +{gap:.1f} ({least:.1f} to {most:.1f}) |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(dest="what", required=True)
    add_options(parts.add_parser("run"))
    tell = parts.add_parser("report")
    tell.add_argument("results", type=pathlib.Path)
    args = parser.parse_args()
    run(args) if args.what == "run" else report(args)


if __name__ == "__main__":
    main()
