// What a trace tells of one sample: where its answers stand, and what it cost.
#include "exam/answers.h"

#include <algorithm>
#include <optional>

#include "base/inside.h"
#include "pensive/exam.h"

namespace pensive {
namespace {

// What correct() compares with the reference.
std::optional<std::string> answer_in(const ResponseSegment& segment) {
  Response alone;
  alone.text = alone.answer = segment.text;
  return final_answer(alone);
}

bool is_blank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n") == std::string::npos;
}

}  // namespace

Places places_of(const Response& response, const Problem& problem) {
  Places places;
  int answers = 0;
  double first = 1;
  for (const ResponseSegment& segment : response.segments) {
    if (segment.is_thinking || is_blank(segment.text)) continue;
    const double place = static_cast<double>(segment.begin) / response.tokens;
    ++answers;
    if (answers == 1) places.first_answer = place;
    const auto answer = answer_in(segment);
    const auto is_answer = [&](const std::string& right) {
      return answer && same_answer(*answer, right);
    };
    const bool is_right = places.first_correct == 1 && is_answer(problem.reference);
    if (is_right) places.first_correct = place;
    const bool is_partial =
        first == 1 && (is_right || std::ranges::any_of(problem.intermediates, is_answer));
    if (is_partial) first = place;
  }
  if (!problem.intermediates.empty()) places.first_partial = first;
  if (problem.intermediates.empty() && answers > 1) places.first_partial = places.first_answer;
  return places;
}

double flops_of(const Trace& trace, const ModelInfo& model) {
  const std::size_t size = trace.tokens.size();
  require(trace.is_taken_back.size() == size && trace.prompt_tokens >= 0 &&
              static_cast<std::size_t>(trace.prompt_tokens) <= size,
          ErrorCode::invalid_argument, "columns of equal length", fmt::format("{} tokens", size),
          "flops_of");
  // Pairs of a token and one that it looks at. What is taken back stood behind what was kept then.
  double pairs = 0;
  std::vector<double> kept_at(size + 1);
  double kept = 0, in_vain = 0;
  for (std::size_t i = 0; i < size; ++i) {
    const bool is_kept = trace.is_taken_back[i] == 0;
    if (i >= static_cast<std::size_t>(trace.prompt_tokens))
      pairs += kept + (is_kept ? 0 : in_vain) + 1;
    in_vain = is_kept ? 0 : in_vain + 1;
    kept += is_kept ? 1 : 0;
    kept_at[i] = kept;
  }
  for (const TraceAction& action : trace.actions) {
    if (action.kind != "probe" || action.position < 0) continue;
    const double n = action.tokens;
    pairs +=
        n * kept_at[std::min(static_cast<std::size_t>(action.position), size)] + n * (n + 1) / 2;
  }
  const double each = 4.0 * model.layers * model.heads * model.head_dim;
  return 2.0 * static_cast<double>(model.parameters) * trace.decoded_tokens() + each * pairs;
}

}  // namespace pensive
