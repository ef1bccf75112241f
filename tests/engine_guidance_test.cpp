// Segments, text and closings as guides steer them, without a model.
#include "engine_stage.h"

namespace pensive::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Guidance, KeepsTraceTokensAndTextInStep) {
  Stage stage;
  stage.draw({20, 21, close_a, close_b, 22, end_token});
  EXPECT_EQ(stage.record.trace.stopped, StopReason::end_token);
  EXPECT_EQ(stage.record.trace.kept(), stage.record.lane.tokens);
  EXPECT_THAT(stage.record.trace.is_marker, ElementsAre(0, 0, 0, 0, 1, 1, 0, 0));
  EXPECT_EQ(stage.record.trace.segments[3], Segment::think);
  EXPECT_EQ(stage.record.trace.segments[6], Segment::answer);
  EXPECT_EQ(stage.streamed(), "[think 0]w20 w21[answer 0] w22");
}

TEST(Guidance, HoldsBackWhatMayBecomeAMarker) {
  Stage stage;
  stage.draw({20, close_a});
  EXPECT_EQ(stage.streamed(), "[think 0]w20");
  stage.draw({21});
  EXPECT_EQ(stage.streamed(), "[think 0] w11 w21");
  stage.draw({close_a, close_b});
  EXPECT_EQ(stage.streamed(), "");
}

TEST(Guidance, StreamsAtTheEndWhatWasHeldBack) {
  Stage stage({}, 2);
  stage.draw({20, close_a});
  EXPECT_EQ(stage.record.trace.stopped, StopReason::length);
  EXPECT_EQ(stage.streamed(), "[think 0]w20 w11");
}

TEST(Guidance, ShowsGuidesTheWholeMoment) {
  std::vector<std::string> seen;
  Stage stage({scripted([&](const Moment& m) -> Action {
    seen.push_back(fmt::format("{} '{}' '{}' {} {} {} {}", m.token, m.text, m.tail, m.think_tokens,
                               m.new_tokens, m.tokens.size(), static_cast<int>(m.completes)));
    return Proceed{};
  })});
  stage.draw({20, 21, close_a, close_b, 22});
  EXPECT_THAT(seen,
              ElementsAre("20 'w20' 'w20' 1 1 3 0", "21 ' w21' 'w20 w21' 2 2 4 0",
                          "11 ' w11' 'w20 w21 w11' 3 3 5 0", "12 ' w12' 'w20 w21 w11 w12' 2 4 6 2",
                          "22 ' w22' 'w20 w21 w11 w12 w22' 2 5 7 0"));
}

TEST(Guidance, ContinueThinkingReplacesACloserOfTwoTokensInPlace) {
  Stage stage({continue_thinking({.with = {30, soft}, .times = 1})});
  stage.draw({20, close_a, close_b, 21, close_a, close_b, 22});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 30, soft, 21, close_a, close_b, 22));
  const Trace& trace = stage.record.trace;
  EXPECT_THAT(trace.tokens,
              ElementsAre(5, open, 20, close_a, close_b, 30, soft, 21, close_a, close_b, 22));
  EXPECT_THAT(trace.is_taken_back, ElementsAre(0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0));
  EXPECT_EQ(trace.origins[5], Origin::forced);
  EXPECT_TRUE(std::isnan(trace.logprobs[5]));
  EXPECT_EQ(trace.logprobs[4], -1);
  ASSERT_EQ(trace.actions.size(), 1u);
  EXPECT_EQ(trace.actions[0].guide, "continue_thinking");
  EXPECT_EQ(trace.actions[0].kind, "force");
  EXPECT_EQ(trace.actions[0].position, 4);
  EXPECT_EQ(trace.actions[0].taken_back, 2);
  EXPECT_EQ(stage.streamed(), "[think 0]w20 w30 w21[answer 0] w22");
}

TEST(Guidance, BudgetClosesAtTheLimit) {
  Stage stage({budget({.max_think_tokens = 3, .window_tokens = 0})});
  stage.draw({20, 21, 22, 23});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 21, 22, close_a, close_b, 23));
  EXPECT_EQ(stage.record.segments().now(), Segment::answer);
  ASSERT_EQ(stage.record.trace.actions.size(), 1u);
  EXPECT_EQ(stage.record.trace.actions[0].kind, "close");
  EXPECT_EQ(stage.record.trace.actions[0].reason, "budget");
  EXPECT_EQ(stage.record.trace.actions[0].guide, "budget");
}

TEST(Guidance, ALongClosingTextIsFedOnceAndWhole) {
  Stage stage({budget({.max_think_tokens = 2, .window_tokens = 0})}, 100,
              {40, 41, close_a, close_b, 42});
  stage.draw({20, 21, 23});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 21, 40, 41, close_a, close_b, 42, 23));
}

