// What can be chosen about a training step, on a tiny random model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "train_toy.h"

namespace pensive {
namespace {

using testing::expect_error;
using testing::FeedRow;
using testing::problems;
using testing::Toy;
using testing::WantsWord;

// 1 for texts of an even number of bytes: whatever happens, groups have spread.
class Even final : public Judge {
 public:
  double score(const Problem&, const Response& response) const override {
    return response.text.size() % 2 == 0 ? 1 : 0;
  }
};

TrainReport first_step(const std::function<void(TrainOptions&)>& change, Toy& toy) {
  change(toy.options);
  return toy.trainer().step(problems(4));
}

TrainReport first_step(const std::function<void(TrainOptions&)>& change) {
  Toy toy;
  return first_step(change, toy);
}

// Each of the 32 samples draws 12 tokens; the row takes the place of the second, and 10 follow.
TEST(TrainOptions, DenominatorsCountWhatTheySay) {
  const double drawn = first_step([](TrainOptions&) {}).loss;
  const auto loss_of = [](Denominator denominator, int constant) {
    return first_step([&](TrainOptions& o) {
             o.denominator = denominator;
             o.constant_tokens = constant;
           })
        .loss;
  };
  EXPECT_NE(drawn, 0);
  const Toy toy;
  const double all = drawn * 32 * 11;  // the row is one of the 12 decoded
  const auto expect = [&](double found, double tokens) {
    EXPECT_NEAR(found * 32 * tokens, all, std::abs(all) * 1e-6);
  };
  expect(loss_of(Denominator::suffix_tokens, 0), 9);
  expect(loss_of(Denominator::constant, 0), 12);
  expect(loss_of(Denominator::constant, 7), 7);
}

TEST(TrainOptions, TheRateMayBeAMultipleOfTheStartRow) {
  Toy toy;
  const std::vector<float> start = toy.soft->row(toy.row);
  double squares = 0;
  for (const float value : start) squares += static_cast<double>(value) * value;
  const TrainReport report = first_step(
      [](TrainOptions& o) {
        o.learning_rate = 0.5;
        o.rate_unit = RateUnit::start_rms;
      },
      toy);
  const double rms = std::sqrt(squares / static_cast<double>(start.size()));
  EXPECT_NEAR(report.learning_rate, 0.5 * rms, 1e-9);
  EXPECT_NEAR(report.row_distance, 0.5 * std::sqrt(squares), 1e-3);
}

TEST(TrainOptions, TheRowIsKeptWithinItsBounds) {
  const TrainReport near = first_step([](TrainOptions& o) { o.max_row_distance = 0.25; });
  EXPECT_NEAR(near.row_distance, 0.25, 1e-6);
  const TrainReport free = first_step([](TrainOptions&) {});
  EXPECT_GT(free.row_distance, 0.5);
  const TrainReport small = first_step([](TrainOptions& o) { o.max_row_norm = 0.125; });
  EXPECT_NEAR(small.row_norm, 0.125, 1e-6);
  EXPECT_GT(free.row_norm, 0.2);
}

TEST(TrainOptions, PullAndKlHoldTheRowBack) {
  const auto distance_after = [](const std::function<void(TrainOptions&)>& change) {
    Toy toy;
    change(toy.options);
    toy.options.learning_rate = 0.03;
    Trainer trainer = toy.trainer();
    TrainReport report;
    for (int step = 0; step < 12; ++step) {
      report = trainer.step(problems(4));
      if (step == 0) {
        EXPECT_EQ(report.kl_nats, 0) << "the row is still where it began";
      }
    }
    EXPECT_EQ(report.kl_nats > 0, toy.options.kl > 0);
    return report.row_distance;
  };
  const double free = distance_after([](TrainOptions&) {});
  EXPECT_LT(distance_after([](TrainOptions& o) { o.kl = 20; }), 0.7 * free);
  EXPECT_LT(distance_after([](TrainOptions& o) { o.pull = 20; }), 0.7 * free);
}

// The engine's numbers are nearly the trainer's: so are the weights nearly one.
TEST(TrainOptions, ImportanceWeightsAreOfTheEnginesDraws) {
  const TrainReport plain = first_step([](TrainOptions&) {});
  EXPECT_EQ(plain.mean_weight, 1);
  const TrainReport weighted = first_step([](TrainOptions& o) { o.max_importance_weight = 2; });
  EXPECT_NEAR(weighted.mean_weight, 1, 1e-4);
  EXPECT_NE(weighted.loss, plain.loss);
  EXPECT_NEAR(weighted.loss, plain.loss, 1e-4);
  const TrainReport capped = first_step([](TrainOptions& o) { o.max_importance_weight = 0.5; });
  EXPECT_NEAR(capped.mean_weight, 0.5, 1e-9);
  EXPECT_NEAR(capped.loss, plain.loss / 2, 1e-6);
}

TEST(TrainOptions, SeveralRewardsAreAddedAndTold) {
  class Constant final : public Judge {
    double score(const Problem&, const Response&) const override { return 3; }
  };
  Toy toy;
  Trainer trainer(
      *toy.engine, toy.soft, toy.row,
      {{"even", std::make_shared<Even>(), 0.5}, {"three", std::make_shared<Constant>(), 2}},
      toy.options);
  const TrainReport report = trainer.step(problems(4));
  ASSERT_EQ(report.mean_parts.size(), 2u);
  EXPECT_NEAR(report.mean_parts[1], 3, 1e-12);
  EXPECT_GT(report.mean_parts[0], 0);
  EXPECT_NEAR(report.mean_reward, 0.5 * report.mean_parts[0] + 6, 1e-12);
  EXPECT_GT(report.entropy_nats, 0);
  EXPECT_LT(report.entropy_nats, std::log(testing::tiny_vocab));
  EXPECT_THAT(paper_rewards(), ::testing::SizeIs(2));
}

TEST(TrainOptions, TruncatedSamplesMayScoreNothingOrTeachNothing) {
  // Without end tokens a limit ends every sample.
  const TrainReport judged = first_step([](TrainOptions&) {});
  EXPECT_EQ(judged.truncated_share, 1);
  EXPECT_GT(judged.mean_reward, 0);
  const TrainReport zero = first_step([](TrainOptions& o) { o.truncated = Truncated::zero; });
  EXPECT_EQ(zero.mean_reward, 0);
  EXPECT_EQ(zero.spread_share, 0);
  const TrainReport masked = first_step([](TrainOptions& o) { o.truncated = Truncated::masked; });
  EXPECT_EQ(masked.mean_reward, judged.mean_reward);
  EXPECT_GT(masked.spread_share, 0);
  EXPECT_EQ(masked.row_distance, 0);
}

// Some samples end by themselves: only those teach, and the others stay in the group's mean.
TEST(TrainOptions, MaskedSamplesStayInTheMean) {
  const auto step = [](Truncated truncated) {
    return first_step([&](TrainOptions& o) {
      o.truncated = truncated;
      o.rollout.extra_stop_tokens.clear();
      for (TokenId id = 8; id < 16; ++id) o.rollout.extra_stop_tokens.push_back(id);
    });
  };
  const TrainReport judged = step(Truncated::judged), masked = step(Truncated::masked);
  EXPECT_GT(judged.truncated_share, 0);
  EXPECT_LT(judged.truncated_share, 1);
  EXPECT_EQ(judged.mean_reward, masked.mean_reward);
  EXPECT_EQ(judged.spread_share, masked.spread_share);
  EXPECT_GT(masked.gradient_norm, 0);
  EXPECT_NE(masked.gradient_norm, judged.gradient_norm);
}

// Counts the rows in what it is asked about.
class CountsRows final : public Judge {
 public:
  mutable std::vector<int> counts;
  double score(const Problem&, const Response& response) const override {
    int count = 0;
    for (std::size_t at = 0; (at = response.text.find("ROW", at)) != std::string::npos; ++at)
      ++count;
    counts.push_back(count);
    return static_cast<double>(response.text.size() % 3);
  }
};

TEST(TrainOptions, EachGroupGetsOneOfSeveralGuides) {
  Toy toy;
  toy.options.rollout.guides.clear();
  toy.options.one_of = {std::make_shared<FeedRow>(toy.row, 1),
                        std::make_shared<FeedRow>(toy.row, 2)};
  const auto judge = std::make_shared<CountsRows>();
  Trainer trainer = toy.trainer(judge);
  std::set<int> seen;
  for (int step = 0; step < 2; ++step) {
    judge->counts.clear();
    trainer.step(problems(6));
    for (std::size_t p = 0; p < 6; ++p) {
      const auto group = std::span(judge->counts).subspan(p * 8, 8);
      EXPECT_THAT(group, ::testing::Each(group[0])) << "one guide a group";
      seen.insert(group[0]);
    }
  }
  EXPECT_THAT(seen, ::testing::ElementsAre(1, 2));
}

// Remembers how the thinking went.
class SeesThinking final : public Judge {
 public:
  mutable std::vector<Response> responses;
  double score(const Problem&, const Response& response) const override {
    responses.push_back(response);
    return static_cast<double>(response.text.size() % 2);
  }
};

TEST(TrainOptions, AnswerTokensAreKept) {
  const auto longest = [](int answer_tokens) {
    Toy toy;
    toy.options.rollout.markers = testing::tiny_markers();
    toy.options.rollout.begins_in = Segment::think;
    toy.options.rollout.max_new_tokens = 40;
    toy.options.answer_tokens = answer_tokens;
    const auto judge = std::make_shared<SeesThinking>();
    toy.trainer(judge).step(problems(4));
    int most = 0, least_answer = 1000;
    for (const Response& response : judge->responses) {
      most = std::max(most, response.think_tokens);
      least_answer = std::min(least_answer, response.answer_tokens);
    }
    return std::pair(most, least_answer);
  };
  EXPECT_GT(longest(0).first, 25);
  const auto [most, least_answer] = longest(15);
  EXPECT_LE(most, 25);
  EXPECT_GE(least_answer, 1);
  Toy toy;
  toy.options.answer_tokens = 5;
  Trainer without_markers = toy.trainer();
  expect_error(ErrorCode::invalid_argument, "markers", [&] { without_markers.step(problems(2)); });
}

TEST(TrainOptions, TheTemperatureIsThePapersWhereNoneIsGiven) {
  const testing::TempDir folder;
  Toy toy;
  toy.options.rollout.sampling.temperature.reset();
  Trainer trainer = toy.trainer();
  EXPECT_LT(trainer.step(problems(4)).max_logprob_gap, 3e-5) << "the loss has the same";
  trainer.save_checkpoint(folder / "run.json");
  EXPECT_THAT(testing::read_file(folder / "run.json"),
              ::testing::HasSubstr("\"temperature\": \"0.9\""));
}

TEST(TrainOptions, PassRatesAreMeasuredAndChangeNothing) {
  Toy toy, twin;
  Trainer trainer = toy.trainer(), other = twin.trainer();
  const std::uint64_t version = toy.soft->version();
  std::vector<Problem> many = problems(16);
  for (int i = 0; i < 60; ++i) many.push_back(many[static_cast<std::size_t>(i % 16)]);
  const std::vector<double> rates = trainer.pass_rates(many, WantsWord());
  ASSERT_EQ(rates.size(), many.size());
  EXPECT_EQ(trainer.pass_rates(many, WantsWord()), rates);
  Toy forking;
  forking.options.branch = Branch::at_soft_token;
  EXPECT_EQ(forking.trainer().pass_rates(many, WantsWord()), rates) << "they part at the prompt";
  for (const double rate : rates) EXPECT_EQ(rate * 8, std::round(rate * 8));
  EXPECT_GT(std::set<double>(rates.begin(), rates.end()).size(), 2u);
  EXPECT_EQ(toy.soft->version(), version);
  EXPECT_EQ(trainer.steps_done(), 0);
  trainer.step(problems(4));
  other.step(problems(4));
  EXPECT_EQ(toy.soft->row(toy.row), twin.soft->row(twin.row));
  testing::expect_no_leak(*toy.engine);
}

TEST(TrainOptions, AreRefusedByName) {
  const auto refuse = [](const std::string& says, auto change) {
    Toy toy;
    change(toy.options);
    expect_error(ErrorCode::invalid_argument, says, [&] { toy.trainer(); });
  };
  refuse("clip_high", [](TrainOptions& o) { o.clip_high = -0.1; });
  refuse("max_importance_weight", [](TrainOptions& o) { o.max_importance_weight = NAN; });
  refuse("TrainOptions::kl", [](TrainOptions& o) { o.kl = -1; });
  refuse("TrainOptions::pull", [](TrainOptions& o) { o.pull = INFINITY; });
  refuse("not both", [](TrainOptions& o) { o.max_row_norm = o.max_row_distance = 1; });
  refuse("stop_errors", [](TrainOptions& o) { o.stop_errors = -3; });
  refuse("constant_tokens", [](TrainOptions& o) { o.constant_tokens = 5; });
  refuse("less than rollout.max_new_tokens = 12", [](TrainOptions& o) { o.answer_tokens = 12; });
  refuse("one_of", [](TrainOptions& o) { o.one_of = {nullptr}; });
  const auto refuse_rewards = [](const std::string& says, std::vector<Reward> rewards) {
    Toy toy;
    expect_error(ErrorCode::invalid_argument, says,
                 [&] { Trainer(*toy.engine, toy.soft, toy.row, std::move(rewards), toy.options); });
  };
  refuse_rewards("a judge", {});
  refuse_rewards("a judge", {{"none", nullptr}});
  refuse_rewards("finite weight", {{"a", correct(), NAN}});
  refuse_rewards("names that differ", {{"a", correct()}, {"a", boxed()}});
}

}  // namespace
}  // namespace pensive
