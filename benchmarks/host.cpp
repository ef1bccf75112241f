// What the host does in a decode step beside waiting for the card.
#include <fmt/core.h>

#include <algorithm>
#include <ctime>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "bench.h"
#include "engine/parts.h"
#include "kernels/decode.h"

namespace pensive::bench {
namespace {

// Of this thread, whoever else has the processor meanwhile.
double microseconds() {
  std::timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return 1e6 * static_cast<double>(now.tv_sec) + 1e-3 * static_cast<double>(now.tv_nsec);
}

TokenId any_allowed(const kernels::DrawRow& wish) {
  auto token = static_cast<TokenId>(4 + wish.key % 24);
  while (!wish.mask.empty() && (wish.mask[0] >> token & 1u) == 0) token = 4 + (token - 3) % 24;
  return token;
}

// A card that needs no time: draws whatever may come next.
class IdleCard final : public kernels::DecodeSteps {
 public:
  explicit IdleCard(int most_rows) : most_rows_(most_rows) {}

  bool launch(std::span<const kernels::DecodeRow> rows,
              const std::vector<kernels::DrawRow>& wishes) override {
    std::vector<kernels::Drawn>& drawn = flying_.emplace_back(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      drawn[i].token = any_allowed(wishes[i]);
      drawn[i].logprob = drawn[i].drawn_logprob = -1.5f;
      drawn[i].entropy = 2.0f;
      drawn[i].top_logprob = -0.5f;
      drawn[i].watched.resize(wishes[i].watched.size(), -4.0f);
    }
    return true;
  }
  std::vector<kernels::Drawn> wait() override {
    std::vector<kernels::Drawn> first = std::move(flying_.front());
    flying_.pop_front();
    return first;
  }
  void forget() override { flying_.clear(); }
  void settle() override {}
  int most_rows() const noexcept override { return most_rows_; }
  int captures() const noexcept override { return 0; }

 private:
  int most_rows_;
  std::deque<std::vector<kernels::Drawn>> flying_;
};

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
