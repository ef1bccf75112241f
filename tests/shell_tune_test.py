"""`pensive tune` as a user types it. shell_tune_test.py COMMAND MODEL [unittest arguments]"""
import json
import subprocess
import time

from shell_door import COMMAND, MODEL, ShellTest, main, run

DEV, TEST = MODEL / "problems" / "dev.jsonl", MODEL / "problems" / "test.jsonl"


class Tune(ShellTest):
    def tune(self, *more, limit=30):
        return ["tune", "-m", MODEL, DEV, "--limit", limit, "--device", "cpu", "--row-invariant", *map(str, more)]

    def tuned(self, *more, code=0, **named):
        done = run(*self.tune("--json", *more, **named), check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)

    brakes = ("--system", "brief", "--continue", "Wait", "--times", 2, "--guide", "margin:tau={1|3},at=sentence",
              "--guide", "budget:max=60")

    def test_most_accurate_within_the_tokens(self):
        run_folder = self.path / "tuned"
        out = self.tuned(*self.brakes, "--tokens", 130, "--run", run_folder)
        table = out["table"]
        self.assertEqual([one["guide"] for one in table],
                         ["", "margin:tau=1,at=sentence", "margin:tau=3,at=sentence", "budget:max=60"])
        self.assertIsNone(table[0]["against"])
        fits = [one for one in table if one["mean_tokens"] <= 130]
        self.assertTrue(0 < len(fits) < len(table))
        best = max(fits, key=lambda one: (one["accuracy"], -one["mean_tokens"]))
        self.assertEqual(out["chosen"], best["guide"])
        self.assertEqual(out["guess"], best["guide"])
        for one in table[1:]:
            self.assertAlmostEqual(one["against"]["difference"], one["accuracy"] - table[0]["accuracy"])
            self.assertLess(one["against"]["low"], one["against"]["difference"])
        dominated = [one["guide"] for one in table
                     if any(o["accuracy"] >= one["accuracy"] and o["mean_tokens"] < one["mean_tokens"] for o in table)]
        self.assertEqual([one["guide"] for one in table if not one["is_frontier"]], dominated)

        # Another target on the same folder asks nothing again, and tells what it cannot.
        files = sorted(run_folder.glob("*/samples.jsonl"))
        self.assertEqual(len(files), 4)
        before = [(file.stat().st_mtime_ns, file.read_bytes()) for file in files]
        self.assertIsNone(self.tuned(*self.brakes, "--tokens", 1, "--run", run_folder, code=2)["chosen"])
        self.assertEqual([(file.stat().st_mtime_ns, file.read_bytes()) for file in files], before)
        done = run(*self.tune(*self.brakes, "--loss", 0.1, "--run", run_folder), check=False)
        self.assertEqual(done.returncode, 2, "30 problems cannot show so little")
        for part in ("chosen     nothing", "resolves   ", "30 problems and 3 setting(s)"):
            self.assertIn(part, done.stdout)
        self.assertEqual(json.loads((run_folder / "tune.json").read_text())["chosen"], None)

        # Each setting is a run of an exam, as `compare` takes them.
        first = run_folder / "none"
        second, = run_folder.glob("margin_tau=3,at=sentence-*")
        compared = json.loads(run("compare", first, second, "--json").stdout)
        self.assertAlmostEqual(compared["difference"], table[2]["against"]["difference"])
        self.assertEqual([line.split(":")[0] for line in compared["differ_in"]], ["option --guide"])
        self.assertGreater(compared["low"], table[2]["against"]["low"], "for three settings together it is wider")
        self.refuses(*self.tune("--tokens", 300, "--run", run_folder), saying="--continue")

    def test_few_problems_resolve_nothing(self):
        page = self.path / "page.html"
        done = run(*self.tune("--guide", "budget:max=20", "--loss", 5, "--html", page, limit=2), check=False)
        self.assertIn("resolves   nothing: 2 problems are too few for 1 setting(s)", done.stdout)
        self.assertIn("So few problems show no difference.", page.read_text())

    def test_fewest_tokens_at_that_loss(self):
        out = self.tuned(*self.brakes, "--loss", 60, "--check", TEST)
        table = out["table"]
        fits = [one for one in table[1:]
                if one["against"]["low"] >= -.60 and one["mean_tokens"] < table[0]["mean_tokens"]]
        self.assertEqual(out["chosen"], min(fits, key=lambda one: one["mean_tokens"])["guide"])
        self.assertTrue(out["is_shown"])
        check = out["check"]
        self.assertAlmostEqual(check["difference"], check["accuracy"][1] - check["accuracy"][0])
        self.assertLess(check["mean_tokens"][1], check["mean_tokens"][0])

    def test_killed_tuning_goes_on(self):
        flags = (*self.brakes, "--loss", 60, "--run")
        whole = self.tuned(*flags, self.path / "whole")
        for lines in (10, 50, 100):  # of 120
            running = subprocess.Popen([COMMAND, *map(str, self.tune(*flags, self.path / "cut"))],
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            written = 0
            while running.poll() is None and written < lines:
                written = sum(file.read_bytes().count(b"\n") for file in self.path.glob("cut/*/samples.jsonl"))
                time.sleep(0.005)
            running.kill()
            running.wait(timeout=60)
        self.assertEqual(self.tuned(*flags, self.path / "cut"), whole)

    def test_own_grid(self):
        done = run(*self.tune("--json", "--tokens", 90, "--of", "budget", "overthink", "-n", 120, limit=8))
        guides = [one["guide"] for one in json.loads(done.stdout)["table"]]
        self.assertEqual(guides[-3:], ["overthink:max=0.1", "overthink:max=0.2", "overthink:max=0.4"])
        limits = [int(guide.removeprefix("budget:max=")) for guide in guides[1:-3]]
        self.assertEqual(limits, sorted(set(limits)))
        self.assertEqual(len(limits), 6)
        all_of_them = run(*self.tune("--json", "--tokens", 500, "-n", 80, limit=2), check=False)
        names = {one["guide"].split(":")[0] for one in json.loads(all_of_them.stdout)["table"]}
        self.assertLessEqual({"margin", "cold_stop", "closer_pressure", "loops", "trial", "continue"}, names)
        self.refuses(*self.tune("--tokens", 9, "--of", "random_stop"), saying="budget, margin")

    def test_targets_are_asked_for(self):
        self.refuses(*self.tune(), saying="--tokens N or --loss POINTS")
        self.refuses(*self.tune("--tokens", 9, "--loss", 1), saying="--loss")
        folder = self.path / "tuned"
        self.refuses(*self.tune("--tokens", 9, "--guide", "margin:tua=1", "--run", folder), saying="tau")
        self.assertFalse(folder.exists(), "it is said before anything is sat")
        self.refuses("tune", "-m", self.path, DEV, "--tokens", 9, "--of", "nobody", saying="budget, margin")
        self.refuses(*self.tune("--tokens", 9, limit=1), saying="two problems")

    def test_settings_have_a_folder_each(self):
        guides = ['continue:with="+"', 'continue:with="*"']  # signs that no folder's name holds
        run(*self.tune("--tokens", 999, "--guide", guides[0], "--guide", guides[1], "--run", self.path, limit=2))
        runs = [json.loads(file.read_text())["options"]["--guide"] for file in self.path.glob("continue*/run.json")]
        self.assertEqual(sorted(runs), sorted(guides))


if __name__ == "__main__":
    main()
