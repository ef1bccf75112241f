"""The `pensive` command as a user types it. shell_test.py COMMAND MODEL [unittest arguments]"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

COMMAND, MODEL = sys.argv[1], pathlib.Path(sys.argv[2])
QUESTION = "57 + 23 * 11 - 48 + 19 * 37"


def run(*arguments, stdin="", check=True):
    done = subprocess.run([COMMAND, *map(str, arguments)], input=stdin, capture_output=True,
                          text=True, timeout=300)
    if check and done.returncode != 0:
        raise AssertionError(f"{arguments} failed: {done.stderr}")
    return done


def answer(*arguments):
    done = run("generate", "-m", MODEL, "--chat", QUESTION, "--device", "cpu", "--seed", 7,
               "--temp", 0, "--json", *arguments)
    return json.loads(done.stdout)


class Shell(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def refuses(self, *arguments, saying):
        done = run(*arguments, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(saying, done.stderr + done.stdout)
        self.assertNotIn("Traceback", done.stderr)
        self.assertGreater(done.returncode, 0, "must not die of a signal")

    def test_info(self):
        text = run("info", "-m", MODEL).stdout
        self.assertIn("llama", text)
        self.assertIn("<think>", text)

    def test_generate_streams_thinking_and_answer(self):
        text = run("generate", "-m", MODEL, "--chat", QUESTION, "--temp", 0, "--device", "cpu").stdout
        self.assertIn("So", text)
        self.assertNotIn("</think>", text)

    def test_json_has_ids_and_logprobs(self):
        out = answer()
        self.assertEqual(out["finish_reason"], "stop")
        self.assertEqual(len(out["ids"]), len(out["logprobs"]))
        self.assertEqual(out["usage"]["completion_tokens"], len(out["ids"]))
        self.assertRegex(out["content"], r"^\d\d$")
        self.assertTrue(all(value <= 0 for value in out["logprobs"]))

    def test_ids_give_what_the_chat_gives(self):
        whole = answer()
        short = answer("-n", 5)
        self.assertEqual(short["ids"], whole["ids"][:5])
        self.assertEqual(short["finish_reason"], "length")

    def test_continue_replaces_the_closer(self):
        out = answer("--continue", "Wait", "--times", 2)
        self.assertGreaterEqual(out["reasoning_content"].count("Wait"), 2)
        self.assertGreater(out["usage"]["completion_tokens"], len(out["ids"]))  # taken back counts

    def test_think_max(self):
        out = answer("--think-max", 12, "--think-window", 0)
        self.assertLessEqual(out["usage"]["completion_tokens_details"]["reasoning_tokens"], 12)
        self.assertRegex(out["content"], r"^\d\d")  # cut short, it may go on in steps

    def test_ignore_eos_goes_on(self):
        out = answer("--ignore-eos", "-n", 200)
        self.assertEqual(out["finish_reason"], "length")
        self.assertEqual(out["usage"]["completion_tokens"], 200)

    def test_what_is_asked_of_draws(self):
        whole = answer("--ignore-eos", "-n", 40)
        stops = [flag for digit in range(10) for flag in ("--stop", digit)]
        cut = answer("--ignore-eos", "-n", 40, "--stop", "never there", *stops)
        self.assertFalse(any(c.isdigit() for c in cut["content"] + cut["reasoning_content"]))
        self.assertLess(len(cut["ids"]), len(whole["ids"]))
        banned = answer("--ignore-eos", "-n", 40, "--logit-bias", f"{whole['ids'][0]}:-inf")
        self.assertNotIn(whole["ids"][0], banned["ids"])
        answer("--min-p", 0.1, "--repeat-penalty", 1.1, "--presence-penalty", 0.1,
               "--frequency-penalty", -0.1, "--timeout", 600)
        late = answer("--ignore-eos", "--timeout", 1e-9)
        self.assertEqual(late["ids"], [])
        for flags, saying in ((["--logit-bias", "x:1"], "--logit-bias"),
                              (["--logit-bias", "5"], "--logit-bias"),
                              (["--min-p", 2], "min_p"), (["--stop", ""], "stop"),
                              (["--timeout", -1], "timeout_seconds")):
            self.refuses("generate", "-m", MODEL, "--chat", QUESTION, "--device", "cpu", *flags,
                         saying=saying)

    def test_ids_file(self):
        ids = self.path / "ids.txt"
        ids.write_text("2 4\n")
        out = run("generate", "-m", MODEL, "--ids", ids, "--temp", 0, "-n", 3, "--json").stdout
        self.assertEqual(json.loads(out)["usage"]["prompt_tokens"], 2)
        ids.write_text("2 four")
        self.refuses("generate", "-m", MODEL, "--ids", ids, saying="four")
        ids.write_text("2 999999")
        self.refuses("generate", "-m", MODEL, "--ids", ids, saying="999999")

    def test_exam(self):
        problems = MODEL / "problems" / "test.jsonl"
        out = json.loads(run("exam", "-m", MODEL, problems, "--limit", 30, "--json",
                             "--system", "brief", "--out", self.path / "samples.jsonl").stdout)
        self.assertEqual(out["problems"], 30)
        self.assertTrue(out["low"] <= out["accuracy"] <= out["high"])
        self.assertEqual(len((self.path / "samples.jsonl").read_text().splitlines()), 30)

    def test_exam_names_a_broken_line(self):
        file = self.path / "broken.jsonl"
        file.write_text('{"question": "1 + 1", "answer": "02"}\n{"question": \n')
        self.refuses("exam", "-m", MODEL, file, saying="line 2")

    def train(self, steps, *more):
        return [COMMAND, "train", "-m", str(MODEL), str(MODEL / "problems" / "train.jsonl"),
                "--system", "brief", "--steps", str(steps), "--prompts", "4", "--group", "4",
                "--seed", "3", "--out", str(self.path / "row.safetensors"),
                "--row-invariant", "--device", "cpu", *more]

    def test_train_then_use(self):
        log = self.path / "log.jsonl"
        subprocess.run(self.train(2, "--log", str(log)), check=True, capture_output=True)
        self.assertEqual([json.loads(line)["step"] for line in log.read_text().splitlines()], [1, 2])
        out = answer("--soft", self.path / "row.safetensors", "--continue", "continue")
        self.assertTrue(any(token >= 32 for token in out["ids"]))

    def test_interrupted_training_keeps_its_checkpoint(self):
        checkpoint = self.path / "state"
        arguments = self.train(500, "--checkpoint", str(checkpoint), "--save-every", "1")
        running = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
        for _ in range(600):
            if checkpoint.exists():
                break
            time.sleep(0.1)
        running.send_signal(signal.SIGINT)
        self.assertEqual(running.wait(timeout=120), 0)
        self.assertTrue(checkpoint.exists())
        self.assertTrue((self.path / "row.safetensors").exists())

    def test_bad_input(self):
        self.refuses("generate", "-m", self.path / "none", "hello", saying="not_found")
        self.refuses("generate", "-m", MODEL, "--continue", "Wait", "--times", 0, "1 + 1", saying="times")
        self.refuses("generate", "-m", MODEL, "--device", "tpu", "1 + 1", saying="tpu")
        self.refuses("generate", "-m", MODEL, "--temp", -1, "1 + 1", saying="temperature")
        broken = self.path / "soft.safetensors"
        broken.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
        self.refuses("generate", "-m", MODEL, "--soft", broken, "1 + 1", saying="corrupt_file")


if __name__ == "__main__":
    if not (MODEL / "model.safetensors").exists():
        sys.exit(f"skipped: no model in {MODEL}")
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
