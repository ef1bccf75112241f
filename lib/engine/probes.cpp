// Questions on the side: a hidden sequence that shares its asker's pages and has no guides.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "engine/parts.h"

namespace pensive {
namespace {

// Keeps a probe's draws apart from those of a fork.
constexpr std::uint64_t probe_salt = 0x70726f6265;

bool holds_any(std::string_view text, const std::vector<std::string>& wanted) {
  return std::ranges::any_of(wanted, [&](const std::string& one) {
    return !one.empty() && text.find(one) != std::string_view::npos;
  });
}

}  // namespace

// False where no pages are free: nothing has happened then.
bool Engine::Parts::start_probe(Sequence::Parts& asker) {
  const Probe& wish = *asker.guidance.probe();
  const Lane& from = asker.record.lane;
  const int kept = from.size() - wish.from_back;
  const int fed = static_cast<int>(wish.tokens.size());
  const int cached = std::min(from.cached, kept);
  // Even where no position is left, one token is drawn.
  const std::int64_t room = std::max(1, asker.guidance.rules().max_tokens - kept);
  const auto most = static_cast<int>(std::min(std::int64_t{fed} + wish.max_new_tokens, room));
  if (!scheduler.has_room(cached, kept + most)) return false;

  auto rules = std::make_shared<Rules>(asker.guidance.rules());
  rules->closing.clear();
  rules->max_new_tokens = most;
  const std::vector<TokenId> prompt(from.tokens.begin(), from.tokens.begin() + kept);
  Segments segments;
  segments.begin(prompt, Segment::answer);
  auto probe = std::make_shared<Sequence::Parts>(
      shared_from_this(), Record(prompt, std::move(segments), asker.record.tokenizer()),
      Guidance(std::move(rules), {}));
  probe->asker = &asker;
  probe->rows = asker.rows;
  probe->draw.temperature = wish.temperature;
  probe->key = kernels::mix(kernels::mix(asker.key, asker.record.clock()), probe_salt);
  // Asked again at the same place, it draws anew.
  probe->key = kernels::mix(probe->key, static_cast<std::uint64_t>(asker.record.probed()));
  probe->stop_texts = wish.stop_texts;
  probe->guidance.feed(probe->record, wish.tokens);
  probe->fed_tokens = fed;
  probe->fed_bytes = probe->record.text().size();

  Lane& lane = probe->record.lane;
  lane.cached = cached;
  lane.pages = from.pages;
  lane.chain = from.chain;
  lane.soft_version = from.soft_version;
  lane.is_probe = true;
  scheduler.adopt(lane);
  asker.record.lane.is_paused = true;
  asker.probe = std::move(probe);
  attend_probe(*asker.probe);  // it may have come to the last position already
  return true;
}

void Engine::Parts::attend_probe(Sequence::Parts& probe) {
  Record& record = probe.record;
  if (!record.is_sealed() && holds_any(record.text().substr(probe.fed_bytes), probe.stop_texts))
    record.seal(StopReason::guide);
  if (!record.is_sealed()) return;

  Sequence::Parts& asker = *probe.asker;
  const std::shared_ptr<Sequence::Parts> alive = std::exchange(asker.probe, nullptr);
  scheduler.drop(record.lane);
  asker.record.lane.is_paused = false;
  const auto first =
      std::min(static_cast<std::size_t>(record.trace.prompt_tokens + probe.fed_tokens),
               record.trace.tokens.size());
  if (record.trace.stopped == StopReason::error) {
    asker.record.count_probe(record.decoded());
    asker.record.seal(StopReason::error, "probe: " + record.trace.error);
  } else {
    ProbeReply reply;
    reply.tokens = std::span(record.trace.tokens).subspan(first);
    reply.logprobs = std::span(record.trace.logprobs).subspan(first);
    reply.text = record.text().substr(probe.fed_bytes);
    asker.guidance.answer(asker.record, reply, record.decoded());
  }
  attend(asker);
}

}  // namespace pensive
