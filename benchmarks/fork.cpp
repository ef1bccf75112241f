// What it takes to fork a long sequence.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <vector>

#include "bench.h"
#include "engine/parts.h"
#include "idle_card.h"

namespace pensive::bench {
namespace {

using Clock = std::chrono::steady_clock;

double microseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::micro>(Clock::now() - start).count();
}

}  // namespace

// A fork shares the cache's pages: what is timed is the host's copy of the sequence, its trace and
// its guides. The page that both would write is copied by the first step after it. Once nearly all
// of it is prompt, once nearly all was drawn, which has more to copy; a card that needs no time
// draws it.
void Bench::fork(int most_length, int prompt_tokens) {
  constexpr int forks = 20;
  const int length = std::min(most_length, model_->max_positions() - 1);
  const int given = prompt_tokens > 0 ? prompt_tokens : length - 8;
  EngineOptions wanted;
  wanted.max_live_sequences = 2;
  wanted.max_tokens_per_step = 2048;
  wanted.cache_tokens = length + 1024;
  Engine engine(model_, wanted);
  engine.parts()->runner.decode_with(
      [](const auto&, int most_rows) { return std::make_unique<IdleCard>(most_rows); });
  Request request;
  request.prompt = prompt(given, 1);
  request.max_new_tokens = length;
  request.ignore_end_tokens = true;
  Sequence sequence = engine.start(request);
  while (static_cast<int>(sequence.trace().tokens.size()) < length) engine.step();

  std::vector<double> microseconds;
  int taken = 0;
  for (int i = 0; i < options_.repetitions * forks; ++i) {
    const int before = engine.counters().free_pages;
    const auto start = Clock::now();
    const Sequence fork = sequence.fork();
    microseconds.push_back(microseconds_since(start));
    taken = std::max(taken, before - engine.counters().free_pages);
  }
  report("fork", "us", spread_of(microseconds),
         fmt::format("{} tokens, {} of them drawn; {} of {} pages taken", length, length - given,
                     taken, engine.counters().pages));
}

}  // namespace pensive::bench
