"""The Python door: the whole path on the embedded model. python test_pensive.py"""

import gc
import json
import math
import os
import pathlib
import re
import sys
import tempfile
import threading
import unittest
import weakref

# A script's own folder comes first, and holds the sources of the package beside this file.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]

import pensive  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
REASONER = ROOT / "examples" / "reasoner"
HAS_MODEL = (REASONER / "model.safetensors").exists()
CHAT = [{"role": "user", "content": "12 + 3 * 4"}]


def joined(events, segment):
    """The text of all segments of a kind, as a Response shows it."""
    texts = {}
    for event in events:
        if event.segment == segment:
            texts[event.index] = texts.get(event.index, "") + event.text
    return "\n".join(texts.values())


class Forcer(pensive.Guide):
    """Counts tokens and forces one after the third."""

    def __init__(self, token, watches=(5,)):
        self.token = token
        self.watches = watches
        self.seen = 0
        self.done = []

    def on_token(self, moment):
        self.seen += 1
        assert moment.token == moment.tokens[-1]
        assert moment.origin != "sampled" or moment.watched[0] <= 0
        return pensive.Force([self.token]) if self.seen == 3 else None

    def on_done(self, action, was_mine):
        self.done.append((type(action).__name__, was_mine))


class Plain(unittest.TestCase):
    """What needs no model."""

    def test_judging_answers(self):
        self.assertEqual(pensive.find_answer(r"so \boxed{42}."), "42")
        self.assertIsNone(pensive.find_answer("I do not know"))
        self.assertTrue(pensive.same_answer("1,000.0", "1000"))
        self.assertTrue(pensive.is_sentence_end("so.\n"))

    def test_errors_say_their_kind(self):
        with self.assertRaises(pensive.Error) as caught:
            pensive.Model.load("/nonexistent/pensive")
        self.assertEqual(caught.exception.code, "not_found")
        self.assertIn("/nonexistent/pensive", str(caught.exception))
        with self.assertRaises(pensive.Error) as caught:
            pensive.Model.load("/nonexistent/pensive", device="abacus")
        self.assertEqual(caught.exception.code, "invalid_argument")
        with self.assertRaises(pensive.Error):
            pensive.Model.load("/nonexistent/pensive", precision="double")
        with self.assertRaises(pensive.Error) as caught:
            pensive.Model.load("/nonexistent/pensive", unknown_keys="ignore")
        self.assertIn("refuse or warn", str(caught.exception))
        with self.assertRaises(pensive.Error):
            pensive.Request(max_tokens=3)
        with self.assertRaises(pensive.Error):
            pensive.Request(guides=[print])
        with self.assertRaises(TypeError):
            pensive.Engine(None, cache=3)

    def test_stubs_name_everything(self):
        door = pathlib.Path(pensive.__file__).with_suffix(".pyi")
        rooms = "".join(stub.read_text() for stub in door.parent.glob("_*.pyi"))
        for name in pensive.__all__:
            self.assertRegex(rooms, rf"(class|def) {name}\b|{name}: ", name)
        told = set(re.findall(r"^    (\w+) as \1,$", door.read_text(), re.MULTILINE))
        for_checkers = {"Path", "Ids", "Log", "SegmentName", "StopName", "OriginName", "Action",
                        "ProbeReply", "AnyJudge"}
        self.assertEqual(told - for_checkers, set(pensive.__all__) - {"__version__"})


