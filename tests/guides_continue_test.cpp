// Closers that are replaced, and the total budget.
#include "guides_scene.h"
#include "testing.h"

namespace pensive {
namespace {

using namespace testing;
using ::testing::ElementsAre;

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
