// When a run's reward has fallen, and which row was the best.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "train/watch.h"
#include "train_toy.h"

namespace pensive {
namespace {

using testing::expect_error;
using testing::problems;
using testing::Toy;

// Groups whose mean is `mean` and whose deviation is about a tenth.
std::vector<double> groups(double mean) { return {mean - 0.1, mean, mean + 0.1, mean}; }

TEST(Watch, StopsThreeErrorsBelowItsStart) {
  // 16 groups a window, deviation sqrt(.08 / 15): the error of the difference is .0258.
  for (const auto& [fall, stops] : {std::pair(0.076, false), std::pair(0.079, true)}) {
    Watch watch;
    for (int step = 1; step <= 4; ++step)
      watch.add(groups(0.5), std::vector<float>{static_cast<float>(step)}, step, 3);
    EXPECT_FALSE(watch.has_stopped);
    for (int step = 5; step <= 8; ++step)
      watch.add(groups(0.5 - fall), std::vector<float>{static_cast<float>(step)}, step, 3);
    EXPECT_EQ(watch.has_stopped, stops) << fall;
  }
}

TEST(Watch, KnowsTheBestRow) {
  Watch watch;
  const double means[] = {0.2, 0.2, 0.2, 0.2, 0.9, 0.9, 0.5, 0.5, 0.1, 0.1};
  for (int step = 1; step <= 10; ++step) {
    watch.add(groups(means[step - 1]), std::vector<float>{static_cast<float>(step)}, step, 0);
    EXPECT_EQ(watch.best_step > 0, step >= 4);
  }
  EXPECT_EQ(watch.best_step, 8) << ".9 .9 .5 .5";
  EXPECT_THAT(watch.best_row, ::testing::ElementsAre(8));
  EXPECT_FALSE(watch.has_stopped) << "0 errors never stop";
  const Watch again = Watch::read(watch.write(), 1, "test");
  EXPECT_EQ(again.write(), watch.write());
}

TEST(Watch, TakesEqualRewardsForNoFall) {
  Watch watch;
  const std::vector<double> same(7, 0.1);
  for (int step = 1; step <= 20; ++step) watch.add(same, std::vector<float>{1}, step, 3);
  EXPECT_FALSE(watch.has_stopped);
}

// Rewards some of the texts, and nothing any more once it is told so.
class Souring final : public Judge {
 public:
  mutable bool is_sour = false;
  double score(const Problem&, const Response& response) const override {
    const bool is_even = response.text.size() % 2 == 0;
    return (is_even ? 1.0 : 0.5) - (is_sour ? 10 : 0);
  }
};

TEST(Trainer, StopsAtItsBestRow) {
  const testing::TempDir folder;
  Toy toy;
  const auto judge = std::make_shared<Souring>();
  Trainer trainer = toy.trainer(judge);
  TrainReport report;
  std::vector<float> best;
  for (int step = 1; step <= 4; ++step) {
    best = toy.soft->row(toy.row);
    report = trainer.step(problems(4));
    EXPECT_EQ(report.best_step, step == 4 ? 4 : 0);
  }
  judge->is_sour = true;
  EXPECT_FALSE(trainer.step(problems(4)).has_stopped) << "one bad step may be chance";
  EXPECT_NE(toy.soft->row(toy.row), best);
  report = trainer.step(problems(4));
  EXPECT_TRUE(report.has_stopped);
  EXPECT_TRUE(trainer.has_stopped());
  EXPECT_EQ(report.best_step, 4);
  EXPECT_EQ(report.gradient_norm, 0) << "no update";
  EXPECT_EQ(toy.soft->row(toy.row), best);
  expect_error(ErrorCode::invalid_argument, "stopped at step 6",
               [&] { trainer.step(problems(4)); });
  EXPECT_EQ(trainer.steps_done(), 6);

  trainer.save_checkpoint(folder / "run.json");
  Toy other;
  Trainer resumed = other.trainer(judge);
  resumed.resume(folder / "run.json");
  EXPECT_TRUE(resumed.has_stopped());
  EXPECT_EQ(other.soft->row(other.row), best);
}

}  // namespace
}  // namespace pensive
