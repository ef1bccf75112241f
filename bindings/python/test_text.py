"""Chats with any keys, tools and named templates. python test_text.py"""

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


@unittest.skipUnless((REASONER / "model.safetensors").exists(), "no model")
class Text(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.model = pensive.Model.load(REASONER, device="cpu")
        cls.text = cls.model.tokenizer

    def test_chats_with_any_keys(self):
        self.assertEqual(self.text.chat_templates, ["default"])
        chat = [{**CHAT[0], "tool_calls": None, "name": "é", "parts": [{"n": 1.5}]}]
        plain = self.text.encode_chat(CHAT)
        self.assertEqual(self.text.encode_chat(chat, tools=[{"type": "function"}]), plain)
        self.assertEqual(self.text.encode_chat(iter(chat), template="default"), plain)
        self.assertIn("12 + 3", self.text.render_chat(chat, tools=[], variables={"loud": False}))
        with self.assertRaises(pensive.Error) as caught:
            self.text.render_chat(chat, template="rag")
        self.assertEqual(caught.exception.code, "not_found")
        for bad in ({"tools": [1]}, {"tools": {}}, {"variables": {"tools": [{}]}, "tools": [{}]}):
            with self.assertRaises(pensive.Error):
                self.text.encode_chat(chat, **bad)
        engine = pensive.Engine(self.model, cache_tokens=8192)
        started = engine.start(chat=chat, tools=[{"type": "function"}], chat_template="default")
        engine.finish(started)
        self.assertEqual(started.trace.tokens[:len(plain)], plain)
        with self.assertRaises(pensive.Error):
            engine.start(prompt="1 + 1", tools=[{}])


if __name__ == "__main__":
    unittest.main()
