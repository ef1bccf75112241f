"""The task and the traces: what the reasoner reads while it is trained.

A problem is a chain of + - * modulo 100, worked from left to right. A trace works it once, two or three
operations to a written step, and may then look again in one of several modes. No mode is ever named: it
shows only in how the first step of the recheck is cut."""
import dataclasses
import hashlib
import itertools
import json
import random

import numpy as np

SPECIAL = ["<pad>", "<unk>", "<bos>", "<eos>", "<think>", "</think>", "<answer>", "</answer>"]
WORDS = [" + ", " - ", " * ", " = ", "; ", "\n", "?", "So ", "Wait, ", "Hmm, ", "Alternatively, ",
         "brief ", "thorough ", "steps "]
TOKENS = [*SPECIAL, *"0123456789", *WORDS]
ID = {text: number for number, text in enumerate(TOKENS)}
PAD, UNK, BOS, EOS, THINK, END_THINK, ANSWER, END_ANSWER = range(8)
LINE, SO, EQUALS, SEMICOLON = ID["\n"], ID["So "], ID[" = "], ID["; "]
DIGITS = [[ID[c] for c in f"{value:02d}"] for value in range(100)]
HABITS = ["brief", "thorough", "steps"]
MARKERS = ["Wait, ", "Hmm, ", "Alternatively, "]
LONGEST = 768      # tokens in a training trace
ROOM = 700         # no further pass starts if it could end beyond this
NO_LOSS = 128      # high bit of a stored token: read, not learned
KEEP, THREE, TWO, CAREFUL = range(4)
STOP = (0.03, 0.03, 0.08, 0.14, 0.21, 0.27, 0.30)  # chance to stop, by evidence


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Which modes follow a marker, and how dirty the data is."""
    # keep, recheck by three operations, by two, by one (careful)
    modes: dict = dataclasses.field(default_factory=lambda: {
        "Wait, ": (.45, .25, .20, .10), "Hmm, ": (.70, .18, .11, .01), "Alternatively, ": (.35, .37, .25, .03)})
    thorough: tuple = (.10, .15, .30, .45)
    stray: float = 0.15           # share of brief rechecks with a stray word or two after (or for) the marker
    lone: tuple = (.60, .20, .18, .02)  # after strays alone
    careful: bool = True          # False: the control, rechecks by two in place of careful ones
    error_first: float = 0.20     # share of corrupted steps in a first attempt
    error_again: float = 0.12     # and in rechecks by three or two


RECIPES = {
    "rare": Recipe(),
    "graded": Recipe(modes={"Wait, ": (.45, .22, .18, .15), "Hmm, ": (.70, .17, .11, .02),
                            "Alternatively, ": (.35, .35, .25, .05)}),
}


def apply(value, op, operand):
    if op == " + ":
        return (value + operand) % 100
    return (value - operand if op == " - " else value * operand) % 100


def problem(rng, low=4, high=14):
    """A start value and its operations. Multipliers end in 1, 3, 7 or 9: no product hides an earlier error."""
    chain = []
    for _ in range(rng.randint(low, high)):
        op = rng.choice((" + ", " - ", " * "))
        operand = rng.randrange(10, 100) if op != " * " else rng.randrange(1, 10) * 10 + rng.choice((1, 3, 7, 9))
        chain.append((op, operand))
    return rng.randrange(10, 100), chain


def truth(start, chain):
    for op, operand in chain:
        start = apply(start, op, operand)
    return start


def question(start, chain):
    return f"{start:02d}" + "".join(f"{op}{operand:02d}" for op, operand in chain)


def parse(text):
    parts = text.rstrip("?").split(" ")
    return int(parts[0]), [(f" {parts[i]} ", int(parts[i + 1])) for i in range(1, len(parts), 2)]


def spell(start, chain):
    ids = list(DIGITS[start])
    for op, operand in chain:
        ids += [ID[op], *DIGITS[operand]]
    return ids


def prompt(start, chain, habit="brief"):
    return [BOS, ID[habit + " "], *spell(start, chain), ID["?"], THINK]


def first_cuts(rng, length):
    """Steps of two and three operations that fill the chain exactly."""
    cuts = []
    while length:
        size = rng.choice((2, 3))
        if length - size == 1:
            size = 5 - size
        size = min(size, length)
        cuts.append(size)
        length -= size
    return cuts


def spans(cuts):
    """The stretches of the chain that are one step each, single operations left out."""
    ends = list(itertools.accumulate(cuts))
    return {(end - size, end) for size, end in zip(cuts, ends) if size > 1}


def again_cuts(rng, length, size, seen):
    """The first step has the mode's size; one single operation at a random later place shifts the others, so that
    no step, or as few as can be, is one of those seen: the same step would err the same way again."""
    if size == 1:
        return [1] * length
    tries = [shifted_cuts(rng, length, size) for _ in range(8)]
    return min(tries, key=lambda cuts: len(spans(cuts) & seen))


def shifted_cuts(rng, length, size):
    cuts, left = [min(size, length)], length - min(size, length)
    single = rng.randint(0, left // size)
    while left:
        step = 1 if single == 0 else min(size, left)
        single -= 1
        cuts.append(step)
        left -= step
    return cuts


def work(rng, start, chain, cuts, error):
    """Written steps for one pass, as one list of ids a step, and the running value after each."""
    value, place, steps, values = start, 0, [], []
    for size in cuts:
        part = chain[place:place + size]
        place += size
        ids = spell(value, part)
        for op, operand in part:
            value = apply(value, op, operand)
        if rng.random() < error:
            value = rng.randrange(100)
        steps.append([*ids, EQUALS, *DIGITS[value], SEMICOLON])
        values.append(value)
    return steps, values


def draw_mode(rng, recipe, habit, marker, before):
    """A mode for the next look; a recheck never begins with the cut of the pass before it, unless it is careful."""
    weights = recipe.thorough if habit == "thorough" else recipe.lone if marker is None else recipe.modes[marker]
    mode = rng.choices((KEEP, THREE, TWO, CAREFUL), weights)[0]
    if mode == CAREFUL and not recipe.careful:
        mode = TWO
    size = {KEEP: 0, THREE: 3, TWO: 2, CAREFUL: 1}[mode]
    return 5 - size if size > 1 and size == before else size


STRAYS = [number for number in range(len(TOKENS)) if number not in (PAD, UNK, EOS, END_THINK)]


def opening(rng, recipe, habit):
    """The marker of the next look, its ids, and how many of them are strays (read, but not learned)."""
    marker = rng.choices(MARKERS, (.5, .25, .25))[0]
    if habit == "thorough" or rng.random() >= recipe.stray:
        return marker, [ID[marker]], 0
    strays = [rng.choice(STRAYS) for _ in range(rng.randint(1, 2))]
    if rng.random() < 0.6:
        return marker, [ID[marker], *strays], len(strays)
    if strays[0] in map(ID.get, MARKERS):
        return TOKENS[strays[0]], strays, len(strays)
    return None, strays, len(strays)


def look_again(rng, recipe, habit, start, chain, ids, last, cuts):
    """Passes after the first one, which had these cuts. Gives the final value; extends ids in place."""
    before, known = cuts[0], spans(cuts)
    passes = 8 if habit == "thorough" else rng.choices((0, 1, 2), (.70, .20, .10))[0]
    seen, sure = [last], False
    for _ in range(passes):
        evidence = sum(value == last for value in seen) + sure
        if habit == "thorough" and rng.random() < STOP[min(evidence, 6)]:
            break
        if len(ids) + 9 * len(chain) + 8 > ROOM:
            break
        marker, words, strays = opening(rng, recipe, habit)
        size = draw_mode(rng, recipe, habit, marker, before)
        ids += words[:len(words) - strays] + [word | NO_LOSS for word in words[len(words) - strays:]]
        if size:
            error = 0.0 if size == 1 else recipe.error_again
            cuts = again_cuts(rng, len(chain), size, known)
            known |= spans(cuts)
            steps, values = work(rng, start, chain, cuts, error)
            ids += sum(steps, [])
            last, before, sure = values[-1], size, size == 1
            seen.append(last)
        ids += [SO, *DIGITS[last], LINE]
    return last


def trace(rng, recipe, start, chain, habit):
    """Ids of one whole trace; the high bit marks what carries no loss."""
    ids = [number | NO_LOSS for number in prompt(start, chain, habit)]
    cuts = first_cuts(rng, len(chain))
    steps, values = work(rng, start, chain, cuts, recipe.error_first)
    if habit == "steps":
        for step, value in zip(steps, values):
            ids += [*step, END_THINK, ANSWER, *DIGITS[value], END_ANSWER, THINK]
        return ids[:-1] + [EOS]
    ids += sum(steps, []) + [SO, *DIGITS[values[-1]], LINE]
    last = look_again(rng, recipe, habit, start, chain, ids, values[-1], cuts)
    return ids + [END_THINK, ANSWER, *DIGITS[last], END_ANSWER, EOS]


def text_of(ids):
    return "".join(TOKENS[number & ~NO_LOSS] for number in ids)


def fingerprint(text):
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def shard(job):
    """Traces of one stream, padded, without any problem whose fingerprint is held out."""
    seed, count, recipe, held_out = job
    rng = random.Random(f"traces-{seed}")
    rows, skipped = [], 0
    while len(rows) < count:
        start, chain = problem(rng)
        if fingerprint(question(start, chain)) in held_out:
            skipped += 1
            continue
        rows.append(trace(rng, recipe, start, chain, rng.choices(HABITS, (.45, .35, .20))[0]))
    rows.sort(key=len)
    lengths = np.array([len(row) for row in rows], np.int32)
    flat = np.concatenate([np.array(row, np.uint8) for row in rows])
    return lengths, flat, skipped


def problem_files(folder, sizes=(("train", 4000), ("dev", 2000), ("test", 8000))):
    """Writes the three problem files from one stream, so that no problem occurs twice. Gives all fingerprints."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, seen = random.Random("problems"), set()
    for name, size in sizes:
        lines = []
        while len(lines) < size:
            start, chain = problem(rng)
            text = question(start, chain)
            if fingerprint(text) not in seen:
                seen.add(fingerprint(text))
                lines.append({"id": f"{name}-{len(lines) + 1}", "question": text, "answer": f"{truth(start, chain):02d}"})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return frozenset(seen)


def load_problems(path):
    return [parse(json.loads(line)["question"]) for line in path.read_text().splitlines()]
