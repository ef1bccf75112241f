#include "engine/record.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace pensive {
namespace {

constexpr std::size_t tail_bytes = 64;
// Enough tokens to decode the next one as the whole text would: a character has four bytes at most.
constexpr int stream_context = 16;

std::string_view tail_of(std::string_view text) {
  if (text.size() <= tail_bytes) return text;
  text.remove_prefix(text.size() - tail_bytes);
  while (!text.empty() && (static_cast<unsigned char>(text.front()) & 0xc0) == 0x80)
    text.remove_prefix(1);
  return text;
}

}  // namespace

Record::Record(std::vector<TokenId> prompt, Segments segments,
               std::shared_ptr<const Tokenizer> tokenizer)
    : segments_(std::move(segments)), tokenizer_(std::move(tokenizer)) {
  const std::size_t count = prompt.size();
  if (tokenizer_) stream_.emplace(tokenizer_);
  placed_.segment = Segment::prompt;
  trace.prompt_tokens = static_cast<int>(count);
  trace.tokens = prompt;
  trace.logprobs.assign(count, Stats::unknown);
  trace.drawn_logprobs.assign(count, Stats::unknown);
  trace.entropies_nats.assign(count, Stats::unknown);
  trace.segments.assign(count, Segment::prompt);
  trace.origins.assign(count, Origin::prompt);
  trace.is_marker.assign(count, 0);
  trace.is_taken_back.assign(count, 0);
  trace.is_steered.assign(count, 0);
  trace.seconds.assign(count, Stats::unknown);
  depths_.resize(count);
  std::iota(depths_.begin(), depths_.end(), 0);
  lane.tokens = std::move(prompt);
}

int Record::decoded() const noexcept {
  return static_cast<int>(trace.tokens.size()) - trace.prompt_tokens;
}

bool Record::ends_sampled() const noexcept {
  return !rows_.empty() && trace.origins[static_cast<std::size_t>(rows_.back())] == Origin::sampled;
}

// Ids that the tokenizer does not know, holes in it or rows that pad the embedding, have no text.
std::string Record::text_of(TokenId id) {
  if (!stream_ || !tokenizer_->is_known(id)) return {};
  return stream_->push(id);
}

void Record::push(TokenId id, Origin origin, const Stats& stats) {
  // The one call that may throw comes first, so that the columns stay equally long.
  const std::size_t before = text_.size();
  text_ += text_of(id);
  look_for_stop(before);
  text_ends_.push_back(text_.size());
  rows_.push_back(static_cast<int>(trace.tokens.size()));
  world_.push_back(rows_.back());
  depths_.push_back(lane.size());
  lane.tokens.push_back(id);
  placed_ = segments_.push(id, std::string_view(text_).substr(before));
  trace.tokens.push_back(id);
  trace.logprobs.push_back(stats.logprob);
  trace.drawn_logprobs.push_back(stats.drawn_logprob);
  trace.entropies_nats.push_back(stats.entropy_nats);
  trace.segments.push_back(placed_.segment);
  trace.origins.push_back(origin);
  trace.is_marker.push_back(0);
  trace.is_taken_back.push_back(0);
  trace.is_steered.push_back(0);
  trace.seconds.push_back(seconds());
  write_tops(trace.tokens.size() - 1, stats);
  mark_rows(placed_);
}

void Record::tell_tops(int count) {
  trace.top_count = count;
  write_tops(trace.tokens.size() - 1, {});
}

void Record::tell_steering(std::string_view guide, std::string_view kind) {
  const std::size_t last = trace.tokens.size() - 1;
  trace.is_steered[last] = 1;
  // What goes on is one action, also past those that came meanwhile.
  for (std::size_t i = trace.actions.size(); trace.is_steered[last - 1] != 0 && i > 0; --i) {
    TraceAction& action = trace.actions[i - 1];
    if (action.kind == "rewind") break;
    if (action.draws == 0) continue;
    const bool goes_on = static_cast<std::size_t>(action.position + action.draws) == last - 1;
    if (!goes_on || action.guide != guide || action.kind != kind) break;
    ++action.draws;
    return;
  }
  TraceAction& action = trace.actions.emplace_back();
  action.position = static_cast<int>(last) - 1;
  action.guide = guide;
  action.kind = kind;
  action.draws = 1;
  action.seconds = trace.seconds[last];
}

