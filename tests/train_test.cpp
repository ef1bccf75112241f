// The pure steps against numbers from an independent computation (NumPy), written here.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "train/steps.h"
#include "train_tiny.h"

namespace pensive {
namespace {

using testing::make_trace;
using testing::suffix_of;
using testing::tiny_soft;

at::Tensor doubles(std::vector<double> values) { return at::tensor(values, at::kDouble); }

void expect_near(const at::Tensor& found, const std::vector<double>& expected, double within) {
  ASSERT_EQ(found.numel(), static_cast<std::int64_t>(expected.size()));
  const at::Tensor flat = found.flatten();
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(flat[static_cast<std::int64_t>(i)].item<double>(), expected[i], within) << i;
}

TEST(Advantages, AreScaledByTheUnbiasedDeviationOfEachGroup) {
  const at::Tensor rewards = doubles({1, 0, 0, 1, 1, 1, 1, 1, 0.5, 2, 1, 0}).view({3, 4});
  expect_near(
      advantages(rewards, AdvantageScale::group),
      {0.8658754297607016, -0.8658754297607016, -0.8658754297607016, 0.8658754297607016, 0, 0, 0, 0,
       -0.43910361027740374, 1.3173108308322112, 0.1463678700924679, -1.0245750906472755},
      1e-14);
}

TEST(Advantages, AreExactlyZeroWithoutSpread) {
  // 0.1 thirteen times: its mean is not 0.1 in floating point.
  const at::Tensor same = at::full({1, 13}, 0.1, at::kDouble);
  using enum AdvantageScale;
  for (const AdvantageScale scale : {group, batch, none}) {
    EXPECT_EQ(advantages(same, scale).abs().max().item<double>(), 0);
    EXPECT_EQ(advantages(doubles({3}).view({1, 1}), scale).item<double>(), 0);
  }
}

TEST(GrpoLoss, ClipsAsTheReferenceDoes) {
  const at::Tensor logprobs = doubles({-1.0, -0.5, -2.0, -0.1, -3.0}).requires_grad_(true);
  const at::Tensor old = doubles({-1.0, -1.0, -1.5, -0.2, -2.0});
  const Loss loss =
      grpo_loss({logprobs, old, doubles({1, 1, -1, -2, 0.5}), {}, {}}, {.denominator = 7});
  EXPECT_NEAR(loss.loss.item<double>(), 0.08948601650936773, 1e-15);
  EXPECT_EQ(loss.clipped.item<std::int64_t>(), 2);
  loss.loss.backward();
  expect_near(logprobs.grad(),
              {-0.14285714285714285, 0, 0, 0.31576311945018504, -0.02627710294081731}, 1e-15);
}

TEST(GrpoLoss, OfTheFirstInnerStepIsThePolicyGradient) {
  const at::Tensor logprobs = doubles({-1.0, -2.0}).requires_grad_(true);
  grpo_loss({logprobs, logprobs.detach(), doubles({0.5, -3}), {}, {}}, {.denominator = 10})
      .loss.backward();
  expect_near(logprobs.grad(), {-0.05, 0.3}, 1e-15);
}

TEST(Adam, FollowsTheReference) {
  Adam adam;
  std::vector<float> values = {0.5f, -1.0f};
  adam.update(values, std::vector<double>{0.1, -2.0}, 0.01);
  adam.update(values, std::vector<double>{0.3, 0.5}, 0.01);
  adam.update(values, std::vector<double>{-0.2, 0.0}, 0.01);
  EXPECT_NEAR(values[0], 0.4783473, 1e-6);
  EXPECT_NEAR(values[1], -0.98153493, 1e-6);
  EXPECT_EQ(adam.updates, 3);
}

TEST(Schedule, IsHalfACosineOrConstant) {
  EXPECT_EQ(scheduled_rate(0.5, 1000, 0), 0.5);
  EXPECT_EQ(scheduled_rate(0.5, 0, 10), 0.5);
  EXPECT_NEAR(scheduled_rate(0.5, 5, 10), 0.25, 1e-15);
  EXPECT_EQ(scheduled_rate(0.5, 10, 10), 0);
  EXPECT_EQ(scheduled_rate(0.5, 11, 10), 0);
}

TEST(FindSuffix, TargetsAreTheSampledTokensAfterTheFirstSoftToken) {
  // kept: 1 2 3 | 51 5 6 51 9 | what was sampled before the soft token is constant
  const auto suffix = suffix_of("p1 p2 s3 x4 f51 s5 s6 x4 f51 f9 s7", tiny_soft);
  ASSERT_TRUE(suffix);
  EXPECT_EQ(suffix->begins, 3);
  EXPECT_THAT(suffix->tokens, ::testing::ElementsAre(1, 2, 3, 51, 5, 6, 51, 9));
  ASSERT_EQ(suffix->targets.size(), 4u);
  const std::vector<std::pair<int, TokenId>> expected = {{0, 5}, {1, 6}, {2, 4}, {4, 7}};
  const std::vector<float> drawn = {-6, -7, -8, -11};
  for (std::size_t t = 0; t < 4; ++t) {
    EXPECT_EQ(suffix->targets[t].position, expected[t].first);
    EXPECT_EQ(suffix->targets[t].token, expected[t].second);
    EXPECT_EQ(suffix->targets[t].drawn_logprob, drawn[t]);
  }
  EXPECT_EQ(suffix->length(), 5);
}

TEST(FindSuffix, IsNothingWhereNoDrawnTokenDependsOnTheRow) {
  EXPECT_FALSE(suffix_of("p1 s2 s3", tiny_soft));
  EXPECT_FALSE(suffix_of("p1 s2 f51", tiny_soft));
  EXPECT_FALSE(suffix_of("p1 s2 f51 f7", tiny_soft));
  EXPECT_FALSE(suffix_of("p1 s2 f50 s3", tiny_soft)) << "another soft row";
  EXPECT_FALSE(suffix_of("p1 s2 y51 s3", tiny_soft)) << "taken back itself";
}

TEST(FindSuffix, BeginsInThePromptWhereThatHoldsTheRow) {
  const auto suffix = suffix_of("p51 p2 s3", tiny_soft);
  ASSERT_TRUE(suffix);
  EXPECT_EQ(suffix->begins, 0);
  ASSERT_EQ(suffix->targets.size(), 1u);
  EXPECT_EQ(suffix->targets[0].position, 1);
}

TEST(FindSuffix, ContextsHoldWhatWasTakenBackThen) {
  const std::string words = "p1 p2 s3 f51 s4 x5 x6 x7 f51 s8 x9";
  const auto suffix = suffix_of(words, tiny_soft);
  ASSERT_TRUE(suffix);
  EXPECT_EQ(suffix->begins, 3);
  EXPECT_THAT(suffix->tokens, ::testing::ElementsAre(1, 2, 3, 51, 4, 51, 8));
  EXPECT_EQ(suffix->asides.size(), 2u) << "nothing was drawn behind 7";
  std::vector<std::pair<std::vector<TokenId>, TokenId>> found;
  for (const Target& one : suffix->targets)
    found.push_back({testing::context_of(*suffix, one.position), one.token});
  const std::vector<std::pair<std::vector<TokenId>, TokenId>> expected = {
      {{1, 2, 3, 51}, 4},          {{1, 2, 3, 51, 4}, 5},     {{1, 2, 3, 51, 4, 5}, 6},
      {{1, 2, 3, 51, 4, 5, 6}, 7}, {{1, 2, 3, 51, 4, 51}, 8}, {{1, 2, 3, 51, 4, 51, 8}, 9}};
  EXPECT_EQ(found, expected);
}

// Taken back one by one, with nothing fed between: each was drawn behind the same tokens.
TEST(FindSuffix, HeedsWhatStoodThere) {
  const Trace trace = testing::make_trace("p1 f51 x2 x3 x4 s5");
  const std::vector<int> depths = {0, 1, 2, 2, 3, 2};
  const auto suffix = find_suffix(trace, depths, tiny_soft);
  ASSERT_TRUE(suffix);
  std::vector<std::vector<TokenId>> found;
  for (const Target& one : suffix->targets)
    found.push_back(testing::context_of(*suffix, one.position));
  EXPECT_THAT(found,
              ::testing::ElementsAre(std::vector<TokenId>{1, 51}, std::vector<TokenId>{1, 51},
                                     std::vector<TokenId>{1, 51, 3}, std::vector<TokenId>{1, 51}));
}

// A row that was taken back itself: what was drawn behind it is an action all the same.
TEST(FindSuffix, BeginsWhereTheRowStoodFirst) {
  const auto suffix = suffix_of("p1 s2 x3 y51 x4 f5 s6", tiny_soft);
  ASSERT_TRUE(suffix);
  EXPECT_EQ(suffix->begins, 2);
  EXPECT_THAT(suffix->tokens, ::testing::ElementsAre(1, 2));
  ASSERT_EQ(suffix->targets.size(), 1u);
  EXPECT_EQ(suffix->targets[0].token, 4);
  EXPECT_THAT(testing::context_of(*suffix, suffix->targets[0].position),
              ::testing::ElementsAre(1, 2, 3, 51));
}

TEST(DrawnTokens, CountEveryDrawAlsoThoseTakenBack) {
  EXPECT_EQ(drawn_tokens(make_trace("p1 p2 s3 x4 f51 s5 y9 s6")), 4);
}

TEST(PlanBatches, KeepTheLimitAndTakeEveryoneOnce) {
  std::vector<Suffix> suffixes(40);
  for (std::size_t i = 0; i < suffixes.size(); ++i) {
    suffixes[i].begins = 10 + static_cast<int>(i * 37 % 100);
    suffixes[i].tokens.resize(suffixes[i].begins + 1 + i * 53 % 90);
  }
  std::vector<int> seen(suffixes.size());
  for (const std::vector<int>& batch : plan_batches(suffixes, 300)) {
    int length = 0, prefix = 0;
    for (const int s : batch) {
      length = std::max(length, suffixes[s].length());
      prefix = std::max(prefix, suffixes[s].begins);
      ++seen[s];
    }
    const int members = static_cast<int>(batch.size());
    EXPECT_TRUE(members == 1 || (members * length <= 300 && members * prefix <= 1200));
  }
  EXPECT_THAT(seen, ::testing::Each(1));
  EXPECT_EQ(plan_batches(std::span(suffixes).first(3), 1).size(), 3u);
  EXPECT_TRUE(plan_batches({}, 100).empty());
}

}  // namespace
}  // namespace pensive
