"""Records tests/data/train/loss.json: advantages, losses and gradients of GRPO, in plain float64.

    python tests/make_loss.py [--check] [--trl]

Written from the papers' formulas, token by token, with no tensor library: what pensive computes is
compared with it in train_loss_test. --check compares with the file that is there instead of writing
it. --trl also runs TRL's own GRPOTrainer._compute_loss on the same numbers (trl 0.24.0, its losses
"dapo" and "dr_grpo", scale_rewards "group", "batch" and "none"); it needs trl and torch.
"""

import json
import math
import pathlib
import random
import sys

OUT = pathlib.Path(__file__).parent / "data/train/loss.json"
TRL = "0.24.0"
MOST_TOKENS = 9  # TRL's max_completion_length

CASES = {  # name: what differs from the defaults
    "default": {},
    "first inner step": {"is_first": True},
    "batch scale": {"scale": "batch"},
    "no scale": {"scale": "none"},
    "suffix tokens": {"denominator": "suffix"},
    "constant": {"denominator": "constant"},
    "constant, no scale": {"denominator": "constant", "scale": "none"},
    "asymmetric clip": {"clip_low": 0.1, "clip_high": 0.28},
    "importance weight": {"max_weight": 2.0},
    "low cap": {"max_weight": 1.05},
    "kl": {"kl": 0.04},
    "all": {"scale": "batch", "clip_low": 0.15, "clip_high": 0.3, "max_weight": 1.5, "kl": 0.1},
}


def make_groups(draw):
    """Three groups of four samples: with spread, without, and with rewards that are no integers."""
    rewards = [[2, 0, 1, 0], [1, 1, 1, 1], [0.25, 0.5, -0.125, 1.75]]
    samples = []
    for _ in range(12):
        length = draw.randint(3, MOST_TOKENS)
        first = draw.choice([0, 1, 2, length])  # where the suffix begins; length: no soft token
        tokens = []
        for t in range(length):
            old = -draw.expovariate(0.8)
            is_suffix = t >= first
            tokens.append({
                "old": old,
                "now": old + (draw.gauss(0, 0.25) if is_suffix else 0.0),
                "drawn": old + draw.gauss(0, 0.3),
                "start": old + (draw.gauss(0, 0.4) if is_suffix else 0.0),
                "is_suffix": is_suffix})
        samples.append(tokens)
    return rewards, samples


def deviation(values):
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (len(values) - 1))


def advantages(rewards, scale):
    everything = [r for group in rewards for r in group]
    found = []
    for group in rewards:
        mean = math.fsum(group) / len(group)
        below = {"group": deviation(group) + 1e-4, "batch": deviation(everything) + 1e-4,
                 "none": 1.0}[scale]
        found.append([(r - mean) / below for r in group])
    return found


def token_loss(token, gain, case):
    """Value and derivative in the present logprob, and whether the clip cut it off."""
    old = token["now"] if case["is_first"] else token["old"]
    ratio = math.exp(token["now"] - old)
    clipped = min(max(ratio, 1 - case["clip_low"]), 1 + case["clip_high"])
    is_cut = (gain > 0 and ratio > 1 + case["clip_high"]) or (
        gain < 0 and ratio < 1 - case["clip_low"])
    weight = min(math.exp(old - token["drawn"]), case["max_weight"]) if case["max_weight"] else 1.0
    d = token["start"] - token["now"]
    k3 = math.exp(d) - d - 1
    value = -weight * min(ratio * gain, clipped * gain) + case["kl"] * k3
    slope = (0.0 if is_cut else -weight * ratio * gain) + case["kl"] * (1 - math.exp(d))
    return value, slope, is_cut, k3, weight


def solve(rewards, samples, given):
    case = {"scale": "group", "denominator": "drawn", "clip_low": 0.2, "clip_high": 0.2,
            "max_weight": 0.0, "kl": 0.0, "is_first": False, **given}
    gains = advantages(rewards, case["scale"])
    flat = [gain for group in gains for gain in group]
    count = {"drawn": sum(map(len, samples)),
             "suffix": sum(token["is_suffix"] for tokens in samples for token in tokens),
             "constant": len(samples) * MOST_TOKENS}[case["denominator"]]
    found = {"advantages": gains, "denominator_tokens": count, "gradient": [], "clipped": 0,
             "kl_sum": 0.0, "weight_sum": 0.0}
    losses, constants = [], []
    for tokens, gain in zip(samples, flat):
        for token in tokens:
            value, slope, is_cut, k3, weight = token_loss(token, gain, case)
            if not token["is_suffix"]:
                constants.append(value)
                continue
            losses.append(value)
            found["gradient"].append(slope / count)
            found["clipped"] += is_cut
            found["kl_sum"] += k3 if case["kl"] else 0.0
            found["weight_sum"] += weight
    found["loss"] = math.fsum(losses) / count
    return {"setting": case, **found}, math.fsum(constants) / count


