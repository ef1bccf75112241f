"""Makes the small checkpoints of tests/data/models, each with logits recorded from Transformers.

    python tests/make_data.py             # all of them
    python tests/make_data.py --families  # only those of FAMILIES
    python tests/make_data.py --reasoner  # only tests/data/reasoner_logits.json
    python tests/make_data.py --resave    # only tests/data/configs/resaved.jsonl: each config.json of
                                          # finetunes.jsonl as this version of Transformers writes it

Weights are random, from a seed; each folder is a whole checkpoint with a tokenizer. Those of
RECIPES have golden.json: ids, and the logits at every position in float32 (and in the stored
precision, where that is another). Those of FAMILIES, one per family and kind of rope, have
golden.safetensors: ids; the lengths of prefills, and how many tokens were decoded after each; and
the logits of each prefill's last position and of every decoded one, [lengths, 1 + decoded, vocab].
Needs torch, transformers 5, tokenizers and safetensors.
"""

import argparse
import json
import pathlib
import shutil

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

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

# One per family and kind of rope. Between them: tied and untied, with and without head_dim, one
# file and shards, both spellings of rope, every bias, grouped heads and not, every stored precision.
LENGTHS, DECODED, MOST = [1, 2, 63, 64, 65, 500], 3, 512
FAMILY_BASE = BASE | {"vocab_size": 260, "hidden_size": 48, "intermediate_size": 64,
                      "num_attention_heads": 3, "num_key_value_heads": 1,
                      "max_position_embeddings": MOST, "torch_dtype": "bfloat16"}
TIED, WIDE, SHARDED = {"tie_word_embeddings": True}, {"head_dim": 24}, {"shards": 2}
UNGROUPED = {"num_key_value_heads": 3}
NEWER = {"torch_dtype": None, "dtype": "bfloat16"}
STRETCH = {key: value for key, value in LLAMA3.items() if key != "rope_type"}
STRETCH["original_max_position_embeddings"] = 128
LONG_LLAMA3 = STRETCH | {"rope_type": "llama3"}
YARN = {"factor": 4.0, "original_max_position_embeddings": 128}


def family(name, *changes):
    config = {"model_type": name, "architectures": [name.capitalize() + "ForCausalLM"]}
    if name != "llama":
        config |= {"attention_bias": None, "mlp_bias": None}
    for change in changes:
        config |= change
    return config


def older(theta, **scaling):
    return {"rope_theta": theta, "rope_scaling": scaling or None}


def newer(theta, kind, **scaling):
    return NEWER | {"rope_parameters": {"rope_theta": theta, "rope_type": kind, **scaling}}


# Off, but narrow enough to show if it were on.
SWITCHED_OFF = {"use_sliding_window": False, "sliding_window": 32, "max_window_layers": 1}
FAMILIES = {
    "llama_default": family("llama", older(10000.0), UNGROUPED, {"torch_dtype": "float32"}),
    "llama_linear": family("llama", newer(10000.0, "linear", factor=4.0), WIDE, TIED),
    "llama_dynamic": family("llama", older(10000.0, type="dynamic", factor=2.0), TIED, SHARDED),
    "llama_llama3": family("llama", older(500000.0, **LONG_LLAMA3), WIDE),
    "llama_yarn": family("llama", newer(10000.0, "yarn", **YARN, mscale=0.707, mscale_all_dim=1.2,
                                        beta_fast=16, beta_slow=2, truncate=False), SHARDED),
    "llama_biased": family("llama", older(10000.0), WIDE, {
        "attention_bias": True, "mlp_bias": True, "torch_dtype": "float16"}),
    "mistral_default": family("mistral", older(1000000.0), {"sliding_window": None}),
    "mistral_linear": family("mistral", older(10000.0, type="linear", factor=2.0), TIED, {
        "sliding_window": None}),
    "mistral_dynamic": family("mistral", newer(10000.0, "dynamic", factor=4.0), WIDE, SHARDED, {
        "sliding_window": None}),
    "mistral_llama3": family("mistral", newer(500000.0, "llama3", **STRETCH), {
        "sliding_window": MOST}),
    "mistral_yarn": family("mistral", older(10000.0, type="yarn", **YARN, finetuned=True), WIDE, {
        "sliding_window": None}),
    "qwen2_default": family("qwen2", older(1000000.0), TIED, SWITCHED_OFF),
    "qwen2_linear": family("qwen2", newer(10000.0, "linear", factor=2.0), UNGROUPED),
    "qwen2_dynamic": family("qwen2", older(10000.0, type="dynamic", factor=2.0), WIDE, SHARDED),
    "qwen2_llama3": family("qwen2", newer(500000.0, "llama3", **STRETCH), TIED),
    "qwen2_yarn": family("qwen2", older(1000000.0, type="yarn", **YARN), SWITCHED_OFF),
    "qwen3_default": family("qwen3", older(1000000.0), WIDE, TIED, SWITCHED_OFF),
    "qwen3_linear": family("qwen3", older(10000.0, rope_type="linear", factor=2.0), WIDE, {
        "attention_bias": True}),
    "qwen3_dynamic": family("qwen3", newer(10000.0, "dynamic", factor=2.0), WIDE, TIED, SHARDED),
    "qwen3_llama3": family("qwen3", older(500000.0, **LONG_LLAMA3), {"head_dim": 16}),
    "qwen3_yarn": family("qwen3", newer(1000000.0, "yarn", **YARN, attention_factor=0.9), WIDE),
}


