// Follows a sequence token by token and says which segment each belongs to.
#pragma once
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/think.h"
#include "think/tags.h"

namespace pensive {

// What one token turned out to be.
struct Placed {
  Segment segment = Segment::answer;  // a marker's tokens belong to the segment that they end,
                                      // an opener's to the one that they begin
  Marker completes = Marker::none;
  int marker_tokens = 0;  // length of the marker that this token completes
};

// Bytes of one token's text that are no marker's.
struct Piece {
  Segment segment = Segment::answer;
  int index = 0;  // which segment of its kind
  std::size_t begin = 0, end = 0;
};

// Values only; copyable, so that a fork copies it. take_back() undoes any number of tokens.
// Without markers everything after the prompt is answer.
//
// A marker is looked for in the tokens after the prompt and after the marker before it: none lies
// partly in the prompt, and none overlap. Of two that end together the longer counts. An opener of
// what is open already, and a closer of what is not, are markers that change nothing.
//
// Markers that are plain text (Tags) also count where other tokens spell them. Then the first and
// the last token may hold text besides; one that ends a marker and begins the next is the former's.
class Segments {
 public:
  Segments() = default;
  // Without a tokenizer markers count by their ids alone.
  explicit Segments(std::optional<Markers> markers,
                    std::shared_ptr<const Tokenizer> tokenizer = nullptr);

  // Reads the prompt: its last marker tells where the text goes on, unless `begins_in` does or a
  // special token stands behind it, as one does between turns. Throws invalid_argument for a
  // `begins_in` that cannot be.
  void begin(std::span<const TokenId> prompt, std::optional<Segment> begins_in);
  // `text` is what this token added to the decoded text.
  Placed push(TokenId id, std::string_view text = {});
  void take_back(int tokens);

  Segment now() const noexcept;  // where the next token would stand
  // Segments of this kind opened so far after the prompt, minus one. The answer in which a
  // sequence begins counts from its first token on.
  int index(Segment segment) const noexcept;
  int think_tokens() const noexcept;  // kept thinking tokens after the prompt, markers not counted
  // How many of the last tokens may still become a marker: to be replaced when the thinking is
  // closed right here.
  int pending() const noexcept;
  // How many are to be held back from the stream: also a marker's last one, where the next marker
  // may have begun in it.
  int held() const noexcept;
  // Whether token i (0 = first after the prompt) turned out to belong to a marker.
  bool is_marker(int i) const noexcept;
  Segment segment(int i) const noexcept;
  int index_at(int i) const noexcept;  // which segment of its kind token i is in
  // What of the token's text is no marker's; `bytes` is the size of it all.
  std::vector<Piece> pieces(int i, std::size_t bytes) const;
  const std::optional<Markers>& markers() const noexcept { return markers_; }

 private:
  // What was true right after one token. What a marker's last token says of the tokens before it is
  // looked up from there, so that taking it back needs no repair.
  struct State {
    TokenId id = 0;
    Segment segment = Segment::answer;  // of this token
    Segment next = Segment::answer;     // after it
    Marker completes = Marker::none;
    int marker_tokens = 0;
    int think_index = -1, answer_index = -1, think_tokens = 0, pending = 0, held = 0;
    // Of the marker that it completes: bytes of its first token before it, of this token behind it,
    // and of the token before its first one, in which it began.
    int before = 0, behind = 0, shared = 0;
    std::size_t text_end = 0;  // of this token's text in text_
  };
  struct Match {
    Marker marker = Marker::none;
    int tokens = 0;   // of the marker that `id` completes
    int pending = 0;  // of the longest beginning of a marker that ends with `id`
    int held = 0;
    int before = 0, behind = 0, shared = 0;
  };
  // Some last bytes of the text, and where in it each token begins, the first one first.
  struct Tail {
    std::string text;
    std::vector<std::size_t> begins;
    bool begins_in_marker = false;  // the first token completed one
  };
  // Which tokens hold the text from a byte on.
  struct Place {
    int tokens = 0;  // whole tokens, counted from the end
    int before = 0;  // bytes of the first of them before that byte
    int shared = 0;  // bytes from there on in the marker's token before them
  };
  Match match(TokenId id) const;
  Match match_text(std::string_view text) const;
  Tail tail(std::string_view text) const;
  static Place place(const Tail& tail, std::size_t byte);
  void open(State& state, const Match& found, Segment before) const;
  bool ends_with(const std::vector<TokenId>& marker, int length, TokenId id) const;
  int label_at(int i) const noexcept;

  std::optional<Markers> markers_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  Tags tags_;
  int longest_ = 0;                                    // tokens that the longest marker can have
  std::string text_;                                   // of all tokens, where there are tags
  std::vector<State> states_ = std::vector<State>(1);  // the prompt's end, then one a token
};

// Carries a Close out: waits for a line or sentence end, at most so many tokens, then says
// "force the closing text now". Values only.
class Closing {
 public:
  // Of several wishes the one that ends sooner holds.
  void ask(const Close& close);
  bool is_asked() const noexcept { return asked_; }
  CloseReason reason() const noexcept { return reason_; }
  // Called once after each token, also the one at which it was asked: whether the closing text is
  // to be fed now. Leaving the thinking by itself withdraws the wish.
  bool is_due(const Moment& moment);
  void withdraw() noexcept { asked_ = false; }

 private:
  bool asked_ = false;
  int tokens_left_ = 0;
  CloseReason reason_ = CloseReason::other;
};

}  // namespace pensive
