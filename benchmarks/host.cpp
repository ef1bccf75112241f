// What the host does in a decode step beside waiting for the card.
#include <fmt/core.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <vector>

#include "bench.h"
#include "engine/parts.h"
#include "idle_card.h"

namespace pensive::bench {
namespace {

// Of this thread, whoever else has the processor meanwhile.
double microseconds() {
  std::timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e6 * static_cast<double>(now.tv_sec) + 1e-3 * static_cast<double>(now.tv_nsec);
}

}  // namespace

void Bench::host(int batch, std::string_view name,
                 const std::vector<std::shared_ptr<const Guide>>& guides) {
  const int steps = std::min(200, (model_->max_positions() - 66) / (options_.repetitions + 1));
  EngineOptions wanted;
  wanted.max_live_sequences = batch;
  wanted.reuse_prefixes = false;
  wanted.cache_tokens = std::int64_t{batch} * (64 + (options_.repetitions + 1) * steps);
  wanted.run_ahead = options_.run_ahead;
  Engine engine(model_, wanted);
  engine.parts()->runner.decode_with(
      [](const auto&, int most_rows) { return std::make_unique<IdleCard>(most_rows); });
  std::vector<Sequence> sequences;
  for (const Request& request : guided_requests(batch, 0, guides)) {
    Request longer = request;
    longer.max_new_tokens = (options_.repetitions + 1) * steps;
    sequences.push_back(engine.start(longer));
  }
  const auto decodes = [](const Sequence& one) { return one.trace().decoded_tokens() > 0; };
  do engine.step();
  while (!std::all_of(sequences.begin(), sequences.end(), decodes));
  std::vector<double> taken;
  for (int repeat = 0; repeat < options_.repetitions; ++repeat) {
    const double start = microseconds();
    for (int i = 0; i < steps; ++i) engine.step();
    taken.push_back((microseconds() - start) / steps);
  }
  report(fmt::format("host part of a step, {}", name), "us", spread_of(taken),
         fmt::format("batch {}; {} of {} steps early", batch, engine.counters().ahead_steps,
                     engine.counters().steps));
}

}  // namespace pensive::bench
