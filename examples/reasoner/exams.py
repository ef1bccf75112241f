"""Exams on the embedded reasoner, sat with the pensive command: what brakes.py and words.py share."""
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys
import threading
import time

import task

HERE = pathlib.Path(__file__).parent


class Exams:
    """Sits exams with the command and keeps, per problem, right or wrong and tokens."""

    def __init__(self, args, folder):
        self.args, self.folder, self.lock = args, pathlib.Path(folder), threading.Lock()
        self.until = time.time() + args.seconds
        self.done = {}
        if args.out.exists():
            self.done = {line["key"]: line for line in map(json.loads, args.out.read_text().splitlines())}
        task.problem_files(self.folder, (("train", 4000), ("dev", 2000), ("test", 10000)))

    def sit(self, part, n, spec, habit="thorough", extra=()):
        key = " ".join(map(str, (part, n, habit, spec, *extra)))
        if key in self.done:
            return self.done[key]
        left = self.until - time.time()
        if left < 1:
            return None
        samples = self.folder / f"{abs(hash(key))}.jsonl"
        call = [self.args.command, "exam", self.folder / f"{part}.jsonl", "-m", self.args.model, "--system", habit, "--limit", n,
                "--device", self.args.device, "--precision", self.args.precision, "--seed", 1, "--out", samples, "--overwrite", "--json",
                *extra, *(["--guide", spec] if spec != "none" else [])]
        try:
            found = subprocess.run(list(map(str, call)), capture_output=True, text=True, timeout=left)
        except subprocess.TimeoutExpired:
            return None
        if found.returncode:
            print(f"{key}: {found.stderr.strip()[-300:]}", file=sys.stderr)
            return None
        rows = sorted(map(json.loads, samples.read_text().splitlines()), key=lambda row: (row["problem"], row["sample"]))
        line = {"key": key, "part": part, "n": n, "habit": habit, "spec": spec, "extra": list(map(str, extra)),
                "right": "".join("1" if row["score"] else "0" for row in rows), "tokens": [row["tokens"] for row in rows],
                "modes": "".join(mode_of(row["text"]) for row in rows), "steps": right_steps(row["text"] for row in rows),
                "said": json.loads(found.stdout)}
        with self.lock:
            self.done[key] = line
            with self.args.out.open("a") as out:
                print(json.dumps(line), file=out)
            print(f"{key}: {accuracy(line):.3f} {mean(line):.1f}", flush=True)
        return line


MODES = {"1": "careful", "2": "by two", "3": "by three", "k": "keep", "?": "other", "-": "no look"}
OPENING = re.compile(r"(Wait, |Hmm, |Alternatively, |<think>|continue)*")
STEP = re.compile(r"(\d\d)((?: [-+*] \d\d)+) = (\d\d)")


def mode_of(text):
    """How the look after the first attempt begins, as one of MODES: by how many operations its first step has."""
    lines = text.split("</think>")[0].split("\n")
    if len(lines) < 2 or not lines[1]:
        return "-"
    look = lines[1][OPENING.match(lines[1]).end():]
    if look.startswith("So "):
        return "k"
    step = STEP.match(look)
    count = len(step[2]) // 5 if step else 0
    return str(count) if count in (1, 2, 3) else "?"


def right_steps(texts):
    """Of the written steps of one, two and three operations: [right, all]."""
    found = {size: [0, 0] for size in ("1", "2", "3")}
    for text in texts:
        for start, chain, value in STEP.findall(text):
            size = str(len(chain) // 5)
            if size in found:
                found[size][0] += task.truth(*task.parse(start + chain)) == int(value)
                found[size][1] += 1
    return found


def accuracy(line):
    return line["right"].count("1") / len(line["right"])


def mean(line):
    return statistics.fmean(line["tokens"])


def two_errors(line):
    """Standard errors of the accuracy of n problems with several samples each, in points: over samples on these
    problems, and over problems."""
    size = len(line["right"]) // line["n"]
    parts = [[int(c) for c in line["right"][at:at + size]] for at in range(0, len(line["right"]), size)]
    drawn = sum(statistics.variance(part) / size for part in parts) ** .5 / len(parts)
    return 100 * drawn, 100 * statistics.stdev(map(statistics.fmean, parts)) / math.sqrt(len(parts))


def in_parallel(calls, jobs):
    waiting, lock = list(calls), threading.Lock()

    def work():
        while True:
            with lock:
                if not waiting:
                    return
                call = waiting.pop(0)
            call()

    threads = [threading.Thread(target=work) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def against(line, base):
    """Difference in accuracy on the same problems with its 95% interval, in points, and the share of tokens saved."""
    n = min(len(line["right"]), len(base["right"]))
    gaps = [int(a) - int(b) for a, b in zip(line["right"][:n], base["right"][:n])]
    middle, half = statistics.fmean(gaps), 1.96 * statistics.stdev(gaps) / math.sqrt(n)
    saved = 1 - statistics.fmean(line["tokens"][:n]) / statistics.fmean(base["tokens"][:n])
    return 100 * middle, 100 * (middle - half), 100 * (middle + half), 100 * saved


def interval(line):
    """Accuracy with its 95% interval (Wilson), in percent."""
    n, right, z = len(line["right"]), accuracy(line), 1.96
    middle = (right + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(right * (1 - right) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return 100 * right, 100 * (middle - half), 100 * (middle + half)


def add_options(parser, with_out=True):
    """What every `run` takes."""
    parser.add_argument("--model", default=HERE, type=pathlib.Path)
    parser.add_argument("--command", default=HERE.parents[1] / "build/release/bin/pensive", type=pathlib.Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--n", type=int, default=10000)
    parser.add_argument("--dev", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=1e6)
    if with_out:
        parser.add_argument("--out", type=pathlib.Path, required=True)
