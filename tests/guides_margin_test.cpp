// ThinkBrake: where it looks, and what it closes.
#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <string_view>

#include "guides_moments.h"

namespace pensive {
namespace {

using testing::closer;
using testing::Driven;
using testing::marker;
using testing::thinking;

MarginBrakeOptions half_a_nat(int min_think_tokens = 0) {
  return {.closer = {closer, 4},
          .max_margin_nats = 0.5f,
          .min_think_tokens = min_think_tokens,
          .at = Boundary::sentence};
}

Moment drawn(int think_tokens, float top, const float& watched, std::string_view tail = "so") {
  Moment moment = thinking(think_tokens, tail);
  moment.top_logprob = top;
  moment.watched = {&watched, 1};
  return moment;
}

const float near_top = -1.25f, far_off = -9.0f, not_a_number = std::nanf("");

TEST(MarginBrake, WatchesTheClosersFirstToken) {
  EXPECT_THAT(margin_brake(half_a_nat())->watches(), ::testing::ElementsAre(closer));
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

// Whether it closes at the token after one that leaves the text ending so.
bool closes_after(Boundary at, std::string_view tail) {
  const auto guide = margin_brake({.closer = {91}, .max_margin_nats = 0.5f, .at = at})->clone();
  const float watched = -1.25f;
  Moment moment;
  moment.segment = Segment::think;
  moment.text = moment.tail = tail;
  moment.top_logprob = -1;
  moment.watched = {&watched, 1};
  guide->on_token(moment);
  moment.text = moment.tail = "But";
  return std::holds_alternative<Close>(guide->on_token(moment));
}

TEST(MarginBrake, LooksAfterTheBoundaryItIsTold) {
  constexpr Boundary paragraph = Boundary::paragraph, line = Boundary::line,
                     sentence = Boundary::sentence;
  EXPECT_EQ(MarginBrakeOptions{}.at, paragraph) << "as the paper's code does";
  const struct {
    std::string_view tail;
    Boundary at;
    bool closes;
  } table[] = {{"so.\n\n", paragraph, true}, {"so\n\n", paragraph, false},
               {"so.\n", paragraph, false},  {"so.", paragraph, false},
               {"so\n", line, true},         {"so.\n\n", line, true},
               {"so.", line, false},         {"so.", sentence, true},
               {"so\n", sentence, true},     {"so", sentence, false}};
  for (const auto& row : table)
    EXPECT_EQ(closes_after(row.at, row.tail), row.closes)
        << row.tail << " at " << static_cast<int>(row.at);
}

TEST(MarginBrake, IsMadeFromASpec) {
  const auto tokenizer = Tokenizer::load(PENSIVE_REASONER);
  const GuideContext context{tokenizer, find_markers(*tokenizer)};
  EXPECT_EQ(make_guide("margin:tau=2.5,at=sentence,min=5", context)->name(), "margin_brake");
  EXPECT_ERROR(make_guide("margin:at=page", context), ErrorCode::invalid_argument,
               "paragraph, line, sentence");
}

}  // namespace
}  // namespace pensive
