// judge: a response to a number.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/base.h"

namespace pensive {

// One line of a problem file.
struct Problem {
  std::string id;
  std::string question;
  std::string reference;  // the right answer, as text
  // Right answers of its steps, in order, without the last, which is the reference; may be empty.
  std::vector<std::string> intermediates{};
  int target_tokens = 0;  // how long the response shall be; 0: nothing is asked
};

// One stretch of thinking or of an answer: markers part them.
struct ResponseSegment {
  std::string text;  // without the markers; never empty
  int begin = 0;     // tokens of the response before it; its opening marker belongs to it
  int tokens = 0;    // kept, markers not counted
  bool is_thinking = false;
};

// What a judge sees of a finished sequence.
struct Response {
  std::string text;      // thinking and answer, with the markers between them
  std::string thinking;  // all thinking segments, joined
  std::string answer;    // all answer segments, joined; empty when none was opened
  int think_tokens = 0;  // kept, markers not counted
  int answer_tokens = 0;
  bool is_truncated = false;                // ended by a limit rather than by an end token
  std::vector<ResponseSegment> segments{};  // in order; may be empty where only texts are at hand
  int tokens = 0;                           // all that were kept after the prompt, markers too
};

// Gives a response a number. Const and thread-safe: trainers and exams call one Judge from
// several threads. An exception leaves the caller's call unchanged, as that exception.
class PENSIVE_EXPORT Judge {
 public:
  virtual ~Judge() = default;
  virtual double score(const Problem& problem, const Response& response) const = 0;
};

// What counts as a final answer: a box only, or any of the ways in which models state one.
enum class Extraction : std::uint8_t { lenient, strict };

// The final answer written in a text: what stands in the last \boxed{…} or \fbox{…} (nested braces
// are followed; a number may follow \boxed without braces), else in the last <answer>…</answer>,
// else after the last "#### ", else after the last "final answer" or "the answer is", to the end of
// the line or sentence. Strict: the box only. Trimmed; what is not closed or holds nothing is
// passed over. Nothing when none of these occurs. Linear time.
PENSIVE_EXPORT std::optional<std::string> find_answer(std::string_view response,
                                                      Extraction extraction = Extraction::lenient);

// The final answer of a response: find_answer() of its answer segments; where that finds nothing,
// leniently, their last line as it stands, such as a bare number. Without an answer segment the
// whole text is searched.
PENSIVE_EXPORT std::optional<std::string> final_answer(const Response& response,
                                                       Extraction extraction = Extraction::lenient);

// Whether two answers are the same, in LaTeX as models write it or in plain text. Symmetric, but
// not transitive: 50% is 50 and 0.5. What counts:
// * Plain numbers and fractions of any length, by their digits: 1,234.50 and 1234.5; never rounded.
// * Values: mixed numbers, percents (also as their hundredth), powers of ten, 1.5e3, repeating
//   decimals, roots, pi, functions, variables, i and e. Rational ones are compared exactly (at
//   points of two prime fields of 62 bits), others at six fixed points within rounding errors.
// * A currency or unit of measure beside a value is dropped, but two that are known and differ make
//   two answers; nothing is converted, but degrees are radians too. \log is to the base of ten.
// * Lists and sets in any order, \pm as two values, tuples and intervals with their brackets,
//   x > 5 as an interval, unions, matrices, ratios, 52_8 (also without its base).
// * Equations: "x = 5" is 5, "m + n = 7" is 7; two are the same where one is a
//   multiple of the other.
// * A choice by its letter, (B) or \text{B}; other text without its case and mark-up.
// Done in 10 ms whatever is sent: beyond 4 KB an answer is a plain number or text.
PENSIVE_EXPORT bool same_answer(std::string_view a, std::string_view b);

// 1 when final_answer() of the response is the reference, else 0.
PENSIVE_EXPORT std::shared_ptr<const Judge> correct(Extraction extraction = Extraction::lenient);

// 1 when the response holds a \boxed{…} answer, else 0 (the paper's format term, arXiv
// 2506.11274, section 2.3).
PENSIVE_EXPORT std::shared_ptr<const Judge> boxed();

// The sum of `first` and `weight` times `second`. Throws invalid_argument where a judge is missing
// or a weight is not finite; so do those below.
PENSIVE_EXPORT std::shared_ptr<const Judge> sum(std::shared_ptr<const Judge> first,
                                                std::shared_ptr<const Judge> second,
                                                double weight = 1.0);

// Minus `per_token` for each token of thinking and answer.
PENSIVE_EXPORT std::shared_ptr<const Judge> token_price(double per_token);

// Length Controlled Policy Optimization (Aggarwal and Welleck, arXiv 2503.04697, section 3). n is
// the response's tokens, thinking and answer; t is the target. A problem of no target, where none
// is given here, is refused when it is scored: invalid_argument.
struct LengthOptions {
  int target_tokens = 0;      // 0: each problem's own
  double per_token = 0.0003;  // the paper's alpha
  double offset = 0.5;        // the paper's delta, of lcpo_max() only
};
// What `judge` gives minus per_token |t - n| (equation 1).
PENSIVE_EXPORT std::shared_ptr<const Judge> lcpo_exact(std::shared_ptr<const Judge> judge,
                                                       const LengthOptions& options = {});
// What `judge` gives times per_token (t - n) + offset, cut to 0 and 1 (equation 2).
PENSIVE_EXPORT std::shared_ptr<const Judge> lcpo_max(std::shared_ptr<const Judge> judge,
                                                     const LengthOptions& options = {});

// Asks a language model: the prompt in, its reply out. May be called from several threads at once.
using AskModel = std::function<std::string(const std::string& prompt)>;

// The prompt with which the paper lets a model grade (arXiv 2506.11274, appendix): the question,
// the reference, and the response's answer segments, or its whole text where there are none.
PENSIVE_EXPORT std::string grading_prompt(const Problem& problem, const Response& response);

// The paper's grading: what `judge` gives where final_answer() with `extraction` finds an answer;
// only elsewhere is a model asked with grading_prompt(): 1 when the first word of its reply is
// "True" in any case, else 0. An exception of `ask` comes out of score().
PENSIVE_EXPORT std::shared_ptr<const Judge> hybrid(std::shared_ptr<const Judge> judge, AskModel ask,
                                                   Extraction extraction = Extraction::strict);

}  // namespace pensive
