// Loops: cycles of tokens, lines and paragraphs that come again.
#include <string>
#include <string_view>
#include <vector>

#include "story.h"

namespace pensive {
namespace {

using testing::Story;
using Texts = std::vector<std::string_view>;

constexpr std::string_view closed = "close brake -0 in 32";

LoopBrakeOptions cycles(int length, int times, int least) {
  return {.max_cycle_tokens = length,
          .cycle_times = times,
          .min_loop_tokens = least,
          .line_times = 0,
          .paragraph_times = 0};
}

LoopBrakeOptions lines(int times, int paragraphs = 0, int bytes = 4) {
  return {.cycle_times = 0,
          .line_times = times,
          .paragraph_times = paragraphs,
          .min_line_bytes = bytes};
}

TEST(LoopBrake, ClosesACycleOnceItHasComeSoOften) {
  const struct {
    Texts round;
    LoopBrakeOptions options;
    int fires_in;  // round; 0: never
  } table[] = {{{"a", "b", "c"}, cycles(3, 4, 0), 4},   {{"a", "b", "c"}, cycles(2, 4, 0), 0},
               {{"a", "b", "c"}, cycles(8, 4, 30), 10}, {{"a", "b", "a"}, cycles(3, 2, 6), 2},
               {{" "}, cycles(8, 4, 12), 12},           {{"a", "b"}, cycles(8, 0, 0), 0},
               {{"a", "a", "b"}, cycles(1, 3, 0), 0}};
  for (const auto& row : table) {
    Story story(loop_brake(row.options));
    EXPECT_EQ(story.first_round(row.round, 14), row.fires_in)
        << row.round.size() << " tokens, " << row.options.max_cycle_tokens;
  }
}

TEST(LoopBrake, LetsRulersAndIndentationPass) {
  Story story(loop_brake({}));
  EXPECT_EQ(story.first_round({" "}, 63), 0);
  EXPECT_EQ(story.first_round({"|", "---"}, 31), 0);
  EXPECT_EQ(story.first_round({"}", "\n"}, 30), 0) << "lines of a single brace";
}

TEST(LoopBrake, ACycleThatBreaksOffBeginsAnew) {
  Story story(loop_brake(cycles(4, 3, 0)));
  EXPECT_EQ(story.draw_all({"a", "b", "a", "b", "a", "x", "a", "b", "a", "b", "a"}), "-");
  EXPECT_EQ(story.draw("b"), closed);
}

TEST(LoopBrake, ThePromptAndOtherSegmentsAreNoPartOfACycle) {
  Story story(loop_brake(cycles(1, 3, 0)));
  story.prompt = {0, 0, 0};  // the first text of a story has id 0
  EXPECT_EQ(story.draw_all({"a", "a"}), "-");
  EXPECT_EQ(story.mark(Marker::think_close), "-");
  EXPECT_EQ(story.answer("a"), "-");
  EXPECT_EQ(story.answer("a"), "-");
  EXPECT_EQ(story.mark(Marker::think_open), "-");
  EXPECT_EQ(story.draw_all({"a", "a"}), "-");
  EXPECT_EQ(story.draw("a"), closed);
}

TEST(LoopBrake, CountsLinesThatAreTheSameWhenTrimmed) {
  Story story(loop_brake(lines(3)));
  EXPECT_EQ(story.draw_all({"So it", " is", "\n", "x\n", "\tSo it is  \r\n", "Other line\n"}), "-");
  EXPECT_EQ(story.draw_all({"So  it is\n", "So it is not\n"}), "-") << "inner blanks count";
  EXPECT_EQ(story.draw("So it is\n"), closed);
}

TEST(LoopBrake, ShortLinesAreNoLoop) {
  Story story(loop_brake(lines(3, 0, 5)));
  EXPECT_EQ(story.first_round({"x=1\n"}, 9), 0);
  EXPECT_EQ(story.first_round({"x=123\n"}, 9), 3);
}

TEST(LoopBrake, CountsParagraphsOfSeveralLines) {
  Story story(loop_brake(lines(0, 2)));
  EXPECT_EQ(story.draw_all({"alone\n\n", "alone\n\n", "one\ntwo\n\n", "two\none\n\n"}), "-");
  EXPECT_EQ(story.draw_all({"one\n", "three\n", "\n"}), "-");
  EXPECT_EQ(story.draw_all({" one\n", "two"}), "-");
  EXPECT_EQ(story.draw_all({"\n", " \n"}), closed) << "a line of blanks is an empty one";
}

TEST(LoopBrake, AsksOnceAndAgainOnlyIfNothingCameOfIt) {
  Story story(loop_brake(lines(2)));
  story.draw("So it is\n");
  Story ignored = story;
  EXPECT_EQ(story.draw("So it is\n"), closed);
  EXPECT_EQ(story.draw("So it is\n"), "-");
  EXPECT_EQ(ignored.draw("So it is\n", false), closed);
  EXPECT_EQ(ignored.draw("So it is\n"), closed);
  // The closer was replaced: thinking goes on.
  story.mark(Marker::think_close);
  story.take_back(1);
  EXPECT_EQ(story.draw("So it is\n"), closed);
}

TEST(LoopBrake, AnotherClosingThatIsSoonEnoughServes) {
  Story story(loop_brake(lines(2)));
  story.draw("So it is\n");
  story.carry_out_by_another(Close{CloseReason::budget, 0, 33});
  Story served = story;
  served.carry_out_by_another(Close{CloseReason::budget, 0, 32});
  EXPECT_EQ(story.draw("So it is\n"), closed);
  EXPECT_EQ(served.draw("So it is\n"), "-");
}

TEST(LoopBrake, WhatIsTakenBackDoesNotCount) {
  Story story(loop_brake(lines(3)));
  story.draw_all({"So it is\n", "So it ", "is\n"});
  story.take_back(2);
  EXPECT_EQ(story.draw_all({"so\n", "So it is\n", "and\n"}), "-");
  EXPECT_EQ(story.draw("So it is\n"), closed);

  Story cycle(loop_brake(cycles(1, 4, 0)));
  cycle.draw_all({"a", "a", "a"});
  cycle.take_back(2);
  EXPECT_EQ(cycle.draw_all({"a", "a"}), "-");
  EXPECT_EQ(cycle.draw("a"), closed);
  // What was there before it counts on.
  Story kept(loop_brake(cycles(1, 4, 0)));
  kept.draw_all({"a", "a", "a", "b"});
  kept.take_back(1);
  EXPECT_EQ(kept.draw("a"), closed);
}

TEST(LoopBrake, ForcedTokensCountButDoNotSetItOff) {
  Story story(loop_brake(lines(2)));
  EXPECT_EQ(story.force("So it is\n"), "-");
  EXPECT_EQ(story.force("So it is\n"), "-");
  EXPECT_EQ(story.draw("So it is\n"), closed);
}

TEST(LoopBrake, LeavesTheFirstThinkingAlone) {
  LoopBrakeOptions options = lines(2);
  options.min_think_tokens = 4;
  options.within_tokens = 0;
  Story story(loop_brake(options));
  EXPECT_EQ(story.first_round({"So it is\n"}, 9), 4);
}

TEST(LoopBrake, RemembersOnlySoManyLines) {
  Story story(loop_brake(lines(2)));
  story.draw("So it is\n");
  std::vector<std::string> texts;
  for (int i = 0; i < 40; ++i) {
    std::string many;
    for (int j = 0; j < 64; ++j) many += "line " + std::to_string(64 * i + j) + "\n";
    texts.push_back(many);
  }
  for (const std::string& text : texts) EXPECT_EQ(story.draw(text), "-");
  EXPECT_EQ(story.draw("So it is\n"), "-") << "forgotten";
  EXPECT_EQ(story.draw("So it is\n"), closed);
}

TEST(LoopBrake, AForkGoesItsOwnWay) {
  Story story(loop_brake(lines(2)));
  story.draw("So it is\n");
  Story fork = story;
  EXPECT_EQ(story.draw("So it is\n"), closed);
  EXPECT_EQ(fork.draw("No\n"), "-");
  EXPECT_EQ(fork.draw("So it is\n"), closed);
}

TEST(LoopBrake, RefusesOptionsThatCannotBe) {
  const auto expect = [](const LoopBrakeOptions& options, std::string_view says) {
    EXPECT_ERROR(loop_brake(options), ErrorCode::invalid_argument, says);
  };
  expect({.max_cycle_tokens = 0}, "max_cycle_tokens from 1 to 512; found 0");
  expect({.max_cycle_tokens = 513}, "max_cycle_tokens");
  expect({.cycle_times = 1}, "cycle_times of at least 2, or 0; found 1");
  expect({.min_loop_tokens = -1}, "min_loop_tokens");
  expect({.line_times = 1}, "line_times");
  expect({.line_times = 5000}, "line_times");
  expect({.paragraph_times = -2}, "paragraph_times");
  expect({.min_line_bytes = 0}, "min_line_bytes");
  expect({.within_tokens = -1}, "within_tokens");
  expect({.min_think_tokens = -1}, "min_think_tokens");
}

}  // namespace
}  // namespace pensive
