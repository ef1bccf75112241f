"""Writes the tables of docs/performance.md, docs/training.md and docs/memory.md from benchmarks/results/*.jsonl, or says
that they are out of date.

    python benchmarks/report.py           # writes
    python benchmarks/report.py --check   # exit code 1 where a document is not what the results make it

A table stands between `<!-- table NAME -->` and `<!-- end -->`; NAME is a function here. A line of results is what
pensive-bench and the peers' scripts print: case, shape, unit, median, low, high and n of the repetitions, and where
they are known goal (P1 to P9), limit, share (of the limit), copy_TB_per_s (measured in the same run), peer (its figure,
taken in turns), ratio, hardware, device, precision.
"""

import argparse
import difflib
import json
import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
DOCUMENTS = [HERE.parent / "docs" / name for name in ("performance.md", "training.md", "memory.md")]
GOALS = {
    "P1": "decode, batch 1: share of the limit; 60%, 78%, 88%",
    "P2": "decode, batch 64, context 512: 15,000, 25,000, 40,000 tokens/s",
    "P3": "prefill of 2,048 tokens: share of a large product; 50%, 65%, 80%",
    "P4": "a GRPO step, 32 x 16 x 512: 25, 12, 8 s",
    "P5": "backward beside the whole-sequence peer's: 2, 3, 4 times",
    "P6": "all guides armed, batch 1: cost 3%, 1%, 0.3%",
    "P7": "fork at 8,192 tokens: 1 ms, 100 us, 20 us",
    "P8": "CPU, SmolLM2: decode 1.5x Transformers, then level with llama.cpp and prefill 1.2x, then 1.3x both",
    "P9": "gap between engine and trainer: reported, 0.01 nats in the mean, 0",
}


def read(folder):
    """Every line of every file, in order, with the file's name."""
    lines = []
    for file in sorted(folder.glob("*.jsonl")):
        for number, text in enumerate(file.read_text().splitlines(), 1):
            try:
                lines.append({"file": file.stem} | json.loads(text))
            except (json.JSONDecodeError, TypeError):
                raise SystemExit(f"expected a JSON object; found another line ({file.name}, line {number})")
    return lines


# What only the table of training tells: parts, and batches of another size than the trainer's own.
PARTS = re.compile(r"GRPO step: |peer: |backward(: memory.*|, suffixes.*)?$")
BATCH_TOKENS = 4096


def goal_of(line):
    if "goal" in line:
        is_part = PARTS.match(line["case"]) or line.get("batch_tokens", BATCH_TOKENS) != BATCH_TOKENS
        return None if is_part else line["goal"]
    shape = line.get("shape", "")
    if line["file"].endswith(("-engine-cuda", "-forks-cpu")):
        if "guides" in line["case"] and shape.startswith("batch 1;") and line.get("unit") == "tokens/s over none":
            return "P6"
        return "P7" if line["case"] == "fork" else None
    if line.get("case") != "decode share" or not line.get("graphs", True):
        return None
    if "batch 1, context 64 " in shape:
        return "P1"
    return "P2" if "batch 64, context 512 " in shape else None


def number(value):
    """Three digits that count, thousands set apart."""
    if value is None:
        return ""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def figure(line):
    unit = line.get("unit", "")
    if unit == "tokens/s over none":
        return f"{line['median']:.4f} of the rate without ({line['low']:.4f} to {line['high']:.4f}, n = {line['n']})"
    text = number(line.get("median")) + (f" {unit}" if unit else "")
    low, high = line.get("low"), line.get("high")
    if line.get("n", 1) > 1 and low is not None and "ratio" not in line:
        text += f" ({number(low)} to {number(high)}, n = {line['n']})"
    return text + memory_of(line)


def memory_of(line):
    """What a backward takes: beside weights and the engine's cache, and with them."""
    if "pensive_GB" in line:
        return f"; {number(line['pensive_GB'])} GB and what was there, {number(line['pensive_in_all_GB'])} in all"
    if "beside_weights_GB" in line:
        return f"; {number(line['beside_weights_GB'])} GB and the weights, {number(line['peak_GB'])} in all"
    return ""


