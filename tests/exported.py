"""An exported soft row, read by Transformers: exported.py BUILD MODEL (any checkpoint with a chat template).

The row is Wait's, moved a little. Transformers' logprobs after the token, over the old vocabulary, are held to those of
pensive with the soft row; and it says by how much the token's own logit, 0, loses to the largest.
"""
import pathlib
import sys
import tempfile

build, model = map(pathlib.Path, sys.argv[1:3])
sys.path.insert(0, str(build / "python"))
import torch  # noqa: E402  (its libraries come first)
import transformers  # noqa: E402
import pensive  # noqa: E402

QUESTIONS = ["What is 17 * 23?", "Name a prime above 100.", "Is a whale a fish?", "How many sheep are 12 and 7?"]
REPLY = " let me check that again, step by step. The answer is 42."

ours = pensive.Model.load(model, device="cpu", precision="float32")
soft = pensive.SoftVocab(ours)
row = soft.add("continue", ours.tokenizer.encode(" Wait", add_special=False))
values = torch.tensor(soft.row(row)) + .02 * torch.randn(len(soft.row(row)), generator=torch.Generator().manual_seed(1))
stored = transformers.AutoConfig.from_pretrained(model).dtype or torch.float32
soft.set_row(row, values.to(stored).float().tolist())  # as the export rounds it
engine = pensive.Engine(ours, soft=soft)
reply = ours.tokenizer.encode(REPLY, add_special=False)
with tempfile.TemporaryDirectory() as folder:
    out = pathlib.Path(folder) / "exported"
    exported = soft.export_token(row, out)
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    assert tokenizer.convert_tokens_to_ids(exported["token"]) == exported["id"], "the tokenizer gives it another id"
    assert tokenizer.encode("Wait" + exported["token"], add_special_tokens=False)[-1] == exported["id"]
    theirs = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    assert exported["id"] in theirs.generation_config.suppress_tokens
    assert not theirs.config.tie_word_embeddings
    worst, margins = 0.0, []
    for question in QUESTIONS:
        prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
        prompt = list(prompt["input_ids"] if hasattr(prompt, "keys") else prompt)
        mine = torch.tensor(engine.score([*prompt, row], reply))
        with torch.inference_mode():
            logits = theirs(torch.tensor([[*prompt, exported["id"], *reply]])).logits[0, len(prompt):-1]
        margins += (logits.amax(-1) - logits[:, exported["id"]]).tolist()
        assert (logits[:, exported["id"]] == 0).all()
        old = torch.cat([logits[:, :exported["id"]], logits[:, exported["id"] + 1:]], 1)
        chosen = old.log_softmax(-1)[torch.arange(len(reply)), torch.tensor(reply)]
        worst = max(worst, (chosen - mine).abs().max().item())
print(f"{model.name}: {len(margins)} positions; largest difference of logprobs {worst:.1e}; the token's logit is "
      f"{min(margins):.1f} to {max(margins):.1f} below the largest; {exported['weight_bytes'] / 1e6:.0f} MB, "
      f"{exported['added_bytes'] / 1e6:.0f} MB of them added")
sys.exit(worst > 1e-4)