TEST(Guidance, ACloserThatHasBegunIsNotDoubled) {
  Stage stage({at_token(3, Close{CloseReason::brake, 0, 0})});
  stage.draw({20, 21, close_a});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 21, close_a, close_b));
  EXPECT_THAT(stage.record.trace.is_taken_back, ElementsAre(0, 0, 0, 0, 1, 0, 0));
  EXPECT_EQ(stage.record.trace.actions[0].taken_back, 1);
}

TEST(Guidance, CloseTakesBackTheTokenJustDrawn) {
  Stage stage({at_token(2, Close{CloseReason::brake, 1, 0})});
  stage.draw({20, 21});
  EXPECT_THAT(stage.kept(), ElementsAre(20, close_a, close_b));
  EXPECT_EQ(stage.streamed(), "[think 0]w20");
}

TEST(Guidance, CloseWaitsNoLongerThanItsWindow) {
  Stage stage({at_token(1, Close{CloseReason::other, 0, 2})});
  stage.draw({20, 21});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 21));
  stage.draw({22});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 21, 22, close_a, close_b));
}

TEST(Guidance, CloseMeansNothingInTheAnswer) {
  Stage stage({at_token(3, Close{})});
  stage.draw({close_a, close_b, 20});
  EXPECT_THAT(stage.kept(), ElementsAre(close_a, close_b, 20));
  EXPECT_TRUE(stage.record.trace.actions.empty());
}

TEST(Guidance, CloseWithoutMarkersIsAnErrorThatSaysSo) {
  Stage stage({at_token(1, Close{})}, 100, {});
  stage.draw({20});
  EXPECT_EQ(stage.record.trace.stopped, StopReason::error);
  EXPECT_THAT(stage.record.trace.error, HasSubstr("markers"));
}

TEST(Guidance, TellsWhichDrawsWereSteeredAndWhenTokensCame) {
  Stage stage({scripted([](const Moment& m) -> Action {
    if (m.new_tokens == 1 || m.new_tokens == 2) return Proceed{{{7, -1.0f, 0}}};
    if (m.new_tokens == 4) return Allow{{~0u}};
    return Proceed{};
  })});
  stage.draw({20, 21, 22, 23, 24, 25});
  const Trace& trace = stage.record.trace;
  EXPECT_THAT(trace.is_steered, ElementsAre(0, 0, 0, 1, 1, 0, 1, 0));
  ASSERT_EQ(trace.actions.size(), 2U) << "what goes on is one action";
  EXPECT_EQ(trace.actions[0].kind, "bias");
  EXPECT_EQ(trace.actions[0].guide, "scripted");
  EXPECT_EQ(trace.actions[0].position, 2);
  EXPECT_EQ(trace.actions[0].draws, 2);
  EXPECT_EQ(trace.actions[1].kind, "allow");
  EXPECT_EQ(trace.actions[1].position, 5);
  EXPECT_EQ(trace.actions[1].draws, 1);
  EXPECT_EQ(trace.actions[1].seconds, trace.seconds[6]);
  ASSERT_EQ(trace.seconds.size(), trace.tokens.size());
  EXPECT_TRUE(std::isnan(trace.seconds[1]));
  for (std::size_t i = 2; i < trace.seconds.size(); ++i) EXPECT_GE(trace.seconds[i], 0) << i;
  EXPECT_TRUE(std::ranges::is_sorted(trace.seconds.begin() + 2, trace.seconds.end()));
}

TEST(Record, TakingBackAlsoTakesBackTheText) {
  Stage stage;
  stage.draw({20, 21, 22});
  stage.record.take_back(2);
  EXPECT_EQ(stage.record.text(), "w20");
  stage.draw({23});
  EXPECT_EQ(stage.record.text(), "w20 w23");
}

TEST(Record, HalfAMarkerIsTextAgain) {
  Stage stage({at_token(3, Force{{22}, 1})});
  stage.draw({20, close_a, close_b});
  EXPECT_THAT(stage.kept(), ElementsAre(20, close_a, 22));
  EXPECT_THAT(stage.record.trace.is_marker, ElementsAre(0, 0, 0, 0, 1, 0));
  EXPECT_EQ(stage.streamed(), "[think 0]w20 w11 w22");
}

TEST(Record, AnIdTheTokenizerDoesNotKnowHasNoText) {
  Stage stage;
  const std::vector<TokenId> row{soft};
  stage.guidance.feed(stage.record, row);
  stage.draw({20});
  EXPECT_FALSE(stage.record.is_sealed()) << stage.record.trace.error;
  EXPECT_EQ(stage.record.text(), "w20");
}

}  // namespace
}  // namespace pensive::testing
