// A closer that is pushed.
#include "guides_scene.h"
#include "testing.h"

namespace pensive {
namespace {

using namespace testing;

CloserPressureOptions pushed(int from = 0, int to = 0) {
  return {.closer = {think_close}, .alpha = 0.5f, .from = from, .full = to};
}

TEST(CloserPressure, PushesInThinkingOnly) {
  Scene scene(closer_pressure(pushed()));
  EXPECT_EQ(scene.started(), "91:*0.5");
  EXPECT_EQ(scene.draw(5), "91:*0.5");
  EXPECT_EQ(scene.feed(6), "91:*0.5");
  EXPECT_EQ(scene.draw(think_close), "-");
  EXPECT_EQ(scene.draw(7), "-");
  EXPECT_EQ(scene.draw(think_open), "91:*0.5");
  EXPECT_EQ(Scene(closer_pressure(pushed()), one_token_markers(), {1}).started(), "-");
}

TEST(CloserPressure, OfASplitCloserThePartThatIsNext) {
  CloserPressureOptions options = pushed();
  options.closer = {half_a, half_b};
  Scene scene(closer_pressure(options), split_markers());
  EXPECT_EQ(scene.draw(5), "94:*0.5");
  EXPECT_EQ(scene.draw(half_a), "95:*0.5");
  EXPECT_EQ(scene.draw(6), "94:*0.5");
  EXPECT_EQ(scene.draw(half_b), "94:*0.5") << "a second part alone is none";
  Scene after_prompt(closer_pressure(options), split_markers(), {1, think_open, half_a});
  EXPECT_EQ(after_prompt.started(), "94:*0.5") << "no marker lies partly in the prompt";
}

TEST(CloserPressure, OfACloserThatRepeatsItselfTheLongestBeginning) {
  CloserPressureOptions options = pushed();
  options.closer = {half_a, half_a, half_b};
  Scene scene(closer_pressure(options), Markers{{think_open}, options.closer, {}, {}});
  scene.draw(half_a);
  EXPECT_EQ(scene.last(), "94:*0.5");
  EXPECT_EQ(scene.draw(half_a), "95:*0.5");
  EXPECT_EQ(scene.draw(half_a), "95:*0.5");
}

TEST(CloserPressure, GrowsBetweenTwoNumbersOfTokens) {
  Scene scene(closer_pressure(pushed(2, 4)));
  EXPECT_EQ(scene.draw(5), "-");
  EXPECT_EQ(scene.draw(5), "-");
  EXPECT_EQ(scene.draw(5), "91:*0.25");
  EXPECT_EQ(scene.draw(5), "91:*0.5");
  EXPECT_EQ(scene.draw(5), "91:*0.5");
}

TEST(CloserPressure, BeginsAtOnceWhereItDoesNotGrow) {
  Scene scene(closer_pressure(pushed(2, 2)));
  EXPECT_EQ(scene.draw(5), "-");
  EXPECT_EQ(scene.draw(5), "91:*0.5");
}

TEST(CloserPressure, AtSentenceEndsOnly) {
  CloserPressureOptions options = pushed();
  options.closer = {half_a, half_b};
  options.at = PressureAt::sentence_ends;
  Scene scene(closer_pressure(options), split_markers());
  EXPECT_EQ(scene.started(), "-");
  EXPECT_EQ(scene.draw(5), "-");
  EXPECT_EQ(scene.draw(full_stop), "94:*0.5");
  EXPECT_EQ(scene.draw(silent), "-") << "no text, no end";
  EXPECT_EQ(scene.draw(newline), "94:*0.5");
  EXPECT_EQ(scene.draw(half_a), "95:*0.5") << "what has begun is finished anywhere";
}

TEST(CloserPressure, RefusesOptionsThatCannotBe) {
  const auto expect = [](CloserPressureOptions options, std::string_view says) {
    EXPECT_ERROR(closer_pressure(options), ErrorCode::invalid_argument, says);
  };
  expect({}, "a closer");
  expect({.closer = {1}, .alpha = -1}, "alpha from 0");
  expect({.closer = {1}, .alpha = std::numeric_limits<float>::infinity()}, "alpha from 0");
  expect(pushed(-1, 0), "from of at least 0");
  expect(pushed(5, 4), "full of at least from = 5");
}

}  // namespace
}  // namespace pensive
