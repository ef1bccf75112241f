// What a checkpoint tells of its run: another one does not go on with it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/inside.h"
#include "pensive/guides.h"
#include "train_toy.h"

namespace pensive {
namespace {

using testing::expect_error;
using testing::problems;
using testing::Toy;

// A checkpoint of the toy with `begun`, gone on with by one with `other`.
void go_on(const std::function<void(Toy&)>& begun, const std::function<void(Toy&)>& other,
           const std::vector<Reward>& first, const std::vector<Reward>& second) {
  const testing::TempDir folder;
  Toy toy, changed;
  begun(toy);
  other(changed);
  Trainer(*toy.engine, toy.soft, toy.row, first, toy.options).save_checkpoint(folder / "run.json");
  Trainer(*changed.engine, changed.soft, changed.row, second, changed.options)
      .resume(folder / "run.json");
}

TEST(Run, IsTheCallersToTell) {
  const std::vector<Reward> rewards = paper_rewards();
  const auto run = [](std::string text) { return [text](Toy& toy) { toy.options.run = text; }; };
  go_on(run("problems 1\nprompts 2"), run("problems 1\nprompts 2"), rewards, rewards);
  const auto resume = [&] {
    go_on(run("problems 1\nprompts 2\nlimit 3"), run("problems 1\nprompts 4\nlimit 3"), rewards,
          rewards);
  };
  expect_error(ErrorCode::invalid_argument, "with run = prompts 4; found \"prompts 2\"", resume);
  expect_error(ErrorCode::invalid_argument, "run = ", [&] {
    go_on(run("problems 1"), run("problems 1\nprompts 4"), rewards, rewards);
  });
  // A difference far behind is shown, and what is no text is written as what it can be.
  const std::string far(500, 'a');
  expect_error(ErrorCode::invalid_argument, "found \"x\xEF\xBF\xBD\"", [&] {
    go_on(run(fmt::format("{}\nx\xff", far)), run(fmt::format("{}\ny", far)), rewards, rewards);
  });
}

TEST(Run, HasGuidesWithTheirOptions) {
  const std::vector<Reward> rewards = paper_rewards();
  const auto with = [](std::shared_ptr<const Guide> guide, bool is_one_of = false) {
    return [guide, is_one_of](Toy& toy) {
      (is_one_of ? toy.options.one_of : toy.options.rollout.guides).push_back(guide);
    };
  };
  const auto limit = [](int tokens) { return budget({.max_think_tokens = tokens}); };
  const auto again = [](int times) { return continue_thinking({.with = {7, 9}, .times = times}); };
  go_on(with(limit(30)), with(limit(30)), rewards, rewards);
  expect_error(ErrorCode::invalid_argument, "budget (max_think_tokens 50",
               [&] { go_on(with(limit(30)), with(limit(50)), rewards, rewards); });
  expect_error(ErrorCode::invalid_argument, "times 3",
               [&] { go_on(with(again(1)), with(again(3)), rewards, rewards); });
  expect_error(ErrorCode::invalid_argument, "with [7, 9] times 2",
               [&] { go_on(with(again(1), true), with(again(2), true), rewards, rewards); });
}

TEST(Run, HasJudgesWithTheirOptions) {
  const auto nothing = [](Toy&) {};
  const auto one = [](std::shared_ptr<const Judge> judge) {
    return std::vector<Reward>{{.name = "reward", .judge = std::move(judge)}};
  };
  const auto ask = [](const std::string&) { return std::string("True"); };
  const std::vector<std::shared_ptr<const Judge>> judges = {
      correct(),
      correct(Extraction::strict),
      boxed(),
      token_price(1),
      token_price(2),
      sum(correct(), boxed()),
      sum(boxed(), correct()),
      sum(correct(), boxed(), 0.5),
      lcpo_exact(correct()),
      lcpo_max(correct()),
      lcpo_max(correct(), {.target_tokens = 9}),
      hybrid(correct(), ask),
      hybrid(correct(), ask, Extraction::lenient),
      std::make_shared<testing::WantsWord>()};
  for (const auto& a : judges)
    for (const auto& b : judges) {
      if (a == b) {
        go_on(nothing, nothing, one(a), one(b));
      } else {
        expect_error(ErrorCode::invalid_argument, "rewards = 1 reward",
                     [&] { go_on(nothing, nothing, one(a), one(b)); });
      }
    }
}

TEST(Run, HasStopTextsAndTheDeadline) {
  const std::vector<Reward> rewards = paper_rewards();
  const auto nothing = [](Toy&) {};
  expect_error(ErrorCode::invalid_argument, "stop_texts = end", [&] {
    go_on(
        nothing, [](Toy& toy) { toy.options.rollout.stop_texts = {"end"}; }, rewards, rewards);
  });
  expect_error(ErrorCode::invalid_argument, "timeout_seconds = 9", [&] {
    go_on(
        nothing, [](Toy& toy) { toy.options.rollout.timeout_seconds = 9; }, rewards, rewards);
  });
}

TEST(Run, KeepsTheLastReport) {
  const testing::TempDir folder;
  Toy toy, other;
  Trainer trainer = toy.trainer(), resumed = other.trainer();
  EXPECT_FALSE(trainer.last_report());
  trainer.step(problems(2));
  const TrainReport told = trainer.step(problems(3));
  trainer.save_checkpoint(folder / "run.json");
  resumed.resume(folder / "run.json");
  for (const auto& kept : {trainer.last_report(), resumed.last_report()}) {
    ASSERT_TRUE(kept);
    EXPECT_EQ(kept->step, 2);
    EXPECT_EQ(kept->mean_parts, told.mean_parts);
    EXPECT_EQ(kept->best_step, told.best_step);
    EXPECT_EQ(kept->has_stopped, told.has_stopped);
    for (double TrainReport::*number :
         {&TrainReport::mean_reward, &TrainReport::mean_tokens, &TrainReport::truncated_share,
          &TrainReport::spread_share, &TrainReport::loss, &TrainReport::gradient_norm,
          &TrainReport::entropy_nats, &TrainReport::kl_nats, &TrainReport::clip_share,
          &TrainReport::mean_weight, &TrainReport::learning_rate, &TrainReport::row_norm,
          &TrainReport::row_distance, &TrainReport::mean_logprob_gap, &TrainReport::max_logprob_gap,
          &TrainReport::rollout_seconds, &TrainReport::judge_seconds, &TrainReport::update_seconds})
      EXPECT_EQ((*kept).*number, told.*number);
  }
  EXPECT_GT(told.loss * told.loss + told.gradient_norm, 0);
}

// All that a prompt may be made of is in the checkpoint.
TEST(Run, RemakesPromptsFromAllOfAProblem) {
  const testing::TempDir folder;
  Toy toy;
  toy.options.prompt_of = [](const Problem& problem) {
    require(problem.target_tokens == 7 && problem.intermediates.size() == 2,
            ErrorCode::invalid_argument, "a whole problem", "a part of one", problem.id);
    return testing::ids(static_cast<int>(problem.intermediates[1].size()), 20);
  };
  std::vector<Problem> list = problems(2);
  for (Problem& problem : list) {
    problem.intermediates = {"4", "1\xff"};
    problem.target_tokens = 7;
  }
  Trainer trainer = toy.trainer();
  trainer.step(list);
  trainer.save_checkpoint(folder / "run.json");
  trainer.resume(folder / "run.json");
  EXPECT_EQ(trainer.steps_done(), 1);
}

TEST(Prompts, AreCheckedWithoutAStep) {
  Toy toy;
  toy.options.prompt_of = [](const Problem& problem) {
    return testing::ids(1, problem.id == "long" ? 5000 : 20);
  };
  Trainer trainer = toy.trainer();
  for (int i = 0; i < 3; ++i) trainer.check_prompt({"short", "q", "x"});
  expect_error(ErrorCode::invalid_argument, "problem long", [&] {
    trainer.check_prompt({"long", "q", "x"});
  });
  const TrainReport report = trainer.step(problems(2));
  Toy twin;
  twin.options.prompt_of = toy.options.prompt_of;
  EXPECT_EQ(twin.trainer().step(problems(2)).loss, report.loss) << "checking leaves no trace";
}

class Gives final : public Judge {
 public:
  explicit Gives(double even, double odd) : even_(even), odd_(odd) {}
  double score(const Problem&, const Response& response) const override {
    return response.text.size() % 2 == 0 ? even_ : odd_;
  }

