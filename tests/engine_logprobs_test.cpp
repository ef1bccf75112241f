// What the trace tells beside the tokens: the likeliest others, the prompt's logprobs; and score().
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

constexpr auto bad = ErrorCode::invalid_argument;

// The logprobs of a text's tokens after the first, by drawing: every token is biased to be drawn.
std::vector<float> slowly(const std::vector<TokenId>& tokens) {
  Engine engine(tiny_model(), exact());
  std::size_t at = 1;
  Request request = plain_request({tokens[0]}, 1, static_cast<int>(tokens.size()) - 1);
  auto guide = std::make_shared<Scripted>();
  guide->begin = [&](const Moment&) -> Action { return Proceed{{{tokens[1], 1e6f}}}; };
  guide->token = [&](const Moment&) -> Action {
    ++at;
    return at < tokens.size() ? Proceed{{{tokens[at], 1e6f}}} : Proceed{};
  };
  request.guides = {guide};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().kept(), tokens);
  return {sequence.trace().logprobs.begin() + 1, sequence.trace().logprobs.end()};
}

TEST(Logprobs, OfThePromptAreThoseOfDrawingIt) {
  const auto tokens = ids(2, 90);
  const auto expected = slowly(tokens);
  EngineOptions options = exact();
  for (int budget : {7, 64, 2048}) {
    options.max_tokens_per_step = budget;
    Engine engine(tiny_model(), options);
    Request request = plain_request(tokens, 1, 3);
    finish(engine, request);  // the cache knows the prompt
    request.prompt_logprobs = true;
    Sequence sequence = engine.start(request);
    engine.finish(sequence);
    const Trace& trace = sequence.trace();
    EXPECT_TRUE(std::isnan(trace.logprobs[0]));
    EXPECT_TRUE(std::isnan(trace.drawn_logprobs[5]));
    EXPECT_GT(trace.entropies_nats[5], 0);
    EXPECT_EQ(std::vector(trace.logprobs.begin() + 1, trace.logprobs.begin() + 90), expected);
    request.prompt_logprobs = false;
    EXPECT_EQ(finish(engine, request), trace.kept());
  }
}

TEST(Logprobs, TellTheLikeliestBesideEachToken) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request(ids(2, 20), 1, 10);
  auto guide = std::make_shared<Scripted>();
  for (TokenId id = 0; id < tiny_vocab; ++id) guide->wants.push_back(id);
  std::vector<std::vector<float>> seen;
  guide->token = [&](const Moment& m) -> Action {
    seen.emplace_back(m.watched.begin(), m.watched.end());
    return m.new_tokens == 5 ? Action(Force{{30}, 0}) : Proceed{};
  };
  request.guides = {guide};
  request.top_logprobs = 3;
  request.prompt_logprobs = true;
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  const Trace& trace = sequence.trace();
  ASSERT_EQ(trace.top_count, 3);
  ASSERT_EQ(trace.top_tokens.size(), 90u);
  ASSERT_EQ(trace.top_logprobs.size(), 90u);
  EXPECT_EQ(trace.top_tokens[0], -1);
  EXPECT_TRUE(std::isnan(trace.top_logprobs[2]));
  for (std::size_t row = 1; row < 30; ++row) {
    if (row == 25) {
      EXPECT_EQ(trace.top_tokens[75], -1);  // forced
      continue;
    }
    EXPECT_GE(trace.top_logprobs[3 * row], trace.top_logprobs[3 * row + 1]);
    EXPECT_GE(trace.top_logprobs[3 * row + 1], trace.top_logprobs[3 * row + 2]);
    if (row < 20) continue;
    std::vector<float>& all = seen[row - 20];
    for (std::size_t i = 0; i < 3; ++i) {
      const auto token = static_cast<std::size_t>(trace.top_tokens[3 * row + i]);
      EXPECT_EQ(trace.top_logprobs[3 * row + i], all[token]);
      EXPECT_EQ(std::ranges::max(all), all[token]);
      all[token] = -1e9f;
    }
  }
  const TempDir folder;
  save({&trace, 1}, folder / "trace.jsonl");
  EXPECT_EQ(print(load_traces(folder / "trace.jsonl").at(0)), print(trace));
  EXPECT_EQ(load_traces(folder / "trace.jsonl").at(0).top_tokens, trace.top_tokens);
}

