#include "think/segments.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/inside.h"

namespace pensive {
namespace {

struct Spelling {
  Marker marker;
  const std::vector<TokenId>& tokens;
};

std::array<Spelling, 4> spellings(const Markers& markers) {
  return {Spelling{Marker::think_open, markers.think_open},
          Spelling{Marker::think_close, markers.think_close},
          Spelling{Marker::answer_open, markers.answer_open},
          Spelling{Marker::answer_close, markers.answer_close}};
}

}  // namespace

Segments::Segments(std::optional<Markers> markers) : markers_(std::move(markers)) {
  if (!markers_) return;
  for (const Spelling& spelling : spellings(*markers_))
    longest_ = std::max(longest_, static_cast<int>(spelling.tokens.size()));
}

void Segments::begin(std::span<const TokenId> prompt, std::optional<Segment> begins_in) {
  require(begins_in != Segment::prompt, ErrorCode::invalid_argument, "begins_in think or answer",
          "prompt", "segments");
  require(markers_ || begins_in != Segment::think, ErrorCode::invalid_argument,
          "markers for a text that begins in thinking", "none", "segments");
  // The prompt is read like any text, and then forgotten but for where it ends.
  states_.assign(1, State{});
  for (const TokenId id : prompt) push(id);
  State start;
  start.segment = Segment::prompt;
  start.next = begins_in.value_or(now());
  start.think_index = start.next == Segment::think ? 0 : -1;
  states_.assign(1, start);
}

bool Segments::ends_with(const std::vector<TokenId>& marker, int length, TokenId id) const {
  if (marker[length - 1] != id) return false;
  for (int i = 1; i < length; ++i)
    if (states_[states_.size() - i].id != marker[length - 1 - i]) return false;
  return true;
}

Segments::Match Segments::match(TokenId id) const {
  Match found;
  if (!markers_) return found;
  // What is pending is all that a marker could have begun with.
  const int reach = states_.back().pending + 1;
  for (const Spelling& spelling : spellings(*markers_)) {
    const int length = static_cast<int>(spelling.tokens.size());
    if (length > found.tokens && length <= reach && ends_with(spelling.tokens, length, id)) {
      found.marker = spelling.marker;
      found.tokens = length;
    }
    for (int begun = std::min(length - 1, reach); begun > found.pending; --begun)
      if (ends_with(spelling.tokens, begun, id)) found.pending = begun;
  }
  // The next marker begins behind this one.
  if (found.tokens > 0) found.pending = 0;
  return found;
}

Placed Segments::push(TokenId id) {
  const Match found = match(id);
  State state = states_[states_.size() - std::max(found.tokens, 1)];  // before the marker
  // Counts go on from there too: a marker's first tokens were counted as text until now.
  const Segment before = state.next;
  state.id = id;
  state.segment = before;
  state.completes = found.marker;
  state.marker_tokens = found.tokens;
  state.pending = found.pending;
  switch (found.marker) {
    case Marker::none:
      if (before == Segment::think) ++state.think_tokens;
      if (before == Segment::answer) state.answer_index = std::max(state.answer_index, 0);
      break;
    case Marker::think_open:
      if (before != Segment::think) ++state.think_index;
      state.segment = state.next = Segment::think;
      break;
    case Marker::think_close:
      if (before == Segment::think) ++state.answer_index;
      state.next = Segment::answer;
      break;
    case Marker::answer_open:
      if (before == Segment::think) ++state.answer_index;
      state.answer_index = std::max(state.answer_index, 0);
      state.segment = state.next = Segment::answer;
      break;
    case Marker::answer_close:
      break;  // text behind it is answer still, until thinking opens
  }
  states_.push_back(state);
  return {state.segment, state.completes, state.marker_tokens};
}

void Segments::take_back(int tokens) {
  const int most = static_cast<int>(states_.size()) - 1;
  require(tokens >= 0 && tokens <= most, ErrorCode::invalid_argument,
          fmt::format("0 to {} tokens to take back", most), std::to_string(tokens), "segments");
  states_.resize(states_.size() - tokens);
}

Segment Segments::now() const noexcept { return states_.back().next; }

int Segments::index(Segment segment) const noexcept {
  if (segment == Segment::prompt) return -1;
  const State& last = states_.back();
  return segment == Segment::think ? last.think_index : last.answer_index;
}

int Segments::think_tokens() const noexcept { return states_.back().think_tokens; }
int Segments::pending() const noexcept { return states_.back().pending; }

// The token that completes the marker of which token i is a part, else token i itself.
const Segments::State& Segments::labels(int i) const noexcept {
  const int end = std::min(static_cast<int>(states_.size()), i + 1 + longest_);
  for (int at = i + 1; at < end; ++at)
    if (states_[at].marker_tokens > at - (i + 1)) return states_[at];
  return states_[i + 1];
}

bool Segments::is_marker(int i) const noexcept { return labels(i).marker_tokens > 0; }
Segment Segments::segment(int i) const noexcept { return labels(i).segment; }

int Segments::index_at(int i) const noexcept {
  const State& state = labels(i);
  return state.segment == Segment::think ? state.think_index : state.answer_index;
}

void Closing::ask(const Close& close) {
  const int within = std::max(close.within_tokens, 0);
  if (asked_ && tokens_left_ <= within) return;
  asked_ = true;
  tokens_left_ = within;
  reason_ = close.reason;
}

bool Closing::is_due(const Moment& moment) {
  if (!asked_) return false;
  if (moment.segment == Segment::answer || moment.completes == Marker::think_close) {
    asked_ = false;
    return false;
  }
  if (tokens_left_ == 0) return true;
  // Without text of its own the token may hold half a character: no place to cut.
  if (!moment.text.empty() && is_sentence_end(moment.tail)) return true;
  --tokens_left_;
  return false;
}

}  // namespace pensive
