"""`pensive train`: killed at any moment and gone on with, and what it refuses.

shell_train_test.py COMMAND MODEL [unittest arguments]; PENSIVE_LONG=1: killed twenty times, not three.
"""
import json
import os
import random
import resource
import shutil
import signal
import struct
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

    def arguments(self, folder, *more, steps=STEPS, log=None, out=None, prompts=2):
        folder.mkdir(exist_ok=True)
        return [COMMAND, "train", "-m", str(MODEL), str(self.problems), "--system", "brief",
                "--steps", str(steps), "--prompts", str(prompts), "--group", "3", "--seed", "3", "-n", "150",
                "--kl", "0.01", "--inner-steps", "2", "--row-invariant", "--device", "cpu",
                "--out", str(out or folder / "row.safetensors"), "--checkpoint", str(folder / "state.json"),
                "--log", str(log or folder / "log.jsonl"), *map(str, more)]

    def train(self, folder, *more, preexec_fn=None, **known):
        return subprocess.run(self.arguments(folder, *more, **known), text=True,
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
        self.assertEqual((row.read_bytes(), self.without_times(state.read_bytes())),
                         (before[0], self.without_times(before[1])), "the same run again")

    def without_times(self, state):
        state = json.loads(state)
        state["report"] = {key: value for key, value in state["report"].items() if "seconds" not in key}
        return state

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

    def test_a_run_goes_on_with_itself_only(self):
        folder, state = self.path / "run", self.path / "run" / "state.json"
        more = ["--times-from", "1,2", "--think-max", 90]
        self.assertEqual(self.train(folder, *more, steps=1).returncode, 0)
        before = state.read_bytes()
        self.fails(self.train(folder, *more, "--resume", steps=1, prompts=4), "run = --prompts 4")
        for wrong, saying in ((["--limit", 11], "run = 11 problems"),
                              (["--pass-rate", "0,1"], "run = --pass-rate 0,1"),
                              (["--start", "Now"], "run = --start Now"),
                              (["--think-min", 8], "budget (max_think_tokens 90"),
                              (["--brake", "margin:tau=0.2"], "max_margin_nats 0.2")):
            self.fails(self.train(folder, *more, *wrong, "--resume", steps=1), saying)
        for wrong, saying in ((["--times-from", "1,3", "--think-max", 90], "times 3"),
                              (["--times-from", "1,2", "--think-max", 91], "budget (max_think_tokens 91")):
            self.fails(self.train(folder, *wrong, "--resume", steps=1), saying)
        lines = self.problems.read_text()
        self.problems.write_text(lines.replace("answer\": \"", "answer\": \"1", 1))
        self.assertNotEqual(self.problems.read_text(), lines)
        self.fails(self.train(folder, *more, "--resume", steps=1), "run = 12 problems with the hash")
        self.problems.write_text(lines)
        self.assertEqual(state.read_bytes(), before)
        self.assertEqual(self.train(folder, *more, "--resume", steps=1).returncode, 0)

    def test_a_grader_is_part_of_the_run(self):
        folder = self.path / "run"
        more = ["--reward", "hybrid(strict)", "--grader"]
        self.assertEqual(self.train(folder, *more, MODEL, steps=1).returncode, 0)
        self.fails(self.train(folder, *more, self.always_true(), "--resume", steps=1),
                   "run = --grader with the fingerprint")

    def test_prompts_that_do_not_fit_are_found_before_the_first_step(self):
        folder = self.path / "run"
        lines = self.problems.read_text().splitlines(True)
        long = [json.dumps({"question": " + ".join(["1"] * 300), "answer": "300", "id": f"long-{i}"}) + "\n"
                for i in range(2)]
        self.problems.write_text("".join(lines[:6] + long[:1] + lines[6:] + long[1:]))
        room = ["--cache-tokens", 512]
        done = self.train(folder, *room, steps=1)
        self.fails(done, "2 that do not: long-0, long-1")
        self.assertIn("positions", done.stderr)
        self.assertEqual(list(folder.iterdir()), [], "nothing is begun")
        done = self.train(folder, *room, "--bad-lines", "skip", steps=7)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2 left out: long-0, long-1", done.stderr)
        self.assertEqual(self.steps(folder), list(range(1, 8)), "more than once through the file")
        self.problems.write_text("".join(long))
        self.fails(self.train(self.path / "none", *room, "--bad-lines", "skip"), "2 that do not")

    def row(self, file):
        width = json.loads((MODEL / "config.json").read_text())["hidden_size"]
        return list(struct.unpack(f"<{width}f", file.read_bytes()[-4 * width:]))

    def test_what_was_learned_outlasts_a_log_that_is_full(self):
        alone = self.arguments(self.path / "alone", "--reward", "price", log="/dev/full")
        at = alone.index("--checkpoint")
        del alone[at:at + 2]
        done = subprocess.run(alone, text=True, capture_output=True, timeout=300)
        self.fails(done, "/dev/full")
        whole = self.path / "whole"
        self.assertEqual(self.train(whole, "--reward", "price").returncode, 0)
        folder = self.path / "cut"
        folder.mkdir()
        log = folder / "log.jsonl"
        log.symlink_to("/dev/full")
        for more in (["--overwrite"], ["--overwrite", "--save-every", 4]):
            self.fails(self.train(folder, "--reward", "price", *more), "log.jsonl")
            state = json.loads((folder / "state.json").read_text())
            self.assertEqual(state["steps"], 1)
            self.assertNotEqual(state["row"], state["started"])
            for one in (folder, self.path / "alone"):
                self.assertEqual(self.row(one / "row.safetensors"), state["row"])
        log.unlink()
        self.assertEqual(self.train(folder, "--reward", "price", "--resume").returncode, 0)
        self.assertEqual(self.steps(folder), list(range(1, STEPS + 1)), "none is missing")
        first, same = ((one / "log.jsonl").read_text().splitlines()[0] for one in (folder, whole))
        known = {key: value for key, value in json.loads(same).items() if "seconds" not in key}
        self.assertEqual({key: json.loads(first)[key] for key in known}, known)
        self.assertEqual((folder / "row.safetensors").read_bytes(), (whole / "row.safetensors").read_bytes())

    def test_other_files_are_not_written_over(self):
        folder = self.path / "run"
        self.assertEqual(self.train(folder, steps=2).returncode, 0)
        log = folder / "log.jsonl"
        whole = log.read_text()
        kept = whole.splitlines(True)[0]
        notes = self.path / "notes"
        for text in ("my notes\n", "no end", '{"note": 1}\n', '[]\n', '{"step":0}\n', '{"step":"one"}\n',
                     '{"step":1.5}\n', kept + "more\n"):
            notes.write_text(text)
            self.fails(self.train(folder, "--resume", steps=2, log=notes), "notes")
            self.assertEqual(notes.read_text(), text)
        for text in ('{"id": 1}\n', "x"):
            notes.write_text(text)
            self.fails(self.train(folder, "--resume", out=notes, steps=2), "notes")
            self.assertEqual(notes.read_text(), text)
        other = self.path / "other"
        self.assertEqual(self.train(other, "--name", "else", steps=2).returncode, 0)
        self.fails(self.train(folder, "--resume", out=other / "row.safetensors", steps=2), "the row 'continue'")
        self.fails(self.train(self.path / "same", log=self.problems), "a file of its own")
        self.fails(self.train(folder, "--overwrite", log=folder / "state.json"), "that of --checkpoint")
        self.assertEqual(log.read_text(), whole)
        # A line that was cut off is not one; the state has the last one.
        for rest in ("", '{"step":2,"mean'):
            log.write_text(kept + rest)
            self.assertEqual(self.train(folder, "--resume", steps=2).returncode, 0)
            self.assertEqual(log.read_text(), whole)
        log.write_text('{"st')
        self.assertEqual(self.train(folder, "--resume", steps=2).returncode, 0)
        self.assertEqual(log.read_text(), "", "of a log without its beginning no step is made up")

    def test_whole_lines_are_never_written_again(self):
        """Where no file can grow to the size of those that are there, these stay: none is emptied first."""
        folder, rates = self.path / "run", self.path / "rates.jsonl"
        more = ["--pass-rate", "0,1", "--rates", rates]
        self.assertEqual(self.train(folder, *more, steps=1).returncode, 0)
        log = folder / "log.jsonl"
        long = '"note":"' + "a" * (1 << 18) + '"'
        for file in (log, rates):
            file.write_text(file.read_text().replace("}\n", f",{long}}}\n", 1))
        before = log.read_text(), rates.read_text()
        log.write_text(before[0] + '{"step":2,')

        def no_room():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 17, 1 << 17))

        done = self.train(folder, *more, "--resume", steps=1, preexec_fn=no_room)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual((log.read_text(), rates.read_text()), before)

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
