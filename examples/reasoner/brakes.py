"""Accuracy against tokens of every brake on the embedded reasoner.

    python brakes.py run --command ../../build/release/bin/pensive --device cuda --out results.jsonl
    python brakes.py report results.jsonl --plot ../../docs/brakes.svg

`run` sits the exams, the most important first, several at a time, until --seconds are over; what is finished is kept and
not done again. A brake's setting is the one of its grid that, on dev, saves most on *thorough* while accuracy falls by at
most a quarter of a point and *brief* is cut by at most 5%; where there is none, the most accurate. It is reported on test,
beside its paper's default. `report` prints tables: differences are paired by problem, with 95% intervals. Tokens are all
that was decoded after the prompt: probes, taken back, the closer, the answer.
"""
import argparse
import json
import math
import pathlib
import tempfile

from exams import Exams, accuracy, add_options, against, in_parallel, mean

# Settings tried on dev. Traces here are about 390 tokens (brief: 63); a line is about 40.
GRIDS = {
    "margin": [f"margin:tau={tau},at=line,min=96" for tau in (.6, .8, 1.0, 1.2, 1.8)],
    "cold_stop": [f"cold_stop:entropy={e},tokens={n}" for e, n in ((.01, 24), (.02, 48), (.05, 64), (.1, 96))],
    "loops": [f"loops:lines={n},bytes={b}" for n, b in ((2, 12), (2, 24), (2, 48), (3, 12))],
    "overthink": [f'overthink:cues="So ",max={score}' for score in (.05, .2, .35, .5)],
    "trial": [f'trial:text="So ",tokens=2,confidence={sure}' for sure in (.8, .95, .99)],
    "convergence": [f'convergence:cue="<answer>",tokens=2,k={k}' for k in (2, 3, 4)],
}
DEFAULTS = ["margin", "cold_stop", "loops", "overthink", "trial", "convergence"]
BUDGETS = [60, 100, 140, 180, 220, 260, 320]
WINDOWS = [0, 48]  # closed wherever it stands; at the last line end before, where one comes
SHARES = [2, 4, 6, 8]


