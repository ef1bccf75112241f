// Whole training steps on a tiny random model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>

#include "engine_helpers.h"
#include "pensive/train.h"

namespace pensive {
namespace {

using testing::exact;
using testing::tiny_model;
using testing::tiny_vocab;

// Feeds the row after the second token that was drawn, and again after the seventh.
class FeedRow final : public Guide {
 public:
  explicit FeedRow(TokenId row, int times = 1) : row_(row), times_(times) {}
  std::string_view name() const override { return "feed row"; }
  Action on_token(const Moment& moment) override {
    if (moment.origin != Origin::sampled) return Proceed{};
    ++seen_;
    if (seen_ == 2 || (seen_ == 7 && times_ > 1)) return Force{{row_}, 1};
    return Proceed{};
  }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<FeedRow>(*this); }

 private:
  TokenId row_;
  int times_;
  int seen_ = 0;
};

// 1 when a wanted word comes right after the row, whose name is ROW.
class WantsWord : public Judge {
 public:
  double score(const Problem&, const Response& response) const override {
    const std::size_t at = response.text.find("ROW w");
    if (at == std::string::npos) return 0;
    const int word = std::atoi(response.text.c_str() + at + 5);
    return word >= 20 && word < 40 ? 1 : 0;
  }
};

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

std::vector<Problem> problems(int count) {
  std::vector<Problem> all;
  for (int i = 0; i < count; ++i) all.push_back({std::to_string(i), std::to_string(i), "x"});
  return all;
}

// A model, a row, an engine and options that fit together.
struct Setup {
  std::shared_ptr<const Model> model = tiny_model();
  std::shared_ptr<SoftVocab> soft = std::make_shared<SoftVocab>(model);
  TokenId row = soft->add("ROW", std::vector<TokenId>{5, 6});
  std::unique_ptr<Engine> engine;
  TrainOptions options;

  explicit Setup(EngineOptions with = exact(), int times = 1) {
    with.soft = soft;
    engine = std::make_unique<Engine>(model, with);
    options.rollout = testing::plain_request({}, 0, 12);
    options.rollout.guides = {std::make_shared<FeedRow>(row, times)};
    options.prompt_of = [](const Problem& problem) {
      return testing::ids(std::stoi(problem.question), 20 + std::stoi(problem.question));
    };
    options.group_size = 8;
    options.learning_rate = 0.1;
  }
  Trainer trainer(std::shared_ptr<const Judge> judge = std::make_shared<WantsWord>()) {
    return Trainer(*engine, soft, row, std::move(judge), options);
  }
};

template <class Call>
void expect_error(ErrorCode code, const std::string& says, Call call) {
  try {
    call();
    FAIL() << "nothing thrown; expected " << says;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), ::testing::HasSubstr(says));
  }
}

TEST(Trainer, RaisesTheRewardOfAToy) {
  Setup setup;
  Trainer trainer = setup.trainer();
  double early = 0, late = 0;
  for (int step = 0; step < 24; ++step) {
    const TrainReport report = trainer.step(problems(8));
    EXPECT_EQ(report.step, step + 1);
    if (step < 4) early += report.mean_reward / 4;
    if (step >= 20) late += report.mean_reward / 4;
  }
  EXPECT_LT(early, 0.6);
  EXPECT_GT(late, early + 0.3);
}

TEST(Trainer, ReportsWhatHappened) {
  Setup setup;
  const std::vector<float> before = setup.soft->row(setup.row);
  Trainer trainer = setup.trainer();
  const TrainReport report = trainer.step(problems(6));
  const std::vector<float> after = setup.soft->row(setup.row);
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
  EXPECT_LT(report.max_logprob_gap, 1e-4);
  EXPECT_EQ(report.clip_share, 0) << "one inner step clips nothing";
  EXPECT_GE(report.rollout_seconds, 0);
  EXPECT_GE(report.update_seconds, 0);
  EXPECT_EQ(trainer.steps_done(), 1);
}

