// Cold Stop, and what brakes are compared with.
#include <limits>
#include <string_view>
#include <vector>

#include "story.h"

namespace pensive {
namespace {

using testing::Story;

constexpr std::string_view closed = "close brake -0 in 0";

ColdStopOptions three_sure(int min_think_tokens = 0) {
  return {.max_entropy_nats = 0.1f, .for_tokens = 3, .min_think_tokens = min_think_tokens};
}

TEST(ColdStop, HasThePapersNumbers) {
  EXPECT_FLOAT_EQ(ColdStopOptions{}.max_entropy_nats, 0.01f);
  EXPECT_EQ(ColdStopOptions{}.for_tokens, 256);
}

TEST(ColdStop, ClosesAfterSoManySureTokensInARow) {
  const float unknown = std::nanf(""), none = std::numeric_limits<float>::infinity();
  const struct {
    std::vector<float> entropies;
    int fires_at;  // counted from 1; 0: never
  } table[] = {{{.05f, .05f, .05f}, 3},
               {{.05f, .05f, .1f, .05f, .05f}, 0},
               {{.2f, 0, 0, 0, 0}, 4},
               {{0, 0, unknown, 0, 0, 0}, 6},
               {{none, 0, 0, none, 0, 0, 0}, 7}};
  for (const auto& row : table) {
    Story story(cold_stop(three_sure()));
    int fired = 0;
    for (std::size_t i = 0; i < row.entropies.size(); ++i) {
      story.entropy = row.entropies[i];
      if (story.draw("so") == closed) fired = static_cast<int>(i) + 1;
    }
    EXPECT_EQ(fired, row.fires_at);
  }
}

TEST(ColdStop, CountsOnlyWhatIsThoughtInOneGo) {
  Story story(cold_stop(three_sure()));
  story.entropy = 0;
  story.draw_all({"a", "b"});
  Story forced = story, taken = story, answered = story, fork = story;
  EXPECT_EQ(forced.force("Wait"), "-");
  EXPECT_EQ(forced.draw_all({"a", "b"}), "-");
  EXPECT_EQ(forced.draw("c"), closed);
  taken.take_back(1);
  EXPECT_EQ(taken.draw_all({"b", "c"}), "-");
  EXPECT_EQ(taken.draw("d"), closed);
  answered.mark(Marker::think_close);
  EXPECT_EQ(answered.answer("4"), "-");
  answered.mark(Marker::think_open);
  EXPECT_EQ(answered.draw_all({"a", "b"}), "-");
  EXPECT_EQ(story.draw("c"), closed);
  EXPECT_EQ(fork.draw("c"), closed) << "for itself";
  Story late(cold_stop(three_sure(5)));
  late.entropy = 0;
  EXPECT_EQ(late.first_round({"a"}, 9), 5);
}

TEST(ColdStop, RefusesOptionsThatCannotBe) {
  EXPECT_ERROR(cold_stop({.max_entropy_nats = -1}), ErrorCode::invalid_argument,
               "max_entropy_nats of at least 0; found -1");
  EXPECT_ERROR(cold_stop({.max_entropy_nats = std::nanf("")}), ErrorCode::invalid_argument,
               "max_entropy_nats");
  EXPECT_ERROR(cold_stop({.for_tokens = 0}), ErrorCode::invalid_argument, "for_tokens");
  EXPECT_ERROR(cold_stop({.within_tokens = -1}), ErrorCode::invalid_argument, "within_tokens");
  EXPECT_ERROR(cold_stop({.min_think_tokens = -1}), ErrorCode::invalid_argument,
               "min_think_tokens");
}

// How often it closes in so many stories, each of a prompt of its own.
int closes(const RandomStopOptions& options, std::string_view text, int stories = 400) {
  int count = 0;
  for (int i = 0; i < stories; ++i) {
    Story story(random_stop(options));
    story.prompt = {i, 1, 2};
    if (story.draw(text) == closed) ++count;
  }
  return count;
}

TEST(RandomStop, ClosesAtSentenceEndsByItsChance) {
  EXPECT_EQ(closes({.chance = 1}, "so"), 0);
  EXPECT_EQ(closes({.chance = 1}, "so.\n"), 400);
  EXPECT_EQ(closes({.chance = 0}, "so.\n"), 0);
  EXPECT_EQ(closes({.chance = 1, .min_think_tokens = 2}, "so.\n"), 0);
  // Six standard deviations.
  EXPECT_NEAR(closes({.chance = 0.3f}, "so.\n"), 120, 55);
  EXPECT_NEAR(closes({.chance = 0.3f, .seed = 7}, "so.\n"), 120, 55);
}

TEST(RandomStop, DrawsTheSameForTheSameSeedPromptAndPlace) {
  const auto place = [](std::uint64_t seed, TokenId prompt) {
    Story story(random_stop({.chance = 0.02f, .seed = seed}));
    story.prompt = {prompt};
    return story.first_round({"so.\n"}, 500);
  };
  EXPECT_EQ(place(1, 5), place(1, 5));
  EXPECT_NE(place(1, 5), place(2, 5));
  EXPECT_NE(place(1, 5), place(1, 6));
}

TEST(RandomStop, RefusesWhatIsNoChance) {
  EXPECT_ERROR(random_stop({.chance = 1.5f}), ErrorCode::invalid_argument, "chance from 0 to 1");
  EXPECT_ERROR(random_stop({.chance = std::nanf("")}), ErrorCode::invalid_argument, "chance");
  EXPECT_ERROR(random_stop({.min_think_tokens = -1}), ErrorCode::invalid_argument,
               "min_think_tokens");
}

TEST(PromptBudget, IsABudgetInProportionToThePrompt) {
  const struct {
    float factor;
    int window;
    int fires_at;  // thinking tokens
    std::string_view says;
  } table[] = {{2, 0, 6, "close budget -0 in 0"},    {2, 2, 4, "close budget -0 in 2"},
               {2, 90, 1, "close budget -0 in 5"},   {2, -1, 1, "close budget -0 in 5"},
               {1.5f, 0, 5, "close budget -0 in 0"}, {0.01f, 0, 1, "close budget -1 in 0"}};
  for (const auto& row : table) {
    Story story(
        prompt_budget({.tokens_per_prompt_token = row.factor, .window_tokens = row.window}));
    for (int i = 1; i < row.fires_at; ++i) EXPECT_EQ(story.draw("so"), "-");
    Story fork = story;
    EXPECT_EQ(story.draw("so"), row.says) << row.factor << ", " << row.window;
    EXPECT_EQ(fork.draw("so"), row.says);
  }
  EXPECT_EQ(prompt_budget({})->name(), "prompt_budget");
}

TEST(PromptBudget, RefusesNumbersThatCannotBe) {
  EXPECT_ERROR(prompt_budget({.tokens_per_prompt_token = 0}), ErrorCode::invalid_argument,
               "tokens_per_prompt_token above 0; found 0");
  EXPECT_ERROR(prompt_budget({.tokens_per_prompt_token = std::nanf("")}),
               ErrorCode::invalid_argument, "tokens_per_prompt_token");
  EXPECT_ERROR(prompt_budget({.window_tokens = -2}), ErrorCode::invalid_argument, "window_tokens");
  Story large(prompt_budget({.tokens_per_prompt_token = 3e38f}));
  EXPECT_EQ(large.draw("so"), "-");
}

}  // namespace
}  // namespace pensive