def run(args):
    with tempfile.TemporaryDirectory() as folder:
        exams = Exams(args, folder)
        in_parallel([lambda spec=spec, habit=habit: exams.sit("dev", args.dev, spec, habit)
                     for spec in ["none", *(spec for grid in GRIDS.values() for spec in grid)]
                     for habit in ("thorough", "brief")], args.jobs)
        chosen = {name: spec for name, grid in GRIDS.items() if (spec := choose(exams.done, args.dev, grid))}
        few = max(args.n // 5, 1)
        wanted = [(args.n, "none", "thorough", ()), *((args.n, spec, "thorough", ()) for spec in chosen.values()),
                  (args.n, "none", "brief", ()), *((args.n, spec, "brief", ()) for spec in chosen.values()),
                  *((few, f"budget:max={b},window={w}", "thorough", ()) for w in WINDOWS for b in BUDGETS),
                  *((few, f"prompt_budget:factor={f},window={w}", "thorough", ()) for w in WINDOWS for f in SHARES),
                  *((few, f"random_stop:p={c}", "thorough", ()) for c in (.15, .3)),
                  (few, "none", "thorough", ("--temperature", 0)), *((few, spec, "thorough", ()) for spec in DEFAULTS)]
        in_parallel([lambda w=w: exams.sit("test", w[0], w[1], w[2], w[3]) for w in wanted], args.jobs)


def choose(done, n, grid):
    """The setting of a grid to report, by dev; None where dev was cut short."""
    key = "dev {} {} {}".format
    found = {spec: tuple(done.get(key(n, habit, spec)) for habit in ("thorough", "brief")) for spec in ["none", *grid]}
    if any(line is None for pair in found.values() for line in pair):
        return None
    thorough, brief = found.pop("none")
    fit = [spec for spec, (long, short) in found.items()
           if accuracy(long) >= accuracy(thorough) - .0025 and mean(short) >= .95 * mean(brief)]
    if fit:
        return min(fit, key=lambda spec: mean(found[spec][0]))
    return max(found, key=lambda spec: accuracy(found[spec][0]))


def frontier(points, tokens):
    """Accuracy that plain budgets reach with so many tokens, on the line between the nearest two."""
    points = sorted(points)
    for (x0, y0), (x1, y1) in zip(points, points[1:]):
        if x0 <= tokens <= x1:
            return y0 + (y1 - y0) * (tokens - x0) / (x1 - x0)
    return None


def report(args):
    lines = [json.loads(line) for line in args.results.read_text().splitlines()]
    test = [line for line in lines if line["part"] == "test"]
    for habit in ("thorough", "brief"):
        part = [line for line in test if line["habit"] == habit]
        base = next(line for line in part if line["spec"] == "none" and not line["extra"])
        budgets = [[(mean(line), accuracy(line)) for line in part
                    if line["spec"].startswith("budget") and line["spec"].endswith(f"window={window}")]
                   + [(mean(base), accuracy(base))] for window in WINDOWS]
        print(f"\n*{habit}*\n\n| guide | n | accuracy | tokens | against none, points (95%) | saved | best budget of as many tokens |")
        print("|---|---|---|---|---|---|---|")
        for line in sorted(part, key=lambda line: (line is not base, -line["n"], line["spec"])):
            gap = against(line, base)
            name = " ".join(map(str, [line["spec"], *line["extra"]])).replace("|", "\\|")
            same = None
            if line is not base and habit == "thorough":
                same = max((found for line_of in budgets if (found := frontier(line_of, mean(line)))), default=None)
            print(f"| `{name}` | {line['n']:,} | {100 * accuracy(line):.1f}% | {mean(line):.0f} | "
                  + ("| |" if line is base else f"{gap[0]:+.1f} ({gap[1]:+.1f} to {gap[2]:+.1f}) | {gap[3]:.0f}% |")
                  + (f" {100 * same:.1f}% |" if same is not None else " |"))
    if args.plot:
        args.plot.write_text(plot([line for line in test if line["habit"] == "thorough"]))


SERIES = [("budget:", 0, "#8a8a8a", "plain budgets"), ("budget:", 48, "#444444", "budgets, at a line end"),
          ("prompt_budget:", 0, "#d9b44a", "budgets by prompt"), ("prompt_budget:", 48, "#a37c00", "the same, at a line end"),
          ("random_stop:", None, "#b0492c", "random stops")]


def plot(lines):
    """Accuracy against tokens as one SVG: budgets and random stops as lines, brakes as points, named on the right."""
    width, height, left, right, bottom = 860, 440, 56, 640, 48
    most, low = 50 * math.ceil(max(map(mean, lines)) / 50), .1 * math.floor(10 * min(map(accuracy, lines)))
    x = lambda tokens: left + (right - left) * tokens / most
    y = lambda share: height - bottom - (height - bottom - 24) * (share - low) / (1 - low)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
           f'<rect width="{width}" height="{height}" fill="#ffffff"/>']
    for tick in range(0, most + 1, 50):
        out.append(f'<text x="{x(tick):.0f}" y="{height - bottom + 18}" text-anchor="middle" fill="#666">{tick}</text>')
    for tick in range(round(low * 10), 11):
        out.append(f'<line x1="{left}" x2="{right}" y1="{y(tick / 10):.1f}" y2="{y(tick / 10):.1f}" stroke="#e6e6e6"/>'
                   f'<text x="{left - 8}" y="{y(tick / 10) + 4:.1f}" text-anchor="end" fill="#666">{10 * tick}%</text>')
    out.append(f'<text x="{(left + right) / 2}" y="{height - 10}" text-anchor="middle" fill="#333">tokens a response</text>')
    names = []  # where each stands, and in what colour
    for start, window, colour, label in SERIES:
        ends = "" if window is None else f"window={window}"
        points = sorted((x(mean(line)), y(accuracy(line))) for line in lines
                        if line["spec"].startswith(start) and line["spec"].endswith(ends))
        if points:
            path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
            out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
            out += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>' for a, b in points]
            names.append((*points[-1], label, colour))
    largest = max(line["n"] for line in lines)
    for line in lines:
        if line["n"] == largest or line["extra"]:
            name = "greedy" if line["extra"] else line["spec"].split(":")[0]
            names.append((x(mean(line)), y(accuracy(line)), name, "#222222" if line["spec"] == "none" else "#2a6fdb"))
            out.append(f'<circle cx="{names[-1][0]:.1f}" cy="{names[-1][1]:.1f}" r="5" fill="{names[-1][3]}"/>')
    row = 0
    for px, py, name, colour in sorted(names, key=lambda one: (one[1], -one[0])):
        row = max(py, row + 17)
        out.append(f'<path d="M{px:.1f} {py:.1f} L{right + 8} {row:.1f}" stroke="{colour}" stroke-width=".6" opacity=".6"/>'
                   f'<text x="{right + 14}" y="{row + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*out, "</svg>", ""])


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parts = parser.add_subparsers(dest="what", required=True)
    sit = parts.add_parser("run")
    add_options(sit)
    tell = parts.add_parser("report")
    tell.add_argument("results", type=pathlib.Path)
    tell.add_argument("--plot", type=pathlib.Path)
    args = parser.parse_args()
    run(args) if args.what == "run" else report(args)


if __name__ == "__main__":
    main()
