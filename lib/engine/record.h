// One sequence's tokens, trace, text and segments, kept in step with each other. Plain values.
#pragma once
#include <chrono>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/lane.h"
#include "pensive/text.h"
#include "pensive/think.h"
#include "pensive/trace.h"
#include "think/segments.h"

namespace pensive {

// What the draw of a token told; as it stands, for a token that was not drawn.
struct Stats {
  static constexpr float unknown = std::numeric_limits<float>::quiet_NaN();
  float logprob = unknown;
  float drawn_logprob = unknown;
  float entropy_nats = unknown;
  TokenId top_token = 0;
  float top_logprob = unknown;
  std::span<const float> watched{};       // of all guides, one after another
  std::span<const TokenId> top_tokens{};  // what the trace tells of others; none for guides
  std::span<const float> top_logprobs{};
};

class Record {
 public:
  // `tokenizer` may be null: then there is no text.
  Record(std::vector<TokenId> prompt, Segments segments,
         std::shared_ptr<const Tokenizer> tokenizer);

  Lane lane;
  Trace trace;

  // Texts that end the sequence; before the first push().
  void stop_at(std::shared_ptr<const std::vector<std::string>> texts) {
    stop_texts_ = std::move(texts);
  }
  // Whether the text holds one of them.
  bool has_stop_text() const noexcept { return stop_ != nullptr; }
  // The trace tells the likeliest `count` of every token; before the first push().
  void tell_tops(int count);
  void push(TokenId id, Origin origin, const Stats& stats);
  // From the request's start to now.
  float seconds() const noexcept {
    return std::chrono::duration<float>(std::chrono::steady_clock::now() - begun_).count();
  }
  // The last token was drawn under a guide's biases or mask; `kind` is "bias" or "allow".
  void tell_steering(std::string_view guide, std::string_view kind);
  // What was found out about a token of the prompt.
  void score(int position, const Stats& stats);
  void take_back(int count);  // 0 to new_tokens()
  // Takes the last tokens back as far as they may become a marker or are no whole character yet,
  // but none whose text was streamed. Returns how many.
  int take_back_halves();
  // Ends the sequence: what was held back is streamed, the trace is sealed.
  void seal(StopReason reason, std::string error = {});

  bool is_sealed() const noexcept { return trace.stopped != StopReason::running; }
  int new_tokens() const noexcept { return static_cast<int>(rows_.size()); }  // kept
  int decoded() const noexcept;  // taken back ones too, by guides and by rewinding
  // Tokens decoded as if nothing had ever been rewound: what limits and draws count by.
  int rows() const noexcept { return static_cast<int>(world_.size()); }
  const std::vector<int>& world() const noexcept {
    return world_;
  }  // where these stand in the trace
  // By which the next token is drawn: its place in the trace, had nothing been rewound.
  std::uint64_t clock() const noexcept {
    return static_cast<std::uint64_t>(trace.prompt_tokens) + world_.size();
  }
  // rows() right after the last of the first `kept` new tokens came.
  int rows_at(int kept) const;
  // Becomes `earlier`, the same sequence some tokens before; what came since stays in the trace, as
  // taken back. Text that was handed out already is not handed out again.
  void go_back(Record earlier, int count, std::string_view draws);
  // Tokens of probes that were answered, likewise as if nothing had been rewound.
  int probed() const noexcept { return probed_; }
  void count_probe(int tokens) {
    trace.probe_tokens += tokens;
    probed_ += tokens;
  }
  // Of each row of the trace, how many tokens stood before it when it came: which of those that
  // were taken back were its context.
  const std::vector<int>& depths() const noexcept { return depths_; }
  const Segments& segments() const noexcept { return segments_; }
  // Whether the last token was drawn, and kept.
  bool ends_sampled() const noexcept;
  const std::shared_ptr<const Tokenizer>& tokenizer() const noexcept { return tokenizer_; }
  // The last token, as guides see it.
  Moment moment(const Stats& stats) const;
  std::string_view text() const noexcept { return text_; }  // of what is kept after the prompt

  // Streams all that cannot become a marker any more.
  void emit();
  std::vector<TextEvent> take_events();
  void forget_events() { events_.clear(); }

 private:
  std::string text_of(TokenId id);
  void rewind_stream();
  void mark_rows(const Placed& placed);
  void unmark_rows();
  void rewrite_last_marker();
  void write_marker_texts(int i);
  void emit_text(Segment segment, int index, std::string_view text);
  std::string_view text_at(int i) const;
  bool is_half_character() const;
  void forget_text(std::size_t bytes);
  void look_for_stop(std::size_t before);
  std::size_t shown_limit() const;
  void write_tops(std::size_t row, const Stats& stats);

  Segments segments_;
  Placed placed_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::optional<TextStream> stream_;
  std::string text_;
  std::vector<std::size_t> text_ends_;  // of each kept token after the prompt
  std::vector<int> rows_;               // its row in the trace
  std::vector<int> world_;              // the trace's rows but for the prompt and what was rewound
  std::vector<int> depths_;
  int probed_ = 0;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  int emitted_ = 0;        // tokens whose text was streamed
  std::size_t shown_ = 0;  // bytes of text_ that were, or never will be
  std::shared_ptr<const std::vector<std::string>> stop_texts_;  // may be null
  const std::string* stop_ = nullptr;                           // the one that came
  std::size_t stop_begin_ = 0;                                  // where in text_
  std::vector<TextEvent> events_;
  std::size_t streamed_ = 0;  // bytes of all events, those handed out too
};

}  // namespace pensive