TEST(Trainer, WithoutSpreadMovesNothing) {
  Setup setup;
  setup.options.total_steps = 2;
  Trainer trainer = setup.trainer(std::make_shared<Constant>(0.7));
  const std::uint64_t version = setup.soft->version();
  const TrainReport report = trainer.step(problems(3));
  EXPECT_EQ(setup.soft->version(), version);
  EXPECT_EQ(report.spread_share, 0);
  EXPECT_EQ(report.gradient_norm, 0);
  EXPECT_EQ(report.row_distance, 0);
  EXPECT_NEAR(report.mean_reward, 0.7, 1e-12);
  EXPECT_EQ(trainer.steps_done(), 1) << "the schedule advances";
}

TEST(Trainer, WithoutTheRowMovesNothing) {
  Setup setup;
  setup.options.rollout.guides.clear();
  class Length final : public Judge {
    double score(const Problem&, const Response& response) const override {
      return static_cast<double>(response.text.size());
    }
  };
  Trainer trainer = setup.trainer(std::make_shared<Length>());
  const std::uint64_t version = setup.soft->version();
  const TrainReport report = trainer.step(problems(3));
  EXPECT_GT(report.spread_share, 0);
  EXPECT_EQ(setup.soft->version(), version);
}

TEST(Trainer, IsTheSameHoweverItIsBatched) {
  const auto row_after = [](EngineOptions with, int max_batch_tokens) {
    Setup setup(std::move(with), 2);
    setup.options.max_batch_tokens = max_batch_tokens;
    Trainer trainer = setup.trainer();
    trainer.step(problems(5));
    trainer.step(problems(5));
    return setup.soft->row(setup.row);
  };
  const std::vector<float> expected = row_after(exact(), 16384);
  const auto near = [](float within) { return ::testing::Pointwise(::testing::FloatNear(within)); };
  (void)near;
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
  Setup setup;
  setup.options.inner_steps = 4;
  setup.options.learning_rate = 0.3;
  setup.options.clip = 0.05;
  Trainer trainer = setup.trainer();
  const TrainReport report = trainer.step(problems(6));
  EXPECT_GT(report.clip_share, 0);
  EXPECT_LE(report.clip_share, 1);
}

TEST(Trainer, DecaysItsRateToNothing) {
  Setup setup;
  setup.options.total_steps = 2;
  Trainer trainer = setup.trainer();
  trainer.step(problems(4));
  trainer.step(problems(4));
  const std::uint64_t version = setup.soft->version();
  trainer.step(problems(4));
  EXPECT_EQ(setup.soft->version(), version) << "past total_steps the rate is 0";
  EXPECT_EQ(trainer.steps_done(), 3);
}

TEST(Trainer, AnErrorLeavesAllAsItWas) {
  Setup setup, twin;
  const auto judge = std::make_shared<Failing>();
  Trainer trainer = setup.trainer(judge), other = twin.trainer(judge);
  std::vector<Problem> list = problems(4);
  list.back().id = "bad";
  trainer.step(list);
  other.step(list);
  const std::vector<float> before = setup.soft->row(setup.row);
  judge->mode = 1;
  EXPECT_THROW(trainer.step(list), std::runtime_error);
  judge->mode = 2;
  expect_error(ErrorCode::invalid_argument, "problem bad", [&] { trainer.step(list); });
  expect_error(ErrorCode::invalid_argument, "at least one problem", [&] { trainer.step({}); });
  EXPECT_EQ(setup.soft->row(setup.row), before);
  EXPECT_EQ(trainer.steps_done(), 1);
  judge->mode = 0;
  trainer.step(list);
  other.step(list);
  EXPECT_EQ(setup.soft->row(setup.row), twin.soft->row(twin.row));
  testing::expect_no_leak(*setup.engine);
}

