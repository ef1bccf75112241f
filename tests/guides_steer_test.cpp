// Guides that lean on draws or force them, driven by invented moments.
#include <limits>

#include "guides_moments.h"

namespace pensive {
namespace {

using testing::biases_of;
using testing::Driven;
using testing::marker;
using testing::thinking;

constexpr TokenId closer = testing::closer;
constexpr float never = -std::numeric_limits<float>::infinity();

TEST(BudgetMinimum, NeitherCloserNorEndIsDrawnBefore) {
  Driven guide(budget(
      {.max_think_tokens = 100, .min_think_tokens = 3, .closer = {closer}, .end_tokens = {2}}));
  EXPECT_EQ(biases_of(guide.guide().on_start(thinking(0))), "91:-inf 2:-inf");
  EXPECT_EQ(biases_of(guide.guide().on_token(thinking(2))), "91:-inf 2:-inf");
  EXPECT_EQ(biases_of(guide.guide().on_token(thinking(3))), "");
}

TEST(BudgetMinimum, HoldsTheLastTokenOfALongCloserBack) {
  Driven guide(budget({.min_think_tokens = 9, .closer = {5, 6, 7}}));
  Moment moment = thinking(2);
  const std::vector<TokenId> other{1, 6, 5}, begun{1, 5, 6};
  moment.tokens = other;
  EXPECT_EQ(biases_of(guide.guide().on_token(moment)), "");
  moment.tokens = begun;
  EXPECT_EQ(biases_of(guide.guide().on_token(moment)), "7:-inf");
}

TEST(BudgetMinimum, TakesACloserBackThatCameAllTheSame) {
  Driven guide(budget({.min_think_tokens = 5, .closer = {closer}}));
  EXPECT_EQ(guide(marker(Marker::think_close, 4)), "force -1");
  EXPECT_EQ(guide(marker(Marker::think_close, 5)), "-");
  EXPECT_EQ(guide(marker(Marker::think_close, 4, Origin::forced)), "-");
}

TEST(BudgetMinimum, MustNotContradictTheMaximum) {
  EXPECT_ERROR(budget({.max_think_tokens = 4, .min_think_tokens = 5, .closer = {1}}),
               ErrorCode::invalid_argument, "at most max_think_tokens = 4");
  EXPECT_ERROR(budget({.min_think_tokens = -1}), ErrorCode::invalid_argument, "at least 0");
  EXPECT_ERROR(budget({.min_think_tokens = 1}), ErrorCode::invalid_argument, "closer");
}

TEST(ContinueThinking, ClosesAtTheTotalBudgetWhereAsked) {
  Driven lets(continue_thinking({.with = {1}, .times = 9, .max_think_tokens = 6}));
  EXPECT_EQ(lets(thinking(6)), "-");
  Driven closes(
      continue_thinking({.with = {1}, .times = 9, .max_think_tokens = 6, .close_at_max = true}));
  EXPECT_EQ(closes(marker(Marker::think_close, 5)), "force -1 1");
  EXPECT_EQ(closes(thinking(5)), "-");
  EXPECT_EQ(closes(thinking(6)), "close budget -0 in 0");
  EXPECT_EQ(closes(marker(Marker::think_close, 6)), "-");
}

BudgetForcingOptions forcing(RoundBudget count) {
  return {.closer = {closer},
          .max_think_tokens = 10,
          .times = 1,
          .with = {33},
          .count = count,
          .final_text = {closer, 8},
          .final_text_on_new_line = {7, closer, 8}};
}

// s1's harness: two rounds of up to 10 tokens, all cut to 10 at the end.
TEST(BudgetForcing, GivesEachRoundTheWholeAndCuts) {
  Driven guide(budget_forcing(forcing(RoundBudget::each_round)));
  EXPECT_EQ(guide(thinking(4)), "-");
  EXPECT_EQ(guide(marker(Marker::think_close, 4)), "force -1 33");
  EXPECT_EQ(guide(thinking(11)), "-") << "the second round has used 7";
  Driven stops = guide;
  EXPECT_EQ(stops(marker(Marker::think_close, 12)), "force -3 91") << "cut, and no final text";
  EXPECT_EQ(stops(marker(Marker::think_close, 12)), "-");
  EXPECT_EQ(guide(thinking(14)), "force -4 7 91 8") << "the round's limit: final text";
  EXPECT_EQ(guide(thinking(15)), "-");
}

TEST(BudgetForcing, TakesRoundsOffTheTotal) {
  Driven guide(budget_forcing(forcing(RoundBudget::total)));
  EXPECT_EQ(guide(marker(Marker::think_close, 4)), "force -1 33");
  EXPECT_EQ(guide(thinking(9)), "-");
  Driven line = guide;
  EXPECT_EQ(guide(thinking(10)), "force -0 7 91 8");
  EXPECT_EQ(line(thinking(10, "so\n")), "force -0 91 8") << "the text ends in a newline already";
}

TEST(BudgetForcing, LetsTheLastCloserStand) {
  Driven guide(budget_forcing(forcing(RoundBudget::each_round)));
  EXPECT_EQ(guide(marker(Marker::think_close, 4)), "force -1 33");
  EXPECT_EQ(guide(marker(Marker::think_close, 9)), "-");
  EXPECT_EQ(guide(marker(Marker::think_close, 9, Origin::forced)), "-");
}

TEST(BudgetForcing, RefusesWhatCannotBe) {
  auto options = forcing(RoundBudget::total);
  options.final_text = {8};
  EXPECT_ERROR(budget_forcing(options), ErrorCode::invalid_argument, "contains the closer");
  options = forcing(RoundBudget::total);
  options.with = {};
  EXPECT_ERROR(budget_forcing(options), ErrorCode::invalid_argument, "with");
  options = forcing(RoundBudget::total);
  options.max_think_tokens = 0;
  EXPECT_ERROR(budget_forcing(options), ErrorCode::invalid_argument, "at least 1");
}

TEST(SwitchPenalty, HoldsForBetaTokensOfEachThought) {
  Driven guide(switch_penalty({.tokens = {40, 41}, .alpha = 3, .beta = 5}));
  const auto after = [&](int think_tokens, TokenId token) {
    Moment moment = thinking(think_tokens);
    moment.token = token;
    return biases_of(guide.guide().on_token(moment));
  };
  EXPECT_EQ(after(1, 1), "40:-3 41:-3");
  EXPECT_EQ(after(4, 1), "40:-3 41:-3");
  EXPECT_EQ(after(5, 1), "");
  EXPECT_EQ(after(8, 41), "40:-3 41:-3") << "a switch: the next thought begins";
  EXPECT_EQ(after(12, 1), "40:-3 41:-3");
  EXPECT_EQ(after(13, 1), "");
  EXPECT_EQ(biases_of(guide.guide().on_token(marker(Marker::think_close, 13))), "");
}

TEST(Ban, HoldsInTheThinkingOnlyOrEverywhere) {
  Driven thought(ban({.tokens = {9, 4, 9}})), all(ban({.tokens = {4}, .also_in_answer = true}));
  EXPECT_EQ(biases_of(thought.guide().on_token(thinking(1))), "4:-inf 9:-inf");
  EXPECT_EQ(biases_of(thought.guide().on_token(testing::answering(1))), "");
  EXPECT_EQ(biases_of(all.guide().on_token(testing::answering(1))), "4:-inf");
  EXPECT_TRUE(thought.guide().needs_markers());
  EXPECT_FALSE(all.guide().needs_markers());
}

TEST(Ban, FindsTokensByWhatTheyContain) {
  const auto tokenizer = Tokenizer::load(PENSIVE_REASONER);
  const std::vector<std::string> words{"WAIT"}, except{"wait"};
  const TokenId wait = tokenizer->find("Wait, ").value();
  EXPECT_EQ(tokens_containing(*tokenizer, words), std::vector<TokenId>{wait});
  EXPECT_TRUE(tokens_containing(*tokenizer, words, except).empty());
}

TEST(CloserPressure, GrowsAndFollowsALongCloser) {
  Driven guide(closer_pressure({.closer = {5, 6}, .alpha = 0.6f, .from = 10, .full = 12}));
  Moment moment = thinking(9);
  EXPECT_EQ(biases_of(guide.guide().on_token(moment)), "");
  moment.think_tokens = 10;
  EXPECT_EQ(biases_of(guide.guide().on_token(moment)), "5:0+0.2");
  moment.think_tokens = 30;
  EXPECT_EQ(biases_of(guide.guide().on_token(moment)), "5:0+0.6");
  const std::vector<TokenId> begun{1, 5};
  moment.tokens = begun;
  moment.new_tokens = 2;
  EXPECT_EQ(biases_of(guide.guide().on_token(moment)), "6:0+0.6");
}

TEST(CloserPressure, AtSentenceEndsOnly) {
  Driven guide(closer_pressure({.closer = {5}, .at_sentence_ends = true}));
  EXPECT_EQ(biases_of(guide.guide().on_token(thinking(3))), "");
  EXPECT_EQ(biases_of(guide.guide().on_token(thinking(3, "so.\n"))), "5:0+0.6");
}

TEST(AllowAfterThinking, MasksTheAnswerByItsTokens) {
  std::vector<std::vector<TokenId>> asked;
  const auto guide = allow_after_thinking([&](std::span<const TokenId> answer) {
                       asked.emplace_back(answer.begin(), answer.end());
                       return std::vector<std::uint32_t>{6};
                     })->clone();
  EXPECT_FALSE(std::holds_alternative<Allow>(guide->on_token(thinking(3))));
  const std::vector<TokenId> whole{1, 2, closer, 7, 8};
  Moment moment = marker(Marker::think_close, 3);
  moment.tokens = std::span(whole).first(3);
  EXPECT_EQ(std::get<Allow>(guide->on_token(moment)).mask, std::vector<std::uint32_t>{6});
  moment = testing::answering(3);
  moment.tokens = whole;
  EXPECT_TRUE(std::holds_alternative<Allow>(guide->on_token(moment)));
  EXPECT_EQ(asked, (std::vector<std::vector<TokenId>>{{}, {7, 8}}));
  EXPECT_ERROR(allow_after_thinking(nullptr), ErrorCode::invalid_argument, "a function");
}

}  // namespace
}  // namespace pensive
