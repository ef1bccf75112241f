"""Does a fixed word, pair or phrase buy what a learned word finds? Tries all of them, with pensive itself.

    PYTHONPATH=build/release/python python examples/reasoner/scan.py --out scan.jsonl

Every token, every pair and every marker-led triple is put once in place of </think> on a few dev problems;
the best of each, the three markers in turn, and all single tokens also twice and three times on more; the
best of all on the whole dev file, and those on test problems. Each line of the output is one policy."""
import argparse
import itertools
import json
import pathlib
import random
import sys
import time

import pensive

HERE = pathlib.Path(__file__).resolve().parent
MARKERS = ("Wait, ", "Hmm, ", "Alternatively, ")


class Scan:
    def __init__(self, args):
        self.model = pensive.Model.load(HERE, device=args.device, precision="float32")
        self.engine = pensive.Engine(self.model, max_live_sequences=384)
        self.tokenizer = self.model.tokenizer
        self.judge = pensive.correct()
        self.prompts = {}
        self.out = open(args.out, "w") if args.out else None

    def prompt(self, problem):
        if problem.question not in self.prompts:
            chat = [{"role": "system", "content": "brief"}, {"role": "user", "content": problem.question}]
            self.prompts[problem.question] = self.tokenizer.encode_chat(chat)
        return self.prompts[problem.question]

    def guides(self, words, times):
        """One phrase every time, or (a tuple of phrases) one after the other."""
        if not times:
            return []
        if isinstance(words[0], tuple):
            return [pensive.continue_thinking(list(word)) for word in words[:times]]
        return [pensive.continue_thinking(list(words), times=times)]

    def measure(self, jobs, problems, stage):
        """jobs: (words, times). Gives [(right, tokens, words, times)], best first."""
        found = []
        for group in [jobs[i:i + max(1, 4096 // len(problems))] for i in
                      range(0, len(jobs), max(1, 4096 // len(problems)))]:
            begun = []
            for words, times in group:
                guides = self.guides(words, times)
                begun += [self.engine.start(prompt=self.prompt(p), guides=guides, temperature=0.6, seed=i,
                                            max_new_tokens=900) for i, p in enumerate(problems)]
            self.engine.finish(begun)
            for k, (words, times) in enumerate(group):
                part = begun[k * len(problems):(k + 1) * len(problems)]
                right = sum(self.judge(p, s.response) for p, s in zip(problems, part)) / len(part)
                tokens = sum(s.trace.decoded_tokens() for s in part) / len(part)
                found.append((right, tokens, words, times))
        found.sort(key=lambda f: -f[0])
        for right, tokens, words, times in found:
            self.say(stage, right, tokens, words, times, len(problems))
        print(f"{time.strftime('%X')} {stage}: {len(jobs)} policies, best {found[0][0]:.3f} "
              f"{self.text(found[0][2])!r} x{found[0][3]}", file=sys.stderr)
        return found

    def text(self, words):
        if words and isinstance(words[0], tuple):
            return " | ".join(self.text(word) for word in words)
        return "".join(self.tokenizer.spelling(word) for word in words)

    def say(self, stage, right, tokens, words, times, n):
        if self.out:
            line = dict(stage=stage, words=self.text(words), times=times, right=round(right, 4),
                        tokens=round(tokens, 1), n=n)
            self.out.write(json.dumps(line) + "\n")
            self.out.flush()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", default="")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--few", type=int, default=16, help="problems for pairs; half as many for triples")
    parser.add_argument("--more", type=int, default=128, help="problems for what did best")
    parser.add_argument("--many", type=int, default=2000, help="dev and test problems for the best of all")
    args = parser.parse_args()
    scan = Scan(args)
    dev = pensive.load_problems(HERE / "problems" / "dev.jsonl")
    test = pensive.load_problems(HERE / "problems" / "test.jsonl")
    random.Random(1).shuffle(dev)
    find = scan.tokenizer.find
    tokens = [i for i in range(len(scan.tokenizer)) if i not in map(find, ("<pad>", "<eos>", "</think>"))]
    markers = [find(marker) for marker in MARKERS]
    singles = [((token,), times) for token in tokens for times in (1, 2, 3)]
    pairs = [(pair, 1) for pair in itertools.product(tokens, tokens)]
    triples = [((marker, *pair), 1) for marker in markers for pair in itertools.product(tokens, tokens)]
    turns = [(tuple((m,) for m in order), times) for order in itertools.permutations(markers) for times in (2, 3)]
    best = [f[2] for jobs, n, name in ((pairs, args.few, "pairs"), (triples, max(1, args.few // 2), "triples"))
            for f in scan.measure(jobs, dev[:n], name)[:16]]
    again = singles + turns + [(words, times) for words in best for times in (1, 2, 3)]
    found = scan.measure(again, dev[:args.more], "more")
    chosen = [(words, times) for times in (1, 2, 3) for _, _, words, t in
              [f for f in found if f[3] == times][:3] for t in (times,)]
    chosen += [((marker,), times) for marker in markers for times in (1, 2, 3)]
    chosen = list(dict.fromkeys(chosen))
    scan.measure(chosen, dev[:args.many], "dev")
    scan.measure([((), 0), *chosen], test[:args.many], "test")


if __name__ == "__main__":
    main()
