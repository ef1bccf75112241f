// What a request wants of its draws: cuts, penalties, biases and masks; and what it is told of
// them.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

constexpr auto bad = ErrorCode::invalid_argument;

// A guide that sees every token's logprob at every step, before anything is added.
struct Seen {
  std::vector<std::vector<float>> steps;
  std::shared_ptr<Scripted> guide = std::make_shared<Scripted>();
  Seen() {
    for (TokenId id = 0; id < tiny_vocab; ++id) guide->wants.push_back(id);
    guide->token = [this](const Moment& m) -> Action {
      steps.emplace_back(m.watched.begin(), m.watched.end());
      return Proceed{};
    };
  }
};

// The logprob of one token where weights are exp(logits).
float logprob(const std::vector<double>& logits, TokenId token) {
  double sum = 0;
  for (const double logit : logits) sum += std::exp(logit);
  return static_cast<float>(logits[static_cast<std::size_t>(token)] - std::log(sum));
}

TEST(Sampling, SaysWhoLeftNothingToDrawFrom) {
  Engine engine(tiny_model());
  Request request = plain_request(ids(1, 9));
  request.sampling.banned_tokens = {9};
  request.guides = {scripted([](const Moment&) -> Action { return Allow{{1u << 9}}; })};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().stopped, StopReason::error);
  EXPECT_THAT(sequence.trace().error,
              ::testing::HasSubstr("that masks and biases leave, with a finite logit; found none "
                                   "(Sampling, guide scripted)"));
  request.guides = {};
  request.sampling.banned_tokens = {};
  for (TokenId id = 0; id < tiny_vocab; ++id)
    request.sampling.logit_bias.push_back({id, -std::numeric_limits<float>::infinity()});
  Sequence other = engine.start(request);
  engine.finish(other);
  EXPECT_THAT(other.trace().error, ::testing::HasSubstr("found none (Sampling)"));
}

TEST(Sampling, UnsetNumbersComeFromTheCheckpoint) {
  const TempDir folder;
  for (const auto& file : std::filesystem::directory_iterator(data("models/plain")))
    std::filesystem::copy_file(file.path(), folder / file.path().filename().string());
  write_file(folder / "generation_config.json",
             R"({"temperature": 0.9, "min_p": 0.3, "repetition_penalty": 1.7})");
  const auto asking = Model::load(folder.path(), {.precision = Precision::float32});
  write_file(folder / "generation_config.json", "{}");
  const auto silent = Model::load(folder.path(), {.precision = Precision::float32});
  const auto draw = [](const std::shared_ptr<const Model>& model, const Sampling& sampling) {
    Engine engine(model, exact());
    Request request = plain_request(ids(1, 12), 5, 24);
    request.sampling = sampling;
    request.sampling.seed = 5;
    Sequence sequence = engine.start(request);
    engine.finish(sequence);
    return sequence.trace().drawn_logprobs;
  };
  const Sampling named{.temperature = 0.9f, .min_p = 0.3f, .repetition_penalty = 1.7f};
  const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
    return std::ranges::equal(
        a, b, [](float x, float y) { return x == y || (std::isnan(x) && std::isnan(y)); });
  };
  EXPECT_TRUE(same(draw(asking, {}), draw(silent, named)));
  EXPECT_FALSE(same(draw(asking, {}), draw(silent, {.temperature = 0.9f, .min_p = 0.3f})));
  EXPECT_FALSE(
      same(draw(asking, {}), draw(silent, {.temperature = 0.9f, .repetition_penalty = 1.7f})));
}

TEST(Sampling, PenaltiesCountTheOutputAndStatisticsDoNotKnowThem) {
  Engine engine(tiny_model(), exact());
  Seen seen;
  Request request = plain_request(ids(1, 30), 5, 40);
  request.guides = {seen.guide};
  request.sampling.presence_penalty = 0.7f;
  request.sampling.frequency_penalty = 0.4f;
  request.sampling.logit_bias = {{9, 2.0f}, {8, -std::numeric_limits<float>::infinity()}};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  const Trace& trace = sequence.trace();
  std::vector<int> counts(tiny_vocab);
  int repeated = 0;
  for (std::size_t i = 0; i < 40; ++i) {
    std::vector<double> logits(seen.steps[i].begin(), seen.steps[i].end());
    logits[9] += 2;
    logits[8] = -INFINITY;
    for (std::size_t id = 0; id < logits.size(); ++id)
      if (counts[id] > 0) logits[id] -= 0.7 + 0.4 * counts[id];
    const TokenId token = trace.tokens[30 + i];
    EXPECT_NE(token, 8);
    EXPECT_NEAR(trace.drawn_logprobs[30 + i], logprob(logits, token), 2e-5) << i;
    EXPECT_EQ(trace.logprobs[30 + i], seen.steps[i][static_cast<std::size_t>(token)]);
    repeated += counts[static_cast<std::size_t>(token)]++ > 0 ? 1 : 0;
  }
  EXPECT_GT(repeated, 0);
}

TEST(Sampling, ARepetitionPenaltyCountsThePromptToo) {
  Engine engine(tiny_model(), exact());
  std::vector<TokenId> prompt(60);
  std::iota(prompt.begin(), prompt.end(), 4);  // all but 0 to 3
  Request request = plain_request(prompt, 5, 4);
  request.sampling.repetition_penalty = 1e30f;  // all logits are below 0 here
  request.sampling.logit_bias = {};
  for (TokenId id = 0; id < tiny_vocab; ++id) request.sampling.logit_bias.push_back({id, -100});
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  auto drawn = std::vector(sequence.trace().tokens.end() - 4, sequence.trace().tokens.end());
  std::ranges::sort(drawn);
  EXPECT_EQ(drawn, (std::vector<TokenId>{0, 1, 2, 3}));
}

