// What a trace tells of how the thinking went.
#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "base/inside.h"
#include "judge/trim.h"
#include "pensive/trace.h"
#include "think/doubts.h"
#include "trace/columns.h"

namespace pensive {
namespace {

constexpr auto bad = ErrorCode::invalid_argument;

constexpr std::string_view switch_terms[] = {"alternatively"};

// The thinking that was kept, as text whose bytes know their tokens.
struct Thinking {
  std::string text;
  std::vector<std::size_t> ends;  // of each token's text
  std::vector<int> positions;     // of each token in the columns

  std::size_t token_at(std::size_t byte) const {
    return static_cast<std::size_t>(std::ranges::upper_bound(ends, byte) - ends.begin());
  }
};

// Between two segments stands `step_end`, which belongs to no token.
Thinking read_thinking(const Trace& trace, const std::shared_ptr<const Tokenizer>& tokenizer,
                       std::string_view step_end) {
  Thinking thinking;
  TextStream stream(tokenizer);
  bool is_open = false;
  const auto end = [&] {
    if (!std::exchange(is_open, false)) return;
    thinking.text += stream.finish();
    thinking.ends.back() = thinking.text.size();
    thinking.text += step_end;
  };
  for (auto i = static_cast<std::size_t>(trace.prompt_tokens); i < trace.tokens.size(); ++i) {
    if (trace.is_taken_back[i] != 0) continue;
    if (trace.is_marker[i] != 0 || trace.segments[i] != Segment::think) {
      end();
      continue;
    }
    is_open = true;
    if (tokenizer->is_known(trace.tokens[i])) thinking.text += stream.push(trace.tokens[i]);
    thinking.ends.push_back(thinking.text.size());
    thinking.positions.push_back(static_cast<int>(i));
  }
  end();
  return thinking;
}

std::string fold(std::string_view text) {
  std::string lower(text);
  std::ranges::transform(lower, lower.begin(), folded);
  return lower;
}

bool is_letter(char c) { return c >= 'a' && c <= 'z'; }

// Where one of these terms stands as words of their own: first and one past the last byte, in
// order, what overlaps as one.
std::vector<std::pair<std::size_t, std::size_t>> find_terms(std::string_view lower,
                                                            std::span<const std::string> terms) {
  std::vector<std::pair<std::size_t, std::size_t>> found;
  for (const std::string& given : terms) {
    const std::string term = fold(given);
    for (std::size_t at = lower.find(term); at != std::string_view::npos;
         at = lower.find(term, at + 1)) {
      const std::size_t end = at + term.size();
      const bool runs_on = (at > 0 && is_letter(lower[at - 1]) && is_letter(term.front())) ||
                           (end < lower.size() && is_letter(lower[end]) && is_letter(term.back()));
      if (!runs_on) found.emplace_back(at, end);
    }
  }
  std::ranges::sort(found);
  std::size_t kept = 0;
  for (std::size_t i = 1; i < found.size(); ++i) {
    if (found[i].first >= found[kept].second)
      found[++kept] = found[i];
    else
      found[kept].second = std::max(found[kept].second, found[i].second);
  }
  if (!found.empty()) found.resize(kept + 1);
  return found;
}

std::vector<std::string> terms_of(const std::vector<std::string>& given,
                                  std::span<const std::string_view> otherwise) {
  for (const std::string& term : given)
    require(!term.empty(), bad, "terms of at least one letter", "an empty one", "MeasureOptions");
  if (!given.empty()) return given;
  return {otherwise.begin(), otherwise.end()};
}

void measure_terms(const Thinking& thinking, const MeasureOptions& options, Measures& measures) {
  const std::string lower = fold(thinking.text);
  const auto doubts = find_terms(lower, terms_of(options.doubts, self_braking_terms));
  measures.doubts = static_cast<int>(doubts.size());
  std::size_t next = 0;  // the first token that is not counted yet
  int tokens = 0;
  for (const auto& [begin, end] : doubts) {
    const std::size_t first = std::max(next, thinking.token_at(begin));
    next = std::max(next, std::min(thinking.token_at(end - 1) + 1, thinking.ends.size()));
    if (first < next) tokens += static_cast<int>(next - first);
  }
  if (measures.think_tokens > 0)
    measures.doubt_share = static_cast<double>(tokens) / measures.think_tokens;
  const auto switches = find_terms(lower, terms_of(options.switches, switch_terms));
  measures.switches = static_cast<int>(switches.size());
  if (switches.size() < 2) return;
  const std::size_t first = thinking.token_at(switches.front().first);
  const std::size_t last = thinking.token_at(switches.back().first);
  measures.switch_interval =
      static_cast<double>(last - first) / static_cast<double>(switches.size() - 1);
}

// As correct() finds it.
void measure_answers(const Thinking& thinking, const MeasureOptions& options, Measures& measures) {
  std::string_view rest = thinking.text;
  while (!rest.empty()) {
    const auto begin = thinking.text.size() - rest.size();
    const std::string_view step = rest.substr(0, rest.find(options.step_end));
    rest.remove_prefix(std::min(step.size() + options.step_end.size(), rest.size()));
    if (step.empty()) continue;
    auto text = options.find ? options.find(step) : find_answer(step);
    const std::size_t token = thinking.token_at(begin + step.size() - 1);
    if (!text || token >= thinking.positions.size()) continue;
    FoundAnswer answer;
    answer.text = std::move(*text);
    answer.position = thinking.positions[token];
    answer.think_tokens = static_cast<int>(token) + 1;
    answer.is_final = measures.final_answer && same_answer(answer.text, *measures.final_answer);
    answer.is_right = !options.reference.empty() && same_answer(answer.text, options.reference);
    if (!measures.answers.empty() && !same_answer(measures.answers.back().text, answer.text))
      ++measures.answer_changes;
    measures.answers.push_back(std::move(answer));
  }
}

void score_answers(const MeasureOptions& options, Measures& measures) {
  const bool is_known = !options.reference.empty();
  if (is_known)
    measures.is_right =
        measures.final_answer && same_answer(*measures.final_answer, options.reference);
  const auto first = std::ranges::find_if(measures.answers, [&](const FoundAnswer& answer) {
    return is_known ? answer.is_right : answer.is_final;
  });
  const bool is_found = first != measures.answers.end();
  const int response = measures.think_tokens + measures.answer_tokens;
  double part = 0;  // of the response
  if (is_found) {
    measures.first_think_tokens = first->think_tokens;
    measures.think_tokens_after = measures.think_tokens - first->think_tokens;
    measures.eta = static_cast<double>(first->think_tokens) / measures.think_tokens;
    measures.overthink_score =
        options.beta * measures.doubt_share + (1 - options.beta) * (1 - measures.eta);
    part = static_cast<double>(first->think_tokens) / response;
  }
  if (!is_known || response == 0) return;
  measures.outcome_efficiency = part;
  if (!*measures.is_right) measures.underthinking = is_found ? 1 - part : 0;
}

void count_tokens(const Trace& trace, Measures& measures) {
  measures.probe_tokens = trace.probe_tokens;
  measures.decoded_tokens = trace.decoded_tokens();
  for (auto i = static_cast<std::size_t>(trace.prompt_tokens); i < trace.tokens.size(); ++i) {
    if (!trace.is_steered.empty()) measures.steered_tokens += trace.is_steered[i] != 0 ? 1 : 0;
    if (!trace.seconds.empty() && !std::isnan(trace.seconds[i]))
      measures.seconds = static_cast<double>(trace.seconds[i]);
    if (trace.is_taken_back[i] != 0) {
      ++measures.taken_back_tokens;
      continue;
    }
    if (trace.origins[i] == Origin::forced) ++measures.forced_tokens;
    const bool is_thinking = trace.segments[i] == Segment::think;
    ++(trace.is_marker[i] != 0 ? measures.marker_tokens
       : is_thinking           ? measures.think_tokens
                               : measures.answer_tokens);
  }
}

// The first token of the answer that shows; the number of all tokens without one.
std::size_t find_first_answer(const Trace& trace,
                              const std::shared_ptr<const Tokenizer>& tokenizer) {
  std::optional<TextStream> stream;
  if (tokenizer) stream.emplace(tokenizer);
  for (auto i = static_cast<std::size_t>(trace.prompt_tokens); i < trace.tokens.size(); ++i) {
    if (trace.is_taken_back[i] != 0 || trace.is_marker[i] != 0 ||
        trace.segments[i] == Segment::think)
      continue;
    if (!stream) return i;
    if (!tokenizer->is_known(trace.tokens[i])) continue;
    if (!trimmed(stream->push(trace.tokens[i])).empty()) return i;
  }
  return trace.tokens.size();
}

void measure_wait(const Trace& trace, std::size_t first, Measures& measures) {
  if (first == trace.tokens.size()) return;
  measures.tokens_to_answer = static_cast<int>(first) - trace.prompt_tokens;
  for (const TraceAction& action : trace.actions)
    if (action.kind == "probe" && action.position < static_cast<int>(first))
      measures.tokens_to_answer += action.tokens;
  measures.share_to_answer =
      static_cast<double>(measures.tokens_to_answer) / measures.decoded_tokens;
  if (!trace.seconds.empty())
    measures.seconds_to_answer = static_cast<double>(trace.seconds[first]);
}

}  // namespace

AnswerFinder answer_after(std::string before) {
  require(!before.empty(), bad, "a text behind which answers stand", "none", "answer_after");
  return [before = std::move(before)](std::string_view step) -> std::optional<std::string> {
    const std::size_t at = step.rfind(before);
    if (at == std::string_view::npos) return std::nullopt;
    const std::string_view answer = trimmed(step.substr(at + before.size()));
    if (answer.empty()) return std::nullopt;
    return std::string(answer);
  };
}

Measures measure(const Trace& trace, const std::shared_ptr<const Tokenizer>& tokenizer,
                 const MeasureOptions& options) {
  const std::string fault = fault_of(trace);
  require(fault.empty(), bad, "columns of equal length", fault, "trace");
  require(!options.step_end.empty(), bad, "a text that ends a step", "none",
          "MeasureOptions::step_end");
  require(options.beta >= 0 && options.beta <= 1, bad, "0 to 1", fmt::format("{}", options.beta),
          "MeasureOptions::beta");
  Measures measures;
  count_tokens(trace, measures);
  measure_wait(trace, find_first_answer(trace, tokenizer), measures);
  if (!tokenizer) return measures;
  const Thinking thinking = read_thinking(trace, tokenizer, options.step_end);
  measure_terms(thinking, options, measures);
  measures.final_answer = final_answer(respond(trace, *tokenizer));
  measure_answers(thinking, options, measures);
  score_answers(options, measures);
  return measures;
}

}  // namespace pensive
