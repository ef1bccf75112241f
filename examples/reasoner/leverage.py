"""What can be had by going on: fixed words and phrases, and one learned row, on frozen weights."""
import collections
import random
import time

import torch

import network
import task

SIX_AHEAD = 6  # after the last forced token: two digits, operation, two digits, then " = " if the step is single


class Bench:
    """Problems and decoders for one frozen network."""

    def __init__(self, net, batch, say):
        device = net.lm_head.weight.device
        self.fast = torch.bfloat16 if device.type == "cuda" else torch.float32
        self.exact = network.rounded(net, torch.float32, device)
        self.net, self.device, self.say = network.rounded(net, self.fast, device), device, say
        self.batch, self.decoders = batch, {}

    def decoder(self, batch):
        if batch not in self.decoders:
            self.decoders[batch] = network.Decoder(self.net, batch, self.fast)
        return self.decoders[batch]

    def measure(self, jobs, habit="brief", **rule):
        """jobs: (problem, phrases or None, times). Gives one row of numbers a job, in order."""
        rows = []
        decoder = self.decoder(self.batch)
        for at in range(0, len(jobs), self.batch):
            part = jobs[at:at + self.batch]
            full = part + [part[-1]] * (self.batch - len(part))
            prompts = [task.prompt(*job[0], habit) for job in full]
            phrases = None if full[0][1] is None else [job[1] for job in full]
            ids, lengths = decoder.run(prompts, phrases, torch.tensor([job[2] for job in full]), **rule)
            rows.append(marks(ids, lengths, full, prompts)[:len(part)].cpu())
        return torch.cat(rows)

    def policy(self, name, problems, phrases=None, times=0, habit="brief", **rule):
        repeats = max(1, self.batch // len(problems))
        rows = self.measure([(p, phrases, times) for p in problems] * repeats, habit, **rule)
        figure = summary(rows) | {"name": name, "habit": habit, "times": times}
        self.say(policy=figure, rule={k: v for k, v in rule.items() if k != "row"})
        return figure

    def sweep(self, names, problems, times, limit):
        """Every named list of phrases on the same problems, all in one stream of batches."""
        jobs = [(p, phrases, times) for _, phrases in names for p in problems]
        rows = self.measure(jobs, limit=limit).view(len(names), len(problems), -1)
        return [summary(part) | {"name": name, "times": times} for (name, _), part in zip(names, rows)]


FIELDS = ("right", "tokens", "first_right", "first_at", "careful", "keep", "open", "value_right")


def marks(ids, lengths, jobs, prompts):
    """Per sequence: right, tokens after the prompt, first answer right and where, mode of the first forced look."""
    device, count = ids.device, torch.arange(ids.shape[1], device=ids.device)[None]
    begin = torch.tensor([len(p) for p in prompts], device=device)
    want = torch.tensor([task.DIGITS[task.truth(*job[0])] for job in jobs], device=device)
    live = (count >= begin[:, None]) & (count < lengths[:, None])

    def digits(at, offset):
        at = (at + offset).clamp(0, ids.shape[1] - 2)[:, None]
        return (ids.gather(1, torch.cat((at, at + 1), 1)) == want).all(1)

    answer, opened = live & (ids == task.ANSWER), live & (ids == task.SO)
    none = ~answer.any(1)
    last = torch.where(answer, count, -1).max(1).values
    first = torch.where(answer, count, ids.shape[1]).min(1).values
    value = torch.where(opened, count, ids.shape[1]).min(1).values
    total = (lengths - begin).float()
    # the look that the first forced phrase opened: where it begins is the end of the first line before a forced token
    forced = torch.tensor([0 if job[2] == 0 else 1 if job[1] is None else len(job[1][0]) for job in jobs], device=device)
    token = torch.tensor([network.CONTINUE if job[1] is None else job[1][0][0] for job in jobs], device=device)
    before = torch.cat((torch.zeros_like(ids[:, :1]), ids[:, :-1]), 1)
    spot = live & (ids == token[:, None]) & (before == task.LINE)
    spot = torch.where(spot, count, ids.shape[1]).min(1).values + forced - 1
    look = lambda ahead: ids.gather(1, (spot + ahead).clamp(0, ids.shape[1] - 1)[:, None])[:, 0]
    has = (forced > 0) & (spot < lengths)
    careful, keep = has & (look(SIX_AHEAD) == task.EQUALS), has & (look(1) == task.SO)
    share = (first - begin).clamp(min=0).float().minimum(total) / total.clamp(min=1)
    finished = ids.gather(1, (lengths - 1)[:, None])[:, 0] == task.EOS
    return torch.stack((digits(last, 1) & ~none, total, digits(first, 1) & ~none, share, careful, keep, ~finished,
                        digits(value, 1)), 1).float()


def summary(rows):
    mean = rows.mean(0).tolist()
    out = {name: round(value, 4 if name != "tokens" else 1) for name, value in zip(FIELDS, mean)}
    return out | {"n": len(rows)}


def alike(ids):
    return [list(ids)] * 3


def singles():
    skip = (task.PAD, task.UNK, task.END_THINK, task.EOS)
    return [(task.TOKENS[i], alike([i])) for i in range(len(task.TOKENS)) if i not in skip]


def phrases_of(*lists):
    """Every phrase with one token from each list."""
    found = [[]]
    for choices in lists:
        found = [ids + [i] for ids in found for i in choices]
    return [(task.text_of(ids), alike(ids)) for ids in found]


def in_turn():
    """The three markers in each order, one a continuation."""
    a = [task.ID[m] for m in task.MARKERS]
    orders = [(a[i], a[j], a[k]) for i in range(3) for j in range(3) for k in range(3) if len({i, j, k}) == 3]
    return [(" | ".join(task.TOKENS[i] for i in order), [[i] for i in order]) for order in orders]


def copies(bench, problems):
    """What rechecks by two or three operations, asked for by Wait, make of a wrong first attempt: how many end right,
    on the same wrong value, on another."""
    decoder, found = bench.decoder(bench.batch), collections.Counter()
    for at in range(0, len(problems) - bench.batch + 1, bench.batch):
        part = problems[at:at + bench.batch]
        words = [task.prompt(*p) for p in part]
        ids, lengths = decoder.run(words, [alike([task.ID["Wait, "]])] * len(part), 1, limit=512)
        for problem, word, row, length in zip(part, words, ids.tolist(), lengths.tolist()):
            lines = task.text_of(row[len(word):length]).split("</think>")[0].strip().split("\n")
            values = [line.split("So ")[-1] for line in lines]
            truth = f"{task.truth(*problem):02d}"
            if len(lines) < 2 or ";" not in lines[1] or values[0] == truth:
                continue
            if sum(lines[1].split(" = ")[0].count(op) for op in "+-*") > 1:
                found["right" if values[1] == truth else "same" if values[1] == values[0] else "other"] += 1
    return dict(found)


def leads(decoder, words, temperature):
    """Each prompt with one first attempt and the row behind it, where the attempt wants to close."""
    ids, lengths = decoder.run(words, None, 0, temperature, limit=512)
    longer = []
    for i, word in enumerate(words):
        row = ids[i, :lengths[i]].tolist()
        closed = task.END_THINK in row[len(word):]
        longer.append([*row[:row.index(task.END_THINK, len(word))], network.CONTINUE] if closed else word)
    return longer


def grpo(bench, problems, seed=1, prompts=64, samples=16, steps=60, rate=0.03, temperature=1.0, start="Wait, ",
         branch=True):
    """One input row, put once in place of the closing token, learned from right or wrong alone. The samples of a
    problem part where the row stands, or (branch=False) at the prompt."""
    device, rng = bench.device, random.Random(f"grpo-{seed}")
    decoder = bench.decoder(prompts * samples)
    row = bench.exact.model.embed_tokens.weight[task.ID[start]].clone().requires_grad_(True)
    first = row.detach().clone()
    adam = torch.optim.Adam([row], lr=rate, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    began, trail = time.time(), []
    for step in range(steps):
        chosen = [rng.choice(problems) for _ in range(prompts)]
        jobs = [(p, None, 1) for p in chosen for _ in range(samples)]
        words = [task.prompt(*p) for p in chosen]
        begun = leads(bench.decoder(prompts), words, temperature) if branch else words
        words, begun = ([w for w in part for _ in range(samples)] for part in (words, begun))
        ids, lengths = decoder.run(begun, None, 1 - branch, temperature, row.detach().to(bench.fast), limit=768)
        rows = marks(ids, lengths, jobs, words)
        reward = rows[:, 0].view(prompts, samples)
        gain = ((reward - reward.mean(1, keepdim=True)) / (reward.std(1, keepdim=True) + 1e-4)).flatten()
        learn(bench.exact, row, ids, lengths, gain)
        norm = row.grad.norm().item() if row.grad is not None else 0.0
        adam.step()
        schedule.step()
        adam.zero_grad()
        trail.append(dict(step=step, reward=round(reward.mean().item(), 3), careful=round(rows[:, 4].mean().item(), 3),
                          tokens=round(rows[:, 1].mean().item(), 1), gradient=round(norm, 5),
                          moved=round((row.detach() - first).norm().item(), 3), seconds=round(time.time() - began, 1)))
        if step % 10 == 0 or step == steps - 1:
            bench.say(grpo=dict(seed=seed, prompts=prompts, samples=samples, steps=steps, rate=rate), **trail[-1])
    return row.detach(), trail


def learn(net, row, ids, lengths, gain, chunk=512):
    """Adds the policy gradient of everything sampled after the row to row.grad."""
    use = (gain.abs() > 1e-6) & (ids == network.CONTINUE).any(1)
    if not use.any():
        return
    ids, lengths, gain = ids[use][:, :int(lengths[use].max())], lengths[use], gain[use]
    count = torch.arange(ids.shape[1], device=ids.device)[None]
    at = (ids == network.CONTINUE).float().argmax(1)
    weight = ((count > at[:, None]) & (count < lengths[:, None])).float()
    total = weight.sum()
    for i in range(0, len(ids), chunk):
        part = ids[i:i + chunk]
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=ids.device.type == "cuda"):
            logits = net(part[:, :-1], row).float()
        logits = logits.index_fill(-1, torch.tensor([task.PAD, task.UNK], device=ids.device), -1e9)
        sampled = part[:, 1:].clamp(max=len(task.TOKENS) - 1)
        chance = logits.log_softmax(-1).gather(-1, sampled[..., None])[..., 0]
        (-(chance * weight[i:i + chunk, 1:] * gain[i:i + chunk, None]).sum() / total).backward()