void Record::score(int position, const Stats& stats) {
  const auto row = static_cast<std::size_t>(position);
  trace.logprobs[row] = stats.logprob;
  trace.entropies_nats[row] = stats.entropy_nats;
  write_tops(row, stats);
}

void Record::write_tops(std::size_t row, const Stats& stats) {
  const auto count = static_cast<std::size_t>(trace.top_count);
  trace.top_tokens.resize(trace.tokens.size() * count, -1);
  trace.top_logprobs.resize(trace.tokens.size() * count, Stats::unknown);
  for (std::size_t i = 0; i < std::min(count, stats.top_tokens.size()); ++i) {
    trace.top_tokens[row * count + i] = stats.top_tokens[i];
    trace.top_logprobs[row * count + i] = stats.top_logprobs[i];
  }
}

// A marker's last token tells what the tokens before it were.
void Record::mark_rows(const Placed& placed) {
  if (placed.marker_tokens == 0) return;
  const int last = new_tokens() - 1;
  const int first = std::max(last + 1 - placed.marker_tokens, 0);
  for (int i = last; i >= first; --i) {
    const auto row = static_cast<std::size_t>(rows_[static_cast<std::size_t>(i)]);
    trace.is_marker[row] = 1;
    trace.segments[row] = segments_.segment(i);
    write_marker_texts(i);
  }
  // It may have begun in the last token of another one.
  if (first > 0 && segments_.is_marker(first - 1)) write_marker_texts(first - 1);
}

// What began in its last token may be gone.
void Record::rewrite_last_marker() {
  const int last = new_tokens() - 1;
  if (last >= 0 && segments_.is_marker(last)) write_marker_texts(last);
}

void Record::write_marker_texts(int i) {
  const int row = rows_[static_cast<std::size_t>(i)];
  std::erase_if(trace.marker_texts, [&](const MarkerText& one) { return one.position == row; });
  const std::string_view text = text_at(i);
  for (const Piece& piece : segments_.pieces(i, text.size()))
    trace.marker_texts.push_back({row, piece.begin == 0 ? Edge::before : Edge::behind,
                                  piece.segment,
                                  std::string(text.substr(piece.begin, piece.end - piece.begin))});
}

// The first tokens of a marker whose last one was taken back are text again.
void Record::unmark_rows() {
  for (int i = new_tokens() - 1; i >= 0 && !segments_.is_marker(i); --i) {
    const auto row = static_cast<std::size_t>(rows_[static_cast<std::size_t>(i)]);
    if (trace.is_marker[row] == 0) return;
    trace.is_marker[row] = 0;
    trace.segments[row] = segments_.segment(i);
  }
}

void Record::take_back(int count) {
  if (count == 0) return;
  for (int i = 0; i < count; ++i) {
    trace.is_taken_back[static_cast<std::size_t>(rows_.back())] = 1;
    rows_.pop_back();
    text_ends_.pop_back();
  }
  text_.resize(text_ends_.empty() ? 0 : text_ends_.back());
  emitted_ = std::min(emitted_, new_tokens());
  shown_ = std::min(shown_, text_.size());
  if (stop_ != nullptr && stop_begin_ + stop_->size() > text_.size()) stop_ = nullptr;
  lane.take_back(count);
  segments_.take_back(count);
  unmark_rows();
  rewrite_last_marker();
  placed_ = {};
  placed_.segment = rows_.empty() ? Segment::prompt : segments_.segment(new_tokens() - 1);
  rewind_stream();
}

