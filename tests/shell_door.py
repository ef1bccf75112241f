"""What the tests of the `pensive` command share. They are called with COMMAND MODEL [unittest arguments]."""
import json
import os
import pathlib
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import unittest

COMMAND, MODEL = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
QUESTION = "57 + 23 * 11 - 48 + 19 * 37"


def run(*arguments, stdin="", check=True, env=None, preexec_fn=None):
    done = subprocess.run([COMMAND, *map(str, arguments)], input=stdin, capture_output=True,
                          text=True, timeout=300, env={**os.environ, **(env or {})},
                          preexec_fn=preexec_fn)
    if check and done.returncode != 0:
        raise AssertionError(f"{arguments} failed: {done.stderr}")
    return done


def limit_files():
    """As a full disk: no file can grow beyond two pages."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))


def answer(*arguments):
    done = run("generate", "-m", MODEL, "--chat", QUESTION, "--device", "cpu", "--seed", 7,
               "--temp", 0, "--json", *arguments)
    return json.loads(done.stdout)


def always_true(folder):
    """A checkpoint of zeros: every logit is 0, and the first token, "True ", wins."""
    shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("problems", "*.py"))
    weights = bytearray((MODEL / "model.safetensors").read_bytes())
    begin = 8 + int.from_bytes(weights[:8], "little")
    weights[begin:] = bytes(len(weights) - begin)
    (folder / "model.safetensors").write_bytes(weights)
    tokenizer = json.loads((MODEL / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [one for one in tokenizer["added_tokens"] if one["id"] != 0]
    tokenizer["model"]["vocab"] = {"True " if id == 0 else word: id
                                   for word, id in tokenizer["model"]["vocab"].items()}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = (MODEL / "tokenizer_config.json").read_text()
    (folder / "tokenizer_config.json").write_text(
        config.replace("<pad>", "True ").replace("'<think>'", "''"))
    return folder


class ShellTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)

    def tearDown(self):
        self.folder.cleanup()

    def refuses(self, *arguments, saying, env=None):
        done = run(*arguments, check=False, env=env)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn(saying, done.stderr + done.stdout)
        self.assertNotIn("Traceback", done.stderr)
        self.assertGreater(done.returncode, 0, "must not die of a signal")


def main():
    if not (MODEL / "model.safetensors").exists():
        sys.exit(f"skipped: no model in {MODEL}")
    unittest.main(argv=sys.argv[:1] + sys.argv[3:])
