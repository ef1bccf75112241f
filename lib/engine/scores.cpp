// What the model thinks of tokens that were not drawn: a prompt's, and continuations.
#include <algorithm>
#include <cmath>

#include "base/inside.h"
#include "engine/parts.h"

namespace pensive {
namespace {

constexpr auto bad = ErrorCode::invalid_argument;

// Positions of a chunk that are asked about the token after them: [first, last).
struct Range {
  int first = 0, last = 0;
};

Range unscored(const Chunk& chunk) {
  const Lane& lane = *chunk.lane;
  if (lane.unscored == INT_MAX) return {};
  const int end = lane.owner->record.trace.prompt_tokens - 1;
  return {std::max(chunk.first, lane.unscored), std::min(chunk.first + chunk.count, end)};
}

}  // namespace

void Engine::Parts::ask_scores(const Chunk& chunk, std::int64_t row) {
  const Range range = unscored(chunk);
  for (int at = range.first; at < range.last; ++at) {
    const TokenId next = chunk.lane->tokens[static_cast<std::size_t>(at) + 1];
    wishes_.scores.push_back({row + at - chunk.first, next < model->vocab_size() ? next : -1,
                              chunk.lane->owner->record.trace.top_count});
  }
}

void Engine::Parts::hand_out_scores(const Plan& plan, const std::vector<kernels::Drawn>& scored) {
  auto one = scored.begin();
  for (const Chunk& chunk : plan.chunks) {
    const Range range = unscored(chunk);
    Record& record = chunk.lane->owner->record;
    for (int at = range.first; at < range.last; ++at, ++one) {
      if (!one->is_finite) continue;  // the draw at the prompt's end will say so
      Stats stats;
      if (!one->watched.empty()) stats.logprob = one->watched.front();
      stats.entropy_nats = one->entropy;
      stats.top_tokens = one->listed_tokens;
      stats.top_logprobs = one->listed_logprobs;
      record.score(at + 1, stats);
    }
    if (range.first >= range.last) continue;
    chunk.lane->unscored = range.last < record.trace.prompt_tokens - 1 ? range.last : INT_MAX;
  }
}

std::vector<float> Engine::Parts::score(std::span<const TokenId> prompt,
                                        std::span<const TokenId> continuation) {
  require(!prompt.empty() && !continuation.empty(), bad, "a prompt and a continuation",
          prompt.empty() ? "no prompt" : "no continuation", "score");
  for (const TokenId id : continuation)
    require(id >= 0 && id < model->vocab_size(), bad,
            fmt::format("a continuation of ids from 0 to {}", model->vocab_size() - 1),
            std::to_string(id), "score");
  Request request;
  request.prompt.assign(prompt.begin(), prompt.end());
  request.prompt.insert(request.prompt.end(), continuation.begin(), continuation.end());
  request.sampling.temperature = 0.0f;
  request.max_new_tokens = 1;  // drawn beside the last score, at no price
  request.prompt_logprobs = true;
  const Sequence sequence(start(request));
  Record& record = sequence.parts()->record;
  record.lane.unscored = static_cast<int>(prompt.size()) - 1;
  while (!record.is_sealed()) step();
  const auto& logprobs = record.trace.logprobs;
  const auto first = logprobs.begin() + static_cast<std::ptrdiff_t>(prompt.size());
  std::vector<float> scores(first, first + static_cast<std::ptrdiff_t>(continuation.size()));
  if (std::ranges::any_of(scores, [](float score) { return std::isnan(score); }))
    fail(ErrorCode::internal, "finite logits, and room in the cache",
         record.trace.error.empty() ? to_string(record.trace.stopped) : record.trace.error,
         "score");
  return scores;
}

std::vector<float> Engine::score(std::span<const TokenId> prompt,
                                 std::span<const TokenId> continuation) {
  const Turn turn(*this);
  return parts_->score(prompt, continuation);
}

}  // namespace pensive
