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

// Where the next token stands, and what may still become a marker.
TEST(Guidance, MomentsTellWhatComesNext) {
  std::vector<std::string> seen;
  const auto look = [&](const Moment& moment) -> Action {
    seen.push_back(fmt::format("{} {}", to_string(moment.next), moment.pending_tokens));
    return Proceed{};
  };
  auto guide = scripted(look);
  guide->begin = look;
  Stage stage({guide});
  stage.draw({20, close_a, close_b, 21, open});
  EXPECT_THAT(seen,
              ElementsAre("think 0", "think 0", "think 1", "answer 0", "answer 0", "think 0"));
}

// As s1 does it, the engine carrying it out.
TEST(Guidance, BudgetForcingTakesBackWhatIsBeyondTheLimit) {
  Stage stage({budget_forcing({.closer = {close_a, close_b},
                               .max_think_tokens = 4,
                               .times = 1,
                               .with = {40},
                               .final_text = {41},
                               .newline = {42}})});
  stage.draw({20, 21, close_a, close_b, 22, 23, 24, 25});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 21, 40, 22, 42, close_a, close_b, 41));
}

// Leans on each draw by how many tokens are kept, and masks every other one.
std::shared_ptr<Scripted> leaning() {
  auto guide = scripted([](const Moment& m) -> Action {
    if (m.new_tokens % 2 == 0) return Allow{{0, 1u << m.new_tokens}};
    return Proceed{{{m.new_tokens, 1.0f, 0}}};
  });
  guide->begin = [](const Moment&) -> Action { return Proceed{{{50, 1.0f, 0}}}; };
  return guide;
}

std::string wishes(const Guidance& guidance) {
  std::string text;
  for (const Bias& bias : guidance.biases()) text += fmt::format("{}:{} ", bias.token, bias.logit);
  return text + (guidance.mask().empty() ? "" : fmt::format("mask {}", guidance.mask()[1]));
}

TEST(Guidance, WhatIsDrawnAgainIsDrawnUnderWhatWasWishedThere) {
  constexpr float never = -std::numeric_limits<float>::infinity();
  Stage stage({leaning(), at_token(5, Force{{}, 2, {{23, never, 0}}})});
  stage.draw({20, 21, 22});
  EXPECT_EQ(wishes(stage.guidance), "3:1 ");
  stage.draw({23, 24});
  EXPECT_THAT(stage.kept(), ElementsAre(20, 21, 22));
  EXPECT_EQ(wishes(stage.guidance), "3:1 23:-inf ");
  const Guidance fork = stage.guidance;
  EXPECT_EQ(wishes(fork), "3:1 23:-inf ");
  stage.draw({25});
  EXPECT_EQ(wishes(stage.guidance), "mask 16") << "for one draw";
  EXPECT_THAT(stage.record.trace.is_steered, ElementsAre(0, 0, 1, 1, 1, 1, 1, 1));
  Stage all({leaning(), at_token(3, Force{{}, 3, {{20, never, 0}}})});
  all.draw({20, 21, 22});
  EXPECT_EQ(wishes(all.guidance), "20:-inf 50:1 ") << "as at the start";
  Stage masked({leaning(), at_token(3, Force{{}, 1})});
  masked.draw({20, 21, 22});
  EXPECT_EQ(wishes(masked.guidance), "mask 4");
}

// A token that was forbidden when it was drawn again stays so when that draw is made once more.
TEST(Guidance, WhatIsForbiddenStaysForbiddenThere) {
  constexpr float never = -std::numeric_limits<float>::infinity();
  Stage stage({scripted([](const Moment& m) -> Action {
    if (m.new_tokens < 3) return Proceed{};
    return Force{{}, 1, {{m.token, never, 0}}};
  })});
  stage.draw({20, 21, 22, 23, 24});
  EXPECT_EQ(wishes(stage.guidance), "22:-inf 23:-inf 24:-inf ");
}

TEST(Guidance, AClosingThatTakesBackAndWaitsDrawsAgainToo) {
  Stage stage({leaning(), at_token(3, Close{CloseReason::brake, 2, 9})});
  stage.draw({20, 21, 22});
  EXPECT_EQ(wishes(stage.guidance), "1:1 ");
}

TEST(Guidance, WishesFarBackAreThoseOfTheOldestKnown) {
  const auto lean = [](const Moment& m) -> Action {
    return Proceed{{{m.new_tokens % tiny_vocab, 1.0f, 0}}};
  };
  Stage stage({scripted(lean), at_token(140, Force{{}, 135, {{7, 2.0f, 0}}})}, 190);
  for (int i = 0; i < 140; ++i) stage.draw({20});
  EXPECT_EQ(stage.kept().size(), 5U);
  EXPECT_EQ(wishes(stage.guidance), "0:1 7:2 ") << "of the 64th token";
}

TEST(Guidance, BiasesOrTokensNotBoth) {
  Stage stage({at_token(1, Force{{20}, 0, {{21, 1.0f, 0}}})});
  stage.draw({20});
  EXPECT_THAT(stage.record.trace.error, HasSubstr("biases or tokens to feed"));
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

// Tokens that are bytes have no text before their run ends, however long it is.
TEST(Record, TakingBackWithinARunOfBytesKeepsItsText) {
  const auto tokenizer = Tokenizer::load(data("text/byte_fallback"));
  const auto id = [&](std::string_view token) { return tokenizer->find(token).value(); };
  Record record({id("a")}, Segments(), tokenizer);
  std::string expected;
  for (int i = 0; i < 6; ++i) {
    expected += "\xf0\x9f\x98\x80";
    for (const char* byte : {"<0xF0>", "<0x9F>", "<0x98>", "<0x80>"})
      record.push(id(byte), Origin::sampled, Stats{});
  }
  record.take_back(1);
  record.push(id("<0x80>"), Origin::forced, Stats{});
  record.push(id("a"), Origin::sampled, Stats{});
  EXPECT_EQ(record.text(), expected + "a");
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
