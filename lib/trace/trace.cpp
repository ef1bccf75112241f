#include "pensive/trace.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/inside.h"
#include "trace/columns.h"

namespace pensive {

std::string fault_of(const Trace& trace) {
  const std::size_t size = trace.tokens.size();
  const std::pair<std::string_view, std::size_t> columns[] = {
      {"logprobs", trace.logprobs.size()},
      {"drawn_logprobs", trace.drawn_logprobs.size()},
      {"entropies_nats", trace.entropies_nats.size()},
      {"segments", trace.segments.size()},
      {"origins", trace.origins.size()},
      {"is_marker", trace.is_marker.size()},
      {"is_taken_back", trace.is_taken_back.size()}};
  if (trace.top_count < 0) return fmt::format("a top_count of {}", trace.top_count);
  const std::size_t tops = static_cast<std::size_t>(trace.top_count) * size;
  for (const auto& [name, length] : {std::pair("top_tokens", trace.top_tokens.size()),
                                     std::pair("top_logprobs", trace.top_logprobs.size())})
    if (length != tops)
      return fmt::format("{} {} for {} tokens of {}", length, name, size, trace.top_count);
  for (const auto& [name, length] : {std::pair("is_steered", trace.is_steered.size()),
                                     std::pair("seconds", trace.seconds.size())})
    if (length != size && length != 0)
      return fmt::format("{} {} for {} tokens", length, name, size);
  for (const auto& [name, length] : columns)
    if (length != size) return fmt::format("{} {} for {} tokens", length, name, size);
  if (trace.prompt_tokens < 0 || static_cast<std::size_t>(trace.prompt_tokens) > size)
    return fmt::format("{} prompt_tokens of {} tokens", trace.prompt_tokens, size);
  return {};
}

std::vector<TokenId> Trace::kept() const {
  std::vector<TokenId> kept;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (is_taken_back[i] == 0) kept.push_back(tokens[i]);
  return kept;
}

int Trace::decoded_tokens() const noexcept {
  return static_cast<int>(tokens.size()) - prompt_tokens + probe_tokens;
}

int Trace::count(Segment segment) const noexcept {
  int count = 0;
  for (std::size_t i = prompt_tokens; i < tokens.size(); ++i)
    if (segments[i] == segment && is_marker[i] == 0 && is_taken_back[i] == 0) ++count;
  return count;
}

namespace {

// Collects the texts of one kind of segment, each on lines of its own.
class Joined {
 public:
  explicit Joined(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  void add(TokenId id) { run_.push_back(id); }
  // Text that stands before what is added next.
  void begin(std::string_view text) { before_ += text; }
  void end(std::string_view behind = {}) {
    const std::string text =
        std::exchange(before_, {}) + tokenizer_.decode(run_) + std::string(behind);
    if (!text_.empty() && !text.empty()) text_ += '\n';
    text_ += text;
    run_.clear();
  }
  // Without the last text from `stop` on.
  std::string take(std::string_view stop = {}) {
    if (!stop.empty()) {
      std::string before = std::exchange(text_, {});
      end();
      text_.resize(std::min(text_.find(stop), text_.size()));
      if (!before.empty() && !text_.empty()) before += '\n';
      text_ = before + text_;
    }
    end();
    return std::move(text_);
  }

 private:
  const Tokenizer& tokenizer_;
  std::vector<TokenId> run_;
  std::string text_, before_;
};

// The texts at a marker's edges, from the first at this row on.
std::span<const MarkerText> texts_at(const Trace& trace, std::size_t row) {
  const auto is_here = [&](const MarkerText& one) { return one.position == static_cast<int>(row); };
  const auto first = std::ranges::find_if(trace.marker_texts, is_here);
  return {first, std::find_if_not(first, trace.marker_texts.end(), is_here)};
}

}  // namespace

Response respond(const Trace& trace, const Tokenizer& tokenizer) {
  const std::string fault = fault_of(trace);
  require(fault.empty(), ErrorCode::invalid_argument, "columns of equal length", fault, "trace");
  std::vector<TokenId> all;
  Joined thinking(tokenizer), answer(tokenizer);
  bool is_thinking = false;
  for (std::size_t i = trace.prompt_tokens; i < trace.tokens.size(); ++i) {
    const TokenId id = trace.tokens[i];
    if (trace.is_taken_back[i] != 0 || !tokenizer.spelling(id)) continue;
    all.push_back(id);
    is_thinking = trace.segments[i] == Segment::think;
    // Two answers with nothing but markers between them are two lines, not one number.
    const auto of = [&](Segment segment) -> Joined& {
      return segment == Segment::think ? thinking : answer;
    };
    if (trace.is_marker[i] == 0) {
      of(trace.segments[i]).add(id);
      continue;
    }
    for (const MarkerText& text : texts_at(trace, i))
      if (text.edge == Edge::before) of(text.segment).end(text.text);
    thinking.end();
    answer.end();
    for (const MarkerText& text : texts_at(trace, i))
      if (text.edge == Edge::behind) of(text.segment).begin(text.text);
  }
  Response response;
  // A closer that ends the turn as well (<|im_end|>, where a caller named it) parts nothing from
  // anything, and would read as the end of a stated answer.
  const bool ends_turn = trace.stopped == StopReason::end_token && !all.empty() &&
                         trace.is_marker.back() != 0 && trace.is_taken_back.back() == 0;
  if (ends_turn) all.pop_back();
  // Markers are special tokens in many checkpoints, and judges look for them here.
  response.text = tokenizer.decode(all, true);
  // The stop text ends in the last token kept.
  const bool ends_thinking = !all.empty() && is_thinking;
  response.thinking = thinking.take(ends_thinking ? trace.stop_text : "");
  response.answer = answer.take(ends_thinking ? "" : trace.stop_text);
  response.think_tokens = trace.count(Segment::think);
  response.answer_tokens = trace.count(Segment::answer);
  response.is_truncated = trace.stopped != StopReason::end_token &&
                          trace.stopped != StopReason::guide &&
                          trace.stopped != StopReason::stop_text;
  return response;
}

}  // namespace pensive
