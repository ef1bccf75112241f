// Thoughts that begin and are not to be left at once.
#include "guides_scene.h"
#include "testing.h"

namespace pensive {
namespace {

using namespace testing;

constexpr TokenId other = 30, another = 31;

SwitchPenaltyOptions three_tokens() {
  return {.tokens = {another, other, other}, .alpha = 2, .beta = 3};
}
const std::string penalty = "30:-2 31:-2";

TEST(SwitchPenalty, HoldsForTheBeginningOfEachThought) {
  Scene scene(switch_penalty(three_tokens()));
  EXPECT_EQ(scene.started(), penalty);
  EXPECT_EQ(scene.draw(5), penalty);
  EXPECT_EQ(scene.draw(6), penalty);
  EXPECT_EQ(scene.draw(7), "-");
  EXPECT_EQ(scene.draw(8), "-");
  EXPECT_EQ(scene.draw(other), penalty) << "restarted";
  EXPECT_EQ(scene.draw(5), penalty);
  EXPECT_EQ(scene.feed(another), penalty) << "a forced switch begins a thought too";
  EXPECT_EQ(scene.draw(5), penalty);
  EXPECT_EQ(scene.draw(6), penalty);
  EXPECT_EQ(scene.draw(7), "-");
}

TEST(SwitchPenalty, HoldsInThinkingOnly) {
  Scene scene(switch_penalty(three_tokens()));
  scene.draw(5);
  EXPECT_EQ(scene.draw(think_close), "-");
  EXPECT_EQ(scene.draw(other), "-") << "an answer has no thoughts";
  EXPECT_EQ(scene.draw(think_open), penalty);
  scene.draw_all({5, 6});
  EXPECT_EQ(scene.draw(7), "-");
  EXPECT_EQ(Scene(switch_penalty(three_tokens()), one_token_markers(), {1}).started(), "-");
}

TEST(SwitchPenalty, WhatIsTakenBackHasNotBegun) {
  Scene scene(switch_penalty(three_tokens()));
  scene.draw_all({5, 6, 7});
  EXPECT_EQ(scene.draw(other), penalty);
  scene.take_back(1);
  EXPECT_EQ(scene.draw(8), "-");
}

TEST(SwitchPenalty, WithoutLengthThereIsNone) {
  SwitchPenaltyOptions options = three_tokens();
  options.beta = 0;
  Scene scene(switch_penalty(options));
  EXPECT_EQ(scene.started(), "-");
  EXPECT_EQ(scene.draw(other), "-");
}

TEST(SwitchPenalty, HasThePapersNumbers) {
  Scene scene(switch_penalty({.tokens = {other}}));
  EXPECT_EQ(scene.started(), "30:-3");
  for (int i = 1; i < 600; ++i) ASSERT_EQ(scene.draw(5), "30:-3") << i;
  EXPECT_EQ(scene.draw(5), "-");
}

TEST(SwitchPenalty, RefusesOptionsThatCannotBe) {
  const auto expect = [](SwitchPenaltyOptions options, std::string_view says) {
    EXPECT_ERROR(switch_penalty(options), ErrorCode::invalid_argument, says);
  };
  expect({}, "tokens that begin another thought");
  expect({.tokens = {-1}}, "token ids");
  expect({.tokens = {1}, .alpha = -1}, "alpha from 0");
  expect({.tokens = {1}, .alpha = std::numeric_limits<float>::quiet_NaN()}, "alpha");
  expect({.tokens = {1}, .alpha = 1, .beta = -1}, "beta of at least 0");
}

}  // namespace
}  // namespace pensive
