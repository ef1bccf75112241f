// Masks that begin where the thinking ends.
#include "guides_scene.h"
#include "testing.h"

namespace pensive {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Bans the last of the answer's tokens, and 0; remembers what it was asked.
struct Asked {
  std::vector<std::vector<TokenId>> answers;
  std::shared_ptr<const Guide> guide(AnswerBegin begins = AnswerBegin::at_first_drawn) {
    return allow_after_thinking(
        [this](std::span<const TokenId> answer) {
          answers.emplace_back(answer.begin(), answer.end());
          std::vector<std::uint32_t> mask(4, ~0u);
          mask[0] &= ~1u;
          if (!answer.empty()) mask[answer.back() / 32] &= ~(1u << (answer.back() % 32));
          return mask;
        },
        begins);
  }
};

TEST(AllowAfterThinking, SaysNothingInThinking) {
  Asked asked;
  Scene scene(asked.guide());
  EXPECT_EQ(scene.started(), "-");
  EXPECT_EQ(scene.draw(5), "-");
  EXPECT_THAT(asked.answers, IsEmpty());
  EXPECT_EQ(scene.draw(think_close), "allow all but 0");
  EXPECT_EQ(scene.draw(7), "allow all but 0 7");
  EXPECT_EQ(scene.draw(8), "allow all but 0 8");
  EXPECT_THAT(asked.answers.back(), ElementsAre(7, 8));
}

TEST(AllowAfterThinking, WhatIsFedBehindTheCloserIsNotThatAnswer) {
  Asked asked;
  Scene scene(asked.guide());
  scene.feed(think_close);
  EXPECT_EQ(scene.feed(50), "allow all but 0");
  EXPECT_EQ(scene.draw(7), "allow all but 0 7");
  scene.feed(51);
  EXPECT_THAT(asked.answers.back(), ElementsAre(7, 51)) << "later it is";
}

TEST(AllowAfterThinking, UnlessItIsToBe) {
  Asked asked;
  Scene scene(asked.guide(AnswerBegin::at_closer));
  scene.feed(think_close);
  EXPECT_EQ(scene.feed(50), "allow all but 0 50");
  scene.draw(7);
  EXPECT_THAT(asked.answers.back(), ElementsAre(50, 7));
}

TEST(AllowAfterThinking, APromptThatEndsInTheAnswerIsMaskedAtOnce) {
  Asked asked;
  Scene scene(asked.guide(), one_token_markers(), {1, 2});
  EXPECT_EQ(scene.started(), "allow all but 0");
  scene.draw(7);
  EXPECT_THAT(asked.answers.back(), ElementsAre(7));
}

TEST(AllowAfterThinking, EachAnswerBeginsAnew) {
  Asked asked;
  Scene scene(asked.guide());
  scene.draw_all({think_close, answer_open, 7});
  EXPECT_THAT(asked.answers.back(), ElementsAre(answer_open, 7)) << "its markers are part of it";
  EXPECT_EQ(scene.draw(think_open), "-");
  EXPECT_EQ(scene.draw(9), "-");
  EXPECT_EQ(scene.draw(think_close), "allow all but 0");
  scene.draw(7);
  EXPECT_THAT(asked.answers.back(), ElementsAre(7));
}

TEST(AllowAfterThinking, ACloserTakenBackEndsNothing) {
  Asked asked;
  Scene scene(asked.guide());
  scene.draw_all({5, think_close, 7});
  scene.take_back(2);
  scene.feed(think_close);
  EXPECT_EQ(scene.feed(50), "allow all but 0") << "not drawn: no part of the answer";
  scene.take_back(2);
  EXPECT_EQ(scene.draw(6), "-");
  scene.draw_all({think_close, 8});
  EXPECT_THAT(asked.answers.back(), ElementsAre(8));
}

TEST(AllowAfterThinking, ACloserOfWhatIsClosedChangesNothing) {
  Asked asked;
  Scene scene(asked.guide());
  scene.draw_all({think_close, 7, think_close, 8});
  EXPECT_THAT(asked.answers.back(), ElementsAre(7, think_close, 8));
}

TEST(AllowAfterThinking, AnEmptyMaskIsNone) {
  Scene scene(allow_after_thinking([](auto) { return std::vector<std::uint32_t>{}; }));
  EXPECT_EQ(scene.draw(think_close), "-");
}

TEST(AllowAfterThinking, NeedsAFunctionAndNoMarkers) {
  EXPECT_ERROR(allow_after_thinking(nullptr), ErrorCode::invalid_argument, "a function");
  Asked asked;
  EXPECT_FALSE(asked.guide()->needs_markers());
}

}  // namespace
}  // namespace pensive