TEST(Trainer, NamesTheSampleWhoseGuideThrew) {
  Setup setup;
  setup.options.rollout.guides.push_back(testing::scripted([](const Moment& moment) -> Action {
    if (moment.new_tokens == 5) throw std::runtime_error("a broken guide");
    return Proceed{};
  }));
  Trainer trainer = setup.trainer();
  expect_error(ErrorCode::invalid_argument, "a broken guide", [&] { trainer.step(problems(2)); });
  EXPECT_EQ(trainer.steps_done(), 0);
}

TEST(Trainer, WorksInTheHostsModes) {
  Setup plain;
  plain.trainer().step(problems(4));
  for (const bool inference : {false, true}) {
    const c10::InferenceMode maybe(inference);
    const c10::AutoGradMode no_gradient(false);
    Setup setup;
    setup.trainer().step(problems(4));
    EXPECT_EQ(c10::InferenceMode::is_enabled(), inference);
    EXPECT_FALSE(c10::GradMode::is_enabled());
    EXPECT_EQ(setup.soft->row(setup.row), plain.soft->row(plain.row));
  }
}

TEST(Trainer, RefusesWhatItCannotDo) {
  const auto refuse = [](ErrorCode code, const std::string& says, auto change) {
    Setup setup;
    change(setup);
    expect_error(code, says, [&] { setup.trainer(); });
  };
  using enum ErrorCode;
  refuse(unsupported, "top_k", [](Setup& s) { s.options.rollout.sampling.top_k = 20; });
  refuse(unsupported, "top_p", [](Setup& s) { s.options.rollout.sampling.top_p = 0.9f; });
  // The checkpoint's own generation_config.json asks for both.
  refuse(unsupported, "generation_config",
         [](Setup& s) { s.options.rollout.sampling.top_k.reset(); });
  refuse(invalid_argument, "temperature",
         [](Setup& s) { s.options.rollout.sampling.temperature = 0.0f; });
  refuse(invalid_argument, "group_size", [](Setup& s) { s.options.group_size = 1; });
  refuse(invalid_argument, "learning_rate", [](Setup& s) { s.options.learning_rate = NAN; });
  refuse(invalid_argument, "total_steps", [](Setup& s) { s.options.total_steps = -1; });
  refuse(invalid_argument, "clip", [](Setup& s) { s.options.clip = 0; });
  refuse(invalid_argument, "inner_steps", [](Setup& s) { s.options.inner_steps = 0; });
  refuse(invalid_argument, "max_batch_tokens", [](Setup& s) { s.options.max_batch_tokens = 0; });
  refuse(invalid_argument, "max_gradient_norm", [](Setup& s) { s.options.max_gradient_norm = -1; });
  refuse(invalid_argument, "soft row", [](Setup& s) { s.row = 3; });
  refuse(invalid_argument, "soft row", [](Setup& s) { s.row = tiny_vocab + 1; });
  refuse(invalid_argument, "EngineOptions::soft",
         [](Setup& s) { s.soft = std::make_shared<SoftVocab>(s.model); });
  Setup setup;
  expect_error(invalid_argument, "a judge", [&] { setup.trainer(nullptr); });
}

TEST(Trainer, RefusesCloserOfSeveralTokensByName) {
  Setup setup;
  setup.options.rollout.guides.push_back(testing::scripted([](const Moment& moment) -> Action {
    if (moment.new_tokens == 7 && moment.origin == Origin::sampled) return Force{{9}, 2};
    return Proceed{};
  }));
  Trainer trainer = setup.trainer();
  expect_error(ErrorCode::unsupported, "closer of several tokens",
               [&] { trainer.step(problems(3)); });
}