@unittest.skipUnless(HAS_MODEL, f"there is no model in {REASONER}")
class WithModel(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = pensive.Model.load(REASONER, device="cpu")
        cls.text = cls.model.tokenizer
        cls.folder = tempfile.TemporaryDirectory()
        cls.path = pathlib.Path(cls.folder.name)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def make(self, **options):
        soft = pensive.SoftVocab(self.model)
        row = soft.add("again", self.text.encode("Wait, "))
        engine = pensive.Engine(self.model, soft=soft, cache_tokens=8192, **options)
        return soft, row, engine

    def test_model_and_text(self):
        info = self.model.info
        self.assertEqual(info.vocab_size, self.model.vocab_size)
        self.assertEqual(info.device, "cpu")
        ids = self.text.encode("12 + 3", add_special=False)
        self.assertEqual(self.text.decode(ids), "12 + 3")
        self.assertEqual(self.text.encode_chat(CHAT)[-1], self.text.find("<think>"))
        self.assertIn("12 + 3", self.text.render_chat(CHAT))
        self.assertIsNone(self.text.find("no such token"))
        markers = pensive.find_markers(self.text)
        self.assertEqual(markers["think_close"], [self.text.find("</think>")])
        named = pensive.markers_of(self.text, "<think>", "</think>")
        self.assertEqual(named["think_open"], markers["think_open"])
        with self.assertRaisesRegex(pensive.Error, r"THINK\]"):
            pensive.markers_of(self.text, "[THINK]", "[/THINK]")
        with self.assertRaises(pensive.Error):
            self.text.encode_chat(["user"])
        with self.assertRaises(pensive.Error):
            self.text.decode([10**6])

    def test_precision_and_unknown_keys(self):
        folder = self.path / "unknown"
        folder.mkdir()
        for file in REASONER.iterdir():
            if file.is_file() and file.name != "config.json":
                (folder / file.name).symlink_to(file.resolve())
        config = json.loads((REASONER / "config.json").read_text()) | {"wibble": 3}
        (folder / "config.json").write_text(json.dumps(config))
        with self.assertRaisesRegex(pensive.Error, "wibble.*unknown_keys|unknown_keys.*wibble"):
            pensive.Model.load(folder)
        lines = []
        model = pensive.Model.load(folder, device="cpu", precision="float16", unknown_keys="warn",
                                   log=lambda level, line: lines.append(line))
        self.assertEqual(model.info.precision, "float16")
        self.assertTrue(any("wibble" in line for line in lines))

    def test_generate_and_stream_with_guides(self):
        _, row, engine = self.make()
        closer = pensive.find_markers(self.text)["think_close"]
        sequence = engine.start(
            chat=CHAT,
            max_new_tokens=64,
            temperature=0.5,
            seed=7,
            guides=[
                pensive.continue_thinking(with_=[row], times=1),
                pensive.margin_brake(closer, max_margin_nats=0.0),
                pensive.budget(max_think_tokens=24),
            ],
        )
        self.assertFalse(sequence.finished)
        events = list(engine.stream(sequence))
        self.assertTrue(sequence.finished)
        self.assertTrue(events)
        self.assertEqual(joined(events, "think"), sequence.response.thinking)
        self.assertEqual(joined(events, "answer"), sequence.response.answer)

        trace = sequence.trace
        self.assertEqual(len(trace.tokens), len(trace.logprobs))
        self.assertEqual(trace.seed, 7)
        self.assertLessEqual(trace.count("think"), 40)
        sampled = [i for i, origin in enumerate(trace.origins) if origin == "sampled"]
        self.assertTrue(all(trace.logprobs[i] <= 0 for i in sampled))
        self.assertTrue(math.isnan(trace.logprobs[0]))
        file = self.path / "traces.jsonl"
        pensive.save_traces([trace], file)
        pensive.save_traces([trace], file, append=True)
        again = pensive.load_traces(file)
        self.assertEqual([t.tokens for t in again], [trace.tokens] * 2)
        self.assertEqual(pensive.salvage_traces(file)[1:], (0, ""))
        file.write_text(file.read_text()[:-30])
        whole, lost, loss = pensive.salvage_traces(file)
        self.assertEqual((len(whole), lost), (1, 1))
        self.assertIn("line 2", loss)

        self.assertTrue(math.isnan(trace.seconds[0]))
        self.assertEqual(trace.seconds[trace.prompt_tokens :],
                         sorted(trace.seconds[trace.prompt_tokens :]))
        measures = pensive.measure(trace, engine.model.tokenizer, reference="none",
                                   find=lambda step: "7" if "=" in step else None, step_end=";")
        self.assertEqual(measures.decoded_tokens, trace.decoded_tokens())
        self.assertEqual(measures.think_tokens, trace.count("think"))
        self.assertIs(measures.is_right, False)
        self.assertTrue(all(answer.text == "7" for answer in measures.answers))
        self.assertEqual(measures.seconds, trace.seconds[-1])
        self.assertIsNone(pensive.measure(trace).final_answer)
        with self.assertRaises(pensive.Error):
            pensive.measure(trace, engine.model.tokenizer, beta=2)
        with self.assertRaises(pensive.Error):
            pensive.measure(trace, find=7)

    def test_guide_in_python(self):
        _, row, engine = self.make()
        guide = Forcer(row, watches=[self.text.find("</think>")])
        sequence = engine.start(chat=CHAT, max_new_tokens=16, seed=1, guides=[guide])
        prompt = sequence.trace.prompt_tokens
        engine.finish(sequence)
        self.assertEqual(sequence.trace.error, "")
        self.assertEqual(sequence.trace.tokens[prompt + 3], row)
        self.assertEqual(sequence.trace.origins[prompt + 3], "forced")
        self.assertEqual(sequence.trace.actions[0].guide, "Forcer")
        self.assertEqual((guide.seen, guide.done), (0, []))  # a prototype is never touched

    def test_fork_feed_cancel(self):
        _, row, engine = self.make()
        whole = engine.start(prompt=self.text.encode_chat(CHAT), seed=3, max_new_tokens=24,
                             ignore_end_tokens=True)
        for _ in range(4):
            engine.step()
        same, fresh = whole.fork("same"), whole.fork()
        fresh.feed([row])
        engine.step()
        fresh.cancel()
        engine.finish([whole, same, fresh])
        self.assertEqual(whole.trace.tokens, same.trace.tokens)
        self.assertEqual(fresh.trace.stopped, "cancelled")
        with self.assertRaises(pensive.Error):
            fresh.feed([row])
        self.assertGreater(engine.counters.steps, 0)

    def test_bad_requests(self):
        _, row, engine = self.make()
        for fields in ({}, {"prompt": [row + 1]}, {"prompt": [1], "chat": CHAT},
                       {"prompt": [1], "max_tokens": 3}, {"prompt": [1], "top_p": 7.0},
                       {"prompt": [1], "begins_in": "dreams"}):
            with self.assertRaises(pensive.Error, msg=str(fields)) as caught:
                engine.start(**fields)
            self.assertEqual(caught.exception.code, "invalid_argument")

    def test_one_caller_at_a_time(self):
        _, row, engine = self.make()
        codes = []
        calls = [engine.step, engine.clear_prefixes, lambda: engine.start(chat=CHAT),
                 lambda: sequence.fork(), lambda: sequence.feed([row])]

        class Reenters(pensive.Guide):
            def clone(self):
                return self

            def on_token(self, moment):
                for call in calls:
                    try:
                        call()
                    except pensive.Error as error:
                        codes.append(error.code)
                return pensive.Stop()

        sequence = engine.start(chat=CHAT, guides=[Reenters()])
        engine.finish(sequence)
        self.assertEqual(codes, ["busy"] * len(calls))

        class Forks(Reenters):
            def on_token(self, moment):
                sequence.fork()

        sequence = engine.start(chat=CHAT, guides=[Forks()])
        engine.finish(sequence)
        self.assertEqual(sequence.trace.stopped, "error")
        self.assertIn("one caller at a time", sequence.trace.error)
        self.assertTrue(sequence.fork().finished)  # free again

    def test_small_budgets(self):
        _, _, engine = self.make()
        sequence = engine.start(chat=CHAT, guides=[pensive.budget(4)], ignore_end_tokens=True,
                                max_new_tokens=16)
        engine.finish(sequence)
        self.assertLessEqual(sequence.trace.count("think"), 4)
        with self.assertRaises(pensive.Error):
            pensive.budget(4, window_tokens=5)

    def test_guides_from_a_line(self):
        soft, _, engine = self.make()
        guide = pensive.guide("budget:max=4,window=0", self.text)
        self.assertEqual(guide.name, "budget")
        sequence = engine.start(chat=CHAT, guides=[guide], ignore_end_tokens=True, max_new_tokens=16)
        engine.finish(sequence)
        self.assertLessEqual(sequence.trace.count("think"), 4)
        self.assertEqual(pensive.guide("continue:with=again", soft.tokenizer).name, "continue_thinking")
        names = [one["name"] for one in pensive.guides()]
        self.assertEqual(names, sorted(names))
        self.assertEqual(pensive.guides()[names.index("budget")]["keys"]["min"][0], "0")
        with self.assertRaisesRegex(pensive.Error, "a setting: max"):
            pensive.guide("budget:most=4", self.text)

    def test_sequences_may_be_dropped_by_other_threads(self):
        _, row, engine = self.make()
        sequences = [engine.start(chat=CHAT, max_new_tokens=200, guides=[Forcer(row)],
                                  ignore_end_tokens=True) for _ in range(8)]
        last = sequences.pop()
        thread = threading.Thread(target=sequences.clear)
        for _ in range(4):
            engine.step()
        thread.start()
        engine.finish(last)
        thread.join()
        engine.step()
        self.assertEqual((engine.counters.live, engine.counters.waiting), (0, 0))

    def test_nothing_is_kept_alive(self):
        _, row, engine = self.make()
        guide = Forcer(row)
        seen = weakref.ref(guide)
        sequence = engine.start(chat=CHAT, max_new_tokens=8, guides=[guide])
        engine.finish(sequence)
        del guide, sequence
        engine.step()
        gc.collect()
        self.assertIsNone(seen())

    def test_rows(self):
        soft, row, _ = self.make()
        values = soft.row(row)
        version = soft.version
        values[0] += 1
        soft.set_row(row, values)
        self.assertNotEqual(soft.version, version)
        soft.save(self.path / "row.safetensors", training={"steps": 2})
        loaded = pensive.SoftVocab.load(self.model, self.path / "row.safetensors")
        self.assertEqual(loaded.row(loaded.find("again")), soft.row(row))
        self.assertEqual((len(loaded), loaded.name(row)), (1, "again"))
        self.assertEqual(self.text.with_names({row: "<again>"}).decode([row], keep_special=True),
                         "<again>")
        with self.assertRaises(pensive.Error):
            soft.set_row(row, values[1:])
        with self.assertRaises(pensive.Error):
            pensive.SoftVocab.load(self.model, "/nonexistent/pensive")


if __name__ == "__main__":
    unittest.main()
