"""Makes the embedded reasoner: data, training, checks, files. See README.md for the commands.

    python make.py files                          tokenizer, configuration, problems
    python make.py train --recipe rare            trains and writes model.safetensors (a GPU, minutes)
    python make.py check --log check.jsonl        the figures of README.md, as lines of JSON
    python make.py report check.jsonl             learned rows against fixed words and phrases
    python make.py verify                         the weights in transformers
"""
import argparse
import copy
import json
import math
import multiprocessing
import pathlib
import random
import time

import numpy as np
import torch
import torch.nn.functional as F

import files
import leverage
import network
import task

HERE = pathlib.Path(__file__).resolve().parent


def speaker(path):
    """Prints each figure as a line of JSON, and keeps it at once in a file."""
    def say(**what):
        line = json.dumps(what)
        print(line, flush=True)
        if path:
            with open(path, "a") as out:
                out.write(line + "\n")
    return say


class Data:
    """Traces on the device in three groups by length; every batch takes each group's share."""

    edges = (160, 320, task.LONGEST)
    sizes = (330, 84, 98)  # about the share of the traces that each group holds

    def __init__(self, batch):
        self.sizes = [max(1, round(batch * size / 512)) for size in self.sizes]

    def load(self, shards, device):
        self.groups, low, self.tokens, self.skipped = [], 0, 0, sum(s[2] for s in shards)
        for edge in self.edges:
            rows = []
            for lengths, flat, _ in shards:
                ends = np.cumsum(lengths)
                keep = np.flatnonzero((lengths > low) & (lengths <= edge))
                block = np.full((len(keep), edge), task.NO_LOSS, np.uint8)
                for i, k in enumerate(keep):
                    block[i, :lengths[k]] = flat[ends[k] - lengths[k]:ends[k]]
                rows.append(block)
            self.groups.append(torch.from_numpy(np.concatenate(rows)).to(device))
            low = edge
        self.tokens = sum(int(s[0].sum()) for s in shards)

    def draw(self):
        for group, size in zip(self.groups, self.sizes):
            yield group[torch.randint(0, len(group), (size,), device=group.device)]


def loss_of(net, block):
    ids = (block & (task.NO_LOSS - 1)).long()
    want = torch.where(block >= task.NO_LOSS, -100, ids)[:, 1:]
    return F.cross_entropy(net(ids[:, :-1]).float().flatten(0, 1), want.flatten(), ignore_index=-100, reduction="sum")


def rate_at(progress, step, top):
    return top * min(1, (step + 1) / 200) * (0.5 * (1 + math.cos(math.pi * min(1, progress))) + 0.01)


