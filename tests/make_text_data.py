"""Makes tests/data/text: tiny tokenizers, chat templates, and what Transformers does with them.

    python tests/make_text_data.py [SMOLLM2_FOLDER]

With a folder of SmolLM2-135M-Instruct also records what its tokenizer and template do. Needs transformers, tokenizers and jinja2. Everything here was written for these tests.
"""

import json
import pathlib
import sys

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

FOLDER = pathlib.Path(__file__).parent / "data" / "text"
SPECIAL = ["<s>", "</s>", "<pad>", "<|turn|>", "<|done|>"]
CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind.",
    "How many apples are left? There were 12 apples; 5 were eaten. So 7 are left.",
    "Wait, let me think about it again. The answer is 7.",
    "def add(a, b):\n    return a + b\n",
    "Grüße aus Köln, naïve café, 東京 and 😀 too.",
] * 4
TEXTS = [
    "",
    " ",
    "The dog.",
    "  two  spaces  ",
    "The answer is 12, isn't it?",
    "line\n\n  next\tline\r\n",
    "Grüße 東京 😀👩‍👩‍👧 \u00a0 e\u0301",
    "<|turn|>user\nhello<|done|>",
    "a<s>b</s> <pad>c",
    "\u2581 meta \u2581",
    "zero\u0000byte \ufffd mark",
]


def specials():
    return [AddedToken(text, special=True, normalized=False) for text in SPECIAL]


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)])
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=specials(), show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def byte_fallback():
    """Llama 2's way: a leading space that decoding strips, unknown characters as byte tokens."""
    words = SPECIAL[:2] + ["<unk>"] + [f"<0x{byte:02X}>" for byte in range(256)]
    words += ["\u2581"] + sorted({c for c in "".join(CORPUS) if c.isascii() and c.isalpha()})
    merges = []
    for word in ["\u2581The", "\u2581dog", "\u2581is", "\u2581a"]:
        left = word[0]
        for c in word[1:]:
            merges.append((left, c))
            left += c
            if left not in words:
                words.append(left)
    merges = list(dict.fromkeys(merges))
    vocab = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>",
                                     fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.add_special_tokens(specials())
    return tokenizer


def metaspace():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=specials() + ["<unk>"],
                                      unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    trainer = trainers.WordPieceTrainer(vocab_size=150, special_tokens=specials() + ["<unk>"],
                                        show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def word_vocabulary():
    words = SPECIAL + ["<unk>"]
    for text in CORPUS:
        for word in text.replace(",", " ,").replace(".", " .").split():
            if word not in words:
                words.append(word)
    return {word: index for index, word in enumerate(words)}


def words():
    """Whole words, no decoder at all: tokens are joined by spaces."""
    tokenizer = Tokenizer(models.WordLevel(word_vocabulary(), unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(specials())
    return tokenizer


def fused():
    """Whole words with the space that follows, put together by Replace and Fuse."""
    vocabulary = word_vocabulary()
    vocabulary["_"] = len(vocabulary)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(Regex(" +"), "_")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"_|[.,;?]|<[^>]*>"), "isolated")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("_", " "), decoders.Fuse()])
    tokenizer.add_special_tokens(specials())
    return tokenizer


MAKERS = [byte_level, byte_fallback, metaspace, word_piece, words, fused]


def record(tokenizer):
    cases = []
    literal = Tokenizer.from_str(tokenizer.to_str())
    literal.encode_special_tokens = True
    for text in TEXTS:
        ids = tokenizer.encode(text).ids
        cases.append({
            "text": text,
            "ids": ids,
            "bare": tokenizer.encode(text, add_special_tokens=False).ids,
            "literal": literal.encode(text, add_special_tokens=False).ids,
            "decoded": tokenizer.decode(ids),
            "kept": tokenizer.decode(ids, skip_special_tokens=False),
        })
    # Every id in a row, and a shuffle that tears characters apart.
    size = tokenizer.get_vocab_size()
    known = [i for i in range(size) if tokenizer.id_to_token(i) is not None]
    torn = [known[(i * 7919 + 13) % len(known)] for i in range(2 * len(known))]
    for ids in (known, torn):
        cases.append({"ids": ids, "decoded": tokenizer.decode(ids),
                      "kept": tokenizer.decode(ids, skip_special_tokens=False)})
    return cases


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def write_tokenizers():
    for maker in MAKERS:
        folder = FOLDER / maker.__name__
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = maker()
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        write(folder / "tokenizer_config.json",
              {"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": False},
               "pad_token": None})
        write(folder / "recorded.json", record(tokenizer))


