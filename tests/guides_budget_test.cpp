// The limit and its window, and the least thinking.
#include <algorithm>
#include <random>

#include "guides_scene.h"
#include "testing.h"

namespace pensive {
namespace {

using namespace testing;
using ::testing::ElementsAre;

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

BudgetOptions at_least(int min, int max = 100) {
  return {.max_think_tokens = max,
          .window_tokens = 0,
          .min_think_tokens = min,
          .closer = {think_close},
          .end_tokens = {end_token}};
}

TEST(LeastThinking, NoEndIsDrawnBeforeIt) {
  Scene scene(budget(at_least(2)));
  EXPECT_EQ(scene.started(), "91:-inf 83:-inf");
  EXPECT_EQ(scene.draw(5), "91:-inf 83:-inf");
  EXPECT_EQ(scene.draw(6), "-");
  EXPECT_EQ(scene.draw(think_close), "-");
  EXPECT_EQ(scene.draw(end_token), "-");
  EXPECT_THAT(scene.kept(), ElementsAre(5, 6, think_close, end_token));
}

TEST(LeastThinking, CountsNeitherThePromptNorTheAnswer) {
  Scene scene(budget(at_least(2)), one_token_markers(), {1, think_open, 5, 6, 7});
  EXPECT_NE(scene.started(), "-");
  Scene answering(budget(at_least(2)), one_token_markers(), {1, 2});
  EXPECT_EQ(answering.started(), "-");
  EXPECT_EQ(answering.draw(5), "-") << "there is no thinking to keep open";
  EXPECT_NE(answering.draw(think_open), "-");
}

TEST(LeastThinking, IsOverAllSegments) {
  Scene scene(budget(at_least(3)));
  scene.draw_all({5, 6, 7, think_close, 8});
  EXPECT_EQ(scene.draw(think_open), "-");
  Scene forced(budget(at_least(3)));
  forced.draw(5);
  EXPECT_EQ(forced.feed(think_close), "-") << "what is forced passes";
  EXPECT_NE(forced.draw(think_open), "-");
  forced.draw(6);
  EXPECT_EQ(forced.draw(7), "-");
}

TEST(LeastThinking, ACloserThatCameAllTheSameIsDrawnAgain) {
  testing::Driven guide(budget(at_least(5)));
  EXPECT_EQ(guide(marker(Marker::think_close, 4), false), "force -1 but 91:-inf");
  EXPECT_EQ(guide(marker(Marker::think_close, 4, Origin::forced)), "-");
  EXPECT_EQ(guide(marker(Marker::think_close, 5)), "-");
  Moment spelled = marker(Marker::think_close, 4);
  const std::vector<TokenId> tokens{1, 60, 61, 62};
  spelled.tokens = tokens;
  spelled.marker_tokens = 3;
  EXPECT_EQ(guide(spelled), "force -1 but 62:-inf") << "only its last token";
}

TEST(LeastThinking, AnAnswerIsNotOpenedBeforeIt) {
  Scene scene(budget(at_least(2)));
  EXPECT_EQ(scene.draw(answer_open), "force -1 but 92:-inf");
  EXPECT_TRUE(scene.bars(answer_open) && scene.bars(think_close) && scene.bars(end_token));
  scene.draw_all({5, 6});
  EXPECT_FALSE(scene.bars(answer_open));
  EXPECT_EQ(scene.draw(answer_open), "-");
  Scene forced(budget(at_least(2)));
  forced.feed(think_close);
  EXPECT_EQ(forced.draw(answer_open), "-") << "the answer has begun";
}

TEST(LeastThinking, OfASplitCloserTheLastTokenIsNotDrawn) {
  BudgetOptions options = at_least(2);
  options.closer = {half_a, half_b};
  Scene scene(budget(options), split_markers());
  EXPECT_EQ(scene.started(), "83:-inf");
  EXPECT_EQ(scene.draw(half_a), "95:-inf 83:-inf");
  EXPECT_EQ(scene.draw(5), "-") << "half a closer that was none is thinking";
  EXPECT_EQ(scene.draw(half_a), "-");
  EXPECT_EQ(scene.draw(half_b), "-");
}

TEST(LeastThinking, HalfACloserIsNone) {
  BudgetOptions options = at_least(2);
  options.closer = {half_a, half_b};
  Scene scene(budget(options), split_markers());
  EXPECT_EQ(scene.draw(5), "83:-inf");
  EXPECT_EQ(scene.draw(half_a), "95:-inf 83:-inf") << "one token is thinking for sure";
  Scene after_prompt(budget(options), split_markers(), {1, think_open, half_a});
  EXPECT_EQ(after_prompt.started(), "83:-inf") << "no marker lies partly in the prompt";
}

// The closing would take the half back and leave one token.
TEST(LeastThinking, HalfACloserAtTheLimitIsDrawnAgain) {
  BudgetOptions options = at_least(2, 2);
  options.closer = {half_a, half_b};
  Scene scene(budget(options), split_markers());
  scene.draw(5);
  EXPECT_EQ(scene.draw(half_a), "force -1 but 94:-inf");
  EXPECT_TRUE(scene.bars(half_a) && scene.bars(end_token));
  EXPECT_EQ(scene.draw(6), "close budget -0 in 0");
  EXPECT_THAT(scene.kept(), ElementsAre(5, 6, half_a, half_b));
}

TEST(LeastThinking, TheWindowOpensBehindIt) {
  BudgetOptions options = at_least(95);
  options.window_tokens = -1;
  Scene scene(budget(options));
  for (int i = 0; i < 94; ++i) ASSERT_NE(scene.draw(full_stop).substr(0, 5), "close");
  EXPECT_EQ(scene.draw(full_stop), "close budget -0 in 5");
  EXPECT_EQ(scene.think_tokens(), 95);
}

TEST(LeastThinking, RefusesContradictions) {
  const auto expect = [](BudgetOptions options, std::string_view says) {
    EXPECT_ERROR(budget(options), ErrorCode::invalid_argument, says);
  };
  expect(at_least(101), "min_think_tokens of at most max_think_tokens = 100");
  expect(at_least(-1), "min_think_tokens of at least 0");
  expect({.max_think_tokens = 9, .min_think_tokens = 1}, "a closer");
  expect({.max_think_tokens = 9, .min_think_tokens = 1, .closer = {-1}}, "token ids");
  expect({.max_think_tokens = 9, .end_tokens = {-2}}, "token ids");
}

// Whatever is drawn: never more than the limit, never less than the least, and one closer.
TEST(LeastThinking, HoldsOverRandomRuns) {
  std::mt19937 dice(7);
  const auto roll = [&](int sides) {
    return static_cast<int>(dice() % static_cast<unsigned>(sides));
  };
  for (int run = 0; run < 10000; ++run) {
    const bool is_split = roll(2) == 0;
    const Markers markers = is_split ? split_markers() : one_token_markers();
    const int max = 1 + roll(12), min = roll(max + 1);
    BudgetOptions options{.max_think_tokens = max, .min_think_tokens = min};
    options.closer = markers.think_close;
    options.end_tokens = {end_token};
    Scene scene(budget(options), markers);
    const std::vector<TokenId> ids = {5,       6,         7,           full_stop,
                                      newline, silent,    think_close, half_a,
                                      half_b,  end_token, answer_open, think_open};
    const auto has_ended = [&] {
      return scene.next() == Segment::answer ||
             (!scene.kept().empty() && scene.kept().back() == end_token);
    };
    for (int i = 0; i < 200 && !has_ended(); ++i) {
      const TokenId id = ids[static_cast<std::size_t>(roll(static_cast<int>(ids.size())))];
      if (!scene.bars(id)) scene.draw(id);
    }
    ASSERT_TRUE(has_ended()) << run;
    const std::vector<TokenId> kept = scene.kept();
    EXPECT_LE(scene.think_tokens(), max) << run;
    const int not_text = scene.next() == Segment::think ? 1 : 0;  // the end token
    EXPECT_GE(scene.think_tokens() - not_text, min) << run;
    const TokenId closer = markers.think_close.back();
    const auto closers = std::count(kept.begin(), kept.end(), closer);
    const bool is_closed = scene.next() == Segment::answer && kept.back() == closer;
    if (is_closed && !is_split) {
      EXPECT_EQ(closers, 1) << run;
    }
  }
}

}  // namespace
}  // namespace pensive
