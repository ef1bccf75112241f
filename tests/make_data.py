"""Makes the small checkpoints of tests/data/models, each with logits recorded from Transformers.

    python tests/make_data.py             # all of them
    python tests/make_data.py --reasoner  # only tests/data/reasoner_logits.json

Weights are random, from a seed; each folder is a whole checkpoint with a tokenizer and
golden.json: ids, and the logits at every position in float32 (and in the stored precision, where
that is another). Needs torch, transformers, tokenizers and safetensors.
"""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM

HERE = pathlib.Path(__file__).parent
TOKENS = 24
TYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

# What all checkpoints share unless a recipe below says otherwise.
BASE = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "hidden_act": "silu",
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "attention_bias": False,
    "mlp_bias": False,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "use_cache": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 4.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
RECIPES = {
    # Transformers 4's spelling, as the reasoner has it.
    "plain": {"rope_theta": 10000.0, "rope_scaling": None, "torch_dtype": "float32",
              "pretraining_tp": 1},
    # Transformers 5's spelling; head_dim is not width / heads; one head for keys.
    "tied_llama3": {"rope_parameters": {"rope_theta": 500000.0, **LLAMA3}, "dtype": "bfloat16",
                    "tie_word_embeddings": True, "head_dim": 16, "num_key_value_heads": 1,
                    "eos_token_id": [2, 3]},
    # The oldest spelling of scaling; no grouped heads, and no word about them.
    "linear": {"rope_theta": 1000.0, "rope_scaling": {"type": "linear", "factor": 2.0},
               "torch_dtype": "bfloat16", "num_key_value_heads": None},
    "sharded": {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
                "dtype": "float32", "tie_word_embeddings": True},
    "llama3": {"rope_theta": 10000.0, "rope_scaling": LLAMA3, "torch_dtype": "float32"},
    "half": {"rope_theta": 10000.0, "torch_dtype": "float16"},
}


def weights_of(config, seed):
    """Random weights large enough that every part of the forward shows in the logits."""
    draw = torch.Generator().manual_seed(seed)
    width, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config.get("head_dim") or width // config["num_attention_heads"]
    queries = config["num_attention_heads"] * head_dim
    keys = (config.get("num_key_value_heads") or config["num_attention_heads"]) * head_dim
    shapes = {"model.embed_tokens": [config["vocab_size"], width], "model.norm": [width]}
    if not config["tie_word_embeddings"]:
        shapes["lm_head"] = [config["vocab_size"], width]
    for layer in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{layer}.{name}": shape for name, shape in {
            "input_layernorm": [width], "post_attention_layernorm": [width],
            "self_attn.q_proj": [queries, width], "self_attn.k_proj": [keys, width],
            "self_attn.v_proj": [keys, width], "self_attn.o_proj": [width, queries],
            "mlp.gate_proj": [inner, width], "mlp.up_proj": [inner, width],
            "mlp.down_proj": [width, inner]}.items()}
    scalar = TYPES[config.get("dtype") or config.get("torch_dtype")]
    made = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=draw)
        value = 1 + 0.2 * noise if len(shape) == 1 else noise * 1.5 / shape[1] ** 0.5
        made[name + ".weight"] = value.to(scalar)
    return made


def write_tokenizer(folder, vocab_size):
    words = ["<unk>", "<bos>", "<eos>", "<stop>"]
    words += [f"w{i}" for i in range(len(words), vocab_size)]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(words[:4])
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": "<eos>"}))


def write_shards(folder, weights):
    names = sorted(weights)
    parts = [names[::2], names[1::2]]
    index = {"metadata": {"total_size": sum(w.nbytes for w in weights.values())}, "weight_map": {}}
    for i, part in enumerate(parts):
        file = f"model-{i + 1:05}-of-{len(parts):05}.safetensors"
        save_file({name: weights[name] for name in part}, folder / file, {"format": "pt"})
        index["weight_map"] |= {name: file for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1))


@torch.no_grad()
def logits_of(folder, ids, scalar):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=scalar, attn_implementation="eager")
    rows = model.eval()(input_ids=torch.tensor([ids])).logits[0].float()
    return [[float(f"{value:.8g}") for value in row] for row in rows.tolist()]


def record(folder, ids, file):
    config = json.loads((folder / "config.json").read_text())
    stored = config.get("dtype") or config.get("torch_dtype")
    golden = {"ids": ids, "float32": logits_of(folder, ids, torch.float32)}
    if stored == "bfloat16":
        golden[stored] = logits_of(folder, ids, torch.bfloat16)
    file.write_text(json.dumps(golden, separators=(",", ":")) + "\n")


def make(name, recipe, seed):
    folder = HERE / "data" / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = BASE | recipe
    config = {key: value for key, value in config.items()
              if not (key == "num_key_value_heads" and value is None)}
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generation = {"eos_token_id": [3, 2], "temperature": 0.7, "top_p": 0.9, "top_k": 20,
                  "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    write_tokenizer(folder, config["vocab_size"])
    weights = weights_of(config, seed)
    if name == "sharded":
        write_shards(folder, weights)
    else:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(config["vocab_size"], [TOKENS], generator=draw).tolist()
    record(folder, ids, folder / "golden.json")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reasoner", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.reasoner:
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(4, 32, [40], generator=draw).tolist()
        record(HERE.parent / "examples" / "reasoner", ids, HERE / "data" / "reasoner_logits.json")
        return
    for seed, (name, recipe) in enumerate(RECIPES.items()):
        make(name, recipe, seed)


if __name__ == "__main__":
    main()