TEST(Logprobs, AskingChangesNoDraw) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request(ids(2, 40), 1, 20);
  const auto expected = finish(engine, request);
  request.top_logprobs = 20;
  request.prompt_logprobs = true;
  Sequence half = engine.start(request);
  for (int i = 0; i < 9; ++i) engine.step();
  Sequence fork = half.fork(Draws::same);
  half.rewind(5, Draws::same);
  engine.finish(half);
  engine.finish(fork);
  EXPECT_EQ(half.trace().kept(), expected);
  EXPECT_EQ(fork.trace().kept(), expected);
  EXPECT_EQ(fork.trace().top_tokens.size(), 20u * 60);
  EXPECT_EQ(half.trace().top_tokens.size(), 20u * 65);
}

TEST(Score, IsTheLogprobsOfDrawing) {
  const auto tokens = ids(3, 70);
  const auto expected = slowly(tokens);
  Engine engine(tiny_model(), exact());
  const std::span<const TokenId> all(tokens);
  Sequence other = engine.start(plain_request(ids(7, 30), 4, 40));
  for (std::size_t prompt : {1u, 16u, 33u, 69u}) {
    const auto scores = engine.score(all.first(prompt), all.subspan(prompt));
    EXPECT_EQ(scores, std::vector(expected.begin() + static_cast<std::ptrdiff_t>(prompt) - 1,
                                  expected.end()));
  }
  EXPECT_GT(engine.counters().reused_tokens, 0);  // of prompts, never of what is scored
  EXPECT_GT(other.trace().tokens.size(), 30u);
  { const Sequence gone = std::move(other); }
  expect_no_leak(engine);
}

TEST(Score, HoldsWherePagesAreScarce) {
  EngineOptions options = exact();
  options.page_tokens = 4;
  options.cache_tokens = 100;
  options.max_tokens_per_step = 9;
  const auto tokens = ids(3, 70);
  const auto expected = slowly(tokens);
  Engine engine(tiny_model(), options);
  std::vector<Sequence> others;
  for (int i = 0; i < 4; ++i)
    others.push_back(engine.start(plain_request(ids(i, 11), static_cast<std::uint64_t>(i), 60)));
  Request request = plain_request(tokens, 1, 5);
  request.prompt_logprobs = true;
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  EXPECT_EQ(
      std::vector(sequence.trace().logprobs.begin() + 1, sequence.trace().logprobs.begin() + 70),
      expected);
  engine.finish(others);
  EXPECT_GT(engine.counters().preemptions, 0);
}

TEST(Score, RefusesWhatHasNoScore) {
  const auto soft = std::make_shared<SoftVocab>(tiny_model());
  const std::vector<TokenId> mean{5}, some{5, 6}, softly{5, tiny_vocab};
  soft->add("more", mean);
  Engine engine(tiny_model(), {.soft = soft, .cache_tokens = 256});
  EXPECT_ERROR(engine.score({}, some), bad, "no prompt");
  EXPECT_ERROR(engine.score(some, {}), bad, "no continuation");
  EXPECT_ERROR(engine.score(some, softly), bad, "ids from 0 to 63; found 64");
  EXPECT_EQ(engine.score(softly, some).size(), 2u);
  const auto whole = ids(1, 300);
  EXPECT_ERROR(engine.score(some, whole), bad, "the cache's 256 positions");
  Request request = plain_request(some);
  request.top_logprobs = 21;
  EXPECT_ERROR(engine.start(request), bad, "0 to 20 top_logprobs; found 21");
  request.top_logprobs = -1;
  EXPECT_ERROR(engine.start(request), bad, "found -1");
}

}  // namespace
}  // namespace pensive::testing
