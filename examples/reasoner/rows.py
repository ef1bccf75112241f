"""Where learned rows stand among the vocabulary's, and among each other.

    python rows.py claim/row-*.safetensors --model .

Of each row: its norm beside that of Wait, its distance from Wait, and the vocabulary rows nearest by cosine, as it
stands, and in its way from Wait (the cosine of row - Wait with token - Wait). Then how much of that way lies in the span
of the vocabulary's ways from Wait, and how alike the ways of two rows are.
"""
import argparse
import itertools
import pathlib

import numpy as np
from safetensors.torch import load_file

import task

HERE = pathlib.Path(__file__).parent


def embeddings(model):
    """The vocabulary's input rows, float32 [tokens, width]."""
    return load_file(str(model / "model.safetensors"))["model.embed_tokens.weight"].float().numpy()


def cosines(rows, row):
    return rows @ row / np.maximum(np.linalg.norm(rows, axis=1) * np.linalg.norm(row), 1e-12)


def nearest(figures, count=4):
    order = np.argsort(-figures)[:count]
    return ", ".join(f"{task.TOKENS[i].strip() or repr(task.TOKENS[i])} {figures[i]:+.2f}" for i in order)


def inside(ways, way):
    """Share of a way's length that the span of others holds."""
    basis, sizes, _ = np.linalg.svd(ways.T, full_matrices=False)
    basis = basis[:, sizes > 1e-4 * sizes[0]]
    return np.linalg.norm(basis.T @ way) / np.linalg.norm(way)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("rows", type=pathlib.Path, nargs="+")
    parser.add_argument("--model", type=pathlib.Path, default=HERE)
    args = parser.parse_args()
    table = embeddings(args.model)
    wait = table[task.ID["Wait, "]]
    used = [i for i in range(len(task.TOKENS)) if i not in (task.PAD, task.UNK)]  # those two never stood in a trace
    others = [i for i in used if i != task.ID["Wait, "]]
    marks = np.full(len(table), -2, np.float32)
    print(f"Wait has norm {np.linalg.norm(wait):.2f}; nearest to it: {nearest(mark(marks, others, cosines(table[others], wait)))}\n")
    print("| row | norm | from Wait | nearest, cosine | nearest in its way from Wait | of the way in their span |\n|---|---|---|---|---|---|")
    ways = []
    for path in args.rows:
        row = load_file(str(path))["rows"][0].numpy()
        ways.append(row - wait)
        print(f"| {path.stem} | {np.linalg.norm(row):.2f} | {np.linalg.norm(ways[-1]):.2f} | "
              f"{nearest(mark(marks, used, cosines(table[used], row)))} | "
              f"{nearest(mark(marks, others, cosines(table[others] - wait, ways[-1])))} | {inside(table[others] - wait, ways[-1]):.2f} |")
    pairs = [cosines(a[None], b)[0] for a, b in itertools.combinations(ways, 2)]
    if pairs:
        print(f"\nCosine of two rows' ways: {np.mean(pairs):.2f} on average ({min(pairs):.2f} to {max(pairs):.2f}).")
    for a, b in (("Wait, ", "Hmm, "), ("Wait, ", "Alternatively, ")):
        figures = [cosines((table[task.ID[a]] - table[task.ID[b]])[None], way)[0] for way in ways]
        print(f"Cosine of a row's way with {a.strip(', ')} - {b.strip(', ')}: {np.mean(figures):.2f} "
              f"({min(figures):.2f} to {max(figures):.2f}).")


def mark(blank, where, figures):
    out = blank.copy()
    out[where] = figures
    return out


if __name__ == "__main__":
    main()
