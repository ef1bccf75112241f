"""`pensive exam`, `compare` and `demo` beyond shell_test.py. shell_exam_test.py COMMAND MODEL"""
import json
import re

from shell_door import MODEL, ShellTest, always_true, limit_files, main, run

TEST = MODEL / "problems" / "test.jsonl"


class Exam(ShellTest):
    def exam(self, file, *more, system="brief"):
        return ["exam", "-m", MODEL, file, "--device", "cpu", "--system", system, "--json", *more]

    def page(self, file, *names):
        html = file.read_text()
        self.assertNotRegex(html, r"(src|href)=\"[^#\"]|url\(|https?:|@import|<script", "self-contained")
        for name in names:
            self.assertIn(name, html)
        return html

    def test_files_as_they_are_spread(self):
        questions = [("57 + 23 * 11", "80"), ("12 - 47", "65")]
        gsm8k = self.path / "gsm8k.jsonl"
        gsm8k.write_text("".join(json.dumps({"question": q, "answer": f"so <<{a}>>\n#### {a}"}) + "\n"
                                 for q, a in questions))
        math500 = self.path / "math500.json"
        math500.write_text(json.dumps([{"prompt": [{"from": "user", "value": q}], "final_answer": a}
                                       for q, a in questions]))
        plain = self.path / "plain.jsonl"
        plain.write_text("".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in questions))
        expected = None
        for file, fields in ((plain, ()), (gsm8k, ()), (gsm8k, ("--fields", "gsm8k")), (math500, ()),
                             (math500, ("--fields", "aime")),
                             (gsm8k, ("--question-field", "question", "--answer-after", "#### "))):
            out = json.loads(run(*self.exam(file, "--seed", 3, "--samples", 4, *fields)).stdout)
            out = {key: value for key, value in out.items() if not key.startswith("seconds")}
            expected = expected or out
            self.assertEqual(out, expected, (file, fields))
        self.assertEqual(expected["strict"]["accuracy"], 0, "this model knows no box")
        self.assertGreater(expected["mean_flops"], 2 * 2e6 * expected["mean_tokens"])
        self.assertLessEqual(expected["mean_first_answer"], expected["mean_first_correct"])
        self.assertEqual(expected["mean_first_partial"], 1)
        self.refuses(*self.exam(gsm8k, "--fields", "math500"), saying="prompt")
        self.refuses(*self.exam(gsm8k, "--fields", "gsm9k"), saying="svamp")
        self.refuses(*self.exam(plain, "--intermediates-field", "steps"), saying='the key "steps"')
        self.refuses(*self.exam(plain, "--target-field", "answer"), saying="a number of tokens")

    def test_a_right_step_is_a_partial_answer(self):
        file, partial = self.path / "steps.jsonl", []
        for step in ("80", "7"):  # what the model answers first, and what it does not
            file.write_text(json.dumps({"question": "57 + 23 * 11 - 48", "answer": "32", "steps": [step]}))
            out = run(*self.exam(file, "--fields", "plain", "--intermediates-field", "steps",
                                 "--samples", 8, system="steps")).stdout
            partial.append(json.loads(out)["mean_first_partial"])
        self.assertLess(*partial)

    def test_broken_lines_are_refused_or_passed_over(self):
        file = self.path / "broken.jsonl"
        file.write_text('{"question": "1 + 1", "answer": "02"}\n{"question": \n{"question": "1 + 2", "answer": ""}\n')
        self.refuses(*self.exam(file), saying="line 2")
        done = run(*self.exam(file, "--bad-lines", "skip"))
        self.assertEqual(json.loads(done.stdout)["problems"], 1)
        self.assertIn("2 left out", done.stderr)
        self.assertIn("line 2", done.stderr)
        file.write_text("{\n")
        self.refuses(*self.exam(file, "--bad-lines", "skip"), saying="expected problems")

    def test_nothing_that_exists_gets_lost(self):
        file = self.path / "samples.jsonl"
        file.write_text("a day's work\n")
        self.refuses(*self.exam(TEST, "--limit", 2, "--out", file), saying="--overwrite")
        self.assertEqual(file.read_text(), "a day's work\n")
        run(*self.exam(TEST, "--limit", 2, "--out", file, "--overwrite"))
        self.assertEqual(file.read_text().count("\n"), 2)
        before = file.read_text()
        nowhere = ["exam", "-m", self.path / "no model", TEST]  # all this is said before one is looked for
        self.refuses(*nowhere, "--html", file, saying="--overwrite")
        self.refuses(*nowhere, "--html", self.path / "no" / "page.html", saying="page.html")
        self.refuses(*nowhere, "--html", self.path, saying="can be written")
        self.refuses(*nowhere, "--overwrite", saying="--overwrite")
        self.refuses("compare", self.path, self.path, "--html", file, saying="--overwrite")
        self.refuses("tune", *nowhere[1:], "--tokens", 9, "--html", file, saying="--overwrite")
        self.refuses(*self.exam(TEST, "--out", file, "--overwrite", "-n", 1 << 40), saying="--max-tokens")
        self.refuses(*self.exam(TEST, "--out", file, "--overwrite", "--temp", -1), saying="temperature")
        self.assertEqual(file.read_text(), before)

    def test_what_cannot_be_is_said_before_the_work(self):
        nowhere = ["exam", "-m", self.path / "no model", TEST]
        self.refuses(*nowhere, "--samples", 2, "--pass", 1, 8, saying="8 samples a problem for pass@8")
        self.refuses(*nowhere, "--samples", 2, "--majority", 3, saying="majority@3")
        self.refuses(*nowhere, "--times", 3, saying="--continue")
        self.refuses(*nowhere, "--limit", -3, saying="--limit")

    def test_a_model_grades_what_has_no_box(self):
        plain = json.loads(run(*self.exam(TEST, "--limit", 4)).stdout)
        self.assertEqual(plain["strict"]["accuracy"], 0, "this model knows no box: the grader is asked always")
        for grader, accuracy in ((MODEL, 0), (always_true(self.path / "grader"), 1)):
            folder = self.path / f"run{accuracy}"
            out = json.loads(run(*self.exam(TEST, "--limit", 4, "--grader", grader, "--run", folder)).stdout)
            self.assertEqual(out["accuracy"], accuracy)
            self.assertRegex(json.loads((folder / "run.json").read_text())["grader"], "^[0-9a-f]{16}$")
        self.refuses(*self.exam(TEST, "--limit", 4, "--run", folder), saying="another grader")

    def test_a_full_disk_is_said_and_what_was_sat_is_kept(self):
        few = self.exam(TEST, "--limit", 2)
        self.refuses(*few, "--out", "/dev/full", saying="/dev/full")
        self.refuses(*few, "--html", "/dev/full", saying="/dev/full")
        folder = self.path / "run"
        asked = self.exam(TEST, "--limit", 40, "--row-invariant", "--run", folder)
        done = run(*asked, check=False, preexec_fn=limit_files)
        self.assertEqual(done.returncode, 1)
        self.assertIn("samples.jsonl", done.stderr)
        whole = (folder / "samples.jsonl").read_bytes().rpartition(b"\n")[0]
        self.assertGreater(whole.count(b"\n"), 1)
        run(*asked)
        after = (folder / "samples.jsonl").read_bytes()
        self.assertTrue(after.startswith(whole))
        self.assertEqual(after.count(b"\n"), 40)

    def test_room_changes_no_result(self):
        exam = self.exam(TEST, "--limit", 6, "--samples", 3, "--seed", 3, "-n", 200, "--row-invariant")
        plain = json.loads(run(*exam).stdout)
        small = json.loads(run(*exam, "--cache-tokens", 640, "--batch", 5).stdout)
        for one in plain, small:
            for key in "seconds_p50", "seconds_p95":
                del one[key]
        self.assertEqual(plain, small)
        self.refuses(*exam, "--cache-tokens", 1 << 50, saying="lower cache_tokens")
        self.refuses(*exam, "--batch", 0, saying="--batch")

    def test_a_prompt_longer_than_the_room(self):
        file = self.path / "long.jsonl"
        file.write_text(json.dumps({"id": "endless", "question": "1 + " * 20000, "answer": "0"}))
        self.refuses(*self.exam(file), saying="(problem endless)")

    def test_partial_answers_have_a_place(self):
        out = json.loads(run(*self.exam(TEST, "--limit", 30, system="steps")).stdout)
        self.assertLess(out["mean_first_partial"], .5)
        self.assertLess(out["mean_first_answer"], out["mean_first_correct"])

    def test_several_runs(self):
        folders = []
        for limit in (16, 32, 200):
            folders.append(self.path / f"at<{limit}>")
            run(*self.exam(TEST, "--limit", 40, "--think-max", limit, "--run", folders[-1],
                           "--html", self.path / "one.html", "--overwrite"))
        self.page(self.path / "one.html", "all samples", " tokens</td>", "40 problems x 1", "class=\"minor\"")
        page = self.path / "page.html"
        out = json.loads(run("compare", *folders, "--json", "--html", page).stdout)
        self.assertEqual(len(out["accuracy"]), 3)
        self.assertEqual([one["differ_in"] for one in out["against_first"]],
                         [['option --think-max: "16", "32"'], ['option --think-max: "16", "200"']])
        self.assertEqual(out["scaling"]["control"], 1, "a budget is heeded")
        self.assertEqual(out["scaling"]["performance"], max(out["accuracy"]))
        html = self.page(page, "at&lt;16&gt;", "--think-max", "what differs from 1")
        self.assertEqual(html.count('<circle class="dot"'), 3)
        self.assertNotIn("at<16>", html)
        text = run("compare", *folders).stdout
        for part in ("against", "four of five", "scaling", "control      100%"):
            self.assertIn(part, text)
        two = json.loads(run("compare", *folders[:2], "--json").stdout)
        self.assertAlmostEqual(two["difference"], two["accuracy"][1] - two["accuracy"][0])
        self.assertGreater(two["detectable"], abs(two["high"] - two["low"]) / 2)
        self.refuses("compare", folders[0], saying="runs")

    def test_arms_are_equal_up_to_the_first_closer(self):
        texts = []
        for more in ((), ("--continue", "Wait, "), ("--guide", "budget:max=30")):
            file = self.path / f"{len(texts)}.jsonl"
            run(*self.exam(TEST, "--limit", 20, "--samples", 3, "--row-invariant", "--out", file, *more))
            lines = map(json.loads, file.read_text().splitlines())
            texts.append({(line["problem"], line["sample"]): line["text"] for line in lines})
        plain, wait, budget = texts
        self.assertEqual(len(plain), 60)
        for key, text in plain.items():
            self.assertTrue(wait[key].startswith(text.split("</think>")[0]), key)
            cut = budget[key].split("</think>")[0]
            self.assertTrue(text.startswith(cut), key)
        self.assertNotEqual(plain, wait)

    def test_what_no_exam_tells_is_not_a_number(self):
        folder = self.path / "easy"
        run(*self.exam(TEST, "--limit", 2, "-n", 20, "--run", folder))
        samples = folder / "samples.jsonl"
        lines = [json.loads(line) | {"score": 1} for line in samples.read_text().splitlines()]
        samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
        out = json.loads(run("compare", folder, folder, "--json").stdout)
        self.assertEqual(out["accuracy"], [1, 1])
        self.assertIsNone(out["errors_removed"], "there were none")
        self.assertEqual(out["detectable"], 1)
        self.assertIn("would show no difference", run("compare", folder, folder).stdout)

    def test_flags_that_json_cannot_hold(self):
        folder, bad = self.path / "run", b"\xff".decode(errors="surrogateescape")
        self.refuses(*self.exam(TEST, "--limit", 1, "--run", folder, system=bad),
                     saying="expected text in UTF-8; found '\\xff' (--system)")
        self.assertFalse(folder.exists())

    def test_demo_refuses_before_it_begins(self):
        demo = ("demo", "-m", MODEL, "--device", "cpu")
        self.refuses(*demo, "--soft", self.path / "none", saying="--soft")
        done = run(*demo, "--group", 1, check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertNotIn("problem", done.stdout)

    def test_demo(self):
        pages = self.path / "pages"
        out = run("demo", "-m", MODEL, "--device", "cpu", "--precision", "float32", "--steps", 1, "--prompts", 2,
                  "--group", 2, "--problems", 6, "--side-problems", 2, "--pages", pages).stdout
        self.assertIn("It was made so that the", out)
        same, = re.findall(r"the same problem: .*\n\n(.*)\n", out)
        self.assertRegex(same, r"as it likes +'Wait' put where it stopped +the learned word put there")
        self.assertIn("learned x2", out)
        self.page(pages / "runs.html", "learned x1", "best phrase x3", 'class="ring"')
        self.assertEqual((pages / "thinking.html").read_text().count("<article>"), 3)

    def test_demo_ends_well_where_nothing_is_learned(self):
        model, prompts = self.path / "model", 8
        (model / "problems").mkdir(parents=True)
        for file in MODEL.iterdir():
            if file.is_file():
                (model / file.name).symlink_to(file)
        easy = sorted(map(json.loads, (MODEL / "problems" / "train.jsonl").read_text().splitlines()),
                      key=lambda one: len(one["question"]))[:997]
        # The seed, 1, says that it begins with number 997, which is 0 here: after four steps nobody can be right.
        lines = [one if i < 4 * prompts else {**one, "answer": "nothing"} for i, one in enumerate(easy)]
        (model / "problems" / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (model / "problems" / "test.jsonl").symlink_to(TEST)
        few = ["demo", "-m", model, "--device", "cpu", "--precision", "float32", "--problems", 2, "--side-problems", 2,
               "--prompts", prompts, "--group", 4]
        done = run(*few, "--steps", 12)
        self.assertIn("the reward had fallen", done.stderr)
        self.assertIn("learned x2", done.stdout)
        self.refuses(*few, "--steps", 1, "--out", "/dev/full", saying="/dev/full")


if __name__ == "__main__":
    main()