def beside(line):
    """The limit or the peer, and what the figure is of it."""
    if "peer" in line:
        spread = f" ({line['low']} to {line['high']}, n = {line['n']})" if line.get("n", 1) > 1 else ""
        share = f"; {100 * line['memory_share']:.0f}% of its memory" if "memory_share" in line else ""
        return f"{number(line['peer'])} {line.get('unit', '')}".strip(), f"{line['ratio']}x{spread}{share}"
    if "ratio" in line:
        return "", f"{number(line['ratio'])}x"
    if line.get("limit"):
        return number(line["limit"]), f"{100 * line['share']:.0f}%"
    return "", ""


def place(line):
    words = [line.get("hardware") or line.get("device", ""), line.get("precision", "")]
    if line.get("threads"):
        words.append(f"{line['threads']} threads")
    words.append(line.get("conditions", ""))
    if line.get("copy_TB_per_s"):
        words.append(f"copies at {line['copy_TB_per_s']:.2f} TB/s")
    return ", ".join(word for word in words if word)


def table(head, rows):
    return ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)] + ["| " + " | ".join(row) + " |" for row in rows]


def once(lines):
    """Of lines that several files have, those of the first."""
    first = {}
    for line in lines:
        key = [line.get(name) for name in ("case", "model", "shape", "precision", "device", "hardware", "graphs")]
        first.setdefault(json.dumps(key), line)
    return list(first.values())


def model_and_shape(line):
    model, shape = line.get("model", ""), line.get("shape", "")
    return shape if shape.startswith(model) else ", ".join(filter(None, (model, shape)))


def goals(lines):
    """Every line that counts towards a goal."""
    rows = []
    for goal, text in GOALS.items():
        found = sorted(once([line for line in lines if goal_of(line) == goal]),
                       key=lambda line: re.match(r"[^,]*", model_and_shape(line))[0])
        for line in found:
            limit, share = beside(line)
            rows.append([goal, f"{line['case']}: {model_and_shape(line)}", figure(line), limit, share, place(line)])
        if not found:
            rows.append([goal, text, "not measured", "", "", ""])
    return table(["", "case", "figure", "limit or peer", "share or ratio", "where"], rows)


def targets(lines):
    """What the goals ask."""
    return table(["", "asked for: credible, leading, moonshot"], [[goal, text] for goal, text in GOALS.items()])


def shape_order(shape):
    return tuple(int(digits.replace(",", "")) for digits in re.findall(r"\d[\d,]*", shape))


def decode(lines):
    """Decode by batch and context, a column a file, with and without graphs."""
    columns, cells = [], {}
    for line in lines:
        if line.get("case") != "decode share":
            continue
        model, _, shape = line["shape"].partition(", ")
        column = model + ("" if line.get("graphs", True) else ", without graphs")
        if column not in columns:
            columns.append(column)
        text = line.get("unfit") or number(line["median"])
        if line.get("limit"):
            text += f" ({100 * line['share']:.0f}%)"
        cells.setdefault((shape, column), text)
    shapes = sorted({shape for shape, _ in cells}, key=shape_order)
    return table(["batch, context"] + columns,
                 [[shape.removeprefix("batch ")] + [cells.get((shape, column), "") for column in columns]
                  for shape in shapes])


def grid(lines):
    """Single steps: tokens/s, and the share of what the card's memory allows."""
    cells, contexts, rows = {}, [], []
    for line in lines:
        if line.get("case") not in ("step", "step by one kernel") or not line["file"].endswith("-grid-cuda"):
            continue
        row = line["shape"], line["batch"]
        if row not in rows:
            rows.append(row)
        if line["context"] not in contexts:
            contexts.append(line["context"])
        text = "does not fit"
        if line.get("fits", True):
            text = f"{line['tokens_per_s']:,} ({100 * line['share']:.0f}%)"
        if line["case"] == "step by one kernel":
            text += " by one kernel"
        cells.setdefault((*row, line["context"]), []).append(text)
    rows.sort(key=lambda row: (["r1-1.5b", "llama-1b", "smollm2"].index(row[0]), row[1]))
    return table(["shape", "batch"] + [f"context {context:,}" for context in contexts],
                 [[shape, str(batch)] + ["; ".join(cells.get((shape, batch, context), [])) for context in contexts]
                  for shape, batch in rows])