bool Record::is_half_character() const {
  constexpr std::string_view replacement = "\xef\xbf\xbd";  // what a stream ends half of one with
  if (!stream_ || rows_.empty() || segments_.is_marker(new_tokens() - 1)) return false;
  TextStream copy = *stream_;
  return copy.finish().ends_with(replacement);
}

int Record::take_back_halves() {
  const int all = new_tokens();
  for (;;) {
    int half = std::min(segments_.pending(), new_tokens());
    if (half == 0 && is_half_character()) half = 1;
    const auto begin = [&](int i) {
      return i > 0 ? text_ends_[static_cast<std::size_t>(i) - 1] : 0;
    };
    while (half > 0 && begin(new_tokens() - half) < shown_) --half;
    if (half == 0) return all - new_tokens();
    take_back(half);
  }
}

void Record::rewind_stream() {
  if (!stream_) return;
  stream_.emplace(tokenizer_);
  int back = std::min(new_tokens(), stream_context);
  // A run of tokens that are bytes has no text before its end, and is told from its beginning.
  while (back < new_tokens() && text_at(new_tokens() - back).empty()) ++back;
  for (auto id = lane.tokens.end() - back; id != lane.tokens.end(); ++id) text_of(*id);
}

std::string_view Record::text_at(int i) const {
  const auto at = static_cast<std::size_t>(i);
  const std::size_t begin = i > 0 ? text_ends_[at - 1] : 0;
  return std::string_view(text_).substr(begin, text_ends_[at] - begin);
}

Moment Record::moment(const Stats& stats) const {
  Moment moment;
  moment.tokens = lane.tokens;
  moment.prompt_tokens = trace.prompt_tokens;
  moment.token = lane.tokens.back();
  moment.new_tokens = new_tokens();
  moment.segment = placed_.segment;
  moment.next = segments_.now();
  moment.completes = placed_.completes;
  moment.marker_tokens = placed_.marker_tokens;
  moment.pending_tokens = std::min(segments_.pending(), new_tokens());
  moment.think_tokens = segments_.think_tokens();
  moment.origin = Origin::prompt;
  if (!rows_.empty()) {
    moment.text = text_at(new_tokens() - 1);
    moment.tail = tail_of(text_);
    moment.origin = trace.origins[static_cast<std::size_t>(rows_.back())];
  }
  moment.logprob = stats.logprob;
  moment.entropy_nats = stats.entropy_nats;
  moment.top_token = stats.top_token;
  moment.top_logprob = stats.top_logprob;
  moment.watched = stats.watched;
  return moment;
}

void Record::emit() {
  const int ready = new_tokens() - (is_sealed() ? 0 : segments_.held());
  const std::size_t limit = shown_limit();
  for (; emitted_ < ready; ++emitted_) {
    const std::size_t end = text_ends_[static_cast<std::size_t>(emitted_)];
    const std::size_t start = end - text_at(emitted_).size();
    const bool is_end = trace.stopped == StopReason::end_token && emitted_ == new_tokens() - 1;
    std::vector<Piece> pieces;
    if (!is_end) pieces = segments_.pieces(emitted_, end - start);
    for (const Piece& piece : pieces) {
      const std::size_t begin = std::max(start + piece.begin, shown_);
      const std::size_t last = std::min(start + piece.end, limit);
      if (begin < last)
        emit_text(piece.segment, piece.index, std::string_view(text_).substr(begin, last - begin));
      shown_ = std::max(shown_, last);
      if (last < start + piece.end) return;
    }
    shown_ = std::max(shown_, end);
  }
}

// Up to where the text may be shown: not what may become a stop text.
std::size_t Record::shown_limit() const {
  if (stop_ != nullptr) return stop_begin_;
  if (is_sealed() || !stop_texts_) return text_.size();
  std::size_t held = 0;
  for (const std::string& wanted : *stop_texts_)
    for (std::size_t size = std::min(wanted.size() - 1, text_.size()); size > held; --size)
      if (std::string_view(text_).ends_with(std::string_view(wanted).substr(0, size))) held = size;
  return text_.size() - held;
}

