"""Records tests/data/train/gradient.json: the gradient of one embedding through Transformers' model.

    python tests/make_gradient.py

For a checkpoint of every family in tests/data/models: samples in which an embedding that the model does
not have is fed in places, the clipped loss over the tokens drawn behind it, and its gradient by
PyTorch's own backward through the whole sequences. Closers of several tokens that were taken back are
sequences of their own here. Needs torch and transformers.
"""

import json
import pathlib
import random

import torch
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
TEMPERATURE, CLIP, DENOMINATOR = 0.8, 0.2, 57


def samples_of(soft, draw):
    """Tokens with the soft id, and (context, token, advantage, how far the old logprob lies off)."""
    samples = []
    for length, places, advantage in ((20, (7,), 1.3), (33, (12, 20), -0.6), (14, (0, 13), 0.4)):
        tokens = [draw.randrange(4, soft) for _ in range(length)]
        for place in places:
            tokens[place] = soft
        targets = []
        for context in range(places[0], length):
            following = tokens[context + 1] if context + 1 < length else soft
            if following == soft or draw.random() < 0.15:  # a closer drawn there and taken back
                targets.append((context, draw.randrange(4, soft)))
            if following != soft and draw.random() < 0.85:  # the others were forced
                targets.append((context, following))
        samples.append({"tokens": tokens, "begins": places[0], "advantage": advantage, "closers": [],
                        "targets": [{"context": c, "token": t} for c, t in targets]})
    return samples


def add_closers(samples, soft, draw):
    """In every sample two closers of several tokens, drawn and taken back: one right behind the soft token."""
    for sample in samples:
        last = len(sample["tokens"]) - 1
        for context, length in ((sample["begins"], 3), (draw.randrange(sample["begins"] + 1, last), 2)):
            sample["closers"].append({"context": context, "targets": [
                {"context": context + i, "token": draw.randrange(4, soft)} for i in range(length)]})


def record(name, seed):
    model = AutoModelForCausalLM.from_pretrained(HERE / "data/models" / name, dtype=torch.float32)
    model.eval().requires_grad_(False)
    draw, noise = random.Random(seed), torch.Generator().manual_seed(seed)
    soft = model.config.vocab_size
    row = torch.randn(model.config.hidden_size, generator=noise) * 0.5
    row.requires_grad_(True)
    samples, loss = samples_of(soft, draw), torch.zeros(())
    add_closers(samples, soft, draw)

    def logprobs_of(tokens):
        ids = torch.tensor(tokens)
        known = model.get_input_embeddings()(ids.clamp(max=soft - 1))
        embeddings = torch.where((ids == soft)[:, None], row, known)
        logits = model(inputs_embeds=embeddings[None]).logits[0]
        return torch.log_softmax(logits / TEMPERATURE, -1)

    for sample in samples:
        drawn = [(sample["tokens"], sample["targets"])]
        for closer in sample["closers"]:
            tokens = sample["tokens"][:closer["context"] + 1] + [t["token"] for t in closer["targets"]]
            drawn.append((tokens, closer["targets"]))
        for tokens, targets in drawn:
            logprobs = logprobs_of(tokens)
            for target in targets:
                logprob = logprobs[target["context"], target["token"]]
                target["old_logprob"] = logprob.item() + draw.gauss(0, 0.15)
                ratio = torch.exp(logprob - target["old_logprob"])
                gain = torch.minimum(ratio * sample["advantage"],
                                     ratio.clamp(1 - CLIP, 1 + CLIP) * sample["advantage"])
                loss = loss - gain / DENOMINATOR
    loss.backward()
    return {"model": name, "row": row.tolist(), "samples": samples, "loss": loss.item(),
            "gradient": row.grad.tolist()}


def main():
    out = HERE / "data/train/gradient.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    names = ("plain", "tied_llama3", "llama_yarn", "llama_biased", "mistral_default",
             "qwen2_default", "qwen3_default", "qwen3_linear")
    cases = [record(name, seed) for seed, name in enumerate(names, 1)]
    out.write_text(json.dumps({"temperature": TEMPERATURE, "clip": CLIP,
                               "denominator": DENOMINATOR, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
