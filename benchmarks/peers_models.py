"""The models that peers are compared on: random weights of a shape, or a checkpoint's own."""
import pathlib

import torch
import transformers

SHAPES = {
    "r1-1.5b": lambda: transformers.Qwen2Config(
        vocab_size=151936, hidden_size=1536, intermediate_size=8960, num_hidden_layers=28, num_attention_heads=12,
        num_key_value_heads=2, max_position_embeddings=32768, tie_word_embeddings=False, rms_norm_eps=1e-6),
    "llama-1b": lambda: transformers.LlamaConfig(
        vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
        num_key_value_heads=8, head_dim=64, max_position_embeddings=32768, tie_word_embeddings=True),
}


def is_checkpoint(of):
    return (pathlib.Path(of) / "config.json").exists()


def label(of):
    """As pensive-bench calls it."""
    return f"real {pathlib.Path(of).resolve().name}" if is_checkpoint(of) else of


def load(of):
    """-> Transformers' model in bfloat16 on the card, frozen; `of` is a shape's name or a checkpoint's folder."""
    if is_checkpoint(of):
        model = transformers.AutoModelForCausalLM.from_pretrained(of, dtype=torch.bfloat16).to("cuda")
    elif of in SHAPES:
        torch.set_default_dtype(torch.bfloat16)
        with torch.device("cuda"):
            model = transformers.AutoModelForCausalLM.from_config(SHAPES[of]())
        torch.set_default_dtype(torch.float32)
    else:
        raise SystemExit(f"expected {', '.join(SHAPES)} or a checkpoint's folder; found {of} (--of)")
    return model.eval().requires_grad_(False)


def arguments(of, tokenizer):
    """What pensive-bench takes for the same."""
    return ["--model", of, "--shape", "own"] if is_checkpoint(of) else ["--model", tokenizer, "--shape", of]
