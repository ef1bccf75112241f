"""The Python door of judges, the trainer and the exam. python test_learn.py"""

import os
import pathlib
import sys
import tempfile
import unittest

# A script's own folder comes first, and holds the sources of the package beside this file.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]

import pensive  # noqa: E402

REASONER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "reasoner"


@unittest.skipUnless((REASONER / "model.safetensors").exists(), f"there is no model in {REASONER}")
class Learn(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = pensive.Model.load(REASONER, device="cpu")
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def make(self):
        soft = pensive.SoftVocab(self.model)
        row = soft.add("again", self.model.tokenizer.encode("Wait, "))
        return soft, row, pensive.Engine(self.model, soft=soft, cache_tokens=8192)

    def test_a_trainer_is_not_saved_halfway(self):
        soft, row, engine = self.make()
        codes = []

        def judge(problem, response):
            for call in (trainer.save_checkpoint, trainer.resume):
                with self.assertRaises(pensive.Error) as caught:
                    call(self.path / "halfway")
                codes.append(caught.exception.code)
            return 1.0

        trainer = pensive.Trainer(engine, soft, row, judge, rollout=dict(max_new_tokens=8),
                                  group_size=2)
        trainer.step([pensive.Problem("1 + 2", "3")])
        self.assertEqual(codes, ["busy"] * 4)
        self.assertFalse((self.path / "halfway").exists())

    def test_train_two_steps(self):
        soft, row, engine = self.make()
        asked = []

        def judge(problem, response):
            asked.append(problem.id)
            return float(response.think_tokens % 2)

        problems = [pensive.Problem("12 + 3 * 4", "24", "a"), pensive.Problem("7 * 8", "56", "b")]
        options = dict(rollout=dict(guides=[pensive.continue_thinking([row])], max_new_tokens=96,
                                    temperature=1.0), group_size=4, seed=5, branch="soft_token")
        trainer = pensive.Trainer(engine, soft, row, judge, **options)
        version = soft.version
        for step in (1, 2):
            report = trainer.step(problems)
            self.assertEqual(report.step, step)
            self.assertGreater(report.mean_tokens, 0)
        self.assertEqual(len(asked), 16)
        self.assertEqual(soft.version != version, report.row_distance > 0)
        trainer.save_checkpoint(self.path / "checkpoint")
        second = pensive.Trainer(engine, soft, row, judge, **options)
        self.assertIsNone(second.last_report)
        second.resume(self.path / "checkpoint")
        self.assertEqual(second.steps_done, 2)
        self.assertEqual((second.last_report.step, second.last_report.loss), (2, report.loss))
        with self.assertRaisesRegex(pensive.Error, "rewards = 1 reward \\(correct\\)"):
            pensive.Trainer(engine, soft, row, pensive.correct(), **options).resume(self.path / "checkpoint")

        def fails(problem, response):
            raise KeyError("no judgement")

        with self.assertRaises(KeyError):
            pensive.Trainer(engine, soft, row, fails, **options).step(problems)
        for wrong in (dict(groups=4), dict(branch="root")):
            with self.assertRaises(pensive.Error):
                pensive.Trainer(engine, soft, row, judge, **wrong)
        with self.assertRaises(pensive.Error):
            pensive.Trainer(engine, soft, row + 1, judge)

    def test_a_trainer_goes_on_with_its_own_run_only(self):
        soft, row, engine = self.make()
        path = self.path / "state"

        def make(judge, limit, **more):
            rollout = dict(guides=[pensive.budget(limit)], max_new_tokens=60)
            return pensive.Trainer(engine, soft, row, judge, rollout=rollout, group_size=2, **more)

        make(pensive.correct(), 30, run="a.jsonl\nprompts 2").save_checkpoint(path)
        make(pensive.correct(), 30, run="a.jsonl\nprompts 2").resume(path)
        for judge, limit, run, saying in ((pensive.token_price(1), 30, "a.jsonl\nprompts 2", "token_price 1"),
                                          (pensive.correct(), 50, "a.jsonl\nprompts 2", "max_think_tokens 50"),
                                          (pensive.correct(), 30, "a.jsonl\nprompts 4", "prompts 4"),
                                          (pensive.correct(), 30, "", "run = ")):
            with self.assertRaisesRegex(pensive.Error, saying):
                make(judge, limit, run=run).resume(path)

    def test_prompts_are_checked_before_a_step(self):
        soft, row, engine = self.make()
        trainer = pensive.Trainer(engine, soft, row, pensive.correct(), group_size=2)
        trainer.check_prompt(pensive.Problem("1 + 2", "3", "short"))
        with self.assertRaisesRegex(pensive.Error, "problem long"):
            trainer.check_prompt(pensive.Problem("1 + 2" * 5000, "3", "long"))
        with self.assertRaisesRegex(pensive.Error, "a right answer.*empty"):
            trainer = pensive.Trainer(engine, soft, row, pensive.correct(), group_size=2,
                                      rollout=dict(max_new_tokens=8))
            trainer.step([pensive.Problem("1 + 2", "", "empty")])
        with self.assertRaisesRegex(pensive.Error, "a right answer.*empty"):
            pensive.examine(engine, [pensive.Problem("1 + 2", "", "empty")], pensive.correct())

    def test_what_a_trainer_may_be_told(self):
        soft, row, engine = self.make()
        problems = [pensive.Problem("12 + 3 * 4", "24", "a"), pensive.Problem("7 * 8", "56", "b")]

        def even(problem, response):
            return float(response.think_tokens % 2)

        options = dict(rollout=dict(max_new_tokens=160), group_size=4, seed=5,
                       one_of=[pensive.continue_thinking([row], times=n) for n in (1, 2)],
                       answer_tokens=40, truncated="masked", advantage_scale="batch",
                       denominator="constant", constant_tokens=100, clip=0.1, clip_high=0.3,
                       inner_steps=2, max_importance_weight=2, kl=0.1, pull=0.1, learning_rate=0.5,
                       rate_unit="start_rms", max_row_distance=0.2, stop_errors=2)
        trainer = pensive.Trainer(engine, soft, row, {"even": (even, 0.5), "boxed": pensive.boxed()},
                                  **options)
        rates = trainer.pass_rates(problems, even)
        self.assertEqual(len(rates), 2)
        self.assertTrue(all(rate * 4 in range(5) for rate in rates))
        report = trainer.step(problems)
        self.assertEqual(len(report.mean_parts), 2)
        self.assertAlmostEqual(report.mean_reward, 0.5 * report.mean_parts[0] + report.mean_parts[1])
        self.assertLessEqual(report.row_distance, 0.2 + 1e-6)
        self.assertGreater(report.learning_rate, 0)
        self.assertGreater(report.entropy_nats, 0)
        self.assertGreater(report.judge_seconds, 0)
        self.assertFalse(report.has_stopped or trainer.has_stopped)
        pensive.Trainer(engine, soft, row)  # the paper's rewards
        for wrong in (dict(denominator="tokens"), dict(truncated="maybe"), dict(clip_high=-1),
                      dict(rate_unit="rms"), dict(advantage_scale="std"), dict(kl=-1), dict(logprobs="near")):
            with self.assertRaises(pensive.Error):
                pensive.Trainer(engine, soft, row, even, **wrong)

    def test_exact_logprobs_are_the_engines(self):
        soft, row, engine = self.make()
        options = dict(rollout=dict(max_new_tokens=160, guides=[pensive.continue_thinking([row])]),
                       group_size=4, seed=5, logprobs="exact")
        problems = [pensive.Problem("12 + 3 * 4", "24", "a"), pensive.Problem("7 * 8", "56", "b")]

        def even(problem, response):
            return float(response.think_tokens % 2)

        with self.assertRaisesRegex(pensive.Error, "row-invariant"):
            pensive.Trainer(engine, soft, row, even, **options)
        engine = pensive.Engine(self.model, soft=soft, cache_tokens=8192, row_invariant=True)
        report = pensive.Trainer(engine, soft, row, even, **options).step(problems)
        self.assertEqual(report.max_logprob_gap, 0)
        self.assertGreater(report.gradient_norm, 0)

    def test_export_reads_as_any_checkpoint(self):
        soft, row, _ = self.make()
        exported = soft.export_token(row, self.path / "exported", token="<again>")
        self.assertEqual(exported["token"], "<again>")
        model = pensive.Model.load(self.path / "exported", device="cpu")
        self.assertEqual(model.tokenizer.encode("<again>", add_special=False), [exported["id"]])
        with self.assertRaisesRegex(pensive.Error, "does not exist yet"):
            soft.export_token(row, self.path / "exported")

    def test_wrong_types_are_named(self):
        soft, row, engine = self.make()
        problems = [pensive.Problem("1 + 2", "3")]
        for call, words in (
            (lambda: pensive.Trainer(engine, soft, row, group_size="8"), ("a whole number", "'8'", "group_size")),
            (lambda: pensive.Trainer(engine, soft, row, seed=-1), ("from 0 on", "-1", "seed")),
            (lambda: pensive.Engine(self.model, cache_tokens=1e6), ("a whole number", "1000000.0", "cache_tokens")),
            (lambda: engine.start(prompt=[5], max_new_tokens=10.0), ("10.0", "max_new_tokens")),
            (lambda: engine.start(prompt=[5], stop_texts=[3]), ("a list of str", "stop_texts")),
            (lambda: pensive.examine(engine, problems, lambda problem, response: None,
                                     request=dict(max_new_tokens=4)), ("a number", "None", "judge")),
            (lambda: pensive.summarized([], -1), ("-1",)),
        ):
            with self.assertRaises(pensive.Error) as caught:
                call()
            for word in words:
                self.assertIn(word, str(caught.exception))

    def test_what_each_sample_has_of_its_own_is_not_asked_for(self):
        soft, row, engine = self.make()
        problems = [pensive.Problem("1 + 2", "3")]
        for field in (dict(seed=1), dict(prompt=[5]), dict(sample=3)):
            request = dict(max_new_tokens=4, **field)
            for call in (lambda: pensive.examine(engine, problems, pensive.correct(), request=request),
                         lambda: pensive.Trainer(engine, soft, row, rollout=request)):
                with self.assertRaises(pensive.Error) as caught:
                    call()
                self.assertIn(next(iter(field)), str(caught.exception))

    def test_a_response_is_what_judges_see(self):
        _, row, engine = self.make()
        sequence = engine.start(prompt="1 + 2", begins_in="think", max_new_tokens=4)
        sequence.feed([row])
        engine.finish(sequence)
        self.assertIn("again", sequence.response.text)  # the row's name, which soft tokenizers know

    def test_exam_on_twenty_problems(self):
        _, _, engine = self.make()
        problems = pensive.load_problems(REASONER / "problems" / "dev.jsonl")[:20]
        self.assertEqual(len(problems), 20)
        seen = []
        request = pensive.Request(max_new_tokens=200, guides=[pensive.budget(150)])
        first = pensive.examine(engine, problems, pensive.correct(), request=request, samples=2,
                                seed=1, progress=lambda done, of: seen.append((done, of)),
                                samples_file=self.path / "samples.jsonl")
        lines = (self.path / "samples.jsonl").read_text().splitlines()
        self.assertEqual(len(lines), 40)
        self.assertEqual(first.problems, 20)
        self.assertEqual(len(first.samples), 40)
        self.assertEqual(seen[-1], (40, 40))
        self.assertTrue(first.low <= first.accuracy <= first.high)
        second = pensive.examine(engine, problems, lambda p, r: 1.0, samples=2, seed=1,
                                 request={"max_new_tokens": 100}, system="brief")
        paired = pensive.compare(first, second)
        self.assertAlmostEqual(paired.difference, 1.0 - first.accuracy)
        sure = pensive.compare(first, second, confidence=0.99)
        self.assertLess(sure.low, paired.low)
        self.assertGreater(sure.detectable, paired.detectable)
        right = pensive.compare(second, second)
        for none in (right.errors_removed, right.errors_low, right.errors_high):
            self.assertNotEqual(none, none, "there were none to remove")
        self.assertEqual(paired.improved + paired.worsened > 0, paired.p_value < 1)
        for wrong in (dict(), dict(resume=True, overwrite=True), dict(overwrite=True, samples=0)):
            with self.assertRaises(pensive.Error):
                pensive.examine(engine, problems, pensive.correct(), **{
                    "request": request, "samples": 2, "samples_file": self.path / "samples.jsonl", **wrong})
        self.assertEqual((self.path / "samples.jsonl").read_text().splitlines(), lines, "nothing is lost")
        pensive.examine(engine, problems[:2], pensive.correct(), request=request,
                        samples_file=self.path / "samples.jsonl", overwrite=True)
        self.assertEqual(len((self.path / "samples.jsonl").read_text().splitlines()), 2)
        (self.path / "samples.jsonl").write_text("".join(line + "\n" for line in lines))
        again = pensive.examine(engine, problems, pensive.correct(), request=request, samples=2,
                                seed=1, samples_file=self.path / "samples.jsonl", resume=True)
        loaded = pensive.load_exam(self.path / "samples.jsonl")
        for other in (again, loaded):
            self.assertEqual([s.tokens for s in other.samples], [s.tokens for s in first.samples])
            self.assertEqual([s.answer for s in other.samples], [s.answer for s in first.samples])
        self.assertAlmostEqual(pensive.pass_at_k(first, 1).value, first.accuracy)
        self.assertGreaterEqual(pensive.pass_at_k(first, 2).value, first.accuracy)
        self.assertTrue(0 <= pensive.majority_at_k(first, 2).value <= 1)
        with self.assertRaisesRegex(pensive.Error, "at least 3 samples"):
            pensive.pass_at_k(first, 3)
        with self.assertRaises(pensive.Error):
            pensive.load_problems(REASONER / "config.json")
        self.assertTrue(all(s.flops > 0 and s.first_correct <= 1 for s in first.samples))
        self.assertGreater(first.mean_flops, 0)
        self.assertEqual((first.strict_accuracy, first.boxed_share), (0, 0))
        long = pensive.summarized([s for s in first.samples if s.tokens > first.mean_tokens], 20)
        self.assertTrue(first.tokens_low < first.mean_tokens < first.tokens_high < long.mean_tokens)
        scaling = pensive.scaling([second, first], [(0, 1000), (0, 1)])
        self.assertEqual((scaling.control, scaling.performance), (.5, 1))
        longer = first.mean_think_tokens - second.mean_think_tokens
        self.assertAlmostEqual(scaling.slope, (first.accuracy - 1) / longer)

    def test_problem_kinds(self):
        path, broken = self.path / "problems.jsonl", []
        path.write_text('{"question": "a", "answer": "so\\n#### 7"}\n{"question": 1}\n')
        with self.assertRaisesRegex(pensive.Error, "line 2"):
            pensive.load_problems(path, kind="auto")
        for kind in ("auto", "gsm8k"):
            problem, = pensive.load_problems(path, kind=kind, broken=broken)
            self.assertEqual((problem.question, problem.reference, problem.id), ("a", "7", "1"))
        self.assertEqual(len(broken), 2)
        path.write_text('{"question": "a", "answer": "so\\n#### 7"}\n')
        problem, = pensive.load_problems(path)
        self.assertEqual(problem.reference, "7", "auto")
        problem, = pensive.load_problems(path, kind="plain")
        self.assertEqual(problem.reference, "so\n#### 7")
        path.write_text('{"q": "a", "answer": "7", "id": 4}')
        for named in (dict(question="q"), dict(question="q", kind="auto")):
            problem, = pensive.load_problems(path, **named)
            self.assertEqual((problem.question, problem.reference, problem.id), ("a", "7", "4"))
        self.assertIn("line 2", broken[0])
        path.write_text('[{"why": "b", "so": 3}]')
        problem, = pensive.load_problems(path, question="why", answer="so", id="")
        self.assertEqual((problem.question, problem.reference), ("b", "3"))
        path.write_text('{"question": "q", "answer": "4", "long": 9, "how": "<<1+1=2>>, <<2*2=4>>"}')
        problem, = pensive.load_problems(path, intermediates="how", target_tokens="long")
        self.assertEqual((problem.intermediates, problem.target_tokens), (["2"], 9))
        with self.assertRaisesRegex(pensive.Error, "the key \"steps\""):
            pensive.load_problems(path, intermediates="steps")


if __name__ == "__main__":
    unittest.main()
