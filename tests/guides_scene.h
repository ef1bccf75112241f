// A sequence whose tokens the test draws: one guide hears of each, and what it wants is done.
#pragma once
#include <deque>
#include <limits>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "guides_moments.h"
#include "pensive/guides.h"
#include "think/segments.h"

namespace pensive::testing {

constexpr TokenId think_open = 90, think_close = 91, answer_open = 92, answer_close = 93;
constexpr TokenId half_a = 94, half_b = 95;  // together a closer of two tokens
constexpr TokenId newline = 80, full_stop = 81, silent = 82, end_token = 83;

inline Markers one_token_markers() {
  return {{think_open}, {think_close}, {answer_open}, {answer_close}};
}
inline Markers split_markers() { return {{think_open}, {half_a, half_b}, {}, {}}; }

inline std::string text_of(TokenId id) {
  if (id == newline) return "\n";
  if (id == full_stop) return ".";
  if (id == silent || id >= 90) return "";
  return " w";
}

class Scene {
 public:
  explicit Scene(const std::shared_ptr<const Guide>& guide, Markers markers = one_token_markers(),
                 std::vector<TokenId> prompt = {1, think_open})
      : markers_(markers),
        segments_(markers),
        guide_(guide->clone()),
        tokens_(prompt),
        prompt_(static_cast<int>(prompt.size())) {
    segments_.begin(prompt, std::nullopt);
    Moment moment = moment_of({Segment::prompt, Marker::none, 0}, Origin::prompt);
    started_ = last_ = told(guide_->on_start(moment));
    wishes_ = {last_};
  }

  // What the guide said to this token, and to none that was fed because of it.
  std::string draw(TokenId id) {
    const std::string said = push(id, Origin::sampled);
    for (int fed = 0; !queue_.empty() && fed < 1000; ++fed) {
      const TokenId next = queue_.front();
      queue_.pop_front();
      push(next, Origin::forced);
      if (queue_.empty()) is_closing_ = false;
    }
    return said;
  }
  Scene& draw_all(const std::vector<TokenId>& ids) {
    for (const TokenId id : ids) draw(id);
    return *this;
  }
  std::string feed(TokenId id) { return push(id, Origin::forced); }

  // A fork: what it does does not show here.
  Scene(const Scene& other)
      : markers_(other.markers_),
        segments_(other.segments_),
        closing_(other.closing_),
        guide_(other.guide_->clone()),
        tokens_(other.tokens_),
        prompt_(other.prompt_),
        queue_(other.queue_),
        wishes_(other.wishes_),
        started_(other.started_),
        last_(other.last_) {}

  const std::string& started() const { return started_; }  // on_start's answer
  const std::string& last() const { return last_; }        // the last answer, to forced ones too
  bool bars(TokenId id) const {                            // from the next draw
    return wishes_.back().find(std::to_string(id) + ":-inf") != std::string::npos;
  }
  std::vector<TokenId> kept() const { return {tokens_.begin() + prompt_, tokens_.end()}; }
  int think_tokens() const { return segments_.think_tokens(); }
  Segment next() const { return segments_.now(); }
  Guide& guide() { return *guide_; }
  void take_back(int count) {
    segments_.take_back(count);
    tokens_.resize(tokens_.size() - static_cast<std::size_t>(count));
    wishes_.resize(kept().size() + 1);
  }

 private:
  std::string push(TokenId id, Origin origin) {
    tokens_.push_back(id);
    const Placed placed = segments_.push(id);
    const Moment moment = moment_of(placed, origin);
    const Action action = guide_->on_token(moment);
    last_ = told(action);
    const std::string said = last_;
    wishes_.push_back(said);
    carry_out(action);
    if (!std::holds_alternative<Force>(action) && closing_.is_due(moment)) {
      closing_.withdraw();
      take_back(segments_.pending());
      queue_.assign(markers_.think_close.begin(), markers_.think_close.end());
      is_closing_ = true;
    }
    return said;
  }

  void carry_out(const Action& action) {
    if (const auto* force = std::get_if<Force>(&action)) {
      take_back(force->replaces_last);
      queue_.assign(force->tokens.begin(), force->tokens.end());
      wishes_.back() += " " + told(force->biases);
    } else if (const auto* close = std::get_if<Close>(&action)) {
      if (segments_.now() != Segment::think || is_closing_) return;
      take_back(close->replaces_last);
      closing_.ask(*close);
    } else {
      return;
    }
    guide_->on_done({&action, true});
  }

  Moment moment_of(const Placed& placed, Origin origin) {
    Moment moment;
    moment.tokens = tokens_;
    moment.prompt_tokens = prompt_;
    moment.token = tokens_.back();
    text_ = text_of(tokens_.back());
    tail_.clear();
    for (const TokenId id : kept()) tail_ += text_of(id);
    moment.text = text_;
    moment.tail = tail_;
    moment.segment = placed.segment;
    moment.next = segments_.now();
    moment.origin = origin;
    moment.completes = placed.completes;
    moment.marker_tokens = placed.marker_tokens;
    moment.pending_tokens = segments_.pending();
    moment.think_tokens = segments_.think_tokens();
    moment.new_tokens = static_cast<int>(tokens_.size()) - prompt_;
    if (origin != Origin::sampled)
      moment.logprob = moment.entropy_nats = moment.top_logprob =
          std::numeric_limits<float>::quiet_NaN();
    return moment;
  }

  Markers markers_;
  Segments segments_;
  Closing closing_;
  std::unique_ptr<Guide> guide_;
  std::vector<TokenId> tokens_;
  int prompt_;
  std::deque<TokenId> queue_;
  std::vector<std::string> wishes_;  // after the prompt and each kept token
  bool is_closing_ = false;
  std::string text_, tail_, started_, last_;
};

}  // namespace pensive::testing
