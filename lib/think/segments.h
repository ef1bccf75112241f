// Follows a sequence token by token and says which segment each belongs to.
#pragma once
#include <optional>
#include <vector>

#include "pensive/think.h"

namespace pensive {

// What one token turned out to be.
struct Placed {
  Segment segment = Segment::answer;  // a marker's tokens belong to the segment that they end,
                                      // an opener's to the one that they begin
  Marker completes = Marker::none;
  int marker_tokens = 0;              // length of the marker that this token completes
};

// Values only; copyable, so that a fork copies it. take_back() undoes any number of tokens.
// Without markers everything after the prompt is answer.
class Segments {
 public:
  Segments() = default;
  explicit Segments(std::optional<Markers> markers);

  // Reads the prompt: its last marker tells where the text goes on, unless `begins_in` does.
  void begin(std::span<const TokenId> prompt, std::optional<Segment> begins_in);
  Placed push(TokenId id);
  void take_back(int tokens);

  Segment now() const noexcept;              // where the next token would stand
  int index(Segment segment) const noexcept; // segments of this kind opened so far, minus one
  int think_tokens() const noexcept;         // kept thinking tokens after the prompt, markers not counted
  // How many of the last tokens may still become a marker: to be held back from the stream, and
  // to be replaced when the thinking is closed right here.
  int pending() const noexcept;
  // Whether token i (0 = first after the prompt) turned out to belong to a marker.
  bool is_marker(int i) const noexcept;
  Segment segment(int i) const noexcept;
  const std::optional<Markers>& markers() const noexcept { return markers_; }

 private:
  struct State {
    TokenId id = 0;
    Segment segment = Segment::answer;  // of this token
    Segment next = Segment::answer;     // after it
    bool is_marker = false;
    int think_index = -1, answer_index = -1, think_tokens = 0, pending = 0;
  };
  std::optional<Markers> markers_;
  std::vector<State> states_;  // one for the prompt's end, then one a token
};

// Carries a Close out: waits for a line or sentence end, at most so many tokens, then says
// "force the closing text now". Values only.
class Closing {
 public:
  void ask(const Close& close);
  bool is_asked() const noexcept { return asked_; }
  CloseReason reason() const noexcept { return reason_; }
  // After each token: whether the closing text is to be fed now. Leaving the thinking by
  // itself withdraws the wish.
  bool is_due(const Moment& moment);
  void withdraw() noexcept { asked_ = false; }

 private:
  bool asked_ = false;
  int tokens_left_ = 0;
  CloseReason reason_ = CloseReason::other;
};

}  // namespace pensive
