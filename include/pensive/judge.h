// judge: a response to a number.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "pensive/base.h"

namespace pensive {

// One line of a problem file.
struct Problem {
  std::string id;
  std::string question;
  std::string reference;  // the right answer, as text
};

// What a judge sees of a finished sequence.
struct Response {
  std::string text;      // thinking and answer, with the markers between them
  std::string thinking;  // all thinking segments, joined
  std::string answer;    // the last answer segment; empty when none was opened
  int think_tokens = 0;
  int answer_tokens = 0;
  bool is_truncated = false;  // ended by a limit rather than by an end token
};

// Gives a response a number. Const and thread-safe: trainers and exams call one Judge from
// several threads. An exception leaves the caller's call unchanged, as that exception.
class PENSIVE_EXPORT Judge {
 public:
  virtual ~Judge() = default;
  virtual double score(const Problem& problem, const Response& response) const = 0;
};

// The final answer written in a text: what stands in the last \boxed{…} (nested braces are
// followed), else in the last <answer>…</answer>, else after the last "#### ", else after the
// last "final answer" or "the answer is", to the end of the line or sentence. Trimmed; what is not
// closed or holds nothing is passed over. Nothing when none of these occurs. Linear time.
PENSIVE_EXPORT std::optional<std::string> find_answer(std::string_view response);

// Whether two answers are the same, in LaTeX as models write it or in plain text. Symmetric, but
// not transitive: 50% is 50 and 0.5. What counts, in the order it is tried:
// * Plain numbers and fractions of any length, by their digits: 1,234.50 and 1234.5; never rounded.
// * Values: mixed numbers, percents (also as their hundredth), powers of ten, 1.5e3, repeating
//   decimals, roots, pi, functions, variables, i and e. Rational ones are compared exactly (at
//   points of two prime fields of 62 bits), others at six fixed points within rounding errors.
// * A currency or unit of measure beside a value is dropped, but two that are known and differ make
//   two answers; nothing is converted, but degrees are radians too. \log is to the base of ten.
// * Lists and sets in any order, \pm as two values, tuples and intervals with their brackets, x > 5
// as
//   an interval, unions, matrices, ratios, 52_8 (also without its base).
// * Equations: "x = 5" is 5, "m + n = 7" is 7; two are the same where one is a multiple of the
// other.
// * A choice by its letter, (B) or \text{B}; other text without its case and mark-up.
// Done in 10 ms whatever is sent: beyond 4 KB an answer is a plain number or text.
PENSIVE_EXPORT bool same_answer(std::string_view a, std::string_view b);

// 1 when the final answer of the response is the reference, else 0. The answer is searched in the
// answer segments with find_answer(); where that finds nothing, their last line counts as it
// stands, such as a bare number. Without an answer segment the whole text is searched.
PENSIVE_EXPORT std::shared_ptr<const Judge> correct();

// 1 when the response holds a \boxed{…} answer, else 0 (the paper's format term, arXiv
// 2506.11274, section 2.3).
PENSIVE_EXPORT std::shared_ptr<const Judge> boxed();

// The sum of `first` and `weight` times `second`.
PENSIVE_EXPORT std::shared_ptr<const Judge> sum(std::shared_ptr<const Judge> first,
                                                std::shared_ptr<const Judge> second,
                                                double weight = 1.0);

}  // namespace pensive