CHAT = [{"role": "system", "content": "Be brief."},
        {"role": "user", "content": "  Is 7 < 12 & \"odd\"?\n"},
        {"role": "assistant", "content": "<think>\n7 is odd.\n</think>\n\nYes, it's odd. "},
        {"role": "user", "content": "Grüße, 東京 😀 <|done|>"}]
TOOLS = [{"type": "function",
          "function": {"name": "weather", "description": "Looks up <b>the</b> weather & \"wind\"",
                       "parameters": {"type": "object", "required": ["place"], "properties": {
                           "place": {"type": "string", "description": "Größe\tund\u0007Ort"},
                           "days": {"type": "integer", "default": 3, "enum": []}}}}}]
VALUES = {"numbers": [0, -1, 1.0, -0.0, 0.1, 1e16, 1e15, 123456789012345680.0, 1e-4, 1e-5, 1.5e300,
                      2.5e-7, 18446744073709551615, -9223372036854775808],
          "empty": {"a": [], "b": {}, "c": "", "d": None}, "flags": [True, False],
          "text": "\"q\" \\ / \b\f\n\r\t \u001f \u007f é \u2028 😀 <>&'"}


def rendered(name, chat, prompt, variables):
    source = (FOLDER / "templates" / f"{name}.jinja").read_text(encoding="utf-8")
    case = {"template": name, "chat": chat, "prompt": prompt, "variables": variables}
    options = dict(variables)
    tools = options.pop("tools", None)
    specials = {"bos_token": "<s>", "eos_token": "</s>"}
    try:
        texts, _ = render_jinja_template(
            conversations=[chat], tools=tools, chat_template=source,
            add_generation_prompt=prompt, **{**specials, **options})
        case["rendered"] = texts[0]
    except Exception as error:  # the template's own refusal is what is recorded
        case["refused"] = str(error)
    return case


def write_renderings():
    cases = []
    for path in sorted((FOLDER / "templates").glob("*.jinja")):
        for chat in (CHAT, CHAT[1:2], CHAT[:3], []):
            for prompt in (True, False):
                cases.append(rendered(path.stem, chat, prompt, {}))
        cases.append(rendered(path.stem, CHAT, True, {"tools": TOOLS, "enable_thinking": False}))
        cases.append(rendered(path.stem, CHAT[1:], True, VALUES))
    write(FOLDER / "rendered.json", cases)


def write_smollm2(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    literal = PreTrainedTokenizerFast.from_pretrained(folder, split_special_tokens=True)
    texts = []
    for text in TEXTS + CORPUS[:5]:
        ids = tokenizer.encode(text)
        texts.append({"text": text, "ids": ids,
                      "literal": literal.encode(text, add_special_tokens=False),
                      "kept": tokenizer.decode(ids, clean_up_tokenization_spaces=False)})
    chats = []
    for chat in (CHAT, CHAT[1:2], CHAT[:3]):
        for prompt in (True, False):
            options = {"tokenize": False, "add_generation_prompt": prompt}
            text = tokenizer.apply_chat_template(chat, **options)
            chats.append({"chat": chat, "prompt": prompt, "rendered": text,
                          "ids": tokenizer.encode(text, add_special_tokens=False)})
    write(FOLDER / "smollm2.json", {"texts": texts, "chats": chats})


if __name__ == "__main__":
    write_tokenizers()
    write_renderings()
    if len(sys.argv) > 1:
        write_smollm2(sys.argv[1])
    print(f"wrote {FOLDER}", file=sys.stderr)
