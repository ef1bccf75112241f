// Guides and Closing, driven by invented moments.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <string>
#include <vector>

#include "pensive/guides.h"
#include "think/segments.h"

namespace pensive {
namespace {

constexpr TokenId closer = 91;

Moment thinking(int think_tokens, std::string_view text = "so") {
  Moment moment;
  moment.segment = Segment::think;
  moment.text = moment.tail = text;
  moment.token = 5;
  moment.think_tokens = think_tokens;
  return moment;
}

Moment marker(Marker completes, int think_tokens, Origin origin = Origin::sampled) {
  Moment moment = thinking(think_tokens, "");
  moment.completes = completes;
  moment.marker_tokens = 1;
  moment.origin = origin;
  moment.token = closer;
  return moment;
}

Moment answering(int think_tokens) {
  Moment moment = thinking(think_tokens);
  moment.segment = Segment::answer;
  return moment;
}

// "-" for Proceed, else the action with its numbers.
std::string told(const Action& action) {
  std::ostringstream text;
  if (const auto* close = std::get_if<Close>(&action)) {
    text << "close " << to_string(close->reason) << " -" << close->replaces_last << " in "
         << close->within_tokens;
  } else if (const auto* force = std::get_if<Force>(&action)) {
    text << "force -" << force->replaces_last;
    for (const TokenId id : force->tokens) text << ' ' << id;
  } else {
    text << (std::holds_alternative<Proceed>(action) ? "-" : "?");
  }
  return text.str();
}

// A guide as the engine drives it: what it asks for is done, unless `is_done` says otherwise.
class Driven {
 public:
  explicit Driven(const std::shared_ptr<const Guide>& guide) : guide_(guide->clone()) {}
  Driven(const Driven& other) : guide_(other.guide_->clone()) {}

  std::string operator()(const Moment& moment, bool is_done = true) {
    const Action action = guide_->on_token(moment);
    if (is_done && !std::holds_alternative<Proceed>(action)) guide_->on_done({&action, true});
    return told(action);
  }
  void another(const Action& action) { guide_->on_done({&action, false}); }
  Guide& guide() { return *guide_; }

