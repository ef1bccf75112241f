"""`pensive train`: killed at any moment and gone on with, and what it refuses.

shell_train_test.py COMMAND MODEL [unittest arguments]; PENSIVE_LONG=1: killed twenty times, not three.
"""
import json
import os
import random
import shutil
import signal
import subprocess
import time

from shell_door import COMMAND, MODEL, ShellTest, always_true, limit_files, main

STEPS = 5


class Train(ShellTest):
    def setUp(self):
        super().setUp()
        self.problems = self.path / "problems.jsonl"
        lines = (MODEL / "problems" / "train.jsonl").read_text().splitlines(True)
        self.problems.write_text("".join(lines[:12]))

    def arguments(self, folder, *more, steps=STEPS, log=None):
        folder.mkdir(exist_ok=True)
        return [COMMAND, "train", "-m", str(MODEL), str(self.problems), "--system", "brief",
                "--steps", str(steps), "--prompts", "2", "--group", "3", "--seed", "3", "-n", "150",
                "--kl", "0.01", "--inner-steps", "2", "--row-invariant", "--device", "cpu",
                "--out", str(folder / "row.safetensors"), "--checkpoint", str(folder / "state.json"),
                "--log", str(log or folder / "log.jsonl"), *map(str, more)]

    def train(self, folder, *more, steps=STEPS, log=None, preexec_fn=None):
        return subprocess.run(self.arguments(folder, *more, steps=steps, log=log), text=True,
                              capture_output=True, timeout=300, preexec_fn=preexec_fn)

    def fails(self, done, saying):
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(saying, done.stderr)

    def steps(self, folder):
        lines = (folder / "log.jsonl").read_text().splitlines()
        return [json.loads(line)["step"] for line in lines]

    def go_on(self, folder):
        """The arguments that begin a run or go on with it, as a script would choose them."""
        begun = (folder / "state.json").exists()
        return self.arguments(folder, "--resume" if begun else "--overwrite")

    def disturb(self, folder, seconds, how):
        """Begins or goes on, and sends a signal after so long; whether it was still running."""
        running = subprocess.Popen(self.go_on(folder), stderr=subprocess.DEVNULL)
        try:
            running.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            pass
        was_running = running.poll() is None
        running.send_signal(how)
        running.wait(timeout=300)
        return was_running

    def check_no_half(self, folder):
        state, log = folder / "state.json", folder / "log.jsonl"
        if not state.exists():
            return
        done = json.loads(state.read_text())["steps"]
        whole = log.read_text().split("\n")[:-1] if log.exists() else []
        logged = max([json.loads(line)["step"] for line in whole], default=0)
        self.assertGreaterEqual(done, logged - 1, "no more than the step in flight is lost")

    def test_killed_at_any_moment_it_ends_the_same(self):
        whole = self.path / "whole"
        began = time.monotonic()
        self.assertEqual(self.train(whole).returncode, 0)
        lasts = time.monotonic() - began
        self.assertEqual(self.steps(whole), list(range(1, STEPS + 1)))
        expected = (whole / "row.safetensors").read_bytes()

        draw = random.Random(8)
        kills, runs = 0, 0
        while kills < (20 if os.environ.get("PENSIVE_LONG") else 3):
            folder = self.path / f"cut{runs}"
            runs += 1
            folder.mkdir()
            done = 0
            while done < STEPS:
                how = signal.SIGINT if draw.random() < 0.1 else signal.SIGKILL
                kills += self.disturb(folder, draw.uniform(0, lasts), how)
                self.check_no_half(folder)
                state = folder / "state.json"
                done = json.loads(state.read_text())["steps"] if state.exists() else 0
            subprocess.run(self.go_on(folder), check=True, capture_output=True)
            self.assertEqual((folder / "row.safetensors").read_bytes(), expected)
            self.assertEqual(self.steps(folder), list(range(1, STEPS + 1)), "each step once")

    def test_nothing_that_exists_gets_lost(self):
        folder = self.path / "run"
        self.assertEqual(self.train(folder, steps=1).returncode, 0)
        row, state = folder / "row.safetensors", folder / "state.json"
        before = row.read_bytes(), state.read_bytes()
        self.fails(self.train(folder, steps=1), "--resume")
        row.rename(folder / "kept")
        self.fails(self.train(folder, steps=1), "state.json")
        (folder / "kept").rename(row)
        self.fails(self.train(folder, "--lr", 0.5, "--resume", steps=1), "learning_rate = 0.5")
        self.fails(self.train(folder, "--reward", "correct", "--resume", steps=1), "rewards = ")
        self.assertEqual((row.read_bytes(), state.read_bytes()), before)
        self.assertEqual(self.train(folder, "--overwrite", steps=1).returncode, 0)
        self.assertEqual((row.read_bytes(), state.read_bytes()), before, "the same run again")

    def test_a_full_disk_is_said_and_keeps_the_last_state(self):
        folder = self.path / "run"
        log = folder / "log.jsonl"
        self.fails(self.train(folder, log="/dev/full"), "/dev/full")
        running = subprocess.Popen(self.arguments(folder, "--overwrite"), stderr=subprocess.DEVNULL)
        while running.poll() is None and not (log.exists() and log.read_bytes().count(b"\n")):
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        running.wait(timeout=300)
        state = (folder / "state.json").read_bytes()
        self.assertGreater(json.loads(state)["steps"], 0, "Ctrl-C saves")
        self.assertGreater(len(state), 8192)
        self.fails(self.train(folder, "--resume", preexec_fn=limit_files), "state.json")
        self.assertEqual((folder / "state.json").read_bytes(), state)
        self.assertEqual(self.train(folder, "--resume").returncode, 0)
        self.assertEqual(self.steps(folder), list(range(1, STEPS + 1)))

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
        for key, value in (("one_of", "continue_thinking, continue_thinking"), ("truncated", "masked"),
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
        rates.write_text(measured.replace('"rate"', '"rat"', 1))
        self.fails(self.train(folder, *more, "--resume", steps=1), "line 1")
        other = self.path / "other"
        self.fails(self.train(other, "--pass-rate", "0.9,0.2"), "--pass-rate")
        self.fails(self.train(other, "--pass-rate", "0.999,0.9999"), "pass rate")

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
