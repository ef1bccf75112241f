"""Makes the embedded reasoner: data, training, checks, files. See README.md for the commands.

    python make.py files                          tokenizer, configuration, problems
    python make.py train --recipe stray           trains and writes model.safetensors (a GPU, minutes)
    python make.py quick                          the main figures
    python make.py check --part singles|pairs|marker|learn|habits
"""
import argparse
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
    """Gives the trained network. Data is made by worker processes while the training step compiles."""
    began = time.time()
    jobs = [(seed, args.traces // 64, recipe, held_out) for seed in range(64)]
    pool = multiprocessing.get_context("fork").Pool(args.workers)
    pending = pool.map_async(task.shard, jobs, chunksize=1)
    torch.manual_seed(args.seed)
    gpu = args.device == "cuda"
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(False)  # its backward pass gives NaN for some lengths
    net, data = network.Reasoner().to(args.device), Data(args.batch)
    adam = torch.optim.AdamW(net.parameters(), lr=args.rate, betas=(0.9, 0.98), weight_decay=0.05, fused=gpu)
    torch._dynamo.config.automatic_dynamic_shapes = False
    loss = torch.compile(loss_of) if gpu else loss_of
    for edge, size in zip(data.edges, data.sizes):  # warm up: one compilation for each length
        block = torch.randint(0, 32, (size, edge), device=args.device, dtype=torch.uint8)
        with torch.autocast(args.device, torch.bfloat16, enabled=gpu):
            loss(net, block).backward()
    adam.zero_grad()
    warm = time.time() - began
    data.load(pending.get(), args.device)
    pool.terminate()
    say(data=dict(traces=args.traces, tokens=data.tokens, skipped=data.skipped, edges=data.edges, sizes=data.sizes,
                  parameters=sum(p.numel() for p in net.parameters())), warm=round(warm), seconds=round(time.time() - began))
    optimise(args, net, data, adam, loss, say)
    return net


def optimise(args, net, data, adam, loss, say):
    began, step, progress, gpu = time.time(), 0, 0.0, args.device == "cuda"
    mean = data.tokens / args.traces * args.batch * 0.8  # tokens with loss in a batch, about
    while progress < 1:
        progress = max(step / args.steps, (time.time() - began) / args.seconds)
        for group in adam.param_groups:
            group["lr"] = rate_at(progress, step, args.rate)
        total = 0.0
        for block in data.draw():
            with torch.autocast(args.device, torch.bfloat16, enabled=gpu):
                part = loss(net, block) / mean
            part.backward()
            total = total + part.detach()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        adam.zero_grad(set_to_none=True)
        step += 1
        if step % 500 == 0 or progress >= 1:
            say(train=step, loss=round(float(total), 4), seconds=round(time.time() - began, 1))


def habits(bench, problems, say):
    for habit in task.HABITS:
        bench.policy("nothing", problems, habit=habit)
    for margin in (0.2, 0.4, 0.6, 0.9, 1.2, 1.6, 2.0, 2.4):
        bench.policy(f"margin {margin}", problems, habit="thorough", margin=margin)
    for budget in (100, 150, 200, 250, 300, 350):
        bench.policy(f"budget {budget}", problems, habit="thorough", budget=budget)
    bench.policy("greedy", problems, habit="thorough", temperature=1e-3)


def fixed(bench, dev, test, say, wide):
    """Single words and pairs on dev, the best again on more problems x1 to x3. Gives all fixed figures on test."""
    found = [f for times in (1, 2, 3) for f in bench.sweep(leverage.singles(), dev[:wide], times, 1024)]
    for times in (1, 2, 3):
        best = sorted((f for f in found if f["times"] == times), key=lambda f: -f["right"])[:6]
        say(singles=times, best=best)
    every = [i for i in range(len(task.TOKENS)) if i not in (task.PAD, task.UNK, task.END_THINK, task.EOS)]
    pairs = leverage.phrases_of(every, every)
    ranked = sorted(zip(bench.sweep(pairs, dev[:wide // 4], 1, 512), pairs), key=lambda p: -p[0]["right"])
    say(pairs=len(pairs), best=[f for f, _ in ranked[:10]])
    names = [p for _, p in ranked[:12]]
    names += [s for s in leverage.singles() if s[0] in task.MARKERS or s[0] in {f["name"] for f in best}]
    names += leverage.in_turn()[:1]
    out = []
    for times in (1, 2, 3):
        out += bench.sweep(names, dev, times, 1024)
    for figure in sorted(out, key=lambda f: -f["right"]):
        say(fixed=figure)
    return out


def compare(learned, fixed_figures, say, label):
    """Share of errors removed against the best fixed policy that uses at least as many tokens, and the best of all."""
    dear = [f for f in fixed_figures if f["tokens"] >= learned["tokens"]]
    best = max(fixed_figures, key=lambda f: f["right"])
    result = {"learned": learned["right"], "tokens": learned["tokens"]}
    for name, rival in (("dearer", max(dear, key=lambda f: f["right"]) if dear else None), ("best", best)):
        if rival:
            removed = 1 - (1 - learned["right"]) / (1 - rival["right"])
            result[name] = dict(name=rival["name"], times=rival["times"], right=rival["right"],
                                tokens=rival["tokens"], removed=round(removed, 3))
    say(compare=label, **result)
    return result


def quick(args, bench, problems, say):
    """A short look at a design: habits, learned rows, fixed words and pairs."""
    dev, test, wide = problems["dev"][:args.n], problems["test"][:args.n], args.wide
    for habit in task.HABITS:
        bench.policy("nothing", dev, habit=habit)
    for times in (1, 2, 3):
        bench.policy("Wait", dev, leverage.alike([task.ID["Wait, "]]), times)
    learned = []
    for setting in json.loads(args.settings):
        row, _ = leverage.grpo(bench, problems["train"], **setting)
        for times in (1, 2, 3):
            learned.append((str(setting), bench.policy(f"learned {setting}", dev, None, times, row=row)))
    figures = fixed(bench, dev, test, say, wide)
    for label, figure in learned:
        compare(figure, figures, say, f"{label} x{figure['times']}")
    habits(bench, dev, say)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["files", "train", "quick", "verify"])
    parser.add_argument("--recipe", default="stray", choices=sorted(task.RECIPES))
    parser.add_argument("--no-careful", action="store_true")
    parser.add_argument("--folder", type=pathlib.Path, default=HERE)
    parser.add_argument("--weights", type=pathlib.Path)
    parser.add_argument("--log", type=pathlib.Path)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--traces", type=int, default=2_400_000)
    parser.add_argument("--steps", type=int, default=12_000)
    parser.add_argument("--seconds", type=float, default=170)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--n", type=int, default=4000)
    parser.add_argument("--wide", type=int, default=512)
    parser.add_argument("--decode", type=int, default=4096)
    parser.add_argument("--settings", default='[{"seed": 1}]')
    parser.add_argument("--then-quick", action="store_true")
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
    weights = args.weights or args.folder / "model.safetensors"
    problems = {name: task.load_problems(HERE / "problems" / f"{name}.jsonl") for name in ("train", "dev", "test")}
    if args.what == "train":
        recipe = task.dataclasses.replace(task.RECIPES[args.recipe], careful=not args.no_careful)
        held_out = frozenset(task.fingerprint(task.question(*p)) for part in problems.values() for p in part)
        net = train(args, recipe, held_out, say)
        files.write_weights(net, weights)
    if args.what == "quick" or args.then_quick:
        bench = leverage.Bench(files.read_weights(weights, args.device), args.decode, say)
        quick(args, bench, problems, say)


if __name__ == "__main__":
    main()
