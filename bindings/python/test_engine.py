"""The Python door of the engine: going back, scores, draws, serving. python test_engine.py"""

import math
import os
import pathlib
import sys
import threading
import unittest

# A script's own folder comes first, and holds the sources of the package beside this file.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]

import pensive  # noqa: E402

REASONER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "reasoner"
CHAT = [{"role": "user", "content": "12 + 3 * 4"}]


def text_of(events):
    return "".join(event.text for event in events)


@unittest.skipUnless((REASONER / "model.safetensors").exists(), f"there is no model in {REASONER}")
class Engine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = pensive.Model.load(REASONER, device="cpu")
        cls.prompt = cls.model.tokenizer.encode_chat(CHAT)

    def make(self):
        return pensive.Engine(self.model, cache_tokens=8192, row_invariant=True)

    def finish(self, engine, **fields):
        sequence = engine.start(prompt=self.prompt, **{"seed": 3, "max_new_tokens": 24, **fields})
        engine.finish(sequence)
        return sequence

    def test_graphs_are_for_cards(self):
        plain = pensive.Engine(self.model, cache_tokens=8192, row_invariant=True, graphs=False)
        fields = dict(ignore_end_tokens=True)
        self.assertEqual(self.finish(plain, **fields).trace.kept(), self.finish(self.make(), **fields).trace.kept())

    def test_running_ahead_is_for_cards(self):
        plain = pensive.Engine(self.model, cache_tokens=8192, row_invariant=True, run_ahead=False)
        fields = dict(ignore_end_tokens=True)
        self.assertEqual(self.finish(plain, **fields).trace.kept(), self.finish(self.make(), **fields).trace.kept())
        self.assertEqual((plain.counters.ahead_steps, plain.counters.ahead_dropped), (0, 0))

    def test_memory_is_planned(self):
        plan = pensive.plan_memory(REASONER, device="cpu", cache_tokens=8192, context=512)
        self.assertTrue(plan.fits)
        self.assertEqual((plan.cache_tokens, plan.sequences(512), plan.runtime_bytes), (8192, 16, 0))
        self.assertGreater(plan.weight_bytes, self.model.info.weight_bytes)
        self.assertGreater(plan.most_sequences, 16)
        self.assertEqual(plan.training_bytes, 0)
        card = pensive.plan_memory(REASONER, device="cuda", memory_bytes=1 << 20, max_batch_tokens=256,
                                   max_new_tokens=256, max_tokens_per_step=1 << 20)
        self.assertFalse(card.fits)
        self.assertEqual(card.to_lower, "max_tokens_per_step")
        self.assertGreater(card.training_bytes, 0)
        exact = pensive.plan_memory(REASONER, device="cuda", memory_bytes=1 << 20, max_batch_tokens=256,
                                    max_new_tokens=256, max_tokens_per_step=1 << 20,
                                    row_invariant=True, logprobs="exact")
        self.assertGreater(exact.training_bytes, card.training_bytes)
        sizes = [pensive.plan_memory(REASONER, device="cuda", memory_bytes=1 << 20, max_batch_tokens=64,
                                     max_new_tokens=tokens).training_bytes for tokens in (64, 512, 1024, 2 ** 31 - 1)]
        self.assertEqual(sizes, sorted(sizes))
        self.assertLess(sizes[0], sizes[1], "a sample goes through whole")
        self.assertEqual(sizes[2], sizes[3], "as far as there are positions")
        for wrong in (dict(max_batch_tokens=-5), dict(max_new_tokens=0), dict(context=1025)):
            with self.assertRaises(pensive.Error) as caught:
                pensive.plan_memory(REASONER, **wrong)
            self.assertEqual(caught.exception.code, "invalid_argument")
        self.assertEqual(card.bytes, sum(getattr(card, part + "_bytes") for part in (
            "weight", "soft", "cache", "prompt_step", "decode_step", "training", "runtime")))
        with self.assertRaises(pensive.Error):
            pensive.plan_memory(REASONER, tokens=3)
        with self.assertRaises(pensive.Error) as caught:
            pensive.Engine(self.model, cache_tokens=1 << 50)
        self.assertEqual(caught.exception.code, "out_of_memory")
        self.assertIn("lower cache_tokens", str(caught.exception))

    def test_rewind(self):
        engine = self.make()
        whole = self.finish(engine, ignore_end_tokens=True)
        kept = whole.trace.kept()
        whole.rewind(9, "same")
        self.assertFalse(whole.finished)
        engine.finish(whole)
        self.assertEqual(whole.trace.kept(), kept)
        self.assertEqual(whole.trace.actions[0].kind, "rewind")
        whole.rewind(9)
        engine.finish(whole)
        self.assertEqual(whole.trace.path, [1])
        with self.assertRaises(pensive.Error):
            whole.rewind(25)
        with self.assertRaises(pensive.Error):
            whole.rewind(1, "sideways")

    def test_scores_and_logprobs(self):
        engine = self.make()
        half = len(self.prompt) // 2
        scores = engine.score(self.prompt[:half], self.prompt[half:])
        trace = self.finish(engine, prompt_logprobs=True, top_logprobs=2).trace
        self.assertEqual(trace.logprobs[half : len(self.prompt)], scores)
        self.assertEqual(trace.top_count, 2)
        self.assertEqual(len(trace.top_tokens), 2 * len(trace.tokens))
        self.assertEqual(trace.top_tokens[0], -1)
        self.assertTrue(math.isnan(trace.top_logprobs[0]))
        with self.assertRaises(pensive.Error):
            engine.score(self.prompt, [])
        with self.assertRaises(pensive.Error):
            self.finish(engine, top_logprobs=21)

    def test_draws(self):
        engine = self.make()
        two = self.prompt[:2]
        trace = self.finish(engine, allowed_tokens=two, banned_tokens=two[:1], min_p=0.1,
                            repetition_penalty=1.1, presence_penalty=0.5, frequency_penalty=0.5,
                            logit_bias={two[1]: -3.0}).trace
        self.assertEqual(set(trace.tokens[len(self.prompt) :]), {two[1]})
        for fields in ({"min_p": 2.0}, {"repetition_penalty": 0.0}, {"logit_bias": {-1: 1.0}},
                       {"presence_penalty": math.nan}, {"banned_tokens": [10**6]},
                       {"timeout_seconds": -1.0}, {"stop_texts": [""]}):
            with self.assertRaises(pensive.Error, msg=str(fields)) as caught:
                self.finish(engine, **fields)
            self.assertEqual(caught.exception.code, "invalid_argument")

    def test_stops(self):
        engine = self.make()
        whole = text_of(self.finish(engine, ignore_end_tokens=True).take_events())
        stop = whole[6:9]
        sequence = self.finish(engine, ignore_end_tokens=True, stop_texts=stop)
        self.assertEqual(sequence.trace.stopped, "stop_text")
        self.assertEqual(sequence.trace.stop_text, stop)
        seen = text_of(sequence.take_events())
        self.assertNotIn(stop, seen)
        self.assertTrue(whole.startswith(seen))
        self.assertEqual(self.finish(engine, timeout_seconds=1e-9).trace.stopped, "deadline")

    def test_serving(self):
        engine = self.make()
        expected = self.finish(engine).trace.kept()
        told, threads, traces = [], [], []

        def listener(job, events, is_finished):
            told.append((text_of(events), job.trace.stopped if is_finished else None))

        with pensive.Server(engine, max_queued=64) as server:
            with self.assertRaises(pensive.Error) as caught:
                engine.step()
            self.assertEqual(caught.exception.code, "busy")

            def client():
                job = server.submit(prompt=self.prompt, seed=3, max_new_tokens=24)
                self.assertTrue(job.wait())
                traces.append(job.trace.kept())

            for _ in range(4):
                threads.append(threading.Thread(target=client))
                threads[-1].start()
            job = server.submit(prompt=self.prompt, listener=listener, seed=3, max_new_tokens=24)
            for thread in threads:
                thread.join()
            with self.assertRaises(pensive.Error):
                server.submit(prompt=[])
            server.drain()
            self.assertTrue(job.finished)
            self.assertEqual(server.counters.finished, 5)
            with self.assertRaises(pensive.Error) as caught:
                server.submit(prompt=self.prompt)
            self.assertEqual(caught.exception.code, "cancelled")
        self.assertEqual(traces, [expected] * 4)
        self.assertEqual([end for _, end in told if end], [job.trace.stopped])
        self.assertTrue("".join(text for text, _ in told))
        engine.step()  # free again

    def test_sequences_of_another_engine(self):
        one, other = self.make(), self.make()
        sequence = other.start(prompt=self.prompt, max_new_tokens=4)
        for call in (one.finish, one.stream, lambda it: one.finish([it.fork(), it])):
            with self.assertRaisesRegex(pensive.Error, "of this engine"):
                call(sequence)

    def test_counters_while_another_thread_steps(self):
        engine = self.make()
        sequences = [engine.start(prompt=self.prompt, seed=i, max_new_tokens=24) for i in range(16)]
        thread = threading.Thread(target=engine.finish, args=[sequences])
        thread.start()
        while thread.is_alive():
            self.assertLessEqual(engine.counters.live, 16)
        self.assertEqual(engine.counters.live, 0)

    def test_a_listener_lets_go_of_its_server(self):
        kept = [pensive.Server(self.make())]

        def listener(job, events, is_finished):
            kept.clear()

        job = kept[0].submit(prompt=self.prompt, listener=listener, max_new_tokens=400, ignore_end_tokens=True)
        self.assertTrue(job.wait())
        self.assertEqual(job.trace.stopped, "cancelled")

    def test_submit_from_another_thread(self):
        engine = self.make()
        expected = self.finish(engine).trace.kept()
        found = []

        def client():
            sequence = engine.submit(prompt=self.prompt, seed=3, max_new_tokens=24)
            while not sequence.finished:
                pass
            found.append(sequence.trace.kept())

        thread = threading.Thread(target=client)
        thread.start()
        while thread.is_alive():
            engine.step()
        self.assertEqual(found, [expected])


if __name__ == "__main__":
    unittest.main()
