// What every action of a guide does, and what bad ones do, without a model.
#include <cmath>
#include <stdexcept>

#include "engine_stage.h"

namespace pensive::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Guidance, TheFirstActionWinsAndAllAreToldWhatWasDone) {
  std::vector<std::string> told;
  const auto teller = [&](std::string name, Action action) {
    auto guide = at_token(1, std::move(action));
    guide->done = [&told, name](const Done& done) {
      const auto* force = std::get_if<Force>(done.action);
      told.push_back(fmt::format("{} {} {}", name, force ? force->tokens[0] : -1, done.was_mine));
    };
    return guide;
  };
  Stage stage({teller("a", Proceed{}), teller("b", Force{{30}, 0}), teller("c", Force{{31}, 0})});
  stage.draw({20});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 30));
  EXPECT_THAT(told, ElementsAre("a 30 false", "b 30 true", "c 30 false"));
}

TEST(Guidance, BiasesAddAndMasksIntersect) {
  Stage stage({at_token(1, Proceed{{{5, 1.0f, 0.5f}, {7, 2.0f, 0}}}), at_token(1, Allow{{0xff}}),
               at_token(1, Proceed{{{5, 0.25f, 0}}}), at_token(1, Allow{{0x3c, 1}})});
  stage.draw({20});
  const auto biases = stage.guidance.biases();
  ASSERT_EQ(biases.size(), 2u);
  EXPECT_EQ(biases[0].token, 5);
  EXPECT_EQ(biases[0].logit, 1.25f);
  EXPECT_EQ(biases[0].times_max_minus_mean, 0.5f);
  EXPECT_THAT(stage.guidance.mask(), ElementsAre(0x3cu, 0u));
  stage.draw({21});
  EXPECT_TRUE(stage.guidance.biases().empty());
  EXPECT_TRUE(stage.guidance.mask().empty());
}

TEST(Guidance, GivesEachGuideItsOwnWatchedLogprobs) {
  std::vector<float> first, second;
  auto a = scripted([&](const Moment& m) -> Action {
    first.assign(m.watched.begin(), m.watched.end());
    return Proceed{};
  });
  auto b = scripted([&](const Moment& m) -> Action {
    second.assign(m.watched.begin(), m.watched.end());
    return Proceed{};
  });
  a->wants = {7, 8};
  b->wants = {9};
  Stage stage({a, b});
  EXPECT_THAT(stage.guidance.watched(), ElementsAre(7, 8, 9));
  const std::vector<float> logprobs{-1, -2, -3};
  Stats stats;
  stats.watched = logprobs;
  stage.guidance.sampled(stage.record, 20, stats);
  EXPECT_THAT(first, ElementsAre(-1, -2));
  EXPECT_THAT(second, ElementsAre(-3));
}

TEST(Guidance, AForcedTokenIsShownToEveryGuide) {
  std::vector<TokenId> forced;
  auto watcher = scripted([&](const Moment& m) -> Action {
    if (m.origin == Origin::forced) {
      forced.push_back(m.token);
      EXPECT_TRUE(std::isnan(m.logprob));
      EXPECT_TRUE(std::isnan(m.entropy_nats));
    }
    return Proceed{};
  });
  Stage stage({at_token(1, Force{{30, 31}, 0}), watcher});
  stage.draw({20});
  EXPECT_THAT(forced, ElementsAre(30, 31));
}

TEST(Guidance, AnActionOnAForcedTokenDropsWhatWasStillToBeFed) {
  auto cutter = scripted([](const Moment& m) -> Action {
    if (m.token == 30) return Close{CloseReason::other, 0, 0};
    return Proceed{};
  });
  Stage stage({at_token(1, Force{{30, 31}, 0}), cutter});
  stage.draw({20});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 30, close_a, close_b));
}

TEST(Guidance, AGuideThatForcesForEverEndsAtTheLimit) {
  Stage stage({scripted([](const Moment&) -> Action { return Force{{30}, 0}; })}, 9);
  stage.draw({20});
  EXPECT_EQ(stage.record.trace.stopped, StopReason::length);
  EXPECT_EQ(stage.record.decoded(), 9);
}

TEST(Guidance, WhatIsTakenBackCountsToTheLimit) {
  Stage stage({scripted([](const Moment&) -> Action { return Force{{}, 1}; })}, 3);
  stage.draw({20, 21, 22});
  EXPECT_EQ(stage.record.trace.stopped, StopReason::length);
  EXPECT_THAT(stage.kept(), ElementsAre(22));
}

TEST(Guidance, TheEndTokenMayBeReplaced) {
  auto stubborn = scripted([](const Moment& m) -> Action {
    if (m.token == end_token && m.new_tokens < 4) return Force{{30}, 1};
    return Proceed{};
  });
  Stage stage({stubborn});
  stage.draw({20, end_token});
  EXPECT_FALSE(stage.record.is_sealed());
  EXPECT_THAT(stage.kept(), ElementsAre(20, 30));
  stage.draw({21, end_token});
  EXPECT_EQ(stage.record.trace.stopped, StopReason::end_token);
  EXPECT_THAT(stage.kept(), ElementsAre(20, 30, 21, end_token));
  EXPECT_EQ(stage.streamed(), "[think 0]w20 w30 w21");
}

TEST(Guidance, AnEndTokenThatIsFedEndsNothing) {
  Stage stage;
  const std::vector<TokenId> turn{end_token, 20};
  stage.guidance.feed(stage.record, turn);
  EXPECT_FALSE(stage.record.is_sealed());
  EXPECT_THAT(stage.kept(), ElementsAre(end_token, 20));
}