// Of several the one that begins first, of those the first named.
void Record::look_for_stop(std::size_t before) {
  if (!stop_texts_ || stop_ != nullptr) return;
  for (const std::string& wanted : *stop_texts_) {
    const std::size_t at = text_.find(wanted, before - std::min(before, wanted.size() - 1));
    if (at == std::string::npos || (stop_ != nullptr && at >= stop_begin_)) continue;
    stop_ = &wanted;
    stop_begin_ = at;
  }
}

void Record::emit_text(Segment segment, int index, std::string_view text) {
  if (text.empty()) return;
  if (events_.empty() || events_.back().segment != segment || events_.back().index != index)
    events_.push_back({segment, index, {}});
  events_.back().text += text;
  streamed_ += text.size();
}

void Record::seal(StopReason reason, std::string error) {
  trace.stopped = reason;
  trace.error = std::move(error);
  if (reason == StopReason::stop_text) trace.stop_text = *stop_;
  emit();
  if (!stream_) return;
  const std::string rest = stream_->finish();
  text_ += rest;
  if (!text_ends_.empty()) text_ends_.back() = text_.size();
  if (stop_ != nullptr) return;
  shown_ = text_.size();
  const Segment segment = segments_.now();
  emit_text(segment, std::max(segments_.index(segment), 0), rest);
}

int Record::rows_at(int kept) const {
  if (kept == 0) return 0;
  const int row = rows_[static_cast<std::size_t>(kept) - 1];
  return static_cast<int>(std::ranges::lower_bound(world_, row) - world_.begin()) + 1;
}

void Record::go_back(Record earlier, int count, std::string_view draws) {
  const auto prompt = static_cast<std::size_t>(trace.prompt_tokens);
  const auto rows = static_cast<std::size_t>(earlier.rows());
  for (std::size_t i = rows; i < world_.size(); ++i)
    trace.is_taken_back[static_cast<std::size_t>(world_[i])] = 1;
  world_.resize(rows);
  for (std::size_t i = 0; i < rows; ++i) {
    const auto row = static_cast<std::size_t>(world_[i]);
    trace.segments[row] = earlier.trace.segments[prompt + i];
    trace.is_marker[row] = earlier.trace.is_marker[prompt + i];
  }
  trace.stopped = StopReason::running;
  trace.error.clear();
  trace.stop_text.clear();
  TraceAction& action = trace.actions.emplace_back();
  action.position = static_cast<int>(trace.tokens.size()) - 1;
  action.kind = "rewind";
  action.reason = draws;
  action.taken_back = count;
  action.seconds = seconds();
  std::size_t handed_out = streamed_;
  for (const TextEvent& event : events_) handed_out -= event.text.size();
  earlier.forget_text(handed_out);

  lane.take_back(count);
  rows_.resize(rows_.size() - static_cast<std::size_t>(count));
  segments_ = std::move(earlier.segments_);
  placed_ = earlier.placed_;
  stream_ = std::move(earlier.stream_);
  text_ = std::move(earlier.text_);
  text_ends_ = std::move(earlier.text_ends_);
  probed_ = earlier.probed_;
  emitted_ = earlier.emitted_;
  shown_ = earlier.shown_;
  stop_ = earlier.stop_;  // shared texts
  stop_begin_ = earlier.stop_begin_;
  events_ = std::move(earlier.events_);
  streamed_ = earlier.streamed_;
  rewrite_last_marker();
}

// Takes the first `bytes` of all that was streamed out of the events.
void Record::forget_text(std::size_t bytes) {
  while (!events_.empty() && bytes > 0) {
    std::string& text = events_.front().text;
    const std::size_t gone = std::min(bytes, text.size());
    text.erase(0, gone);
    bytes -= gone;
    if (text.empty()) events_.erase(events_.begin());
  }
}

std::vector<TextEvent> Record::take_events() { return std::exchange(events_, {}); }

}  // namespace pensive
