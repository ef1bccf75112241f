#include <tuple>
#include <utility>

#include "base/inside.h"
#include "engine/access.h"
#include "engine/parts.h"
#include "engine/quietly.h"

namespace pensive {

Sequence::Parts::Parts(std::shared_ptr<Engine::Parts> engine, Record record, Guidance guidance)
    : engine(std::move(engine)), record(std::move(record)), guidance(std::move(guidance)) {
  this->record.lane.owner = this;
}

Sequence::Parts::Parts(const Parts& other)
    : engine(other.engine),
      beginning(other.beginning),
      record(other.record),
      guidance(other.guidance),
      rows(other.rows),
      draw(other.draw),
      steering(other.steering),
      tally(other.tally),
      key(other.key) {
  deadline = other.deadline;
  record.forget_events();
  record.lane.owner = this;
  record.lane.stage = Stage::idle;
  record.lane.is_paused = false;
}

void Sequence::Parts::branch(std::uint32_t number) {
  record.trace.path.push_back(number);
  key = kernels::mix(key, number);
}

Sequence::Sequence(std::shared_ptr<Parts> parts) : parts_(std::move(parts)) {}
Sequence::Sequence(Sequence&&) noexcept = default;

Sequence& Sequence::operator=(Sequence&& other) noexcept {
  Sequence gone(std::exchange(parts_, std::exchange(other.parts_, nullptr)));
  return *this;
}

// Any thread may end here: the engine gives the pages back when it next looks.
Sequence::~Sequence() {
  if (!parts_) return;
  parts_->is_dropped = true;
  ++parts_->engine->calls;
}

bool Sequence::finished() const noexcept { return parts_->is_ended; }
const Trace& Sequence::trace() const noexcept { return parts_->record.trace; }
std::vector<TextEvent> Sequence::take_events() { return parts_->record.take_events(); }

void Sequence::cancel() noexcept {
  parts_->is_cancelled = true;
  ++parts_->engine->calls;
}

Sequence Sequence::fork(Draws draws) const {
  return Sequence(parts_->engine->fork(*parts_, draws));
}
void Sequence::feed(std::span<const TokenId> tokens) { parts_->engine->feed(*parts_, tokens); }
void Sequence::rewind(int tokens, Draws draws) { parts_->engine->rewind(*parts_, tokens, draws); }

std::optional<CachedPrefix> cached_prefix(const Sequence& sequence, int length) {
  const Sequence::Parts& parts = *sequence.parts();
  const Lane& lane = parts.record.lane;
  if (length < 1 || lane.cached < length) return std::nullopt;
  CachedPrefix prefix;
  quietly([&] {
    std::tie(prefix.keys, prefix.values) = parts.engine->runner.cache().gather(lane.pages, length);
  });
  return prefix;
}

std::optional<PrefixPages> prefix_pages(const Sequence& sequence, int length) {
  const Sequence::Parts& parts = *sequence.parts();
  const Lane& lane = parts.record.lane;
  if (length < 1 || lane.cached < length) return std::nullopt;
  const Cache& cache = parts.engine->runner.cache();
  PrefixPages prefix{&cache.keys, &cache.values, {}};
  prefix.slots.reserve(static_cast<std::size_t>(length));
  for (int at = 0; at < length; ++at) prefix.slots.push_back(cache.slot(lane.pages, at));
  return prefix;
}

std::optional<std::string> steered_by(const Sequence& sequence) {
  const std::string* guide = sequence.parts()->guidance.steerer();
  if (guide == nullptr) return std::nullopt;
  return *guide;
}

std::span<const int> depths_of(const Sequence& sequence) {
  return sequence.parts()->record.depths();
}

}  // namespace pensive
