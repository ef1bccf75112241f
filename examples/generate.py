"""Asks a model, with its thinking under control, and streams what it says."""
import sys

import pensive

model = pensive.Model.load(sys.argv[1] if len(sys.argv) > 1 else "examples/reasoner")
text = model.tokenizer
engine = pensive.Engine(model)
wait = text.encode("Wait", add_special=False)

answer = engine.start(
    chat=[{"role": "user", "content": "57 + 23 * 11 - 48 + 19 * 37"}],
    guides=[
        pensive.budget(max_think_tokens=200),      # think at most this long, and
        pensive.continue_thinking(wait, times=1),  # look at least once again
    ],
)
for event in engine.stream(answer):
    print(event.text, end="", flush=True, file=sys.stderr if event.segment == "think" else sys.stdout)
print()