TEST(Guidance, StopEndsTheSequence) {
  Stage stage({at_token(2, Stop{})});
  stage.draw({20, 21});
  EXPECT_EQ(stage.record.trace.stopped, StopReason::guide);
  EXPECT_EQ(stage.record.trace.actions.at(0).kind, "stop");
}

TEST(Guidance, OnStartMayForceWhatComesFirst) {
  auto guide = std::make_shared<Scripted>();
  guide->begin = [](const Moment& m) -> Action {
    EXPECT_EQ(m.token, open);
    EXPECT_EQ(m.new_tokens, 0);
    EXPECT_EQ(m.segment, Segment::prompt);
    return Force{{30, 31}, 0};
  };
  Stage stage({guide});
  EXPECT_THAT(stage.kept(), ElementsAre(30, 31));
}

TEST(Guidance, OnStartMayCloseTheThinkingAtOnce) {
  auto guide = std::make_shared<Scripted>();
  guide->begin = [](const Moment&) -> Action { return Close{CloseReason::other, 0, 0}; };
  Stage stage({guide});
  EXPECT_THAT(stage.kept(), ElementsAre(close_a, close_b));
}

TEST(Guidance, BadActionsEndTheSequenceWithAReason) {
  const std::vector<std::pair<Action, std::string>> bad{
      {Force{{30}, 3}, "prompt stays"},
      {Force{{30}, -1}, "prompt stays"},
      {Force{{}, 0}, "neither"},
      {Force{{soft + 1}, 0}, "65"},
      {Force{{-1}, 0}, "-1"},
      {Close{CloseReason::other, 9, 0}, "prompt stays"},
      {Proceed{{{64, 1, 0}}}, "64"},
      {Proceed{{{1, NAN, 0}}}, "NaN"},
      {Allow{{}}, "at least one token"},
      {Probe{9, {}, {}, 0, 4}, "back"},
      {Probe{0, {99}, {}, 0, 4}, "99"},
      {Probe{0, {}, {}, 0, 0}, "max_new_tokens"},
      {Probe{0, {}, {}, -1, 4}, "temperature"}};
  for (const auto& [action, text] : bad) {
    Stage stage({at_token(2, action)});
    stage.draw({20, 21});
    EXPECT_EQ(stage.record.trace.stopped, StopReason::error) << text;
    EXPECT_THAT(stage.record.trace.error, HasSubstr(text));
    EXPECT_THAT(stage.record.trace.error, HasSubstr("guide scripted"));
  }
}

TEST(Guidance, AGuideThatThrowsEndsItsSequence) {
  Stage stage({scripted([](const Moment& m) -> Action {
    if (m.token == 21) throw std::runtime_error("lost the thread");
    return Proceed{};
  })});
  stage.draw({20, 21});
  EXPECT_EQ(stage.record.trace.stopped, StopReason::error);
  EXPECT_EQ(stage.record.trace.error, "guide scripted: lost the thread");
  EXPECT_EQ(stage.record.trace.tokens.size(), 4u);
}

TEST(Guidance, AProbeWaitsForItsAnswerAndMayAct) {
  auto guide = at_token(2, Probe{1, {40}, {}, 0, 8});
  guide->reply = [](const ProbeReply& reply) -> Action {
    EXPECT_THAT(reply.tokens, ElementsAre(50, 51));
    return Close{CloseReason::brake, 0, 0};
  };
  Stage stage({guide});
  stage.draw({20, 21});
  ASSERT_NE(stage.guidance.probe(), nullptr);
  EXPECT_EQ(stage.guidance.probe()->from_back, 1);
  EXPECT_EQ(stage.streamed(), "[think 0]w20");
  const std::vector<TokenId> tokens{50, 51};
  stage.guidance.answer(stage.record, {.tokens = tokens, .logprobs = {}, .text = {}}, 3);
  EXPECT_EQ(stage.guidance.probe(), nullptr);
  EXPECT_EQ(stage.record.trace.probe_tokens, 3);
  EXPECT_THAT(stage.kept(), ElementsAre(20, 21, close_a, close_b));
  EXPECT_EQ(stage.record.trace.actions.at(0).kind, "probe");
  EXPECT_EQ(stage.record.trace.actions.at(1).kind, "close");
}

TEST(Guidance, TokensFedDuringAProbeComeAfterIt) {
  Stage stage({at_token(1, Probe{0, {}, {}, 0, 8})});
  stage.draw({20});
  const std::vector<TokenId> turn{30, 31};
  stage.guidance.feed(stage.record, turn);
  EXPECT_THAT(stage.kept(), ElementsAre(20));
  stage.guidance.answer(stage.record, {}, 2);
  EXPECT_THAT(stage.kept(), ElementsAre(20, 30, 31));
}

TEST(Guidance, AskingAgainAfterARefusalIsAnError) {
  auto guide = at_token(1, Probe{0, {}, {}, 0, 8});
  guide->reply = [](const ProbeReply&) -> Action { return Probe{0, {}, {}, 0, 8}; };
  Stage stage({guide});
  stage.draw({20});
  ProbeReply refusal;
  refusal.is_refused = true;
  stage.guidance.answer(stage.record, refusal, 0);
  EXPECT_EQ(stage.record.trace.stopped, StopReason::error);
}

TEST(Guidance, ACopyGoesItsOwnWay) {
  Stage stage({budget({.max_think_tokens = 3, .window_tokens = 0})});
  stage.draw({20, 21});
  Guidance other_guidance(stage.guidance);
  Record other = stage.record;
  stage.draw({22});
  other_guidance.sampled(other, 23, {});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 21, 22, close_a, close_b));
  EXPECT_THAT(std::span(other.lane.tokens).subspan(2), ElementsAre(20, 21, 23, close_a, close_b));
}

}  // namespace
}  // namespace pensive::testing
