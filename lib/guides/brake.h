// What the brakes share.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "guides/catalogue.h"
#include "guides/inside.h"

namespace pensive {

inline void require_texts(const std::vector<std::string>& stop_texts, std::string_view where) {
  for (const std::string& text : stop_texts)
    require(!text.empty(), ErrorCode::invalid_argument, "stop_texts of at least one character",
            "an empty one", where);
}

// Where \boxed{…} may be over (the stop strings of DEER's code that hold no other of them).
std::vector<std::string> box_ends();

// splitmix64's last step: every bit of the result depends on every bit given.
inline std::uint64_t mixed(std::uint64_t bits) noexcept {
  bits = (bits ^ (bits >> 30)) * 0xbf58476d1ce4e5b9u;
  bits = (bits ^ (bits >> 27)) * 0x94d049bb133111ebu;
  return bits ^ (bits >> 31);
}

// A brake that looks after each token and asks once, until the thinking is left or opened anew.
class Brake : public Guide, public Told {
 public:
  bool needs_markers() const override { return true; }

  Action on_token(const Moment& moment) override {
    const bool is_thinking =
        moment.segment == Segment::think && moment.completes != Marker::think_close;
    if (!is_thinking || moment.completes == Marker::think_open) is_asked_ = false;
    const bool is_due = is_due_after(moment);
    if (!is_due || is_asked_ || !is_drawn_thought(moment)) return Proceed{};
    if (moment.think_tokens < min_think_tokens_) return Proceed{};
    return Close{CloseReason::brake, 0, within_tokens_};
  }

  void on_done(const Done& done) override {
    const Close* close = std::get_if<Close>(done.action);
    if (close != nullptr && (done.was_mine || close->within_tokens <= within_tokens_))
      is_asked_ = true;
  }

 protected:
  Brake(int min_think_tokens, int within_tokens)
      : min_think_tokens_(min_think_tokens), within_tokens_(within_tokens) {}
  // Told of every token, in thinking or not.
  virtual bool is_due_after(const Moment& moment) = 0;

 private:
  int min_think_tokens_;
  int within_tokens_;
  bool is_asked_ = false;
};

// The states after the last tokens, so that what is taken back is undone. Of more than it remembers
// (at least 64) only so much.
template <class State>
class Undoable {
 public:
  // Called once a token, with its Moment::new_tokens: the state before it, to be changed.
  State& next(int new_tokens) {
    const int taken_back = std::max(last_ + 1 - new_tokens, 0);
    last_ = new_tokens;
    states_.resize(states_.size() - std::min<std::size_t>(taken_back, states_.size() - 1));
    if (states_.size() >= 128) states_.erase(states_.begin(), states_.begin() + 64);
    return states_.emplace_back(State(states_.back()));
  }
  const State& now() const noexcept { return states_.back(); }

 private:
  std::vector<State> states_ = std::vector<State>(1);
  int last_ = 0;
};

}  // namespace pensive
