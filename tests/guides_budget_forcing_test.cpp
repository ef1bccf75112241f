// Budget forcing against the two ways in which s1's code does it.
#include "guides_scene.h"
#include "testing.h"

namespace pensive {
namespace {

using namespace testing;
using ::testing::ElementsAre;

BudgetForcingOptions forcing(int max, int times, RoundBudget count = RoundBudget::each_round) {
  return {.closer = {think_close},
          .max_think_tokens = max,
          .times = times,
          .with = {40},
          .count = count,
          .final_text = {50},
          .newline = {newline},
          .end_tokens = {end_token}};
}

const std::string not_first = "91:-inf 83:-inf";

TEST(BudgetForcing, IgnoresAsManyClosersAsAsked) {
  Scene scene(budget_forcing(forcing(100, 2)));
  EXPECT_EQ(scene.draw(5), "-");
  EXPECT_EQ(scene.draw(think_close), "force -1 40");
  EXPECT_EQ(scene.draw(6), "-");
  EXPECT_EQ(scene.draw(think_close), "force -1 40");
  EXPECT_EQ(scene.draw(7), "-");
  EXPECT_EQ(scene.draw(think_close), "-") << "passes as it is, without the final text";
  EXPECT_THAT(scene.kept(), ElementsAre(5, 40, 6, 40, 7, think_close));
  EXPECT_EQ(scene.draw(8), "-");
}

TEST(BudgetForcing, NoRoundOfTheHarnessIsEmpty) {
  Scene scene(budget_forcing(forcing(100, 1)));
  EXPECT_EQ(scene.started(), not_first);
  scene.draw_all({5, think_close});
  EXPECT_EQ(scene.last(), not_first) << "right behind the word";
}

TEST(BudgetForcing, TheReadmesFirstRoundMayBe) {
  Scene scene(budget_forcing(forcing(100, 1, RoundBudget::total)));
  EXPECT_EQ(scene.started(), "-");
  EXPECT_EQ(scene.draw(think_close), "force -1 40");
  EXPECT_EQ(scene.last(), not_first);
}

TEST(BudgetForcing, OnlyATruncatedRoundGetsTheFinalText) {
  Scene scene(budget_forcing(forcing(2, 1)));
  scene.draw(5);
  EXPECT_EQ(scene.draw(6), "force -0 80 91 50");
  EXPECT_THAT(scene.kept(), ElementsAre(5, 6, newline, think_close, 50));
  Scene line(budget_forcing(forcing(2, 1)));
  line.draw(5);
  EXPECT_EQ(line.draw(newline), "force -0 91 50") << "one newline is enough";
}

TEST(BudgetForcing, EachRoundHasTheWholeLimitAndTheRestIsCut) {
  Scene scene(budget_forcing(forcing(3, 1)));
  scene.draw_all({5, 6, think_close, 7, 8});
  EXPECT_EQ(scene.draw(think_close), "force -3 91") << "5 6 Wait is all that fits";
  EXPECT_THAT(scene.kept(), ElementsAre(5, 6, 40, think_close));
}

TEST(BudgetForcing, ATruncatedLastRoundIsCutAndGetsTheFinalText) {
  Scene scene(budget_forcing(forcing(3, 1)));
  scene.draw_all({5, 6, think_close, 7, 8});
  EXPECT_EQ(scene.draw(9), "force -3 80 91 50");
  EXPECT_THAT(scene.kept(), ElementsAre(5, 6, 40, newline, think_close, 50));
}

TEST(BudgetForcing, OfTheTotalEachRoundTakesOffWhatItDrew) {
  Scene scene(budget_forcing(forcing(6, 1, RoundBudget::total)));
  scene.draw_all({5, 6, think_close, 7, 8});  // 6 - 3: the ignored closer was drawn too
  EXPECT_EQ(scene.draw(9), "force -0 80 91 50");
  EXPECT_THAT(scene.kept(), ElementsAre(5, 6, 40, 7, 8, 9, newline, think_close, 50));
}

TEST(BudgetForcing, NothingIsIgnoredWhenNothingIsLeft) {
  Scene scene(budget_forcing(forcing(3, 5, RoundBudget::total)));
  scene.draw_all({5, 6});
  EXPECT_EQ(scene.draw(think_close), "-") << "s1's README asks for a negative number here";
}

TEST(BudgetForcing, AnEndTokenEndsARoundToo) {
  Scene scene(budget_forcing(forcing(9, 1)));
  scene.draw(5);
  EXPECT_EQ(scene.draw(end_token), "force -1 40");
  scene.draw(6);
  EXPECT_EQ(scene.draw(end_token), "force -1 91") << "the answer follows all the same";
  EXPECT_EQ(scene.draw(end_token), "-");
  EXPECT_THAT(scene.kept(), ElementsAre(5, 40, 6, think_close, end_token));
}

TEST(BudgetForcing, WhatIsForcedEndsIt) {
  Scene scene(budget_forcing(forcing(9, 5)));
  scene.draw(5);
  EXPECT_EQ(scene.feed(think_close), "-");
  EXPECT_EQ(scene.draw(think_open), "-");
  EXPECT_EQ(scene.draw(6), "-");
  EXPECT_EQ(scene.draw(think_close), "-");
}

TEST(BudgetForcing, ThinkingThatOpensAgainHasWhatIsLeft) {
  Scene scene(budget_forcing(forcing(3, 0)));
  scene.draw_all({5, 6, think_close, 7, think_open});
  EXPECT_EQ(scene.draw(8), "force -0 80 91 50");
  EXPECT_EQ(scene.draw(think_open), "force -0 80 91 50");
}

TEST(BudgetForcing, ASplitCloserIsReplacedWhole) {
  BudgetForcingOptions options = forcing(9, 1);
  options.closer = {half_a, half_b};
  Scene scene(budget_forcing(options), split_markers());
  EXPECT_EQ(scene.started(), "94:-inf 83:-inf");
  scene.draw_all({5, half_a});
  EXPECT_EQ(scene.draw(half_b), "force -2 40");
  scene.draw_all({6, half_a, half_b});
  EXPECT_THAT(scene.kept(), ElementsAre(5, 40, 6, half_a, half_b));
}

TEST(BudgetForcing, WithoutAWordTheCloserIsDrawnAgain) {
  BudgetForcingOptions options = forcing(9, 1);
  options.with = {};
  Scene scene(budget_forcing(options));
  scene.draw(5);
  EXPECT_EQ(scene.draw(think_close), "force -1 but 91:-inf 83:-inf");
  EXPECT_EQ(scene.draw(6), "-");
  EXPECT_EQ(scene.draw(think_close), "-");
  EXPECT_THAT(scene.kept(), ElementsAre(5, 6, think_close));
}

TEST(BudgetForcing, HalfACloserAtTheLimitIsReplaced) {
  BudgetForcingOptions options = forcing(2, 0);
  options.closer = {half_a, half_b};
  Scene scene(budget_forcing(options), split_markers());
  scene.draw(5);
  EXPECT_EQ(scene.draw(half_a), "force -1 80 94 95 50");
}

TEST(BudgetForcing, AsksAgainForWhatWasNotDone) {
  for (const RoundBudget count : {RoundBudget::each_round, RoundBudget::total}) {
    Driven guide(budget_forcing(forcing(2, 0, count)));
    Moment moment = thinking(2);
    moment.new_tokens = 2;
    const std::vector<TokenId> tokens(9);
    moment.tokens = tokens;
    EXPECT_EQ(guide(moment, false), "force -0 80 91 50");
    moment.think_tokens = moment.new_tokens = 3;
    EXPECT_EQ(guide(moment), "force -1 80 91 50");
  }
}

TEST(BudgetForcing, AForkCountsForItself) {
  Scene scene(budget_forcing(forcing(9, 1)));
  scene.draw(5);
  Scene fork = scene;
  EXPECT_EQ(scene.draw(think_close), "force -1 40");
  EXPECT_EQ(fork.draw(think_close), "force -1 40");
}

TEST(BudgetForcing, RefusesOptionsThatCannotBe) {
  const auto expect = [](auto change, std::string_view says) {
    BudgetForcingOptions options = forcing(9, 1);
    change(options);
    EXPECT_ERROR(budget_forcing(options), ErrorCode::invalid_argument, says);
  };
  expect([](auto& o) { o.closer = {}; }, "a closer");
  expect([](auto& o) { o.with = {think_close}; }, "without the closer");
  expect([](auto& o) { o.max_think_tokens = 0; }, "at least 1");
  expect([](auto& o) { o.times = -1; }, "times of at least 0");
  expect([](auto& o) { o.final_text = {-1}; }, "token ids");
  expect([](auto& o) { o.final_text = {50, think_close}; }, "without the closer");
}

}  // namespace
}  // namespace pensive
