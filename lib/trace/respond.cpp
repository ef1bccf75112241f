// A trace as judges see it: stretches of thinking and answers, and their texts.
#include <algorithm>
#include <string>
#include <utility>

#include "base/inside.h"
#include "pensive/trace.h"
#include "trace/columns.h"
#include "trace/ends.h"

namespace pensive {
namespace {

// The texts at a marker's edges, from the first at this row on.
std::span<const MarkerText> texts_at(const Trace& trace, std::size_t row) {
  const auto is_here = [&](const MarkerText& one) { return one.position == static_cast<int>(row); };
  const auto first = std::ranges::find_if(trace.marker_texts, is_here);
  return {first, std::find_if_not(first, trace.marker_texts.end(), is_here)};
}

// The stretches one by one. A marker behind text ends one; any other opens one where it stands.
// Right behind the end of another of its kind, where the columns do not tell the two markers apart,
// one opens with its text.
class Stretches {
 public:
  Stretches(const Trace& trace, const Tokenizer& tokenizer) : tokenizer_(tokenizer) {
    for (std::size_t i = trace.prompt_tokens; i < trace.tokens.size(); ++i) {
      if (trace.is_taken_back[i] != 0) continue;
      if (trace.is_marker[i] != 0)
        add_marker(trace, i);
      else
        add(trace.tokens[i], trace.segments[i]);
      last_ = trace.segments[i];
      ++kept_;
    }
    // The stop text ends in the last token kept.
    close(is_open_ && kind_ == last_ ? trace.stop_text : "");
  }
  int kept() const { return kept_; }
  std::vector<ResponseSegment> take() { return std::move(all_); }

 private:
  void open(Segment kind) {
    if (is_open_ && kind == kind_) return;
    close();
    is_open_ = true;
    kind_ = kind;
    begin_ = kept_;
  }
  void add(TokenId id, Segment kind) {
    open(kind);
    is_behind_text_ = false;
    ++tokens_;
    if (tokenizer_.spelling(id)) run_.push_back(id);
  }
  // Of plain text tags the first and the last token may hold text beside the tag.
  void add_marker(const Trace& trace, std::size_t i) {
    const auto texts = texts_at(trace, i);
    for (const MarkerText& one : texts) {
      if (one.edge != Edge::before) continue;
      open(one.segment);
      tail_ += one.text;
    }
    if (!run_.empty() || !head_.empty() || !tail_.empty()) {
      is_behind_text_ = true;
      closed_ = kind_;
      close();
    }
    is_behind_text_ = is_behind_text_ && closed_ == trace.segments[i];
    bool has_behind = false;
    for (const MarkerText& one : texts) {
      if (one.edge != Edge::behind) continue;
      has_behind = true;
      open(one.segment);
      head_ += one.text;
    }
    if (!has_behind && !is_behind_text_) open(trace.segments[i]);
  }
  void close(std::string_view stop = {}) {
    std::string text = head_ + tokenizer_.decode(run_) + tail_;
    if (!stop.empty()) text.resize(std::min(text.find(stop), text.size()));
    if (is_open_ && !text.empty())
      all_.push_back({std::move(text), begin_, tokens_, kind_ == Segment::think});
    is_open_ = false;
    tokens_ = 0;
    run_.clear();
    head_.clear();
    tail_.clear();
  }

  const Tokenizer& tokenizer_;
  std::vector<ResponseSegment> all_;
  std::vector<TokenId> run_;
  std::string head_, tail_;
  Segment kind_ = Segment::answer, last_ = Segment::answer, closed_ = Segment::answer;
  int kept_ = 0, begin_ = 0, tokens_ = 0;
  bool is_open_ = false, is_behind_text_ = false;
};

// Two answers with nothing but markers between them are two lines, not one number.
std::string joined(const std::vector<ResponseSegment>& segments, bool is_thinking) {
  std::string all;
  for (const ResponseSegment& one : segments) {
    if (one.is_thinking != is_thinking) continue;
    if (!all.empty()) all += '\n';
    all += one.text;
  }
  return all;
}

}  // namespace

Response respond(const Trace& trace, const Tokenizer& tokenizer) {
  const std::string fault = fault_of(trace);
  require(fault.empty(), ErrorCode::invalid_argument, "columns of equal length", fault, "trace");
  std::vector<TokenId> all;
  for (std::size_t i = trace.prompt_tokens; i < trace.tokens.size(); ++i)
    if (trace.is_taken_back[i] == 0 && tokenizer.spelling(trace.tokens[i]))
      all.push_back(trace.tokens[i]);
  // A closer that ends the turn as well (<|im_end|>, where a caller named it) parts nothing from
  // anything, and would read as the end of a stated answer.
  const bool ends_turn = trace.stopped == StopReason::end_token && !all.empty() &&
                         trace.is_marker.back() != 0 && trace.is_taken_back.back() == 0;
  if (ends_turn) all.pop_back();
  Stretches stretches(trace, tokenizer);
  Response response;
  // Markers are special tokens in many checkpoints, and judges look for them here.
  response.text = tokenizer.decode(all, true);
  response.segments = stretches.take();
  response.tokens = stretches.kept();
  response.thinking = joined(response.segments, true);
  response.answer = joined(response.segments, false);
  response.think_tokens = trace.count(Segment::think);
  response.answer_tokens = trace.count(Segment::answer);
  response.is_truncated = is_truncated(trace.stopped);
  return response;
}

}  // namespace pensive
