// Whole training steps on a tiny random model.
#include <ATen/autocast_mode.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "train_toy.h"

namespace pensive {
namespace {

using testing::exact;
using testing::expect_error;
using testing::FeedRow;
using testing::problems;
using testing::tiny_model;
using testing::tiny_vocab;
using testing::Toy;
using testing::WantsWord;

class Constant final : public Judge {
 public:
  explicit Constant(double value) : value_(value) {}
  double score(const Problem&, const Response&) const override { return value_; }

 private:
  double value_;
};

// Works until it is told to fail on the problem "bad".
class Failing final : public WantsWord {
 public:
  mutable int mode = 0;
  double score(const Problem& problem, const Response& response) const override {
    if (problem.id == "bad" && mode == 1) throw std::runtime_error("the judge broke");
    if (problem.id == "bad" && mode == 2) return std::numeric_limits<double>::quiet_NaN();
    return WantsWord::score(problem, response);
  }
};

TEST(Trainer, RaisesTheRewardOfAToy) {
  Toy toy;
  toy.options.learning_rate = 0.3;
  toy.options.rollout.sampling.temperature = 0.6f;
  Trainer trainer = toy.trainer();
  double early = 0, late = 0;
  for (int step = 0; step < 40; ++step) {
    const TrainReport report = trainer.step(problems(8));
    EXPECT_EQ(report.step, step + 1);
    if (step < 3) early += report.mean_reward / 3;
    if (step >= 36) late += report.mean_reward / 4;
  }
  EXPECT_LT(early, 0.6);
  EXPECT_GT(late, 0.85);
}

TEST(Trainer, ReportsWhatHappened) {
  Toy toy;
  const std::vector<float> before = toy.soft->row(toy.row);
  Trainer trainer = toy.trainer();
  const TrainReport report = trainer.step(problems(6));
  const std::vector<float> after = toy.soft->row(toy.row);
  double moved = 0, size = 0;
  for (std::size_t i = 0; i < after.size(); ++i) {
    moved += std::pow(static_cast<double>(after[i]) - before[i], 2);
    size += std::pow(static_cast<double>(after[i]), 2);
  }
  EXPECT_NEAR(report.row_distance, std::sqrt(moved), 1e-9);
  EXPECT_NEAR(report.row_norm, std::sqrt(size), 1e-9);
  // Adam's first step is the rate in every coordinate that has a gradient.
  EXPECT_NEAR(report.row_distance, 0.1 * std::sqrt(after.size()), 1e-4);
  EXPECT_EQ(report.mean_tokens, 12);
  EXPECT_GT(report.gradient_norm, 0);
  EXPECT_GT(report.spread_share, 0);
  EXPECT_LE(report.spread_share, 1);
  EXPECT_GT(report.mean_logprob_gap, 0) << "float32 on both sides, in other orders of summation";
  EXPECT_LE(report.mean_logprob_gap, report.max_logprob_gap);
  EXPECT_LT(report.mean_logprob_gap, 1e-6);
  EXPECT_LT(report.max_logprob_gap, 3e-5);
  EXPECT_EQ(report.clip_share, 0) << "one inner step clips nothing";
  EXPECT_GE(report.rollout_seconds, 0);
  EXPECT_GE(report.update_seconds, 0);
  EXPECT_EQ(trainer.steps_done(), 1);
}

TEST(Trainer, WithoutSpreadMovesNothing) {
  Toy toy;
  toy.options.total_steps = 2;
  Trainer trainer = toy.trainer(std::make_shared<Constant>(0.7));
  const std::uint64_t version = toy.soft->version();
  const TrainReport report = trainer.step(problems(3));
  EXPECT_EQ(toy.soft->version(), version);
  EXPECT_EQ(report.spread_share, 0);
  EXPECT_EQ(report.gradient_norm, 0);
  EXPECT_EQ(report.row_distance, 0);
  EXPECT_NEAR(report.mean_reward, 0.7, 1e-12);
  EXPECT_EQ(trainer.steps_done(), 1) << "the schedule advances";
}

TEST(Trainer, WithoutTheRowMovesNothing) {
  Toy toy;
  toy.options.rollout.guides.clear();
  class Length final : public Judge {
    double score(const Problem&, const Response& response) const override {
      return static_cast<double>(response.text.size());
    }
  };
  Trainer trainer = toy.trainer(std::make_shared<Length>());
  const std::uint64_t version = toy.soft->version();
  const TrainReport report = trainer.step(problems(3));
  EXPECT_GT(report.spread_share, 0);
  EXPECT_EQ(toy.soft->version(), version);
}

TEST(Trainer, IsTheSameHoweverItIsBatched) {
  const auto row_after = [](EngineOptions with, int max_batch_tokens) {
    Toy toy(std::move(with), 2);
    toy.options.max_batch_tokens = max_batch_tokens;
    Trainer trainer = toy.trainer();
    trainer.step(problems(5));
    trainer.step(problems(5));
    return toy.soft->row(toy.row);
  };
  const std::vector<float> expected = row_after(exact(), 16384);
  EngineOptions other = exact();
  other.reuse_prefixes = false;
  EXPECT_EQ(row_after(other, 16384), expected) << "cold prefill";
  other = exact();
  other.max_live_sequences = 3;
  EXPECT_EQ(row_after(other, 16384), expected) << "a few at a time";
  // Other batches sum in another order, which Adam's first steps may enlarge a little.
  EXPECT_THAT(row_after(exact(), 40), ::testing::Pointwise(::testing::FloatNear(2e-3f), expected));
  // So small a cache that finished samples lose their pages: prefixes are computed again.
  other = exact();
  other.cache_tokens = 96;
  EXPECT_THAT(row_after(other, 16384), ::testing::Pointwise(::testing::FloatNear(2e-3f), expected));
}

TEST(Trainer, ClipsWhatSeveralInnerStepsOverdo) {
  Toy toy;
  toy.options.inner_steps = 4;
  toy.options.learning_rate = 0.3;
  toy.options.clip = 0.05;
  Trainer trainer = toy.trainer();
  const TrainReport report = trainer.step(problems(6));
  EXPECT_GT(report.clip_share, 0);
  EXPECT_LE(report.clip_share, 1);
}

TEST(Trainer, DecaysItsRateToNothing) {
  Toy toy;
  toy.options.total_steps = 2;
  Trainer trainer = toy.trainer();
  trainer.step(problems(4));
  trainer.step(problems(4));
  const std::uint64_t version = toy.soft->version();
  trainer.step(problems(4));
  EXPECT_EQ(toy.soft->version(), version) << "past total_steps the rate is 0";
  EXPECT_EQ(trainer.steps_done(), 3);
}

TEST(Trainer, AnErrorLeavesAllAsItWas) {
  Toy toy, twin;
  const auto judge = std::make_shared<Failing>();
  Trainer trainer = toy.trainer(judge), other = twin.trainer(judge);
  std::vector<Problem> list = problems(4);
  list.back().id = "bad";
  trainer.step(list);
  other.step(list);
  const std::vector<float> before = toy.soft->row(toy.row);
  judge->mode = 1;
  EXPECT_THROW(trainer.step(list), std::runtime_error);
  judge->mode = 2;
  expect_error(ErrorCode::invalid_argument, "problem bad", [&] { trainer.step(list); });
  expect_error(ErrorCode::invalid_argument, "at least one problem", [&] { trainer.step({}); });
  EXPECT_EQ(toy.soft->row(toy.row), before);
  EXPECT_EQ(trainer.steps_done(), 1);
  judge->mode = 0;
  trainer.step(list);
  other.step(list);
  EXPECT_EQ(toy.soft->row(toy.row), twin.soft->row(twin.row));
  testing::expect_no_leak(*toy.engine);
}

TEST(Trainer, NamesTheSampleWhoseGuideThrew) {
  Toy toy;
  toy.options.rollout.guides.push_back(testing::scripted([](const Moment& moment) -> Action {
    if (moment.new_tokens == 5) throw std::runtime_error("a broken guide");
    return Proceed{};
  }));
  Trainer trainer = toy.trainer();
  expect_error(ErrorCode::invalid_argument, "a broken guide", [&] { trainer.step(problems(2)); });
  EXPECT_EQ(trainer.steps_done(), 0);
}

TEST(Trainer, RefusesGuidesThatSteerDraws) {
  const std::vector<Action> steering = {Proceed{{{.token = 9, .logit = 1}}},
                                        Allow{{0xfffffff0u, 0xffffffffu}}};
  for (const Action& action : steering) {
    Toy toy;
    toy.options.rollout.guides.push_back(testing::scripted([&](const Moment& moment) -> Action {
      return moment.new_tokens == 5 ? action : Proceed{};
    }));
    Trainer trainer = toy.trainer();
    const std::uint64_t version = toy.soft->version();
    expect_error(ErrorCode::unsupported, "guide scripted", [&] { trainer.step(problems(2)); });
    EXPECT_EQ(trainer.steps_done(), 0);
    EXPECT_EQ(toy.soft->version(), version);
  }
  // A wish that no draw ever met does no harm.
  Toy toy;
  toy.options.rollout.guides.push_back(testing::scripted([&](const Moment& moment) -> Action {
    return moment.new_tokens == 12 ? steering[0] : Proceed{};
  }));
  EXPECT_EQ(toy.trainer().step(problems(2)).step, 1);
}

TEST(Trainer, NamesTheProblemThatCannotStart) {
  Toy toy;
  toy.options.prompt_of = [](const Problem& problem) {
    return std::vector<TokenId>(problem.id == "2" ? 5000 : 3, 5);
  };
  Trainer trainer = toy.trainer();
  expect_error(ErrorCode::invalid_argument, "(problem 2)", [&] { trainer.step(problems(4)); });
  EXPECT_EQ(trainer.steps_done(), 0);
  testing::expect_no_leak(*toy.engine);
}

TEST(Trainer, WorksInTheHostsModes) {
  Toy plain;
  plain.trainer().step(problems(4));
  for (const bool inference : {false, true}) {
    const c10::InferenceMode maybe(inference);
    const c10::AutoGradMode no_gradient(false);
    Toy toy;
    at::autocast::set_autocast_enabled(at::kCPU, inference);
    toy.trainer().step(problems(4));
    at::autocast::set_autocast_enabled(at::kCPU, false);
    EXPECT_EQ(c10::InferenceMode::is_enabled(), inference);
    EXPECT_FALSE(c10::GradMode::is_enabled());
    EXPECT_EQ(toy.soft->row(toy.row), plain.soft->row(plain.row));
  }
}

TEST(Trainer, RefusesWhatItCannotDo) {
  const auto refuse = [](ErrorCode code, const std::string& says, auto change) {
    Toy toy;
    change(toy);
    expect_error(code, says, [&] { toy.trainer(); });
  };
  using enum ErrorCode;
  refuse(unsupported, "top_k", [](Toy& s) { s.options.rollout.sampling.top_k = 20; });
  refuse(unsupported, "top_p", [](Toy& s) { s.options.rollout.sampling.top_p = 0.9f; });
  refuse(unsupported, "min_p", [](Toy& s) { s.options.rollout.sampling.min_p = 0.1f; });
  refuse(unsupported, "repetition_penalty",
         [](Toy& s) { s.options.rollout.sampling.repetition_penalty = 1.1f; });
  refuse(unsupported, "presence_penalty",
         [](Toy& s) { s.options.rollout.sampling.presence_penalty = 1; });
  refuse(unsupported, "frequency_penalty",
         [](Toy& s) { s.options.rollout.sampling.frequency_penalty = 1; });
  refuse(unsupported, "logit_bias", [](Toy& s) {
    s.options.rollout.sampling.logit_bias = {{5, 1}};
  });
  refuse(unsupported, "banned_tokens",
         [](Toy& s) { s.options.rollout.sampling.banned_tokens = {5}; });
  refuse(unsupported, "allowed_tokens", [](Toy& s) {
    s.options.rollout.sampling.allowed_tokens = {5, 6};
  });
  // The checkpoint's own generation_config.json asks for both.
  refuse(unsupported, "generation_config",
         [](Toy& s) { s.options.rollout.sampling.top_p.reset(); });
  refuse(unsupported, "generation_config",
         [](Toy& s) { s.options.rollout.sampling.top_k.reset(); });
  refuse(invalid_argument, "temperature",
         [](Toy& s) { s.options.rollout.sampling.temperature = 0.0f; });
  refuse(invalid_argument, "group_size", [](Toy& s) { s.options.group_size = 1; });
  refuse(invalid_argument, "learning_rate", [](Toy& s) { s.options.learning_rate = NAN; });
  refuse(invalid_argument, "total_steps", [](Toy& s) { s.options.total_steps = -1; });
  refuse(invalid_argument, "clip", [](Toy& s) { s.options.clip = 0; });
  refuse(invalid_argument, "inner_steps", [](Toy& s) { s.options.inner_steps = 0; });
  refuse(invalid_argument, "max_batch_tokens", [](Toy& s) { s.options.max_batch_tokens = 0; });
  refuse(invalid_argument, "max_gradient_norm", [](Toy& s) { s.options.max_gradient_norm = -1; });
  refuse(invalid_argument, "soft row", [](Toy& s) { s.row = 3; });
  refuse(invalid_argument, "soft row", [](Toy& s) { s.row = tiny_vocab + 1; });
  refuse(invalid_argument, "EngineOptions::soft",
         [](Toy& s) { s.soft = std::make_shared<SoftVocab>(s.model); });
  Toy toy;
  expect_error(invalid_argument, "a judge", [&] { toy.trainer(nullptr); });
}

TEST(Trainer, WantsRowInvariantArithmeticForExactLogprobs) {
  EngineOptions with = exact();
  with.arithmetic = Arithmetic::fast;
  Toy toy(with);
  toy.options.logprobs = Logprobs::exact;
  expect_error(ErrorCode::invalid_argument, "row-invariant", [&] { toy.trainer(); });
}

TEST(Trainer, RefusesWhatEachSampleHasOfItsOwn) {
  const auto refuses = [](const std::string& field, const auto& change) {
    Toy toy;
    change(toy.options.rollout);
    expect_error(ErrorCode::invalid_argument, field, [&] { toy.trainer(); });
  };
  refuses("rollout.prompt", [](Request& request) { request.prompt = {1}; });
  refuses("rollout.sampling.seed", [](Request& request) { request.sampling.seed = 0; });
  refuses("rollout.sample", [](Request& request) { request.sample = 1; });
}

// Three drawn tokens behind the row make way for another: the engine drew each of them behind those
// before it, and so must the trainer have it.
TEST(Trainer, LearnsFromClosersOfSeveralTokens) {
  for (const Branch branch : {Branch::at_prompt, Branch::at_soft_token})
    for (const bool is_cached : {true, false}) {
      EngineOptions with = exact();
      if (!is_cached) with.cache_tokens = 96;
      Toy toy(with);
      toy.options.branch = branch;
      toy.options.rollout.max_new_tokens = 20;
      toy.options.rollout.guides.push_back(
          testing::scripted([row = toy.row](const Moment& moment) -> Action {
            if (moment.new_tokens == 7 && moment.origin == Origin::sampled) return Force{{row}, 3};
            if (moment.new_tokens == 9 && moment.origin == Origin::sampled) return Force{{9, 8}, 2};
            return Proceed{};
          }));
      Trainer trainer = toy.trainer();
      const std::vector<float> before = toy.soft->row(toy.row);
      const TrainReport report = trainer.step(problems(5));
      EXPECT_GT(report.gradient_norm, 0);
      EXPECT_GT(report.mean_logprob_gap, 0);
      EXPECT_LT(report.mean_logprob_gap, 1e-6);
      EXPECT_LT(report.max_logprob_gap, 3e-5);
      EXPECT_NE(toy.soft->row(toy.row), before);
    }
}

TEST(Trainer, TrainsOnCuda) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  Toy host, card;
  card.model = tiny_model(DeviceKind::cuda);
  card.soft = std::make_shared<SoftVocab>(card.model);
  card.row = card.soft->add("ROW", std::vector<TokenId>{5, 6});
  EngineOptions with = exact();
  with.soft = card.soft;
  card.engine = std::make_unique<Engine>(card.model, with);
  card.options.rollout.guides = {std::make_shared<FeedRow>(card.row)};
  const TrainReport expected = host.trainer().step(problems(4));
  const TrainReport found = card.trainer().step(problems(4));
  EXPECT_LT(found.max_logprob_gap, 1e-3);
  EXPECT_NEAR(found.mean_reward, expected.mean_reward, 0.2) << "a near-tie may fall otherwise";
  EXPECT_GT(found.gradient_norm, 0);
}

}  // namespace
}  // namespace pensive
