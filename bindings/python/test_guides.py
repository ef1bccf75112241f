"""Guides written in Python: what they may ask for, and what becomes of one that throws. python test_guides.py"""

import math
import os
import pathlib
import sys
import unittest

# A script's own folder comes first, and holds the sources of the package beside this file.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]

import pensive  # noqa: E402

REASONER = pathlib.Path(__file__).resolve().parents[2] / "examples" / "reasoner"
CHAT = [{"role": "user", "content": "12 + 3 * 4"}]


class Again(pensive.Guide):
    """Has the second token drawn again, and once more, without what came there."""

    def on_token(self, moment):
        assert moment.next in ("think", "answer") and moment.pending_tokens == 0
        if moment.new_tokens != 2:
            return None
        self.times = getattr(self, "times", 0) + 1
        biases = [pensive.Bias(moment.token, -math.inf)]
        assert pensive.Force(biases=biases, replaces_last=1).biases[0].token == moment.token
        return pensive.Force(replaces_last=1, biases=biases) if self.times < 3 else None


class Careless(pensive.Guide):
    kept = []

    def on_token(self, moment):
        self.kept.append(moment)
        raise ValueError("too careless")


class Asker(pensive.Guide):
    """Asks on the side once, and stops on the reply."""

    replies = []
    asked = False

    def on_token(self, moment):
        if self.asked:
            return None
        self.asked = True
        return pensive.Probe(max_new_tokens=4)

    def on_probe(self, reply):
        self.replies.append((reply.tokens, reply.logprobs, reply.is_refused))
        return pensive.Stop()


@unittest.skipUnless((REASONER / "model.safetensors").exists(), f"there is no model in {REASONER}")
class Guides(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = pensive.Model.load(REASONER, device="cpu")

    def test_guide_that_draws_again(self):
        engine = pensive.Engine(self.model, cache_tokens=8192)
        sequence = engine.start(chat=CHAT, max_new_tokens=8, temperature=0.0, guides=[Again()])
        engine.finish(sequence)
        trace = sequence.trace
        self.assertEqual(trace.error, "")
        at = trace.prompt_tokens + 1
        self.assertEqual(list(trace.is_taken_back[at : at + 3]), [1, 1, 0])
        self.assertEqual(len(set(trace.tokens[at : at + 3])), 3)

    def test_failing_guide_ends_its_own_sequence(self):
        engine = pensive.Engine(self.model, cache_tokens=8192)
        Careless.kept.clear()
        bad = engine.start(chat=CHAT, max_new_tokens=16, guides=[Careless()])
        good = engine.start(chat=CHAT, max_new_tokens=16)
        engine.finish([bad, good])
        self.assertEqual(bad.trace.stopped, "error")
        self.assertIn("too careless", bad.trace.error)
        self.assertNotEqual(good.trace.stopped, "error")
        with self.assertRaises(RuntimeError):
            Careless.kept[0].token  # a moment lives for its call

    def test_probing_guide(self):
        engine = pensive.Engine(self.model, cache_tokens=8192)
        Asker.replies.clear()
        sequence = engine.start(chat=CHAT, max_new_tokens=16, guides=[Asker()])
        engine.finish(sequence)
        self.assertEqual(sequence.trace.error, "")
        tokens, logprobs, is_refused = Asker.replies[0]
        self.assertFalse(is_refused)
        self.assertEqual(len(tokens), len(logprobs))
        self.assertEqual(sequence.trace.stopped, "guide")


if __name__ == "__main__":
    unittest.main()