TEST(Sampling, AddsUpForTheDraw) {
  Sampling sampling;
  sampling.repetition_penalty = 1.5f;
  sampling.presence_penalty = 1;
  sampling.frequency_penalty = 0.25f;
  sampling.logit_bias = {{7, 3}, {5, 2}};
  sampling.banned_tokens = {6};
  const Steering steering(sampling, 64);
  Tally tally;
  tally.follow(std::vector<TokenId>{5, 70, 6, 6, 9}, 2);  // 70 is a soft id
  tally.follow(std::vector<TokenId>{5, 70, 6, 8}, 2);     // the rest was taken back
  kernels::DrawRow row;
  const std::vector<Bias> guides{{5, 1, 0.5f}};
  const std::vector<std::uint32_t> mask{0xf0u, 0};
  steering.steer(row, tally, guides, mask);
  EXPECT_EQ(row.bias_tokens, (std::vector<std::int32_t>{5, 6, 7, 8}));
  EXPECT_EQ(row.bias_logits, (std::vector<float>{3, 0, 3, 0}));
  EXPECT_EQ(row.bias_times_max_minus_mean, (std::vector<float>{0.5f, 0, 0, 0}));
  EXPECT_EQ(row.bias_repetitions, (std::vector<float>{1.5f, 1.5f, 1, 1.5f}));
  EXPECT_EQ(row.bias_penalties, (std::vector<float>{0, 1.25f, 0, 1.25f}));
  EXPECT_EQ(row.mask, (std::vector<std::uint32_t>{0xb0u, 0}));
}

TEST(Sampling, MasksAndCuts) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request(ids(1, 9), 5, 60);
  request.sampling.allowed_tokens = {20, 21, 40, 63};
  request.sampling.banned_tokens = {21};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  for (std::size_t i = 9; i < 69; ++i)
    EXPECT_TRUE((std::set<TokenId>{20, 40, 63}.contains(sequence.trace().tokens[i])));

  Seen seen;
  request = plain_request(ids(1, 9), 5, 60);
  request.guides = {seen.guide};
  request.sampling.min_p = 0.4f;
  Sequence cut = engine.start(request);
  engine.finish(cut);
  for (std::size_t i = 0; i < 60; ++i) {
    const float top = std::ranges::max(seen.steps[i]);
    EXPECT_GE(cut.trace().logprobs[9 + i], top + std::log(0.4f) - 1e-5);
  }
  request.sampling.min_p = 1.0f;
  request.sampling.temperature = 5.0f;
  const auto likeliest = finish(engine, request);
  request.sampling.temperature = 0.0f;
  EXPECT_EQ(likeliest, finish(engine, request));
}

TEST(Sampling, WhatIsTakenBackIsNotCountedAndForksCountOn) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request(ids(1, 9), 5, 30);
  request.sampling.presence_penalty = 100;
  Sequence sequence = engine.start(request);
  for (int i = 0; i < 10; ++i) engine.step();
  sequence.rewind(6);
  Sequence fork = sequence.fork();
  engine.finish(sequence);
  engine.finish(fork);
  for (const Sequence* one : {&sequence, &fork}) {
    auto kept = one->trace().kept();
    kept.erase(kept.begin(), kept.begin() + 9);
    EXPECT_EQ(kept.size(), 30u);
    std::ranges::sort(kept);
    EXPECT_EQ(std::ranges::adjacent_find(kept), kept.end());
  }
}

TEST(Sampling, RefusesWhatCannotBe) {
  Engine engine(tiny_model(), exact());
  const auto refused = [&](std::string_view text, const std::function<void(Sampling&)>& spoil) {
    Request request = plain_request(ids(1, 9));
    spoil(request.sampling);
    EXPECT_ERROR(engine.start(request), bad, std::string(text));
  };
  static constexpr float infinity = std::numeric_limits<float>::infinity();
  refused("min_p", [](Sampling& s) { s.min_p = -0.1f; });
  refused("min_p", [](Sampling& s) { s.min_p = 1.5f; });
  refused("min_p", [](Sampling& s) { s.min_p = NAN; });
  refused("repetition_penalty above 0; found 0", [](Sampling& s) { s.repetition_penalty = 0.0f; });
  refused("repetition_penalty", [](Sampling& s) { s.repetition_penalty = infinity; });
  refused("presence_penalty", [](Sampling& s) { s.presence_penalty = NAN; });
  refused("frequency_penalty", [](Sampling& s) { s.frequency_penalty = infinity; });
  refused("ids from 0 to 63; found 64 (Sampling::logit_bias)", [](Sampling& s) {
    s.logit_bias = {{64, 1}};
  });
  refused("a finite bias", [](Sampling& s) { s.logit_bias = {{5, infinity}}; });
  refused("one bias a token", [](Sampling& s) { s.logit_bias = {{5, 1}, {6, 1}, {5, 2}}; });
  refused("Sampling::allowed_tokens", [](Sampling& s) { s.allowed_tokens = {-1}; });
  refused("Sampling::banned_tokens", [](Sampling& s) { s.banned_tokens = {64}; });
  refused("at least one token that may be drawn", [](Sampling& s) {
    s.allowed_tokens = {7};
    s.banned_tokens = {7};
  });
}

}  // namespace
}  // namespace pensive::testing
