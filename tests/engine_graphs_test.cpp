// Decode steps as graphs against the same engine without them, on a card.
#include <array>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

class EngineGraphs : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!has_cuda()) GTEST_SKIP() << "no CUDA card here";
    model_ = tiny_model(DeviceKind::cuda);
    soft_ = std::make_shared<SoftVocab>(model_);
    const std::array<TokenId, 2> mean{20, 21};
    soft_->add("more", mean);
  }

  EngineOptions options(bool graphs) const {
    EngineOptions options;
    options.soft = soft_;
    options.cache_tokens = 4096;
    options.graphs = graphs;
    return options;
  }

  std::shared_ptr<const Model> model_;
  std::shared_ptr<SoftVocab> soft_;
};

// Requests of many lengths; some are forced to feed a soft token midway.
std::vector<Request> requests() {
  std::vector<Request> all;
  for (int i = 0; i < 11; ++i) {
    Request& request = all.emplace_back(
        plain_request(ids(i, 1 + i * 13 % 90), static_cast<std::uint64_t>(i), 20 + i * 7));
    request.sampling.temperature = i % 3 == 0 ? 0.0f : 1.0f;
    request.sampling.top_p = i % 4 == 1 ? 0.8f : 1.0f;
    request.sampling.presence_penalty = i % 5 == 2 ? 0.5f : 0.0f;
    request.top_logprobs = i % 4;
    if (i % 3 == 1)
      request.guides = {scripted([](const Moment& moment) -> Action {
        if (moment.new_tokens != 9) return Proceed{};
        return Force{.tokens = {tiny_vocab, 5}};
      })};
  }
  return all;
}

std::vector<Trace> run(Engine& engine) {
  std::vector<Sequence> sequences;
  for (const Request& request : requests()) {
    sequences.push_back(engine.start(request));
    engine.step();
  }
  for (int i = 0; i < 6; ++i) engine.step();
  sequences.push_back(sequences.front().fork());
  engine.finish(sequences);
  std::vector<Trace> traces;
  for (const Sequence& sequence : sequences) traces.push_back(sequence.trace());
  return traces;
}

TEST_F(EngineGraphs, EqualTheEngineWithoutThem) {
  Engine with(model_, options(true)), without(model_, options(false));
  const std::vector<Trace> fast = run(with), slow = run(without);
  ASSERT_EQ(fast.size(), slow.size());
  for (std::size_t i = 0; i < fast.size(); ++i) {
    EXPECT_EQ(fast[i].tokens, slow[i].tokens) << "sequence " << i;
    EXPECT_EQ(fast[i].stopped, slow[i].stopped);
    ASSERT_EQ(fast[i].logprobs.size(), slow[i].logprobs.size());
    for (std::size_t t = 0; t < fast[i].logprobs.size(); ++t) {
      if (std::isnan(slow[i].logprobs[t])) continue;
      EXPECT_NEAR(fast[i].logprobs[t], slow[i].logprobs[t], 1e-4) << i << ", token " << t;
      EXPECT_NEAR(fast[i].entropies_nats[t], slow[i].entropies_nats[t], 1e-4);
    }
  }
}

TEST_F(EngineGraphs, RunAheadToTheSameBitsAlone) {
  EngineOptions waits = options(true);
  waits.run_ahead = false;
  Engine ahead(model_, options(true)), waiting(model_, waits);
  for (const Request& request : requests()) {
    Sequence fast = ahead.start(request), slow = waiting.start(request);
    ahead.finish(fast);
    waiting.finish(slow);
    EXPECT_EQ(print(fast.trace()), print(slow.trace()));
  }
  EXPECT_GT(ahead.counters().ahead_steps, 100);
  EXPECT_GT(ahead.counters().ahead_dropped, 0);
  EXPECT_EQ(waiting.counters().ahead_steps, 0);
}

TEST_F(EngineGraphs, AreCapturedOnceASizeAndTold) {
  std::vector<std::string> lines;
  EngineOptions told = options(true);
  told.log = [&](LogLevel, std::string_view line) {
    if (line.starts_with("graphs:")) lines.emplace_back(line);
  };
  Engine engine(model_, told);
  for (int again = 0; again < 2; ++again) finish(engine, plain_request(ids(1, 9), 1, 40));
  ASSERT_EQ(lines.size(), 1u);
  EXPECT_EQ(lines[0], "graphs: 1 captured, the newest for decode steps of 1 sequences");
  lines.clear();
  told.graphs = false;
  Engine without(model_, told);
  finish(without, plain_request(ids(1, 9), 1, 40));
  EXPECT_TRUE(lines.empty());
}

TEST_F(EngineGraphs, LeaveRowInvariantArithmeticAsItIs) {
  EngineOptions plain = options(false), asked = options(true);
  plain.arithmetic = asked.arithmetic = Arithmetic::row_invariant;
  Engine with(model_, asked), without(model_, plain);
  const std::vector<Trace> a = run(with), b = run(without);
  for (std::size_t i = 0; i < a.size(); ++i) EXPECT_EQ(print(a[i]), print(b[i])) << i;
}

}  // namespace
}  // namespace pensive::testing
