"""The Python door of answers and judges. python test_judge.py"""
import os
import sys
import unittest

# A script's own folder comes first, and holds the sources of the package beside this file.
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:] = [path for path in sys.path if os.path.abspath(path) != HERE]

import pensive  # noqa: E402


def response(answer, tokens=0):
    return pensive.Response("<think>7</think>" + answer, "7", answer, tokens, 0)


PROBLEM = pensive.Problem("6 * 7", "42", "p", ["6", "42"], target_tokens=100)


class Answers(unittest.TestCase):
    def test_found_leniently_and_strictly(self):
        self.assertEqual(pensive.find_answer("so \\boxed{\\frac12}"), "\\frac12")
        self.assertEqual(pensive.find_answer("the answer is 7."), "7")
        self.assertIsNone(pensive.find_answer("the answer is 7.", strict=True))
        self.assertEqual(pensive.final_answer(response("so\n42")), "42")
        self.assertIsNone(pensive.final_answer(response("so\n42"), strict=True))

    def test_same(self):
        self.assertTrue(pensive.same_answer("\\frac{1}{2}", "0.5"))
        self.assertFalse(pensive.same_answer("\\frac{1}{2}", "0.51"))

    def test_problems_hold_what_they_are_given(self):
        self.assertEqual((PROBLEM.intermediates, PROBLEM.target_tokens), (["6", "42"], 100))

    def test_responses_hold_their_segments(self):
        parts = [pensive.ResponseSegment("7", tokens=1, is_thinking=True),
                 pensive.ResponseSegment("42", begin=3, tokens=2)]
        made = pensive.Response("<think>7</think>42", "7", "42", 1, 2, segments=parts, tokens=5)
        self.assertEqual([(one.text, one.begin, one.tokens, one.is_thinking)
                          for one in made.segments], [("7", 0, 1, True), ("42", 3, 2, False)])
        self.assertEqual(made.tokens, 5)
        self.assertEqual(response("42").segments, [])


class Judges(unittest.TestCase):
    def test_correct(self):
        self.assertEqual(pensive.correct()(PROBLEM, response("42")), 1)
        self.assertEqual(pensive.correct(strict=True)(PROBLEM, response("42")), 0)
        self.assertEqual(pensive.correct(strict=True)(PROBLEM, response("\\boxed{42}")), 1)

    def test_lengths(self):
        right = response("42", tokens=300)
        self.assertAlmostEqual(pensive.token_price(0.01)(PROBLEM, right), -3)
        self.assertAlmostEqual(pensive.lcpo_exact(pensive.correct())(PROBLEM, right), 1 - 0.06)
        self.assertAlmostEqual(pensive.lcpo_max(pensive.correct())(PROBLEM, right), 0.5 - 0.06)
        self.assertAlmostEqual(pensive.lcpo_max(pensive.correct(), 300, offset=0.25)(PROBLEM, right),
                               0.25)
        with self.assertRaisesRegex(pensive.Error, "target_tokens"):
            pensive.lcpo_max(pensive.correct())(pensive.Problem("6 * 7", "42"), right)

    def test_a_model_grades_where_no_box_is(self):
        asked = []

        def ask(prompt):
            asked.append(prompt)
            return "True" if "forty-two" in prompt else "False."

        judge = pensive.hybrid(pensive.correct(strict=True), ask)
        self.assertEqual(judge(PROBLEM, response("\\boxed{42}")), 1)
        self.assertEqual(judge(PROBLEM, response("\\boxed{forty-two}")), 0)
        self.assertEqual(asked, [])
        self.assertEqual(judge(PROBLEM, response("It is forty-two.")), 1)
        self.assertEqual(judge(PROBLEM, response("It is 41.")), 0)
        self.assertEqual(asked[1], pensive.grading_prompt(PROBLEM, response("It is 41.")))
        with self.assertRaises(KeyError):
            pensive.hybrid(pensive.boxed(), {}.__getitem__)(PROBLEM, response("no"))
        with self.assertRaisesRegex(pensive.Error, "callable"):
            pensive.hybrid(pensive.boxed(), "True")


if __name__ == "__main__":
    unittest.main()
