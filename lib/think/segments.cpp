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

Segments::Segments(std::optional<Markers> markers, std::shared_ptr<const Tokenizer> tokenizer)
    : markers_(std::move(markers)), tokenizer_(std::move(tokenizer)) {
  if (!markers_) return;
  if (tokenizer_) tags_ = Tags(*markers_, *tokenizer_);
  longest_ = static_cast<int>(tags_.longest());  // each of its tokens has a byte at least
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
  text_.clear();
  std::optional<TextStream> stream;
  if (!tags_.empty()) stream.emplace(tokenizer_);
  for (const TokenId id : prompt) {
    push(id, stream && tokenizer_->is_known(id) ? stream->push(id) : std::string());
    // A tag that somebody wrote in an earlier turn opens nothing in this one.
    const bool ends_turn = tokenizer_ && tokenizer_->is_special(id);
    if (ends_turn && states_.back().completes == Marker::none)
      states_.back().next = Segment::answer;
  }
  State start;
  start.segment = Segment::prompt;
  start.next = begins_in.value_or(now());
  start.think_index = start.next == Segment::think ? 0 : -1;
  states_.assign(1, start);
  text_.clear();
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

Segments::Tail Segments::tail(std::string_view text) const {
  Tail tail;
  const auto last = static_cast<int>(states_.size()) - 1;
  int first = last + 1;
  std::size_t begin = text_.size();
  while (first > 1 && last + 1 - first < longest_ && text_.size() - begin + 1 < tags_.longest()) {
    const State& state = states_[--first];
    tail.begins_in_marker = state.marker_tokens > 0;
    begin = tail.begins_in_marker ? state.text_end - state.behind : states_[first - 1].text_end;
    if (tail.begins_in_marker) break;
  }
  for (int i = first; i <= last; ++i)
    tail.begins.push_back(i == first ? 0 : states_[i - 1].text_end - begin);
  tail.begins.push_back(text_.size() - begin);
  tail.text = text_.substr(begin);
  tail.text += text;
  return tail;
}

Segments::Place Segments::place(const Tail& tail, std::size_t byte) {
  // Of tokens that begin there the last: the others have no text.
  const auto behind = std::upper_bound(tail.begins.begin(), tail.begins.end(), byte);
  const auto at = behind - 1;
  Place place;
  place.tokens = static_cast<int>(tail.begins.end() - at);
  place.before = static_cast<int>(byte - *at);
  if (at != tail.begins.begin() || !tail.begins_in_marker) return place;
  --place.tokens;
  place.before = 0;
  place.shared = static_cast<int>(*behind - byte);
  return place;
}

Segments::Match Segments::match_text(std::string_view text) const {
  Match found;
  if (tags_.empty()) return found;
  const Tail last = tail(text);
  const Tags::Found tag = tags_.find(last.text, last.begins.back());
  if (tag.marker == Marker::none) {
    const std::size_t begun = tags_.begun(last.text);
    if (begun == 0) return found;
    const Place begins = place(last, last.text.size() - begun);
    found.pending = begins.tokens;
    found.held = begins.tokens + (begins.shared > 0 ? 1 : 0);
    return found;
  }
  const Place begins = place(last, tag.begin);
  found.marker = tag.marker;
  found.tokens = begins.tokens;
  found.before = begins.before;
  found.shared = begins.shared;
  found.behind = static_cast<int>(last.text.size() - tag.end);
  found.held = tags_.begun(std::string_view(last.text).substr(tag.end)) > 0 ? 1 : 0;
  return found;
}

Placed Segments::push(TokenId id, std::string_view text) {
  Match found = match(id);
  if (found.tokens == 0) {
    const Match spelled = match_text(text);
    const int pending = spelled.tokens > 0 ? 0 : std::max(found.pending, spelled.pending);
    const int held = std::max(pending, spelled.held);
    found = spelled;
    found.pending = pending;
    found.held = held;
  }
  State state = states_[states_.size() - std::max(found.tokens, 1)];  // before the marker
  // Counts go on from there too: a marker's first tokens were counted as text until now.
  const Segment before = state.next;
  state.id = id;
  state.segment = before;
  state.completes = found.marker;
  state.marker_tokens = found.tokens;
  state.pending = found.pending;
  state.held = found.held;
  state.before = found.before;
  state.behind = found.behind;
  state.shared = found.shared;
  if (!tags_.empty()) text_ += text;
  state.text_end = text_.size();
  open(state, found, before);
  states_.push_back(state);
  return {state.segment, found.marker, found.tokens};
}

// What the token opens and ends; `before` is the segment until then.
void Segments::open(State& state, const Match& found, Segment before) const {
  // Text in front of a marker is text of the segment that stood there.
  if (found.before > 0 && before == Segment::answer)
    state.answer_index = std::max(state.answer_index, 0);
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
  if (found.behind > 0 && state.next == Segment::answer)
    state.answer_index = std::max(state.answer_index, 0);
}

void Segments::take_back(int tokens) {
  const int most = static_cast<int>(states_.size()) - 1;
  require(tokens >= 0 && tokens <= most, ErrorCode::invalid_argument,
          fmt::format("0 to {} tokens to take back", most), std::to_string(tokens), "segments");
  states_.resize(states_.size() - tokens);
  text_.resize(states_.back().text_end);
}

Segment Segments::now() const noexcept { return states_.back().next; }

int Segments::index(Segment segment) const noexcept {
  if (segment == Segment::prompt) return -1;
  const State& last = states_.back();
  return segment == Segment::think ? last.think_index : last.answer_index;
}

int Segments::think_tokens() const noexcept { return states_.back().think_tokens; }
int Segments::pending() const noexcept { return states_.back().pending; }
int Segments::held() const noexcept { return states_.back().held; }

// The state whose token completes the marker of which token i is a part, else token i's own.
int Segments::label_at(int i) const noexcept {
  const int end = std::min(static_cast<int>(states_.size()), i + 1 + longest_);
  for (int at = i + 1; at < end; ++at)
    if (states_[at].marker_tokens > at - (i + 1)) return at;
  return i + 1;
}

bool Segments::is_marker(int i) const noexcept { return states_[label_at(i)].marker_tokens > 0; }
Segment Segments::segment(int i) const noexcept { return states_[label_at(i)].segment; }

int Segments::index_at(int i) const noexcept {
  const State& state = states_[label_at(i)];
  return state.segment == Segment::think ? state.think_index : state.answer_index;
}

std::vector<Piece> Segments::pieces(int i, std::size_t bytes) const {
  const int label = label_at(i);
  const State& marker = states_[label];
  if (marker.marker_tokens == 0) return {{segment(i), index_at(i), 0, bytes}};
  const auto piece = [](const State& state, std::size_t begin, std::size_t end) {
    const int index = state.next == Segment::think ? state.think_index : state.answer_index;
    return Piece{state.next, std::max(index, 0), begin, end};
  };
  std::vector<Piece> all;
  if (label - marker.marker_tokens == i && marker.before > 0)
    all.push_back(piece(states_[i], 0, marker.before));
  if (label != i + 1) return all;
  int behind = marker.behind;
  if (label + 1 < static_cast<int>(states_.size())) {
    const State& next = states_[label_at(i + 1)];
    const bool is_next = label_at(i + 1) - next.marker_tokens == label;
    if (is_next) behind -= next.shared;
  }
  const std::size_t begin = bytes - marker.behind;
  if (behind > 0) all.push_back(piece(marker, begin, begin + behind));
  return all;
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