def biased_of(config):
    """Ends of the names of projections that have a bias."""
    queries = ("q_proj", "k_proj", "v_proj") if config["model_type"] == "qwen2" else ()
    attention = ("q_proj", "k_proj", "v_proj", "o_proj") if config.get("attention_bias") else ()
    return queries + attention + (("gate_proj", "up_proj", "down_proj")
                                  if config.get("mlp_bias") else ())


def weights_of(config, seed, gain):
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
        if config["model_type"] == "qwen3":
            shapes |= {f"model.layers.{layer}.self_attn.{name}_norm": [head_dim] for name in "qk"}
    scalar = TYPES[config.get("dtype") or config.get("torch_dtype")]
    made = {}
    for name, shape in shapes.items():
        if name.endswith(biased_of(config)):
            made[name + ".bias"] = (0.5 * torch.randn(shape[0], generator=draw)).to(scalar)
        noise = torch.randn(shape, generator=draw)
        value = 1 + 0.2 * noise if len(shape) == 1 else noise * gain / shape[1] ** 0.5
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


@torch.no_grad()
def steps_of(folder, ids, scalar):
    """Each prefill and its decoding as Transformers does them, with its cache."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=scalar, attn_implementation="eager")
    model.eval()
    found = []
    for length in LENGTHS:
        ran = model(input_ids=ids[None, :length], use_cache=True)
        rows = [ran.logits[0, -1]]
        for i in range(length, length + DECODED):
            ran = model(input_ids=ids[None, i:i + 1], use_cache=True,
                        past_key_values=ran.past_key_values)
            rows.append(ran.logits[0, -1])
        found.append(torch.stack(rows).float())
    return torch.stack(found)


def record_steps(folder, vocab_size, stored, seed):
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, [max(LENGTHS) + DECODED], generator=draw)
    golden = {"float32": steps_of(folder, ids, torch.float32)}
    if stored != "float32":
        golden[stored] = steps_of(folder, ids, TYPES[stored])
    # Our reader knows numbers with a fraction only.
    golden["ids"] = ids.float()
    golden["lengths"] = torch.tensor(LENGTHS).float()
    save_file(golden, folder / "golden.safetensors")


def write_checkpoint(folder, config, seed, gain):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shards = config.pop("shards", 1)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generation = {"eos_token_id": [3, 2], "temperature": 0.7, "top_p": 0.9, "top_k": 20,
                  "do_sample": True}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    write_tokenizer(folder, config["vocab_size"])
    weights = weights_of(config, seed, gain)
    if shards > 1:
        write_shards(folder, weights)
    else:
        save_file(weights, folder / "model.safetensors", {"format": "pt"})


def make(name, recipe, seed):
    folder = HERE / "data" / "models" / name
    config = BASE | recipe
    config = {key: value for key, value in config.items()
              if not (key == "num_key_value_heads" and value is None)}
    write_checkpoint(folder, config | (SHARDED if name == "sharded" else {}), seed, 1.5)
    draw = torch.Generator().manual_seed(seed)
    ids = torch.randint(config["vocab_size"], [TOKENS], generator=draw).tolist()
    record(folder, ids, folder / "golden.json")


def make_family(name, recipe, seed):
    folder = HERE / "data" / "models" / name
    config = FAMILY_BASE | recipe
    said = ("rope_scaling", "sliding_window")  # null is said there
    config = {key: value for key, value in config.items() if value is not None or key in said}
    write_checkpoint(folder, config, seed, 1.0)
    record_steps(folder, config["vocab_size"], config.get("dtype") or config["torch_dtype"], seed)


def resave():
    folder = HERE / "data" / "configs"
    with (folder / "resaved.jsonl").open("w") as out:
        for line in (folder / "finetunes.jsonl").read_text().splitlines():
            made = json.loads(line)
            if "refused" in made["expects"]:
                continue
            config = CONFIG_MAPPING[made["config"]["model_type"]].from_dict(made["config"])
            out.write(json.dumps({"name": made["name"],
                                  "config": json.loads(config.to_json_string())}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--families", action="store_true")
    parser.add_argument("--reasoner", action="store_true")
    parser.add_argument("--resave", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.reasoner:
        draw = torch.Generator().manual_seed(0)
        ids = torch.randint(4, 32, [40], generator=draw).tolist()
        record(HERE.parent / "examples" / "reasoner", ids, HERE / "data" / "reasoner_logits.json")
        return
    if options.resave:
        return resave()
    for seed, (name, recipe) in enumerate([] if options.families else RECIPES.items()):
        make(name, recipe, seed)
    for seed, (name, recipe) in enumerate(FAMILIES.items(), 100):
        make_family(name, recipe, seed)


if __name__ == "__main__":
    main()