TEST(Checkpoint, ResumesBitForBit) {
  const testing::TempDir folder;
  const std::filesystem::path file = folder / "run.json";
  const auto setup_of = [] {
    auto setup = std::make_unique<Setup>();
    setup->options.total_steps = 6;
    setup->options.inner_steps = 2;
    setup->options.seed = 0xfedcba9876543210u;
    return setup;
  };
  const auto whole = setup_of();
  Trainer uninterrupted = whole->trainer();
  std::vector<double> losses;
  for (int step = 0; step < 6; ++step) losses.push_back(uninterrupted.step(problems(4)).loss);

  const auto first = setup_of();
  {
    Trainer trainer = first->trainer();
    for (int step = 0; step < 3; ++step) trainer.step(problems(4));
    trainer.save_checkpoint(file);
  }
  const auto second = setup_of();
  Trainer resumed = second->trainer();
  resumed.resume(file);
  EXPECT_EQ(resumed.steps_done(), 3);
  EXPECT_EQ(second->soft->row(second->row), first->soft->row(first->row));
  for (int step = 3; step < 6; ++step) EXPECT_EQ(resumed.step(problems(4)).loss, losses[step]);
  EXPECT_EQ(second->soft->row(second->row), whole->soft->row(whole->row));
}

TEST(Checkpoint, OfAnotherRunIsRefusedNamingBothValues) {
  const testing::TempDir folder;
  const std::filesystem::path file = folder / "run.json";
  Setup setup;
  Trainer trainer = setup.trainer();
  trainer.step(problems(2));
  trainer.save_checkpoint(file);

  Setup other;
  other.options.learning_rate = 0.25;
  Trainer changed = other.trainer();
  expect_error(ErrorCode::invalid_argument, "learning_rate = 0.25", [&] { changed.resume(file); });
  expect_error(ErrorCode::invalid_argument, "\"0.1\"", [&] { changed.resume(file); });
  EXPECT_EQ(changed.steps_done(), 0);
  Setup renamed;
  renamed.row = renamed.soft->add("OTHER", std::vector<TokenId>{5});
  Trainer another_row = renamed.trainer();
  expect_error(ErrorCode::invalid_argument, "ROW", [&] { another_row.resume(file); });
}

TEST(Checkpoint, ThatIsDamagedIsRefusedAndChangesNothing) {
  const testing::TempDir folder;
  const std::filesystem::path file = folder / "run.json";
  Setup setup;
  Trainer trainer = setup.trainer();
  trainer.step(problems(2));
  trainer.save_checkpoint(file);
  const std::string good = testing::read_file(file);
  const std::vector<float> row = setup.soft->row(setup.row);
  const auto expect_refused = [&](const std::string& from, const std::string& to, ErrorCode code) {
    std::string bad = good;
    const std::size_t at = bad.find(from);
    ASSERT_NE(at, std::string::npos) << from;
    bad.replace(at, from.size(), to);
    testing::write_file(file, bad);
    expect_error(code, "run.json", [&] { trainer.resume(file); });
    EXPECT_EQ(setup.soft->row(setup.row), row);
    EXPECT_EQ(trainer.steps_done(), 1);
  };
  using enum ErrorCode;
  expect_refused("\"pensive_training\": 1", "\"pensive_training\": 9", unsupported);
  expect_refused("\"steps\": 1", "\"steps\": -1", corrupt_file);
  expect_refused("\"steps\": 1", "\"steps\": \"1\"", corrupt_file);
  expect_refused("\"updates\": 1", "\"updates\": 0", corrupt_file);
  expect_refused("\"first_moment\": [", "\"first_moment\": [1.0, ", corrupt_file);
  expect_refused("\"second_moment\": [", "\"second_moment\": [null, ", corrupt_file);
  expect_refused("\"row\": [", "\"row\": [0, ", corrupt_file);
  expect_refused("\"settings\": {", "\"settings\": {\"surprise\": \"1\", ", unsupported);
  testing::write_file(file, good.substr(0, good.size() / 2));
  expect_error(corrupt_file, "run.json", [&] { trainer.resume(file); });
  expect_error(not_found, "nowhere", [&] { trainer.resume(folder / "nowhere"); });
  testing::write_file(file, good);
  trainer.resume(file);
}

TEST(Trainer, TrainsOnCuda) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  Setup host, card;
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
