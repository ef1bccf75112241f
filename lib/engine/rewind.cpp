// Going back: a sequence is told again, from its beginning, what it was told up to a token.
// Whatever it knew later is gone with the record and the guides that knew it.
#include <algorithm>
#include <string>
#include <utility>

#include "base/inside.h"
#include "engine/parts.h"

namespace pensive {
namespace {

constexpr auto bad = ErrorCode::invalid_argument;

void check(const Sequence::Parts& sequence, int count) {
  const Record& record = sequence.record;
  const StopReason stopped = record.trace.stopped;
  require(!sequence.is_cancelled && stopped != StopReason::deadline, bad,
          "a sequence that may go on",
          to_string(sequence.is_cancelled ? StopReason::cancelled : stopped), "rewind");
  require(count >= 0 && count <= record.new_tokens(), bad,
          fmt::format("0 to {} tokens to take back, for the prompt stays", record.new_tokens()),
          std::to_string(count), "rewind");
}

// A guide with a state that clones share, or with dice of its own, comes to other tokens.
void check_same(const Record& found, const Record& expected, int kept, int rows) {
  const auto& tokens = found.lane.tokens;
  bool is_same = !found.is_sealed() && found.rows() == rows &&
                 found.lane.size() == expected.trace.prompt_tokens + kept;
  for (int i = 0; is_same && i < found.lane.size(); ++i)
    is_same =
        tokens[static_cast<std::size_t>(i)] == expected.lane.tokens[static_cast<std::size_t>(i)];
  require(is_same, bad, "guides that do the same when they are told the same",
          found.trace.error.empty() ? "other tokens" : found.trace.error, "rewind");
}

}  // namespace

void Engine::Parts::rewind(Sequence::Parts& sequence, int count, Draws draws) {
  require(is_open, bad, "an engine that still exists", "none", "rewind");
  const Call call(*this, "rewind");
  sweep();
  check(sequence, count);
  if (count == 0) return;
  Record& record = sequence.record;
  const int kept = record.new_tokens() - count;
  const int rows = record.rows_at(kept);
  const Beginning& beginning = *sequence.beginning;
  Record earlier = beginning.record;
  Guidance guidance(beginning.rules, beginning.guides);
  require(guidance.watches_like(sequence.guidance), bad,
          "guides that watch the same when they are asked again", "other tokens", "rewind");
  guidance.retell(earlier, sequence.guidance, rows);
  check_same(earlier, record, kept, rows);

  if (sequence.probe) {
    record.trace.probe_tokens += sequence.probe->record.decoded();
    scheduler.drop(sequence.probe->record.lane);
    sequence.probe.reset();
    record.lane.is_paused = false;
  }
  record.go_back(std::move(earlier), count, draws == Draws::same ? "same" : "fresh");
  sequence.guidance = std::move(guidance);
  sequence.is_ended = false;
  next_deadline_ = std::min(next_deadline_, sequence.deadline);
  scheduler.go_back(record.lane);
  if (draws == Draws::fresh) sequence.branch(++sequence.forks);
  attend(sequence);
}

}  // namespace pensive
