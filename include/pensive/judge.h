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

// Whether two answers are the same number, exactly: integers and decimals of any length, signs,
// commas between thousands, leading and trailing zeros, a leading currency sign, a trailing percent
// sign or full stop. Fractions a/b, of up to 1000 digits a side, are compared as rationals. Other
// text is compared after trimming and folding case (of ASCII letters). Never approximate.
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
