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

// Row-invariant arithmetic: the same bits alone, in a crowd, ahead or not, with graphs or without.
class EngineInvariant : public ::testing::TestWithParam<Precision> {
 protected:
  void SetUp() override {
    if (!has_cuda()) GTEST_SKIP() << "no CUDA card here";
    model_ = Model::load(PENSIVE_REASONER, {.device = {DeviceKind::cuda}, .precision = GetParam()});
  }

  EngineOptions options() const {
    EngineOptions options;
    options.arithmetic = Arithmetic::row_invariant;
    options.cache_tokens = 1 << 15;
    options.max_live_sequences = 64;
    return options;
  }

  std::vector<Request> requests() const {
    std::vector<Request> all;
    for (int i = 0; i < 64; ++i) {
      std::vector<TokenId> prompt = ids(i, 1 + i * 29 % 180);
      for (TokenId& id : prompt) id %= model_->vocab_size();
      Request& request = all.emplace_back(
          plain_request(std::move(prompt), static_cast<std::uint64_t>(i), 5 + i * 17 % 120));
      request.markers.reset();
      request.sampling.temperature = i % 5 == 0 ? 0.0f : 0.3f + 0.1f * static_cast<float>(i % 9);
      request.sampling.top_p = i % 4 == 1 ? 0.8f : 1.0f;
      request.sampling.top_k = i % 7 == 2 ? 5 : 0;
      request.sampling.presence_penalty = i % 6 == 3 ? 0.5f : 0.0f;
      request.top_logprobs = i % 3;
    }
    return all;
  }

  std::vector<std::string> together(const EngineOptions& options) const {
    Engine engine(model_, options);
    std::vector<Sequence> sequences;
    for (const Request& request : requests()) {
      sequences.push_back(engine.start(request));
      if (sequences.size() % 3 == 0) engine.step();  // prompts beside decoding rows
    }
    engine.finish(sequences);
    std::vector<std::string> traces;
    for (const Sequence& sequence : sequences) traces.push_back(print(sequence.trace()));
    return traces;
  }

  std::shared_ptr<const Model> model_;
};

INSTANTIATE_TEST_SUITE_P(Precisions, EngineInvariant,
                         ::testing::Values(Precision::bfloat16, Precision::float32,
                                           Precision::float16),
                         [](const auto& info) { return std::string(to_string(info.param)); });

TEST_P(EngineInvariant, SixtyFourTogetherAreAsAlone) {
  EngineOptions alone = options();
  alone.run_ahead = alone.reuse_prefixes = false;
  Engine engine(model_, alone);
  std::vector<std::string> expected;
  for (const Request& request : requests()) {
    Sequence sequence = engine.start(request);
    engine.finish(sequence);
    expected.push_back(print(sequence.trace()));
  }
  EngineOptions waits = options(), plain = options(), small = options();
  waits.run_ahead = false;
  plain.graphs = false;
  small.max_tokens_per_step = 70;
  small.cache_tokens = 2000;  // some are computed again
  for (const EngineOptions& other : {options(), waits, plain, small}) {
    const std::vector<std::string> found = together(other);
    for (std::size_t i = 0; i < found.size(); ++i)
      ASSERT_EQ(found[i], expected[i])
          << i << ", ahead " << other.run_ahead << ", graphs " << other.graphs;
  }
}

TEST_P(EngineInvariant, PromptsAreScoredWithTheBitsOfDecoding) {
  Engine engine(model_, options());
  for (const Request& request : requests()) {
    Sequence sequence = engine.start(request);
    engine.finish(sequence);
    const Trace& trace = sequence.trace();
    const std::vector<TokenId> kept = trace.kept();
    const auto prompt = static_cast<std::size_t>(trace.prompt_tokens);
    const std::vector<float> scores =
        engine.score(std::span(kept).first(prompt), std::span(kept).subspan(prompt));
    ASSERT_EQ(scores.size(), kept.size() - prompt);
    ASSERT_FALSE(scores.empty());
    for (std::size_t i = 0; i < scores.size(); ++i)
      ASSERT_EQ(scores[i], trace.logprobs[prompt + i]) << "prompt of " << prompt << ", token " << i;
  }
}

}  // namespace
}  // namespace pensive::testing