def invariant(lines):
    """What row-invariant steps cost, in turns with fast ones."""
    found = [line for line in lines if line.get("case") == "row-invariant step"]
    contexts = sorted({line["context"] for line in found})
    cells = {(line["shape"], line["batch"], line["context"]): line for line in found}
    rows = []
    for shape, batch in sorted({(line["shape"], line["batch"]) for line in found}):
        row = [shape, str(batch)]
        for context in contexts:
            line = cells.get((shape, batch, context))
            row += [""] * 3 if line is None else [
                number(line["fast_us"]), number(line["us"]),
                f"{line['ratio']:.2f} ({line['low']:.2f} to {line['high']:.2f}, n = {line['n']})"]
        rows.append(row)
    head = [text for context in contexts for text in (f"context {context:,}: fast, us", "row-invariant, us", "ratio")]
    return table(["model", "batch"] + head, rows)


def peers(lines):
    """Beside other programs, in turns."""
    rows = [[line["model"], line["case"], line["precision"], number(line["median"]), number(line["peer"]),
             beside(line)[1], line.get("versions", ""), place(line)] for line in lines if "peer" in line]
    return table(["model", "case", "precision", "pensive", "peer", "ratio", "versions", "where"], rows)


def memory(lines):
    """What was planned beside what was taken."""
    rows = [[line["shape"], f"{line['planned_MB']:,.0f}", f"{line['taken_MB']:,.0f}",
             f"{100 * line['taken_MB'] / line['planned_MB']:.0f}%", place(line)]
            for line in reversed(once(lines[::-1])) if line.get("case") == "memory"]
    return table(["part", "planned, MB", "taken, MB", "", "where"], rows)


def training(lines):
    """Whole steps with one number of tokens in a backward, and the peer that had the card to itself."""
    rows = []
    for line in lines:
        if line.get("case") != "backward beside the peer's best":
            continue
        same = {one["case"]: one for one in lines
                if one["file"] == line["file"] and one.get("batch_tokens") == line["batch_tokens"]}
        step = [figure(same[case]) for case in
                ("GRPO step", "GRPO step: rollouts", "GRPO step: judges", "GRPO step: update")]
        rows.append([line["model"], number(line["batch_tokens"]), *step, number(line["median"]),
                     f"{number(line['pensive_GB'])} ({number(line['pensive_in_all_GB'])}) GB",
                     f"{number(line['peer'])}, {number(line['peer_GB'])} ({number(line['peer_in_all_GB'])}) GB",
                     *beside(line)[1].split("; "), beside(same["backward beside the peer, in turns"])[1]])
    return table(["model", "tokens in a backward", "step", "rollouts", "judges", "update", "rollout tokens/s", "memory (in all)",
                  "the peer at its best", "rate beside it", "memory beside it", "rate beside the peer, in turns"], rows)


def load(lines):
    """How fast weights come to their device."""
    rows = [[line["shape"], figure(line), place(line)] for line in lines if line.get("case") == "load"]
    return table(["case", "figure", "where"], rows)


TABLES = {function.__name__: function for function in (goals, targets, decode, grid, invariant, peers, training, memory, load)}
BLOCK = re.compile(r"<!-- table (\w+) -->\n.*?<!-- end -->", re.DOTALL)


def rewritten(document, lines):
    def fill(match):
        name = match.group(1)
        if name not in TABLES:
            raise SystemExit(f"expected a table of {', '.join(TABLES)}; found {name} ({document.name})")
        return "\n".join([f"<!-- table {name} -->", *TABLES[name](lines), "<!-- end -->"])

    return BLOCK.sub(fill, document.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    lines = read(HERE / "results")
    is_old = False
    for document in DOCUMENTS:
        before, after = document.read_text(), rewritten(document, lines)
        if not args.check:
            document.write_text(after)
            continue
        difference = difflib.unified_diff(before.splitlines(), after.splitlines(), document.name, "results", lineterm="")
        for line in difference:
            print(line)
        is_old = is_old or before != after
    if is_old:
        print("python benchmarks/report.py writes it", file=sys.stderr)
    return 1 if is_old else 0


if __name__ == "__main__":
    sys.exit(main())
