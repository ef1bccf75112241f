"""The `pensive` command as a user types it. shell_test.py COMMAND MODEL [unittest arguments]; PENSIVE_LONG=1: exams are
killed twenty times, not four."""
import json
import os
import random
import re
import shutil
import signal
import subprocess
import time

from shell_door import COMMAND, MODEL, QUESTION, ShellTest, answer, main, run


class Shell(ShellTest):
    def test_info(self):
        text = run("info", "-m", MODEL).stdout
        self.assertIn("llama", text)
        self.assertIn("<think>", text)

    def test_what_fits_is_planned_without_weights(self):
        plan = ["info", "-m", MODEL, "--plan", "--device", "cuda", "--memory", "80GiB"]
        text = run(*plan).stdout
        for part in ("weights", "cache", "steps of prompts", "steps of decoding", "CUDA", "fits"):
            self.assertIn(part, text)
        self.assertIn("85899.3 MB", text, "80 GiB")
        text = run(*plan, "--batch", "4", "--context", "500", "--train", "--batch-tokens", "512").stdout
        self.assertIn("2048 positions of", text, "four times 500 in pages of 16")
        self.assertIn("a backward", text)
        self.assertRegex(text, r" 500 positions +4 ")
        backward = [float(re.search(r"a backward +([\d.]+) MB", run(*plan, "--train", *more).stdout)[1])
                    for more in (("--batch-tokens", 64, "-n", 64), ("--batch-tokens", 64), ("--logprobs", "exact"))]
        self.assertLess(backward[0], backward[1], "a sample goes through whole")
        self.assertNotEqual(*backward[1:])
        text = run(*plan[:-1], "1MiB").stdout
        self.assertIn("too much: lower", text)
        self.refuses(*plan[:-1], "80 parsecs", saying="--memory")
        (self.path / "config.json").symlink_to((MODEL / "config.json").resolve())
        self.refuses("info", "-m", self.path, "--plan", saying="model.safetensors")

    def test_options_of_a_plan_want_one(self):
        info = ("info", "-m", MODEL, "--device", "cpu")
        for option in (("--memory", "10MiB"), ("--batch", 2), ("--context", 9), ("--cache-tokens", 64),
                       ("--tokens-per-step", 64), ("--train",)):
            self.refuses(*info, *option, saying="--plan")
        for option in (("--logprobs", "exact"), ("--batch-tokens", 100), ("-n", 100)):
            self.refuses(*info, "--plan", *option, saying="--train")
        self.refuses(*info, "--plan", "--soft", self.path / "none", saying="--soft")
        self.refuses(*info, "--plan", "--context", 1025,
                     saying="expected a context of at most the model's 1024 positions; found 1025")
        run(*info, "--plan", "--context", 1024)

    def test_precision_and_unknown_keys(self):
        text = run("info", "-m", MODEL, "--precision", "float16", "--device", "cpu").stdout
        self.assertIn("in float16", text)
        for name in MODEL.iterdir():
            if name.is_file():
                (self.path / name.name).symlink_to(name.resolve())
        config = json.loads((MODEL / "config.json").read_text()) | {"wibble": 3}
        (self.path / "config.json").unlink()
        (self.path / "config.json").write_text(json.dumps(config))
        self.refuses("info", "-m", self.path, saying="wibble")
        self.refuses("info", "-m", self.path, "--unknown-keys", "ignore", saying="refuse")
        run("info", "-m", self.path, "--unknown-keys", "warn", "--device", "cpu")

    def test_trace_prints_and_draws_what_was_saved(self):
        file, page = self.path / "traces.jsonl", self.path / "page.html"
        arguments = ["--continue", "Wait", "--trace", file]
        text = answer(*arguments)
        answer(*arguments)
        shown = run("trace", file, "-m", MODEL, "--answer-after", "= ", "--step-end", ";",
                    "--reference", "57").stdout
        self.assertIn("trace 2: ", shown)
        self.assertIn("continue_thinking: force (", shown)
        self.assertIn("{+", shown, "forced tokens are marked")
        self.assertIn("[-</think>-]", shown, "those taken back too")
        self.assertIn(f"= decoded {text['usage']['completion_tokens']} (tokens);", shown)
        self.assertIn(f"final answer {text['content'].strip()} (wrong)", shown)
        self.assertRegex(shown, r"answers thought of \d+ \(\d+ changes\)")
        self.assertRegex(run("trace", file, "--only", 2).stdout, "^trace 2.*\n⟨\\d+⟩")

        run("trace", file, "-m", MODEL, "--html", page)
        html = page.read_text()
        saved = file.read_text()
        self.refuses("trace", file, "--html", file, saying="--overwrite")
        self.assertEqual(file.read_text(), saved)
        run("trace", file, "-m", MODEL, "--html", page, "--overwrite")
        self.assertEqual(html.count("<article>"), 2)
        self.assertNotRegex(html, r"(src|href)=\"[^#\"]|url\(|https?:|@import", "self-contained")
        for name in ["Thinking", 'class="f', "g\"", "--e:0.", "continue_thinking", 'class="force"']:
            self.assertIn(name, html)
        data = json.loads(re.search(r'application/json">(.*?)</script>', html, re.S)[1])
        self.assertEqual(len(data["tokens"]), len(data["pieces"]))
        self.assertEqual(len(data["tokens"][-1][-1]), 5, "the likeliest tokens")

    def test_trace_escapes_what_it_shows(self):
        file, page = self.path / "traces.jsonl", self.path / "page.html"
        answer("--trace", file)
        evil = '</script><script>alert("1")</script><!-- \x1b[31m \'&'
        line = json.loads(file.read_text())
        line["error"] = evil
        line["actions"] = [{"position": 3, "guide": evil, "kind": 'probe" onclick="x', "text": evil,
                            "reason": evil, "tokens": 1, "taken_back": 0}]
        file.write_text(json.dumps(line) + "\n")
        self.assertNotIn("\x1b", run("trace", file).stdout)
        run("trace", file, "-m", MODEL, "--html", page)
        html = page.read_text()
        self.assertNotIn("<script>alert", html)
        self.assertNotIn('" onclick="', html)
        self.assertNotIn("\x1b", html)
        self.assertEqual(html.count("<script"), 2)
        self.assertIn("&lt;/script&gt;", html)

    def test_trace_reads_what_is_whole(self):
        file = self.path / "traces.jsonl"
        answer("--trace", file)
        answer("--trace", file)
        whole = file.read_text()
        file.write_text(whole[:-40])
        done = run("trace", file)
        self.assertIn("trace 1: ", done.stdout)
        self.assertNotIn("trace 2: ", done.stdout)
        self.assertIn("1 of 2 lines are lost", done.stderr)
        self.assertIn("line 2", done.stderr)
        self.refuses("generate", "-m", MODEL, "hm", "--trace", file, saying="whole line")
        file.write_text(whole[:300])
        self.refuses("trace", file, saying="line 1")
        self.refuses("trace", self.path / "none", saying="none")
        file.write_text(whole)
        self.refuses("trace", file, "--only", 3, saying="--only")
        self.refuses("trace", file, "--html", self.path / "no" / "page.html", saying="page.html")
        self.refuses("trace", file, "--step-end", "", saying="step_end")

    def test_generate_streams_thinking_and_answer(self):
        text = run("generate", "-m", MODEL, "--chat", QUESTION, "--temp", 0, "--device", "cpu").stdout
        self.assertIn("So", text)
        self.assertNotIn("</think>", text)

    def test_json_has_ids_and_logprobs(self):
        out = answer()
        self.assertEqual(out["finish_reason"], "stop")
        tokens = out["logprobs"]["content"]
        self.assertEqual(len(out["ids"]), len(tokens))
        text = "".join(entry["token"] for entry in tokens)
        self.assertTrue(text.endswith(f"<answer>{out['content']}</answer><eos>"), text)
        self.assertEqual(out["usage"]["completion_tokens"], len(out["ids"]))
        self.assertRegex(out["content"], r"^\d\d$")
        self.assertTrue(all(entry["logprob"] <= 0 for entry in tokens))

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
        out = answer("--guide", "budget:max=12,window=0")
        self.assertLessEqual(out["usage"]["completion_tokens_details"]["reasoning_tokens"], 12)
        self.assertRegex(out["content"], r"\d\d")  # cut in the middle of a step, it may first finish that

    def test_guides_are_listed_and_refused_by_name(self):
        listed = run("guides").stdout
        for name in ("budget", "continue", "margin", "ThinkBrake"):
            self.assertIn(name, listed)
        self.refuses("generate", "-m", MODEL, "x", "--guide", "bugdet:max=1", saying="expected a guide: ")

    def test_markers_may_be_named(self):
        named = answer("--think-max", 12, "--think-open", "<think>", "--think-close", "</think>")
        self.assertEqual(named["ids"], answer("--think-max", 12)["ids"])
        done = run("generate", "-m", MODEL, "--chat", QUESTION, "--think-open", "<think>",
                   "--think-close", "[/THINK]", check=False)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("[/THINK]", done.stderr)

    def test_ignore_eos_goes_on(self):
        out = answer("--ignore-eos", "-n", 200)
        self.assertEqual(out["finish_reason"], "length")
        self.assertEqual(out["usage"]["completion_tokens"], 200)

    def test_prompt_sources_agree(self):
        whole = answer()["ids"]
        file = self.path / "prompt.txt"
        file.write_text(QUESTION)
        same = ["generate", "-m", MODEL, "--device", "cpu", "--temp", 0, "--json"]
        for more, stdin in ((["--chat", "-p", QUESTION], ""), (["--chat", "-f", file], ""),
                            (["--chat", "-f", "-"], QUESTION), (["--chat"], QUESTION)):
            self.assertEqual(json.loads(run(*same, *more, stdin=stdin).stdout)["ids"], whole)
        file.write_text(json.dumps([{"role": "user", "content": QUESTION, "tool_calls": None}]))
        tools = self.path / "tools.json"
        tools.write_text('[{"type": "function"}]')
        more = ["--messages", file, "--tools", tools, "--chat-template-name", "default",
                "--chat-template-kwargs", '{"enable_thinking": false}']
        self.assertEqual(json.loads(run(*same, *more).stdout)["ids"], whole)
        self.refuses(*same, "--messages", file, "--chat-template-name", "rag", saying="rag")
        self.refuses(*same, "--chat", "1 + 1", "--chat-template-kwargs", "[]", saying="object")
        self.refuses(*same, "1 + 1", "--tools", tools, saying="--chat")

    def test_version(self):
        text = run("--version").stdout
        self.assertRegex(text, r"pensive \d+\.\d+\.\d+\ncommit  \S+\ntorch   2\.\d+\nCUDA    ")

    def test_hub_ids_are_looked_up_in_the_cache(self):
        home = self.path / "home"
        model = home / "hub" / "models--tiny-org--Tiny-1.5"
        snapshot = model / "snapshots" / "0123abcd"
        snapshot.mkdir(parents=True)
        (model / "blobs").mkdir()
        for file in MODEL.iterdir():
            if file.is_file():
                blob = model / "blobs" / f"blob-{file.name}"
                blob.symlink_to(file)
                (snapshot / file.name).symlink_to(f"../../blobs/blob-{file.name}")
        (model / "refs").mkdir()
        (model / "refs" / "main").write_text("0123abcd")
        env = {"HF_HOME": str(home), "HF_HUB_CACHE": "", "HUGGINGFACE_HUB_CACHE": ""}
        at = ["info", "--device", "cpu", "-m"]
        self.assertIn(str(snapshot), run(*at, "tiny-org/Tiny-1.5", env=env).stdout)
        self.assertIn("llama", run(*at, "tiny-org/Tiny-1.5", "--revision", "0123abcd", env=env).stdout)
        other = {**env, "HF_HOME": "/nonexistent/home", "HF_HUB_CACHE": str(home / "hub")}
        self.assertIn("llama", run(*at, "tiny-org/Tiny-1.5", env=other).stdout)
        self.refuses(*at, "tiny-org/Other", env=env, saying="hf download tiny-org/Other")
        self.refuses(*at, "tiny-org/Tiny-1.5", "--revision", "v2", env=env,
                     saying="hf download tiny-org/Tiny-1.5 --revision v2")
        self.refuses(*at, "tiny-org/Tiny-1.5", "--revision", "../x", env=env, saying="--revision")
        self.refuses(*at, MODEL, "--revision", "main", env=env, saying="--revision")
        (model / "blobs" / "blob-model.safetensors").unlink()
        self.refuses(*at, "tiny-org/Tiny-1.5", env=env, saying="model.safetensors")

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

    def exam(self, folder, *more):
        return [COMMAND, "exam", "-m", str(MODEL), str(MODEL / "problems" / "test.jsonl"), "--limit", "60",
                "--system", "brief", "--row-invariant", "--device", "cpu", "--run", str(self.path / folder), *more]

    @staticmethod
    def samples(folder):
        lines = map(json.loads, (folder / "samples.jsonl").read_text().splitlines())
        return sorted((line["problem"], line["sample"], line["score"], line["tokens"], line["text"]) for line in lines)

    def disturb(self, cut, lasts, draw, most):
        """Kills an exam at random moments, and goes on with it, until it ends or `most` met it running; how many did.
        What had been kept before a kill is kept after it."""
        kills, kept = 0, set()
        while kills < most:
            running = subprocess.Popen(self.exam("cut", "--samples", "2"), stderr=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL)
            try:
                running.wait(timeout=draw.uniform(0, lasts))
            except subprocess.TimeoutExpired:
                kills += 1
                running.kill()
                running.wait(timeout=60)
            file = cut / "samples.jsonl"
            now = set(file.read_text().split("\n")[:-1]) if file.exists() else set()
            self.assertLessEqual(kept, now, "what was finished is not lost")
            kept = now
            if running.returncode == 0:
                break
        return kills

    def test_killed_exam_goes_on(self):
        began = time.monotonic()
        subprocess.run(self.exam("whole", "--samples", "2"), check=True, capture_output=True)
        lasts = time.monotonic() - began
        whole, cut = self.path / "whole", self.path / "cut"
        wanted, draw = 20 if os.environ.get("PENSIVE_LONG") else 4, random.Random(6)
        kills, rounds = 0, 0
        while kills < wanted:
            shutil.rmtree(cut, ignore_errors=True)
            kills += self.disturb(cut, lasts, draw, wanted - kills)
            rounds += 1
            self.assertLess(rounds, 10 * wanted, "it must be met while it runs")
            subprocess.run(self.exam("cut", "--samples", "2"), check=True, capture_output=True)
            self.assertEqual(self.samples(cut), self.samples(whole))
            self.assertEqual((cut / "run.json").read_text(), (whole / "run.json").read_text())
        other = subprocess.run(self.exam("cut", "--samples", "1"), capture_output=True, text=True)
        self.assertEqual(other.returncode, 1)
        self.assertIn("--samples", other.stderr)

    def test_compare(self):
        for folder, more in (("plain", ()), ("wait", ("--continue", "Wait, ", "--times", "2"))):
            out = json.loads(subprocess.run(self.exam(folder, "--json", "--pass", "1", *more), check=True,
                                            capture_output=True, text=True).stdout)
            self.assertEqual(out["pass@1"]["value"], out["accuracy"])
        plain, wait = str(self.path / "plain"), str(self.path / "wait")
        out = json.loads(run("compare", plain, wait, "--json").stdout)
        self.assertEqual(out["problems"], 60)
        self.assertGreater(out["token_difference"], 0)
        self.assertAlmostEqual(out["difference"], out["accuracy"][1] - out["accuracy"][0])
        self.assertEqual([line.split(":")[0] for line in out["differ_in"]], ["option --continue", "option --times"])
        text = run("compare", plain, wait).stdout
        self.assertIn("95%, paired", text)
        self.assertIn("option --times: \"1\", \"2\"", text)
        self.refuses("compare", plain, self.path, saying="run.json")

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
        text = run("export", "-m", MODEL, "--soft", self.path / "row.safetensors", "--out", self.path / "copy").stdout
        self.assertIn("<|continue|> = 32", text)
        self.assertEqual(run("generate", "-m", self.path / "copy", "--chat", "1 + 1", "--device", "cpu").returncode, 0)
        self.refuses("export", "-m", MODEL, "--soft", self.path / "row.safetensors", "--out", self.path / "other",
                     "--row", "nobody", saying="nobody")

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
        self.refuses("generate", "-m", MODEL, "--soft-of-other-model", "1 + 1", saying="--soft")
        for number in (0, -3, "many", "inf"):
            self.refuses("generate", "-m", MODEL, "-n", number, "1 + 1",
                         saying=f"expected a number above 0; found '{number}'")
        broken = self.path / "soft.safetensors"
        broken.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{}")
        self.refuses("generate", "-m", MODEL, "--soft", broken, "1 + 1", saying="corrupt_file")


if __name__ == "__main__":
    main()
