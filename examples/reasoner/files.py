"""Writes the model's files: tokenizer, chat template, configuration, weights."""
import json

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from safetensors.torch import load_file, save_file

import network
import task

# Spellings that mean the same: the canonical one carries its spaces.
SPELLINGS = [
    (r" *\+ *", " + "), (r" *[-\u2212\u2013] *", " - "), (r" *[*\u00d7\u00b7] *", " * "), (r" *= *", " = "),
    (r" *; *", "; "), (r" *\? *", "?"), (r" *\r?\n *", "\n"), (r"\bSo\b,? *", "So "), (r"\bWait\b,? *", "Wait, "),
    (r"\bHmm\b,? *", "Hmm, "), (r"\bAlternatively\b,? *", "Alternatively, "), (r"\bbrief\b *", "brief "),
    (r"\bthorough\b *", "thorough "), (r"\bsteps\b *", "steps ")]
PIECES = r"[0-9]| \+ | - | \* | = |; |\n|\?|So |Wait, |Hmm, |Alternatively, |brief |thorough |steps "

TEMPLATE = """\
{%- set ns = namespace(habit='brief') -%}
{%- for message in messages -%}
{%- if message['role'] == 'system' -%}
{%- set ns.habit = message['content'] | trim -%}
{%- elif message['role'] == 'user' -%}
{%- set question = message['content'] | trim -%}
{{- '<bos>' + ns.habit + ' ' + question -}}
{%- if not question.endswith('?') -%}{{- '?' -}}{%- endif -%}
{%- elif message['role'] == 'assistant' -%}
{{- message['content'] + '<eos>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<think>' -}}{%- endif -%}
"""


def tokenizer():
    vocabulary = {text: number for number, text in enumerate(task.TOKENS)}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Replace(Regex(p), text) for p, text in SPELLINGS])
    made.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "isolated")
    made.decoder = decoders.Fuse()
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in task.SPECIAL])
    return made


def dump(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_text_files(folder):
    """Everything but the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    dump(folder / "tokenizer_config.json", {
        "tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": network.LIMIT,
        "bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>",
        "clean_up_tokenization_spaces": False, "add_bos_token": False, "chat_template": TEMPLATE})
    dump(folder / "config.json", network.CONFIG)
    dump(folder / "generation_config.json", {
        "bos_token_id": task.BOS, "eos_token_id": task.EOS, "pad_token_id": task.PAD,
        "do_sample": True, "temperature": 0.6, "top_p": 1.0})


def write_weights(net, path):
    state = {name: value.detach().to(torch.bfloat16).cpu().contiguous() for name, value in net.state_dict().items()}
    save_file(state, str(path), metadata={"format": "pt"})
    path.chmod(0o644)


def read_weights(path, device):
    net = network.Reasoner()
    net.load_state_dict({name: value.float() for name, value in load_file(str(path)).items()})
    return net.to(device)


def check_text(count=2000):
    """Every training trace must survive text and back; loose spellings must map on the canonical one."""
    import random
    made, rng = tokenizer(), random.Random("text")
    for number in range(count):
        start, chain = task.problem(rng)
        recipe = task.Recipe(stray=0.0)
        ids = [i & ~task.NO_LOSS for i in task.trace(rng, recipe, start, chain, task.HABITS[number % 3])]
        text = task.text_of(ids)
        assert made.encode(text, add_special_tokens=False).ids == ids, text
        assert made.decode(ids, skip_special_tokens=False) == text, text
    wait = task.ID["Wait, "]
    for word in ("Wait", "Wait,", "Wait, ", " Wait"[1:]):
        assert made.encode(word, add_special_tokens=False).ids == [wait], word
    plain = made.encode("57 + 23 * 11?", add_special_tokens=False).ids
    for text in ("57+23*11?", "57 +23* 11 ?", "57 + 23 \u00d7 11?"):
        assert made.encode(text, add_special_tokens=False).ids == plain, text
    return count


def check_transformers(folder):
    """Largest difference of the logits between this network and transformers' Llama, both in float32."""
    from transformers import AutoTokenizer, LlamaForCausalLM
    theirs = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(folder)
    chat = [{"role": "system", "content": "thorough"}, {"role": "user", "content": "57 + 23 * 11 - 40"}]
    text = words.apply_chat_template(chat, add_generation_prompt=True, tokenize=False)
    assert text == "<bos>thorough 57 + 23 * 11 - 40?<think>", text
    brief = words.apply_chat_template(chat[1:], add_generation_prompt=True, tokenize=False)
    assert brief == "<bos>brief 57 + 23 * 11 - 40?<think>", brief
    ids = words(text + "57 + 23 = 80; 80 * 11", add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert words.decode(ids[0]) == text + "57 + 23 = 80; 80 * 11"
    ours = read_weights(folder / "model.safetensors", "cpu").eval()
    with torch.no_grad():
        return (theirs(ids).logits - ours(ids)).abs().max().item()