def train(args, recipe, held_out, say):
    """Gives the trained network. Worker processes make the data first."""
    began = time.time()
    jobs = [(64 * args.seed + n, args.traces // 64, recipe, held_out) for n in range(64)]
    with multiprocessing.get_context("fork").Pool(args.workers) as pool:
        shards = pool.map(task.shard, jobs, chunksize=1)
    torch.manual_seed(args.seed)
    torch.backends.cuda.enable_cudnn_sdp(False)
    net = files.read_weights(args.init, args.device) if args.init else network.Reasoner().to(args.device)
    data = Data(args.batch)
    data.load(shards, args.device)
    say(data=dict(traces=args.traces, tokens=data.tokens, skipped=data.skipped, groups=[len(g) for g in data.groups],
                  parameters=sum(p.numel() for p in net.parameters())), seconds=round(time.time() - began))
    optimise(args, net, data, say)
    return net


def optimise(args, net, data, say):
    """Adam on float32 weights; forward and backward through a copy in the type that ships."""
    gpu, began, step, progress = args.device == "cuda", time.time(), 0, 0.0
    twin = copy.deepcopy(net).to(torch.bfloat16 if gpu else torch.float32)
    if args.compile:  # the same arithmetic in fewer kernels
        for layer in twin.model.layers:
            layer.compile(dynamic=False)
    master, low = list(net.parameters()), list(twin.parameters())
    adam = torch.optim.AdamW(master, lr=args.rate, betas=(0.9, 0.98), weight_decay=0.05, fused=gpu)
    mean = data.tokens / args.traces * args.batch * 0.8  # tokens with loss in a batch, about
    while progress < 1:
        progress = max((step + 1) / args.steps, (time.time() - began) / args.seconds)
        for group in adam.param_groups:
            group["lr"] = rate_at(progress, step, args.rate)
        total = 0.0
        for block in data.draw():
            part = loss_of(twin, block) / mean
            part.backward()
            total = total + part.detach()
        for wide, narrow in zip(master, low):
            wide.grad, narrow.grad = narrow.grad.float(), None
        torch.nn.utils.clip_grad_norm_(master, 1.0)
        adam.step()
        with torch.no_grad():
            torch._foreach_copy_(low, master)
        step += 1
        if step in (20, 100) or step % 500 == 0 or progress >= 1:
            say(train=step, loss=round(float(total), 4), seconds=round(time.time() - began, 1))
            if not math.isfinite(float(total)):
                raise SystemExit("the loss is not finite")


def habits(bench, problems, say):
    """The three habits as they are, and brakes on thorough."""
    for habit in task.HABITS:
        bench.policy("nothing", problems, habit=habit)
    for margin in (0.2, 0.4, 0.6, 0.9, 1.2, 1.6, 2.0):
        bench.policy(f"margin {margin}", problems, habit="thorough", margin=margin)
    for budget in (120, 160, 200, 250, 300):
        bench.policy(f"budget {budget}", problems, habit="thorough", budget=budget)
    bench.policy("greedy", problems, habit="thorough", temperature=1e-3)


def best_of(figures, count):
    return sorted(figures, key=lambda f: -f["right"])[:count]


def candidates(bench, dev, say, wide):
    """Words, pairs and marker-led triples that do best on a part of dev, with the three markers: {name: phrases}."""
    every = [i for i in range(len(task.TOKENS)) if i not in (task.PAD, task.UNK, task.END_THINK, task.EOS)]
    markers = [task.ID[marker] for marker in task.MARKERS]
    known = dict(leverage.singles())
    again = list(known)
    for label, lists, part in (("pairs", (every, every), wide // 4), ("triples", (markers, every, every), wide // 8)):
        phrases = leverage.phrases_of(*lists)
        figures = bench.sweep(phrases, dev[:part], 1, 384)
        known |= dict(phrases)
        say(scan=label, phrases=len(phrases), problems=part, best=best_of(figures, 10))
        again += [f["name"] for f in best_of(figures, 30)]
    turns = dict(leverage.in_turn())
    known |= turns
    chosen = {name: known[name] for name in task.MARKERS}
    for times in (1, 2, 3):
        names = again + (list(turns) if times > 1 else [])
        figures = bench.sweep([(name, known[name]) for name in names], dev[:wide], times, 384 + 128 * times)
        say(scan="again", times=times, problems=wide, phrases=len(names), best=best_of(figures, 10))
        chosen |= {f["name"]: known[f["name"]] for f in best_of(figures, 5)}
    return chosen


def fixed(bench, dev, test, say, wide):
    """Chooses fixed words and phrases on dev, measures them on test."""
    chosen = candidates(bench, dev, say, wide)
    for times in (1, 2, 3):
        found = best_of(bench.sweep(list(chosen.items()), dev, times, 1024), len(chosen))
        say(dev=times, best=found[:8])
        names = [f["name"] for f in found if f in found[:3] or f["name"] in task.MARKERS]
        known = {f["name"]: f["right"] for f in found}
        for figure in bench.sweep([(name, chosen[name]) for name in names], test, times, 1024):
            say(fixed=figure | {"dev": known[figure["name"]]})


def removed(learned, fixed_figures):
    """Share of errors that the learned row removes, against the fixed policy that did best on dev: of those that
    cost at least as many tokens, of those that cost at most as many, and of all."""
    groups = {"as_dear": [f for f in fixed_figures if f["tokens"] >= learned["tokens"]],
              "as_cheap": [f for f in fixed_figures if f["tokens"] <= learned["tokens"]], "any": fixed_figures}
    result = {}
    for name, group in groups.items():
        if group:
            rival = max(group, key=lambda f: f["dev"])
            share = 1 - (1 - learned["right"]) / (1 - rival["right"])
            result[name] = {k: rival[k] for k in ("name", "times", "right", "tokens", "n")} | {"removed": round(share, 3)}
    return result


def report(logs, say):
    """Sets every learned figure of the logs against the fixed ones."""
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    fixed_figures = [line["fixed"] for line in lines if "fixed" in line]
    for line in lines:
        if "learned" in line:
            say(**line, rivals=removed(line["learned"], fixed_figures))


def learn(args, bench, problems, say):
    """Learned rows, one for each setting, put in place of the closing token once, twice, three times."""
    for setting in json.loads(args.settings):
        row, _ = leverage.grpo(bench, problems["train"], **setting)
        say(setting=setting, row=[round(v, 5) for v in row.tolist()])
        for times in (1, 2, 3):
            rows = bench.measure([(p, None, times) for p in problems["test"][:args.n]], row=row)
            say(learned=leverage.summary(rows) | {"times": times}, setting=setting)


def markers(args, bench, problems, say):
    """Nothing, and the three markers."""
    bench.policy("nothing", problems["test"][:args.n])
    for times in (1, 2, 3):
        for figure in bench.sweep([s for s in leverage.singles() if s[0] in task.MARKERS], problems["dev"], times, 1024):
            say(marker=figure)


def check(args, net, problems, say):
    """One part of what the model card states, or all of it."""
    bench = leverage.Bench(net, args.decode, say)
    if args.part in ("markers", "all"):
        markers(args, bench, problems, say)
    if args.part in ("learn", "markers", "all"):
        learn(args, bench, problems, say)
    if args.part in ("copies", "all"):
        say(copies=leverage.copies(bench, problems["test"][:args.n]))
    if args.part in ("scan", "all"):
        fixed(bench, problems["dev"][:args.n], problems["test"][:args.n], say, args.wide)
    if args.part in ("habits", "all"):
        habits(leverage.Bench(net, args.decode // 4, say), problems["dev"][:args.n], say)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["files", "train", "check", "report", "verify"])
    parser.add_argument("logs", nargs="*", type=pathlib.Path, help="for report: what check --log wrote")
    parser.add_argument("--recipe", default="rare", choices=sorted(task.RECIPES))
    parser.add_argument("--no-careful", action="store_true")
    parser.add_argument("--folder", type=pathlib.Path, default=HERE)
    parser.add_argument("--weights", type=pathlib.Path)
    parser.add_argument("--init", type=pathlib.Path, help="go on from these weights")
    parser.add_argument("--log", type=pathlib.Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--traces", type=int, default=2_400_000)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--seconds", type=float, default=170)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--compile", action="store_true", help="torch.compile the layers: more steps a second")
    parser.add_argument("--n", type=int, default=8000)
    parser.add_argument("--wide", type=int, default=512)
    parser.add_argument("--decode", type=int, default=8192)
    parser.add_argument("--settings", default='[{"seed": 1}]')
    parser.add_argument("--then-check", action="store_true")
    parser.add_argument("--part", default="all", choices=["all", "scan", "learn", "markers", "copies", "habits"])
    return parser.parse_args()


def main():
    args = arguments()
    say = speaker(args.log)
    random.seed(args.seed)
    if args.what == "files":
        task.problem_files(args.folder / "problems")
        files.write_text_files(args.folder)
        return say(round_trips=files.check_text())
    if args.what == "verify":
        return say(largest_logit_difference=files.check_transformers(args.folder))
    if args.what == "report":
        return report(args.logs, say)
    weights = args.weights or args.folder / "model.safetensors"
    problems = {name: task.load_problems(HERE / "problems" / f"{name}.jsonl") for name in ("train", "dev", "test")}
    if args.what == "train":
        recipe = task.dataclasses.replace(task.RECIPES[args.recipe], careful=not args.no_careful)
        held_out = frozenset(task.fingerprint(task.question(*p)) for part in problems.values() for p in part)
        net = train(args, recipe, held_out, say)
        files.write_weights(net, weights)
    if args.what == "check" or args.then_check:
        net = files.read_weights(weights, args.device)
        check(args, net, problems, say)


if __name__ == "__main__":
    main()
