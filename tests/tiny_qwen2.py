"""A checkpoint in the shape of R1-Distill-Qwen, tiny and random, with its markers and chat template.

Python's own library alone: the tests of the command need no torch. make(FOLDER, seed) writes it.
"""
import json
import math
import pathlib
import random
import struct

WIDTH, LAYERS, HEADS, KV_HEADS, HEAD, INNER = 32, 2, 4, 2, 8, 48
SPECIAL = ["<|end_of_sentence|>", "<|begin_of_sentence|>", "<|User|>", "<|Assistant|>", "<think>", "</think>"]
TEMPLATE = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
            "{% elif m['role'] == 'user' %}<|User|>{{ m['content'] }}{% endif %}{% endfor %}"
            "{% if add_generation_prompt %}<|Assistant|><think>\n{% endif %}")


def letters():
    """The 256 bytes as byte-level tokenizers write them."""
    shown = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or 174 <= b <= 255]
    hidden = [b for b in range(256) if b not in shown]
    return [chr(b) for b in shown] + [chr(256 + i) for i in range(len(hidden))]


def tokenizer():
    vocabulary = {letter: i for i, letter in enumerate(letters())}
    merges = [("W", "a"), ("i", "t"), ("Wa", "it")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    first = len(vocabulary)
    added = [{"id": first + i, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
              "normalized": False, "special": i < 4} for i, text in enumerate(SPECIAL)]
    parts = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
             "vocab": vocabulary, "merges": [" ".join(pair) for pair in merges]}
    return first, {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
                   "pre_tokenizer": parts, "post_processor": None, "decoder": parts, "model": model}


def shapes(vocabulary):
    yield "model.embed_tokens.weight", (vocabulary, WIDTH)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        for name, rows in (("q", HEADS * HEAD), ("k", KV_HEADS * HEAD), ("v", KV_HEADS * HEAD)):
            yield at + f"self_attn.{name}_proj.weight", (rows, WIDTH)
            yield at + f"self_attn.{name}_proj.bias", (rows,)
        yield at + "self_attn.o_proj.weight", (WIDTH, HEADS * HEAD)
        yield at + "mlp.gate_proj.weight", (INNER, WIDTH)
        yield at + "mlp.up_proj.weight", (INNER, WIDTH)
        yield at + "mlp.down_proj.weight", (WIDTH, INNER)
        yield at + "input_layernorm.weight", (WIDTH,)
        yield at + "post_attention_layernorm.weight", (WIDTH,)
    yield "model.norm.weight", (WIDTH,)
    yield "lm_head.weight", (vocabulary, WIDTH)


def make(folder, seed=1):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    first, words = tokenizer()
    end = first
    vocabulary = first + len(SPECIAL)
    (folder / "tokenizer.json").write_text(json.dumps(words))
    (folder / "tokenizer_config.json").write_text(json.dumps(
        {"bos_token": SPECIAL[1], "eos_token": SPECIAL[0], "chat_template": TEMPLATE}))
    (folder / "generation_config.json").write_text(json.dumps(
        {"eos_token_id": end, "do_sample": True, "temperature": 0.6, "top_p": 0.95}))
    (folder / "config.json").write_text(json.dumps(
        {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": vocabulary, "hidden_size": WIDTH,
         "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
         "num_key_value_heads": KV_HEADS, "hidden_act": "silu", "max_position_embeddings": 1024, "rms_norm_eps": 1e-6,
         "attention_dropout": 0.0, "initializer_range": 0.02, "use_cache": True, "bos_token_id": first + 1,
         "eos_token_id": end, "tie_word_embeddings": False, "torch_dtype": "float32", "rope_theta": 10000.0,
         "use_sliding_window": False, "sliding_window": 1024, "max_window_layers": LAYERS}))
    draw = random.Random(seed)
    header, data = {}, bytearray()
    for name, shape in shapes(vocabulary):
        values = [1.0 if "norm" in name else draw.gauss(0, 0.5 if "embed" in name else 0.2)
                  for _ in range(math.prod(shape))]
        begin = len(data)
        data += struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