 private:
  std::unique_ptr<Guide> guide_;
};

TEST(Guide, DoesNothingByDefault) {
  Driven guide(budget({}));
  EXPECT_EQ(told(guide.guide().on_start(Moment{})), "-");
  EXPECT_EQ(told(guide.guide().on_probe({})), "-");
  EXPECT_TRUE(guide.guide().watches().empty());
}

TEST(Budget, AsksOnceForTheWindowBeforeTheLimit) {
  Driven guide(budget({.max_think_tokens = 10, .window_tokens = 3}));
  EXPECT_EQ(guide(thinking(6)), "-");
  EXPECT_EQ(guide(thinking(7)), "close budget -0 in 3");
  EXPECT_EQ(guide(thinking(8)), "-");
  EXPECT_EQ(guide(thinking(9)), "-");
  EXPECT_EQ(guide(thinking(10)), "-") << "the closing asked for is due by itself";
}

TEST(Budget, ClosesAtOnceWithoutAWindow) {
  Driven guide(budget({.max_think_tokens = 10, .window_tokens = 0}));
  EXPECT_EQ(guide(thinking(9)), "-");
  EXPECT_EQ(guide(thinking(10)), "close budget -0 in 0");
}

TEST(Budget, SaysNothingOutsideThinking) {
  Driven guide(budget({.max_think_tokens = 10, .window_tokens = 10}));
  EXPECT_EQ(guide(answering(10)), "-");
  EXPECT_EQ(guide(answering(99)), "-");
  EXPECT_EQ(guide(marker(Marker::think_close, 10)), "-");
  Moment prompt = thinking(0);
  prompt.segment = Segment::prompt;
  EXPECT_EQ(told(guide.guide().on_start(prompt)), "-");
}

TEST(Budget, ClosesThinkingThatIsOpenedAgain) {
  Driven guide(budget({.max_think_tokens = 10, .window_tokens = 2}));
  EXPECT_EQ(guide(thinking(8)), "close budget -0 in 2");
  EXPECT_EQ(guide(marker(Marker::think_close, 8, Origin::forced)), "-");
  EXPECT_EQ(guide(answering(8)), "-");
  EXPECT_EQ(guide(marker(Marker::think_open, 8)), "close budget -0 in 2");
  EXPECT_EQ(guide(thinking(9)), "-");
  EXPECT_EQ(guide(thinking(10)), "-");
  EXPECT_EQ(guide(marker(Marker::think_close, 10, Origin::forced)), "-");
  EXPECT_EQ(guide(marker(Marker::think_open, 10)), "close budget -0 in 0");
  EXPECT_EQ(guide(marker(Marker::think_close, 10, Origin::forced)), "-");
  // A closing text of ten tokens counted too: still the opener itself is not taken back.
  EXPECT_EQ(guide(marker(Marker::think_open, 20)), "close budget -0 in 0");
}

TEST(Budget, AsksAgainWhenTheClosingWasReplaced) {
  Driven guide(budget({.max_think_tokens = 10, .window_tokens = 3}));
  EXPECT_EQ(guide(thinking(7)), "close budget -0 in 3");
  EXPECT_EQ(guide(marker(Marker::think_close, 7)), "-");  // continue_thinking takes it back
  EXPECT_EQ(guide(thinking(8)), "close budget -0 in 2");
}

TEST(Budget, AsksAgainWhenSomethingElseWasDone) {
  Driven guide(budget({.max_think_tokens = 10, .window_tokens = 3}));
  EXPECT_EQ(guide(thinking(7), false), "close budget -0 in 3");
  EXPECT_EQ(guide(thinking(8)), "close budget -0 in 2");
  EXPECT_EQ(guide(thinking(9)), "-");
}

TEST(Budget, LetsAnotherClosingStandThatIsSoonEnough) {
  Driven guide(budget({.max_think_tokens = 10, .window_tokens = 3}));
  EXPECT_EQ(guide(thinking(6)), "-");
  Driven other = guide;
  guide.another(Close{CloseReason::brake, 0, 0});
  EXPECT_EQ(guide(thinking(7)), "-");
  other.another(Close{CloseReason::brake, 0, 50});
  EXPECT_EQ(other(thinking(7)), "close budget -0 in 3");
}

TEST(Budget, TakesBackWhatWasDrawnBeyondTheLimit) {
  Driven guide(budget({.max_think_tokens = 0, .window_tokens = 0}));
  EXPECT_EQ(guide(thinking(1)), "close budget -1 in 0");
  // The closing text itself is fed beyond the limit.
  Moment fed = thinking(2);
  fed.origin = Origin::forced;
  EXPECT_EQ(guide(fed), "-");
}

TEST(Budget, WindowIs32TokensOrTheLimitWhereThatIsLess) {
  Driven large(budget({.max_think_tokens = 100}));
  EXPECT_EQ(large(thinking(67)), "-");
  EXPECT_EQ(large(thinking(68)), "close budget -0 in 32");
  Driven small(budget({.max_think_tokens = 16}));
  EXPECT_EQ(small(thinking(1)), "close budget -0 in 15");
}

TEST(Budget, RefusesNumbersThatCannotBe) {
  EXPECT_THROW(budget({.max_think_tokens = -1, .window_tokens = 0}), Error);
  EXPECT_THROW(budget({.max_think_tokens = -1}), Error);
  EXPECT_THROW(budget({.max_think_tokens = 5, .window_tokens = -2}), Error);
  EXPECT_THROW(budget({.max_think_tokens = 5, .window_tokens = 6}), Error);
  EXPECT_NO_THROW(budget({.max_think_tokens = 5, .window_tokens = 5}));
}

TEST(ContinueThinking, ReplacesAsManyClosersAsAsked) {
  Driven guide(continue_thinking({.with = {7, 8}, .times = 2}));
  EXPECT_EQ(guide(thinking(3)), "-");
  EXPECT_EQ(guide(marker(Marker::think_close, 3)), "force -1 7 8");
  EXPECT_EQ(guide(marker(Marker::think_close, 9)), "force -1 7 8");
  EXPECT_EQ(guide(marker(Marker::think_close, 12)), "-");
}

TEST(ContinueThinking, ReplacesAWholeSplitCloser) {
  Driven guide(continue_thinking({.with = {7}}));
  Moment moment = marker(Marker::think_close, 3);
  moment.marker_tokens = 3;
  EXPECT_EQ(guide(moment), "force -3 7");
}

TEST(ContinueThinking, LetsForcedClosersPass) {
  Driven guide(continue_thinking({.with = {7}}));
  EXPECT_EQ(guide(marker(Marker::think_close, 3, Origin::forced)), "-");
  EXPECT_EQ(guide(marker(Marker::think_close, 3)), "force -1 7");
}

TEST(ContinueThinking, LetsClosersPassFromTheLimitOn) {
  Driven guide(continue_thinking({.with = {7}, .times = 5, .max_think_tokens = 10}));
  EXPECT_EQ(guide(marker(Marker::think_close, 9)), "force -1 7");
  EXPECT_EQ(guide(marker(Marker::think_close, 10)), "-");
}

TEST(ContinueThinking, CountsOnlyWhatWasDone) {
  Driven guide(continue_thinking({.with = {7}}));
  EXPECT_EQ(guide(marker(Marker::think_close, 3), false), "force -1 7");
  guide.another(Force{{7}, 1});
  EXPECT_EQ(guide(marker(Marker::think_close, 3)), "force -1 7");
  EXPECT_EQ(guide(marker(Marker::think_close, 3)), "-");
}

TEST(ContinueThinking, MindsNoOtherMarker) {
  Driven guide(continue_thinking({.with = {7}}));
  EXPECT_EQ(guide(marker(Marker::think_open, 3)), "-");
  EXPECT_EQ(guide(marker(Marker::answer_close, 3)), "-");
  Moment stray = marker(Marker::think_close, 3);
  stray.segment = Segment::answer;
  EXPECT_EQ(guide(stray), "-");
}

TEST(ContinueThinking, AForkCountsForItself) {
  Driven guide(continue_thinking({.with = {7}}));
  Driven fork = guide;
  EXPECT_EQ(guide(marker(Marker::think_close, 3)), "force -1 7");
  EXPECT_EQ(guide(marker(Marker::think_close, 3)), "-");
  EXPECT_EQ(fork(marker(Marker::think_close, 3)), "force -1 7");
}

TEST(ContinueThinking, RefusesOptionsThatCannotBe) {
  EXPECT_THROW(continue_thinking({}), Error);
  EXPECT_THROW(continue_thinking({.with = {-1}}), Error);
  EXPECT_THROW(continue_thinking({.with = {1}, .times = -1}), Error);
  EXPECT_THROW(continue_thinking({.with = {1}, .times = 1, .max_think_tokens = -1}), Error);
}

MarginBrakeOptions half_a_nat(int min_think_tokens = 0) {
  return {{closer, 4}, 0.5f, min_think_tokens, Boundary::sentence};
}

Moment drawn(int think_tokens, float top, const float& watched, std::string_view tail = "so") {
  Moment moment = thinking(think_tokens, tail);
  moment.top_logprob = top;
  moment.watched = {&watched, 1};
  return moment;
}

const float near_top = -1.25f, far_off = -9.0f, not_a_number = std::nanf("");

TEST(MarginBrake, WatchesTheClosersFirstToken) {
  EXPECT_THAT(margin_brake(half_a_nat())->watches(), testing::ElementsAre(closer));
}

TEST(MarginBrake, ClosesRightAfterASentenceWhereTheCloserIsNear) {
  Driven guide(margin_brake(half_a_nat()));
  EXPECT_EQ(guide(drawn(1, -1, near_top, "It is")), "-");
  EXPECT_EQ(guide(drawn(2, -1, near_top, "It is so.")), "-") << "the end is behind this token";
  EXPECT_EQ(guide(drawn(3, -1, near_top, "It is so. But")), "close brake -1 in 0");
}

TEST(MarginBrake, GoesOnWhereTheCloserIsFar) {
  Driven guide(margin_brake(half_a_nat()));
  EXPECT_EQ(guide(drawn(1, -1, near_top, "so.\n")), "-");
  EXPECT_EQ(guide(drawn(2, -1, far_off, "so.\nBut")), "-");
  EXPECT_EQ(guide(drawn(3, -1, near_top, "so.\nBut no")), "-") << "within a sentence";
}

TEST(MarginBrake, NeverActsOnWhatIsNoNumber) {
  Driven guide(margin_brake(half_a_nat()));
  const float none = -std::numeric_limits<float>::infinity();
  for (const float* watched : {&not_a_number, &none}) {
    guide(drawn(1, -1, far_off, "so.\n"));
    EXPECT_EQ(guide(drawn(2, -1, *watched)), "-");
  }
  guide(drawn(1, -1, far_off, "so.\n"));
  EXPECT_EQ(guide(drawn(2, not_a_number, near_top)), "-");
  guide(drawn(1, -1, far_off, "so.\n"));
  Moment unseen = drawn(2, -1, near_top);
  unseen.watched = {};
  EXPECT_EQ(guide(unseen), "-");
}

TEST(MarginBrake, ActsOnlyOnTextDrawnInThinking) {
  const auto after_a_line = [](const Moment& moment) {
    Driven guide(margin_brake(half_a_nat()));
    guide(drawn(1, -1, far_off, "so.\n"));
    return guide(moment);
  };
  Moment moment = drawn(2, -1, near_top);
  EXPECT_EQ(after_a_line(moment), "close brake -1 in 0");
  moment.origin = Origin::forced;
  EXPECT_EQ(after_a_line(moment), "-");
  moment.origin = Origin::sampled;
  moment.token = closer;
  EXPECT_EQ(after_a_line(moment), "-");
  moment.token = 5;
  moment.segment = Segment::answer;
  EXPECT_EQ(after_a_line(moment), "-");
  moment.segment = Segment::think;
  moment.completes = Marker::think_close;
  EXPECT_EQ(after_a_line(moment), "-");
}

TEST(MarginBrake, TheSentenceMustEndInThinkingAndInText) {
  Driven guide(margin_brake(half_a_nat()));
  Moment before = drawn(0, -1, far_off, "Well.\n");
  before.segment = Segment::answer;
  guide(before);
  EXPECT_EQ(guide(drawn(1, -1, near_top)), "-");
  Moment opener = marker(Marker::think_open, 0);
  opener.text = opener.tail = "\n";
  guide(opener);
  EXPECT_EQ(guide(drawn(1, -1, near_top)), "-");
  // A soft token adds no text: the sentence that ended before it is not its own.
  guide(drawn(1, -1, far_off, "so.\n"));
  Moment soft = drawn(2, -1, far_off, "");
  soft.tail = "so.\n";
  soft.origin = Origin::forced;
  guide(soft);
  EXPECT_EQ(guide(drawn(3, -1, near_top)), "-");
}

TEST(MarginBrake, RemembersForcedSentencesToo) {
  Driven guide(margin_brake(half_a_nat()));
  Moment forced = drawn(1, not_a_number, not_a_number, "Wait.\n");
  forced.origin = Origin::forced;
  EXPECT_EQ(guide(forced), "-");
  EXPECT_EQ(guide(drawn(2, -1, near_top)), "close brake -1 in 0");
}

TEST(MarginBrake, ForgetsTheSentenceThatWasTakenBack) {
  Driven guide(margin_brake(half_a_nat()));
  guide(drawn(1, -1, far_off, "so.\n"));
  guide.another(Force{{}, 1});
  EXPECT_EQ(guide(drawn(1, -1, near_top)), "-");
}

TEST(MarginBrake, LeavesTheFirstThinkingAlone) {
  Driven guide(margin_brake(half_a_nat(10)));
  guide(drawn(9, -1, far_off, "so.\n"));
  EXPECT_EQ(guide(drawn(10, -1, near_top, "so.\n")), "-");
  EXPECT_EQ(guide(drawn(11, -1, near_top)), "close brake -1 in 0");
}

TEST(MarginBrake, RefusesOptionsThatCannotBe) {
  EXPECT_THROW(margin_brake({}), Error);
  EXPECT_THROW(margin_brake({.closer = {-1}}), Error);
  EXPECT_THROW(margin_brake({.closer = {1}, .max_margin_nats = -0.1f}), Error);
  EXPECT_THROW(margin_brake({.closer = {1}, .max_margin_nats = not_a_number}), Error);
  EXPECT_THROW(margin_brake({.closer = {1}, .max_margin_nats = 0, .min_think_tokens = -1}), Error);
}

// After how many further tokens the closing text is due; -1 where it never is.
int due_after(Closing closing, const std::vector<Moment>& moments) {
  for (std::size_t i = 0; i < moments.size(); ++i)
    if (closing.is_due(moments[i])) return static_cast<int>(i);
  return -1;
}

Closing asked(int within_tokens) {
  Closing closing;
  closing.ask({CloseReason::budget, 0, within_tokens});
  return closing;
}

TEST(Closing, IsDueAtTheSentenceEndOrWhenTheTokensAreUsedUp) {
  const std::vector<Moment> running(9, thinking(1));
  EXPECT_EQ(due_after(Closing{}, running), -1);
  EXPECT_EQ(due_after(asked(0), running), 0);
  EXPECT_EQ(due_after(asked(1), running), 1);
  EXPECT_EQ(due_after(asked(5), running), 5);
  EXPECT_EQ(due_after(asked(5), {thinking(1), thinking(2), thinking(3, "so.")}), 2);
  EXPECT_EQ(due_after(asked(5), {thinking(1, "a\n")}), 0);
}

TEST(Closing, AMissingTextIsNoSentenceEnd) {
  Moment half_a_character = thinking(2, "");
  half_a_character.tail = "so.";
  EXPECT_EQ(due_after(asked(5), {half_a_character}), -1);
}

TEST(Closing, LeavingTheThinkingWithdrawsIt) {
  for (const Moment& leaving : {answering(3), marker(Marker::think_close, 3)}) {
    Closing closing = asked(0);
    EXPECT_FALSE(closing.is_due(leaving));
    EXPECT_FALSE(closing.is_asked());
    EXPECT_FALSE(closing.is_due(thinking(4)));
  }
  Closing closing = asked(0);
  closing.withdraw();
  EXPECT_FALSE(closing.is_due(thinking(4)));
}

TEST(Closing, TheSoonerOfTwoWishesHolds) {
  const std::vector<Moment> running(9, thinking(1));
  Closing closing = asked(5);
  closing.ask({CloseReason::brake, 0, 7});
  EXPECT_EQ(closing.reason(), CloseReason::budget);
  EXPECT_EQ(due_after(closing, running), 5);
  closing.ask({CloseReason::brake, 0, 2});
  EXPECT_EQ(closing.reason(), CloseReason::brake);
  EXPECT_EQ(due_after(closing, running), 2);
}

}  // namespace
}  // namespace pensive
