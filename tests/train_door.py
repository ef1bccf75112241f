"""Runs of `pensive train`, as its tests make them."""
import json
import subprocess

from shell_door import COMMAND, MODEL, ShellTest

STEPS = 5


class TrainTest(ShellTest):
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
