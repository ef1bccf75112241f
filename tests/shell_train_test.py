"""`pensive train`: killed at any moment and gone on with, and what it refuses.

shell_train_test.py COMMAND MODEL [unittest arguments]; PENSIVE_LONG=1: killed twenty times, not three.
"""
import json
import os
import random
import re
import resource
import signal
import struct
import subprocess
import time

from shell_door import MODEL, always_true, limit_files, main, run
from train_door import STEPS, TrainTest


class Train(TrainTest):
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

    def test_help_tells_the_defaults_of_training(self):
        text = re.sub(r"\s+", " ", run("train", "--help").stdout)
        for part in ("above 0; default: 0.9", "1, which is the default", "0, all, which is the default"):
            self.assertIn(part, text)
        self.assertNotIn("greedy", text)
        self.assertNotIn("default: the checkpoint's", text)

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

    def test_another_engine_does_not_go_on(self):
        folder = self.path / "run"
        self.assertEqual(self.train(folder, "--cache-tokens", 512, steps=1).returncode, 0)
        before = (folder / "state.json").read_bytes()
        self.fails(self.train(folder, "--precision", "float64", "--resume", steps=1), "precision = float64")
        changed = self.arguments(folder, "--resume", steps=1)
        changed.remove("--row-invariant")
        self.fails(subprocess.run(changed, text=True, capture_output=True, timeout=300), "arithmetic = fast")
        self.fails(self.train(folder, "--cache-tokens", 96, "--resume", steps=1), "cache_tokens")
        self.assertEqual((folder / "state.json").read_bytes(), before)
        self.assertEqual(self.train(folder, "--cache-tokens", 1024, "--resume", steps=1).returncode, 0)
        rated = ["--pass-rate", "0,1"]
        folder = self.path / "rated"
        self.assertEqual(self.train(folder, *rated, "--cache-tokens", 96, steps=1).returncode, 0)
        self.fails(self.train(folder, *rated, "--cache-tokens", 112, "--resume", steps=1), "end at 112 positions")

    def test_rates_stay_those_of_the_first_row(self):
        """Where the row is read from the file that what was learned goes to."""
        self.assertEqual(self.train(self.path / "first", steps=1).returncode, 0)
        more = ["--pass-rate", "0.3,1", "--lr", 3, "--reward", "price"]
        told = {}
        for name in ("whole", "cut"):
            folder = self.path / name
            folder.mkdir()
            row, log = folder / "row.safetensors", folder / "log.jsonl"
            row.write_bytes((self.path / "first" / "row.safetensors").read_bytes())
            if name == "cut":  # after the first step
                log.symlink_to("/dev/full")
                self.fails(self.train(folder, *more, "--soft", row, "--overwrite"), "log.jsonl")
                log.unlink()
            begins = "--resume" if name == "cut" else "--overwrite"
            done = self.train(folder, *more, "--soft", row, begins)
            self.assertEqual(done.returncode, 0, done.stderr)
            told[name] = [line for line in done.stderr.splitlines() if "problems are right" in line], row.read_bytes()
        self.assertEqual(told["cut"], told["whole"])

    def test_what_fails_before_its_first_step_is_in_nobodys_way(self):
        folder = self.path / "run"
        wrong = (["--reward", "lcpo-exact(correct)"],  # problems without a target: the first step fails
                 ["--pass-rate", "0.4,0.41"])
        for more in wrong:
            self.fails(self.train(folder, *more), "expected")
            self.assertEqual(list(folder.iterdir()), [], more)
        kept = folder / "row.safetensors"
        kept.write_text("mine")
        self.fails(self.train(folder, *wrong[0], "--overwrite"), "expected")
        self.assertEqual([file.name for file in folder.iterdir()], [kept.name], "what was there stays")
        kept.unlink()
        rates = self.path / "rates.jsonl"
        self.fails(self.train(folder, *wrong[0], "--pass-rate", "0,1", "--rates", rates), "expected")
        self.assertTrue((folder / "state.json").exists(), "rates can be gone on with")
        self.assertTrue(rates.exists())
        again = self.path / "again"
        self.fails(self.train(again, *wrong[0], steps=1), "expected")
        self.assertEqual(self.train(again, steps=1).returncode, 0)

    def test_exact_logprobs_have_no_gap(self):
        folder, more = self.path / "run", ["--logprobs", "exact"]
        self.assertEqual(self.train(folder, *more, steps=2).returncode, 0)
        reports = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        self.assertEqual([report["max_logprob_gap"] for report in reports], [0, 0])
        self.assertTrue(any(report["gradient_norm"] > 0 for report in reports))
        self.fails(self.train(folder, "--resume", steps=2), "logprobs = fast")
        self.assertEqual(self.train(folder, *more, "--resume", steps=2).returncode, 0)

    def test_a_grader_is_part_of_the_run(self):
        folder = self.path / "run"
        more = ["--reward", "hybrid(strict)", "--grader"]
        self.assertEqual(self.train(folder, *more, MODEL, steps=1).returncode, 0)
        self.fails(self.train(folder, *more, always_true(self.path / "grader"), "--resume", steps=1),
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


if __name__ == "__main__":
    main()