def check_trl(rewards, samples, case, found, constant):
    """The same by TRL's own code, handed the logprobs that a model would have given it."""
    import collections
    import types

    import torch
    import trl
    from trl.trainer.grpo_trainer import GRPOTrainer

    assert trl.__version__ == TRL, trl.__version__
    width = max(map(len, samples))

    def padded(key):
        rows = [[token[key] for token in tokens] + [0.0] * (width - len(tokens))
                for tokens in samples]
        return torch.tensor(rows, dtype=torch.float64)

    mask = torch.tensor([[1] * len(t) + [0] * (width - len(t)) for t in samples])
    now = padded("now").requires_grad_(True)
    flat = torch.tensor([r for group in rewards for r in group], dtype=torch.float64)
    gains = flat - flat.view(len(rewards), -1).mean(1).repeat_interleave(4)
    if case["scale"] == "group":
        gains = gains / (flat.view(len(rewards), -1).std(1).repeat_interleave(4) + 1e-4)
    if case["scale"] == "batch":
        gains = gains / (flat.std() + 1e-4)
    old = now.detach() if case["is_first"] else padded("old")
    inputs = {"prompt_ids": torch.zeros(len(samples), 1, dtype=torch.long),
              "prompt_mask": torch.ones(len(samples), 1, dtype=torch.long),
              "completion_ids": torch.zeros(len(samples), width, dtype=torch.long),
              "completion_mask": mask, "advantages": gains, "old_per_token_logps": old,
              "ref_per_token_logps": padded("start"), "num_items_in_batch": mask.sum(),
              "importance_sampling_ratio": torch.exp(old - padded("drawn")).clamp(
                  max=case["max_weight"] or math.inf)}
    accelerator = types.SimpleNamespace(num_processes=1, gather=lambda x: x)
    fake = types.SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *a, **k: (now, torch.zeros_like(now)),
        top_entropy_quantile=1.0, beta=case["kl"], importance_sampling_level="token",
        epsilon_low=case["clip_low"], epsilon_high=case["clip_high"],
        args=types.SimpleNamespace(delta=None), use_vllm=case["max_weight"] > 0,
        vllm_importance_sampling_correction=True, current_gradient_accumulation_steps=1,
        loss_type={"drawn": "dapo", "constant": "dr_grpo"}[case["denominator"]],
        max_completion_length=MOST_TOKENS, accelerator=accelerator,
        model=types.SimpleNamespace(training=True),
        _metrics={"train": collections.defaultdict(list)})
    loss = GRPOTrainer._compute_loss(fake, None, inputs)
    loss.backward()
    slopes = [now.grad[i, t].item() for i, tokens in enumerate(samples)
              for t, token in enumerate(tokens) if token["is_suffix"]]
    gap = max(abs(a - b) for a, b in zip(slopes, found["gradient"], strict=True))
    gap = max(gap, abs(loss.item() - found["loss"] - constant))
    assert gap < 1e-14, gap
    return gap


def near(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(near(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(near, a, b))
    return a == b if isinstance(a, (bool, str)) else abs(a - b) < 1e-14


def main():
    rewards, samples = make_groups(random.Random(6))
    cases = []
    for name, given in CASES.items():
        found, constant = solve(rewards, samples, given)
        cases.append({"name": name, **found})
        if "--trl" in sys.argv and found["setting"]["denominator"] != "suffix":
            gap = check_trl(rewards, samples, found["setting"], found, constant)
            print(f"{name}: within {gap:.1e} of TRL {TRL}")
    record = {"trl": TRL, "rewards": rewards, "samples": samples, "cases": cases}
    if "--check" in sys.argv:
        sys.exit(0 if near(record, json.loads(OUT.read_text())) else f"{OUT} holds other numbers")
    OUT.write_text(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
