"""Run folders of `pensive exam --run`: what they know of a run, and what `compare` makes of them.

shell_run_test.py COMMAND MODEL [unittest arguments]
"""
import json
import shutil
import statistics

from shell_door import MODEL, ShellTest, main, run

TEST = MODEL / "problems" / "test.jsonl"


class Runs(ShellTest):
    def exam(self, folder, *more, model=MODEL, limit=8):
        return ["exam", "-m", model, TEST, "--limit", limit, "--device", "cpu", "--system", "brief",
                "--run", self.path / folder, *more]

    def description(self, folder):
        return json.loads((self.path / folder / "run.json").read_text())

    def copy_of_model(self):
        copy = self.path / "model"
        copy.mkdir()
        for file in MODEL.iterdir():
            if file.is_file():
                shutil.copy(file, copy)
        return copy

    def test_all_that_decides_is_written_down(self):
        model = self.copy_of_model()
        defaults = {"temperature": 0.75, "top_p": 0.5, "top_k": 7, "eos_token_id": [1]}
        (model / "generation_config.json").write_text(json.dumps(defaults))
        run(*self.exam("run", model=model))
        found = self.description("run")
        options = {name: found["options"][name] for name in ("--temp", "--top-p", "--top-k", "--min-p", "--seed")}
        self.assertEqual(options, {"--temp": "0.75", "--top-p": "0.5", "--top-k": "7", "--min-p": "0", "--seed": "0"})
        self.assertRegex(found["torch"], r"^2\.\d+\.\d+$")
        self.assertRegex(found["device"], "^cpu, .")
        self.assertEqual(found["soft"], "none")
        self.assertEqual(found["problems"], 8)

        before = (self.path / "run" / "samples.jsonl").read_bytes()
        run(*self.exam("run", "--temp", 0.75, "--seed", 0, "--presence-penalty", 0, model=model))  # the same by another way
        for changed, saying in (({"temperature": 0.25}, 'option --temp: "0.25", "0.75"'),
                                ({"top_k": 0}, 'option --top-k: "0", "7"'),
                                ({"eos_token_id": [1, 5]}, "stop_tokens")):
            (model / "generation_config.json").write_text(json.dumps({**defaults, **changed}))
            self.refuses(*self.exam("run", model=model), saying=saying)
        (model / "generation_config.json").write_text(json.dumps(defaults))
        for name in ("tokenizer_config.json", "tokenizer.json"):
            text = (model / name).read_text()
            (model / name).write_text(text + " ")
            self.refuses(*self.exam("run", model=model), saying=f"file {name}")
            (model / name).write_text(text)
        (model / "chat_template.jinja").write_text("{{ messages[0]['content'] }}")
        self.refuses(*self.exam("run", model=model), saying="file chat_template.jinja")
        self.assertEqual((self.path / "run" / "samples.jsonl").read_bytes(), before)

    def test_a_cache_that_ends_samples_is_part_of_the_run(self):
        for cache, limit in ((64, 64), (512, "none")):
            folder = f"cache{cache}"
            asked = [*self.exam(folder, "-n", 100, limit=2)]
            run(*asked, "--cache-tokens", cache)
            self.assertEqual(self.description(folder)["cache_limit"], limit)
            samples = (self.path / folder / "samples.jsonl").read_bytes()
            for other in (48, 512) if cache == 64 else (64, 80):
                self.refuses(*asked, "--cache-tokens", other, saying="another cache_limit")
            run(*asked, "--cache-tokens", 64 if cache == 64 else 1024)
            self.assertEqual((self.path / folder / "samples.jsonl").read_bytes(), samples)
        compared = json.loads(run("compare", self.path / "cache64", self.path / "cache512", "--json").stdout)
        self.assertEqual(compared["differ_in"], ['cache_limit: "64", "none"'])

        file = self.path / "cache64" / "run.json"  # as older versions wrote it
        file.write_text(json.dumps({key: value for key, value in self.description("cache64").items() if key != "cache_limit"}))
        run(*self.exam("cache64", "-n", 100, "--cache-tokens", 512, limit=2))
        compared = json.loads(run("compare", self.path / "cache64", self.path / "cache512", "--json").stdout)
        self.assertEqual(compared["differ_in"], [])

    def row(self, file, start):
        run("train", "-m", MODEL, MODEL / "problems" / "train.jsonl", "--device", "cpu", "--start", start, "--steps", 1,
            "--prompts", 1, "--group", 2, "-n", 40, "--out", file, "--overwrite")

    def test_rows_are_known_by_their_values(self):
        row = self.path / "row.safetensors"
        self.row(row, "Wait")
        arm = ("--soft", row, "--continue", "continue")
        run(*self.exam("run", *arm))
        run(*self.exam("run", *arm))
        shutil.copytree(self.path / "run", self.path / "same")
        self.row(row, "So")
        self.refuses(*self.exam("run", *arm), saying="another soft")
        run(*self.exam("other", *arm))
        compared = json.loads(run("compare", self.path / "run", self.path / "other", "--json").stdout)
        self.assertEqual([line.split(":")[0] for line in compared["differ_in"]], ["soft"])
        self.assertRegex(self.description("other")["soft"], "^continue [0-9a-f]{16}$")

    def test_samples_of_nobody_are_not_ones_own(self):
        run(*self.exam("run"))
        before = (self.path / "run" / "samples.jsonl").read_bytes()
        (self.path / "run" / "run.json").unlink()
        self.refuses(*self.exam("run", "--think-max", 5), saying="samples without a run.json")
        self.assertFalse((self.path / "run" / "run.json").exists())
        self.assertEqual((self.path / "run" / "samples.jsonl").read_bytes(), before)

    def test_only_finished_runs_are_compared(self):
        for folder, more in (("a", ()), ("b", ("--continue", "Wait, "))):
            run(*self.exam(folder, "--samples", 2, *more))
        a, b = self.path / "a", self.path / "b"
        whole = json.loads(run("compare", a, b, "--json").stdout)
        self.assertEqual(whole["problems"], 8)
        self.assertNotIn("of_problems", whole)

        lines = (b / "samples.jsonl").read_text().splitlines(True)
        cut = [line for line in lines if (json.loads(line)["problem"], json.loads(line)["sample"]) not in ((2, 1), (7, 0))]
        (b / "samples.jsonl").write_text("".join(cut) + lines[0][:50])  # and one in the middle of a line
        for first, second in ((a, b), (b, a)):
            self.refuses("compare", first, second, saying="8 problems x 2; found 14 samples (" + str(b))
        out = json.loads(run("compare", a, b, "--common", "--json").stdout)
        self.assertEqual((out["problems"], out["of_problems"]), (6, 8))
        for i, folder in enumerate((a, b)):
            kept = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()[:14 + 2 * (i == 0)]]
            tokens = [line["tokens"] for line in kept if line["problem"] not in (2, 7)]
            self.assertAlmostEqual(out["mean_tokens"][i], statistics.mean(tokens))
        self.assertIn("only 6 of 8 problems", run("compare", a, b, "--common").stdout)
        page = self.path / "page.html"
        run("compare", a, b, "--common", "--html", page)
        self.assertIn("6 problems of 8", page.read_text())
        self.refuses("compare", a, b, "--common", "--html", page, saying="--overwrite")
        run("compare", a, b, "--common", "--html", page, "--overwrite")

    def test_other_problems_are_told_apart(self):
        run(*self.exam("a"))
        run(*self.exam("more", limit=9))
        shutil.copytree(self.path / "a", self.path / "b")
        a, b, more = self.path / "a", self.path / "b", self.path / "more"
        self.refuses("compare", a, more, saying="problems")
        self.assertEqual(json.loads(run("compare", a, more, "--common", "--json").stdout)["of_problems"], 9)
        samples = [json.loads(line) for line in (b / "samples.jsonl").read_text().splitlines()]
        (b / "samples.jsonl").write_text("".join(
            json.dumps({**line, "id": "another" if line["problem"] == 3 else line["id"]}) + "\n" for line in samples))
        for flags in ((), ("--common",)):
            self.refuses("compare", a, b, *flags, saying="as problem 3")
        self.refuses("compare", a, b, "--common", saying='"another"')

        file, folders = self.path / "two.jsonl", (self.path / "x", self.path / "y")
        file.write_text('{"question": "1 + 1", "x": "02", "y": "03"}\n')
        for folder in folders:  # one file, read in two ways
            run("exam", "-m", MODEL, file, "--device", "cpu", "--answer-field", folder.name, "--run", folder)
        self.refuses("compare", *folders, saying="the same problems")


if __name__ == "__main__":
    main()
