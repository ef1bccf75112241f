// Guides and Closing, driven by invented moments.
#include <gtest/gtest.h>

#include <vector>

#include "guides_moments.h"
#include "think/segments.h"

namespace pensive {
namespace {

using testing::answering;
using testing::Driven;
using testing::marker;
using testing::thinking;
using testing::told;

TEST(Guide, DoesNothingByDefault) {
  Driven guide(budget({}));
  EXPECT_EQ(told(guide.guide().on_start(Moment{})), "-");
  EXPECT_EQ(told(guide.guide().on_probe({})), "-");
  EXPECT_TRUE(guide.guide().watches().empty());
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
