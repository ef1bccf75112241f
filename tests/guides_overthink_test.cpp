// The online overthink score.
#include <string>
#include <string_view>
#include <vector>

#include "story.h"

namespace pensive {
namespace {

using testing::Story;

constexpr std::string_view closed = "close brake -0 in 0";

// Only what comes after the first repeated answer.
OverthinkBrakeOptions after(float max_score) {
  return {.max_score = max_score, .marker_weight = 0};
}
// Only marker words.
OverthinkBrakeOptions marked(float max_score, std::vector<std::string> markers = {}) {
  return {.max_score = max_score, .marker_weight = 1, .markers = std::move(markers)};
}

TEST(OverthinkBrake, CountsWhatComesAfterTheFirstRepeatedAnswer) {
  Story story(overthink_brake(after(0.3f)));
  EXPECT_EQ(story.draw_all({"The answer is 4.\n", "Check.\n", "So \\boxed{5}.\n"}), "-");
  EXPECT_EQ(story.draw("The answer is 4.0.\n"), "-") << "R = 4";
  EXPECT_EQ(story.draw("Hm.\n"), "-") << "1/5";
  EXPECT_EQ(story.draw("more"), "-") << "2/6, but within a sentence";
  EXPECT_EQ(story.draw(" and more.\n"), closed) << "3/7";
}

TEST(OverthinkBrake, TheFirstRepeatCountsAndNotTheLast) {
  Story story(overthink_brake(after(0.55f)));
  EXPECT_EQ(story.draw_all({"The answer is 4.\n", "The answer is 4.\n"}), "-");
  EXPECT_EQ(story.draw_all({"The answer is 4.\n", "The answer is 4.\n"}), "-") << "2/4";
  EXPECT_EQ(story.draw("The answer is 4.\n"), closed) << "3/5";
}

TEST(OverthinkBrake, AnAnswerWithinOneSentenceIsOne) {
  Story story(overthink_brake(after(0)));
  EXPECT_EQ(story.draw_all({"The answer is 4", ", so the answer is 4.\n", "Yes.\n", "Yes.\n"}),
            "-");
}

TEST(OverthinkBrake, ReadsAnswersAfterCues) {
  OverthinkBrakeOptions options = after(0);
  options.answer_cues = {"So ", "="};
  Story story(overthink_brake(options));
  EXPECT_EQ(story.draw_all({"So ", "42", "\n", "x = 7\n", "The answer is 42.\n", "So ", "\n"}),
            "-");
  EXPECT_EQ(story.draw_all({"So", " 42", "\n"}), "-");
  EXPECT_EQ(story.draw_all({"Wait", "\n"}), closed);
}

TEST(OverthinkBrake, CountsMarkerWordsWhole) {
  const struct {
    std::string_view sentence;
    float share;
  } table[] = {{"Wait, no way out.\n", 0.25f},    {"But butter is better.\n", 0.25f},
               {"One WAIT two Hmm.\n", 0.5f},     {"Going back is going on.\n", 0.4f},
               {"Let me verify it now.\n", 0.6f}, {"Double-check the rest.\n", 0.25f},
               {"Nothing here at all.\n", 0}};
  for (const auto& row : table) {
    Story below(overthink_brake(marked(row.share - 0.01f < 0 ? 0 : row.share - 0.01f)));
    EXPECT_EQ(below.draw(row.sentence), row.share > 0 ? closed : "-") << row.sentence;
    Story above(overthink_brake(marked(row.share + 0.01f)));
    EXPECT_EQ(above.draw(row.sentence), "-") << row.sentence;
  }
}

TEST(OverthinkBrake, OverlappingMarkersCountAWordOnce) {
  Story below(overthink_brake(marked(0.59f, {"a b", "b c", "b"})));
  EXPECT_EQ(below.draw("a b c d e.\n"), closed);
  Story above(overthink_brake(marked(0.61f, {"a b", "b c", "b"})));
  EXPECT_EQ(above.draw("a b c d e.\n"), "-");
}

TEST(OverthinkBrake, AddsBothShares) {
  // T = 3, R = 2, M / W = 1 / 10: 0.5 / 10 + 0.5 / 3 = 0.217.
  for (const float limit : {0.21f, 0.225f}) {
    Story story(overthink_brake({.max_score = limit, .marker_weight = 0.5f, .markers = {"wait"}}));
    story.draw_all({"Answer is: \\boxed{1}\n", "Surely it is \\boxed{1}\n"});
    EXPECT_EQ(story.draw("Wait\n"), limit < 0.217f ? closed : "-");
  }
}

TEST(OverthinkBrake, TextWithoutSentencesIsReadAllTheSame) {
  Story story(overthink_brake(marked(0.5f, {"wait"})));
  EXPECT_EQ(story.first_round({"wait "}, 300), 205) << "1024 bytes";
}

TEST(OverthinkBrake, WhatIsTakenBackDoesNotCount) {
  Story story(overthink_brake(after(0)));
  story.draw("The answer is 4.\n");
  story.draw("The answer is 4.\n");
  story.take_back(1);
  EXPECT_EQ(story.draw_all({"Well.\n", "Well.\n"}), "-") << "nothing is repeated any more";
  story.take_back(3);
  EXPECT_EQ(story.draw_all({"The answer is ", "4.\n", "Well.\n"}), "-") << "stated only once";
  story.draw_all({"The answer is 5", "\n"});
  story.take_back(2);
  story.draw_all({"The answer is ", "4.\n"});
  EXPECT_EQ(story.draw("Well.\n"), closed);
}

TEST(OverthinkBrake, ThinkingThatIsOpenedAgainIsCountedAnew) {
  Story story(overthink_brake(after(0)));
  story.draw("The answer is 4.\n");
  story.mark(Marker::think_close);
  story.answer("4");
  story.mark(Marker::think_open);
  EXPECT_EQ(story.draw_all({"The answer is 4.\n", "Well.\n"}), "-");
  EXPECT_EQ(story.draw_all({"The answer is 4.\n"}), "-");
  EXPECT_EQ(story.draw("Well.\n"), closed);
  // A closer that is taken back ends nothing.
  Story on(overthink_brake(after(0)));
  on.draw("The answer is 4.\n");
  on.mark(Marker::think_close);
  on.take_back(1);
  on.draw("The answer is 4.\n");
  EXPECT_EQ(on.draw("Well.\n"), closed);
}

TEST(OverthinkBrake, LongThinkingIsReadToItsEnd) {
  OverthinkBrakeOptions options = after(0);
  options.min_think_tokens = 10;
  Story story(overthink_brake(options));
  const std::string filler(9000, 'x');
  EXPECT_EQ(story.draw_all({"The answer is 4.\n", filler, filler, "\n", "The answer", " is 4.\n"}),
            "-");
  EXPECT_EQ(story.first_round({"Well.\n"}, 9), 4) << "ten tokens";
}

TEST(OverthinkBrake, RefusesOptionsThatCannotBe) {
  const auto expect = [](const OverthinkBrakeOptions& options, std::string_view says) {
    EXPECT_ERROR(overthink_brake(options), ErrorCode::invalid_argument, says);
  };
  expect({.max_score = -0.1f}, "max_score from 0 to 1");
  expect({.max_score = std::nanf("")}, "max_score");
  expect({.marker_weight = 1.1f}, "marker_weight");
  expect({.markers = {"wait", "-"}}, "at least one word; found \"-\"");
  expect({.answer_cues = {""}}, "answer_cues");
  expect({.min_think_tokens = -1}, "min_think_tokens");
}

}  // namespace
}  // namespace pensive
