"""`pensive train`: what it tells of its steps, rewards, pass rates, and what it refuses.

shell_rewards_test.py COMMAND MODEL [unittest arguments]
"""
import json
import os
import subprocess
import time

from shell_door import MODEL, always_true, main
from train_door import TrainTest


class Rewards(TrainTest):
    def test_every_step_is_told(self):
        folder = self.path / "run"
        more = ["--reward", "correct+0.5*boxed", "--scale", "batch", "--denominator",
                "suffix", "--clip-high", 0.3, "--max-weight", 2, "--pull", 0.1, "--lr-unit",
                "start-rms", "--max-distance", 0.2, "--times-from", "1,2", "--answer-tokens", 30,
                "--truncated", "masked", "--branch", "soft-token", "--max-grad-norm", 1]
        done = self.train(folder, *more, steps=1)
        self.assertEqual(done.returncode, 0, done.stderr)
        told = json.loads((folder / "log.jsonl").read_text())
        self.assertEqual(list(told["rewards"]), ["correct", "boxed"])
        self.assertAlmostEqual(told["mean_reward"],
                               told["rewards"]["correct"] + 0.5 * told["rewards"]["boxed"])
        for key in ("entropy_nats", "kl_nats", "clip_share", "spread_share", "truncated_share",
                    "row_norm", "row_distance", "mean_logprob_gap", "rollout_seconds",
                    "judge_seconds", "update_seconds"):
            self.assertGreaterEqual(told[key], 0, key)
        settings = json.loads((folder / "state.json").read_text())["settings"]
        for times, guide in zip((1, 2), settings["one_of"].split("\n")):
            self.assertRegex(guide, rf"continue_thinking \(with .* times {times} ")
        for key, value in (("truncated", "masked"),
                           ("denominator", "suffix tokens"), ("rate_unit", "start rms"),
                           ("temperature", "0.9"), ("answer_tokens", "30")):
            self.assertEqual(settings[key], value)

    def test_rewards_of_rewards(self):
        folder = self.path / "run"
        terms = ["lcpo-exact(price, target=150, per-token=1)", "lcpo-max(price,target=150,per-token=0,offset=1)",
                 "price", "lcpo-max(2*correct+boxed,target=10000,per-token=0,offset=0.5)", "correct"]
        done = self.train(folder, "--reward", " + ".join(f"0.1*{term}" for term in terms), steps=1)
        self.assertEqual(done.returncode, 0, done.stderr)
        told = json.loads((folder / "log.jsonl").read_text())["rewards"]
        self.assertEqual(list(told), [term.replace(" ", "") for term in terms])
        exact, most, price, both, right = told.values()
        self.assertAlmostEqual(exact, -150, msg="-n - |150 - n|, n at most 150")
        self.assertAlmostEqual(most, price)
        self.assertAlmostEqual(both, right)

    def test_a_model_grades_what_has_no_box(self):
        reward = "hybrid(strict) + hybrid(correct,find=lenient) + correct"
        for grader, mean in ((MODEL, 0), (always_true(self.path / "grader"), 1)):
            folder = self.path / f"run{mean}"
            done = self.train(folder, "--reward", reward, "--grader", grader, steps=1)
            self.assertEqual(done.returncode, 0, done.stderr)
            told = json.loads((folder / "log.jsonl").read_text())["rewards"]
            self.assertAlmostEqual(told["hybrid(strict)"], mean, msg="the reasoner knows no box")
            if mean == 0:
                self.assertEqual(told["hybrid(correct,find=lenient)"], told["correct"])

    def test_problems_are_kept_by_their_pass_rate(self):
        folder, rates = self.path / "run", self.path / "rates.jsonl"
        more = ["--pass-rate", "0.2,0.9", "--rates", rates]
        done = self.train(folder, *more, steps=1)
        self.assertEqual(done.returncode, 0, done.stderr)
        measured = rates.read_text()
        found = [json.loads(line)["rate"] for line in measured.splitlines()]
        self.assertEqual(len(found), 12)
        kept = sum(0.2 <= rate <= 0.9 for rate in found)
        self.assertIn(f"{kept} of 12 problems", done.stderr)
        rates.write_text(measured[:-5])
        done = self.train(folder, *more, "--resume", steps=1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(rates.read_text(), measured)
        rates.write_text(measured)
        (folder / "state.json").rename(folder / "away")
        rates.write_text("")
        self.fails(self.train(folder, *more, "--resume", steps=1), "state.json")
        self.assertEqual(rates.read_text(), "", "no work before what makes it vain")
        (folder / "away").rename(folder / "state.json")
        self.fails(self.train(folder, *more, "--resume", "--lr", 0.5, steps=1), "learning_rate = 0.5")
        self.assertEqual(rates.read_text(), "")
        state = json.loads((folder / "state.json").read_text())
        self.assertNotEqual(state["row"], state["started"])
        done = self.train(folder, *more, "--resume", steps=1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(rates.read_text(), measured, "of the row at the start, not as it is")
        rates.write_text("notes")
        self.fails(self.train(folder, *more, "--resume", steps=1), "rates.jsonl")
        self.assertEqual(rates.read_text(), "notes")
        rates.write_text(measured.replace('"rate"', '"rat"', 1))
        self.fails(self.train(folder, *more, "--resume", steps=1), "line 1")
        rates.write_text(measured.replace('"id":"', '"id":4,"was":"', 1))
        self.fails(self.train(folder, *more, "--resume", steps=1), "line 1")
        other = self.path / "other"
        self.fails(self.train(other, "--pass-rate", "0.9,0.2"), "--pass-rate")
        self.fails(self.train(other, "--pass-rate", "0.999,0.9999"), "pass rate")

    def test_rates_that_were_interrupted_are_gone_on_with(self):
        folder, rates = self.path / "run", self.path / "rates.jsonl"
        lines = (MODEL / "problems" / "train.jsonl").read_text().splitlines(True)
        self.problems.write_text("".join(lines[:200]))
        more = ["--pass-rate", "0,1", "--rates", rates]
        running = subprocess.Popen(self.arguments(folder, *more, steps=1), stderr=subprocess.DEVNULL)
        while running.poll() is None and not (rates.exists() and rates.read_bytes().count(b"\n") >= 64):
            time.sleep(0.005)
        running.kill()
        running.wait(timeout=300)
        begun = rates.read_text()
        self.assertLess(begun.count("\n"), 200)
        kept = "".join(begun.splitlines(True)[:begun.count("\n") // 64 * 64])
        done = self.train(folder, *more, "--resume", steps=1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(rates.read_text().startswith(kept))
        self.assertEqual(rates.read_text().count("\n"), 200)

    def test_a_start_beside_a_row_that_is_there(self):
        folder, second = self.path / "run", self.path / "second"
        self.assertEqual(self.train(folder, steps=1).returncode, 0)
        rows = ["--soft", folder / "row.safetensors"]
        self.fails(self.train(second, *rows, "--start", "Wait", steps=1), "--start")
        self.assertEqual(self.train(second, *rows, "--reward", "price", steps=1).returncode, 0)
        third = self.path / "third"
        self.assertEqual(self.train(third, *rows, "--name", "more", "--start", "Now", steps=1).returncode, 0)
        self.fails(self.train(third, "--soft", second / "row.safetensors", "--name", "more", "--start", "Now",
                              "--resume", steps=1), "run = --soft")
        self.assertEqual(self.train(third, *rows, "--name", "more", "--start", "Now", "--resume",
                                    steps=1).returncode, 0)

    def test_bad_input(self):
        folder = self.path / "run"
        self.fails(self.train(folder, "--reward", "right"), "'right'")
        self.fails(self.train(folder, "--reward", "much*boxed"), "'much*boxed'")
        for reward, saying in (("lcpo-max(correct", "as many"), ("lcpo-max(right)", "'right'"),
                               ("lcpo-max", "'lcpo-max'"), ("correct(boxed)", "'correct(boxed)'"),
                               ("lcpo-max(correct,target=many)", "a number for target"),
                               ("lcpo-exact(correct,offset=1)", "'offset=1'"),
                               ("lcpo-exact(correct,target=1,target=2)", "each once"),
                               ("lcpo-exact(correct,target)", "NAME=VALUE"),
                               ("lcpo-exact(correct,target=-1)", "target_tokens of at least 0"),
                               ("hybrid(correct)", "--grader")):
            self.fails(self.train(folder, "--reward", reward), saying)
        self.fails(self.train(folder, "--grader", MODEL), "--grader")
        self.fails(self.train(folder, "--reward", "hybrid(correct,find=all)", "--grader", MODEL),
                   "find=strict or find=lenient")
        self.fails(self.train(self.path / "lcpo", "--reward", "lcpo-exact(correct)"), "target_tokens")
        self.fails(self.train(folder, "--clip", 2), "clip")
        self.fails(self.train(folder, "--name", os.fsdecode(b"no\xfftext")), "UTF-8")
        self.fails(self.train(folder, "--cache-tokens", 1 << 50), "lower cache_tokens")
        self.fails(self.train(folder, "--resume"), "state.json")
        with self.problems.open("a") as file:
            file.write('{"question": "1 + 1"}\n')
        self.fails(self.train(folder), "line 13")
        self.assertFalse((folder / "row.safetensors").exists())
        done = self.train(folder, "--bad-lines", "skip", steps=1)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("1 left out", done.stderr)


if __name__ == "__main__":
    main()
