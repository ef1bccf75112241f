"""The recipes, dry: every command on a tiny random checkpoint. recipes_test.py COMMAND RECIPES"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

from tiny_qwen2 import make

COMMAND, RECIPES = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
SMALL = {"STEPS": "1", "PROMPTS": "2", "GROUP": "2", "TRAIN_BUDGET": "24", "BUDGETS": "16 24", "TIMES": "1 2",
         "ANSWER": "8", "WORDS": "Hmm Wait", "FILES": "gsm8k_platinum:2 math500:3 aime24:4", "DEVICE": "cpu"}


class ContinueToken(unittest.TestCase):
    def test_dry_run(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            make(folder / "model")
            data = folder / "data"
            data.mkdir()
            problems = [(f"{i} + {i}?", str(2 * i)) for i in range(3)]
            (data / "train.jsonl").write_text("".join(
                json.dumps({"problem": q, "answer": a}) + "\n" for q, a in problems))
            (data / "gsm8k_platinum.jsonl").write_text("".join(
                json.dumps({"question": q, "answer": f"so\n#### {a}"}) + "\n" for q, a in problems))
            (data / "math500.json").write_text(json.dumps(
                [{"prompt": [{"from": "user", "value": q}], "final_answer": a} for q, a in problems]))
            env = {**os.environ, **SMALL, "MODEL": str(folder / "model"), "DATA": str(data), "PENSIVE": COMMAND}

            def run():
                done = subprocess.run([RECIPES / "continue_token.sh", folder / "out"], env=env, capture_output=True,
                                      text=True, timeout=600)
                self.assertEqual(done.returncode, 0, done.stderr)
                return done

            first = run()
            out = folder / "out"
            self.assertIn("left out: no", first.stderr, "there is no aime24")
            self.assertTrue((out / "continue.safetensors").exists())
            self.assertEqual(len((out / "train.jsonl").read_text().splitlines()), 1)
            arms = {"none", "Hmm-x1", "Wait-x1", "learned-x1", "Hmm-x2", "Wait-x2", "learned-x2"}
            for file, samples in (("gsm8k_platinum", 2), ("math500", 3)):
                for budget in (16, 24):
                    at = out / f"{file}-{budget}"
                    self.assertEqual({one.name for one in at.iterdir() if one.is_dir()}, arms)
                    for arm in arms:
                        lines = [json.loads(l) for l in (at / arm / "samples.jsonl").read_text().splitlines()]
                        self.assertEqual(len(lines), 3 * samples)
                        # Half a character or the closer's own token at the limit may come on top.
                        self.assertTrue(all(line["think_tokens"] <= budget for line in lines))
                        self.assertTrue(all(line["tokens"] <= budget + 8 for line in lines))
                        options = json.loads((at / arm / "run.json").read_text())["options"]
                        self.assertEqual((options["--temp"], options["-n" if "-n" in options else "--max-tokens"]),
                                         ("0.9", str(budget + 8)))
                    self.assertIn("as budgets of one method", (at / "against-none.txt").read_text())
                    self.assertIn("learned-x2", (at / "arms.html").read_text())
            before = {file: file.read_bytes() for file in out.glob("*/*/samples.jsonl")}
            self.assertNotIn("== " + str(out / "math500-16" / "none"), run().stdout, "done is done")
            self.assertEqual({file: file.read_bytes() for file in before}, before)

            env.update(GRADER=str(folder / "model"), FILES="gsm8k_platinum:1", BUDGETS="16", TIMES="1", WORDS="Wait")
            done = subprocess.run([RECIPES / "continue_token.sh", folder / "graded"], env=env, capture_output=True,
                                  text=True, timeout=600)
            self.assertEqual(done.returncode, 0, done.stderr)
            for arm in ("none", "Wait-x1", "learned-x1"):
                found = json.loads((folder / "graded" / "gsm8k_platinum-16" / arm / "run.json").read_text())
                self.assertEqual(found["grader"], found["model"])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