 private:
  double even_, odd_;
};

TEST(Rewards, AreFiniteWeightedAndInRates) {
  Toy toy;
  const double most = std::numeric_limits<double>::max();
  const std::vector<float> before = toy.soft->row(toy.row);
  const auto step_with = [&](double even, double odd, double weight) {
    toy.options.advantage_scale = AdvantageScale::none;
    Trainer trainer(
        *toy.engine, toy.soft, toy.row,
        {{.name = "big", .judge = std::make_shared<Gives>(even, odd), .weight = weight}},
        toy.options);
    trainer.step(problems(4));
  };
  expect_error(ErrorCode::invalid_argument, "a finite sum of weighted rewards; found inf (sample 0",
               [&] { step_with(1e300, 1e300, 1e300); });
  expect_error(ErrorCode::invalid_argument, "a finite reward", [&] { step_with(NAN, NAN, 1); });
  expect_error(ErrorCode::invalid_argument, "rewards whose differences are finite",
               [&] { step_with(most, most / 2, 1); });
  EXPECT_EQ(toy.soft->row(toy.row), before);
  Trainer trainer = toy.trainer();
  expect_error(ErrorCode::invalid_argument, "a finite reward; found nan (sample 0 of problem 0",
               [&] { trainer.pass_rates(problems(2), Gives(NAN, NAN)); });
  expect_error(ErrorCode::invalid_argument, "UTF-8", [&] {
    Trainer(*toy.engine, toy.soft, toy.row, {{.name = "\xff", .judge = correct(), .weight = 1}},
            toy.options);
  });
}

// What can never be right would have the reward 0 for ever.
TEST(Rewards, OfCorrectNeedAnAnswer) {
  Toy toy;
  Trainer trainer = toy.trainer(correct());
  std::vector<Problem> list = problems(2);
  list[1].reference = " \n";
  expect_error(ErrorCode::invalid_argument, "problem \"1\"", [&] { trainer.step(list); });
  list[1].reference = "2";
  trainer.step(list);
  toy.trainer().step(list);
}

}  // namespace
}  // namespace pensive
