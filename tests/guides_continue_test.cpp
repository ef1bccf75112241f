// The total budget of continue-thinking.
#include "guides_scene.h"
#include "testing.h"

namespace pensive {
namespace {

using namespace testing;
using ::testing::ElementsAre;

TEST(ContinueAtLimit, ClosesTheThinkingWhereverItStands) {
  Scene scene(
      continue_thinking({.with = {40}, .times = 9, .max_think_tokens = 4, .at_max = AtMax::close}));
  EXPECT_EQ(scene.draw(5), "-");
  EXPECT_EQ(scene.draw(think_close), "force -1 40");
  EXPECT_EQ(scene.draw(6), "-");
  EXPECT_EQ(scene.draw(7), "close budget -0 in 0");
  EXPECT_THAT(scene.kept(), ElementsAre(5, 40, 6, 7, think_close));
  EXPECT_EQ(scene.draw(8), "-");
}

TEST(ContinueAtLimit, AlsoWithinTheWordsItFeeds) {
  Scene scene(
      continue_thinking({.with = {40, 41, 42}, .max_think_tokens = 2, .at_max = AtMax::close}));
  scene.draw_all({5, think_close});
  EXPECT_THAT(scene.kept(), ElementsAre(5, 40, think_close));
}

TEST(ContinueAtLimit, LetsACloserPassThatComesThere) {
  Scene scene(continue_thinking({.with = {40}, .max_think_tokens = 0, .at_max = AtMax::close}));
  EXPECT_EQ(scene.draw(think_close), "-");
}

TEST(ContinueAtLimit, PassesByDefault) {
  Scene scene(continue_thinking({.with = {40}, .times = 9, .max_think_tokens = 2}));
  EXPECT_EQ(scene.draw(5), "-");
  EXPECT_EQ(scene.draw(6), "-");
  EXPECT_EQ(scene.draw(7), "-");
  EXPECT_EQ(scene.draw(think_close), "-");
}

}  // namespace
}  // namespace pensive
