// Stop texts: wherever tokens begin and end, nothing of one is ever streamed.
#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

std::string streamed(Sequence& sequence) {
  std::string text;
  for (const TextEvent& event : sequence.take_events()) text += event.text;
  return text;
}

TEST(StopTexts, EndBeforeWhateverPartOfTheTextIsAsked) {
  Engine engine(tiny_model(), exact());
  std::mt19937 random(1);
  for (int trial = 0; trial < 60; ++trial) {
    Request request = plain_request(ids(trial, 9), random(), 40);
    Sequence whole = engine.start(request);
    engine.finish(whole);
    const std::string text = streamed(whole);
    const std::size_t begin = 1 + random() % (text.size() - 12);
    request.stop_texts = {"never there", text.substr(begin, 1 + random() % 11)};
    if (trial % 3 == 0) request.stop_texts.push_back(text.substr(begin + 2, 3));
    // The token that completes one decides; of several in the text by then the first counts.
    std::size_t first = text.size();
    const auto all = whole.trace().kept();
    const auto tokenizer = engine.model()->tokenizer();
    for (std::size_t end = 10; end <= all.size() && first == text.size(); ++end) {
      const std::string so_far = tokenizer->decode(std::span(all).subspan(9, end - 9));
      for (const std::string& wanted : request.stop_texts)
        first = std::min(first, so_far.find(wanted));
      first = std::min(first, text.size());
    }
    Sequence sequence = engine.start(request);
    std::string seen;
    while (!sequence.finished()) {
      engine.step();
      seen += streamed(sequence);
      ASSERT_TRUE(text.substr(0, first).starts_with(seen)) << seen << " of " << text;
    }
    EXPECT_EQ(seen, text.substr(0, first));
    const Trace& trace = sequence.trace();
    EXPECT_EQ(trace.stopped, StopReason::stop_text);
    EXPECT_TRUE(text.substr(first).starts_with(trace.stop_text));
    // The last token is the one that completed it.
    const auto kept = trace.kept();
    const std::span<const TokenId> output(kept.begin() + 9, kept.end());
    EXPECT_NE(tokenizer->decode(output).find(trace.stop_text), std::string::npos);
    EXPECT_EQ(tokenizer->decode(output.first(output.size() - 1)).find(trace.stop_text),
              std::string::npos);
    EXPECT_EQ(respond(trace, *tokenizer).answer, seen);
    EXPECT_FALSE(respond(trace, *tokenizer).is_truncated);
    if (trial > 0) continue;
    const TempDir folder;
    save({&trace, 1}, folder / "trace.jsonl");
    const Trace back = load_traces(folder / "trace.jsonl").at(0);
    EXPECT_EQ(back.stopped, StopReason::stop_text);
    EXPECT_EQ(back.stop_text, trace.stop_text);
  }
}

TEST(StopTexts, HoldBackOnlyWhatMayBecomeOne) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request(ids(1, 9), 4, 50);
  request.stop_texts = {"w5 w6", "w7 w8 w9"};
  const std::vector<TokenId> fed{5, 5, 7, 8, 5, 7, 8, 9, 20};
  Sequence sequence = engine.start(request);
  std::string seen;
  for (std::size_t i = 0; i < fed.size() && !sequence.finished(); ++i) {
    sequence.feed(std::span(fed).subspan(i, 1));
    seen += streamed(sequence);
    EXPECT_FALSE(seen.ends_with("w5") || seen.ends_with("w7")) << seen;
  }
  EXPECT_EQ(seen, "w5 w5 w7 w8 w5 ");
  EXPECT_EQ(sequence.trace().stopped, StopReason::stop_text);
  EXPECT_EQ(sequence.trace().stop_text, "w7 w8 w9");
  EXPECT_EQ(sequence.trace().kept().back(), 9);
}

TEST(StopTexts, ThinkingCountsAndAGuideMayTakeOneBack) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request({5, 10}, 4, 50);
  request.markers = tiny_markers();
  request.stop_texts = {"w8 w9"};
  const std::vector<TokenId> fed{7, 8, 9, 20};
  Sequence sequence = engine.start(request);
  sequence.feed(fed);
  EXPECT_EQ(sequence.trace().stopped, StopReason::stop_text);
  EXPECT_EQ(sequence.trace().kept(), (std::vector<TokenId>{5, 10, 7, 8, 9}));
  EXPECT_EQ(respond(sequence.trace(), *engine.model()->tokenizer()).thinking, "w7 ");

  request.guides = {scripted([](const Moment& m) -> Action {
    return m.token == 9 ? Action(Force{{30, 31}, 1}) : Proceed{};
  })};
  Sequence saved = engine.start(request);
  saved.feed(fed);
  EXPECT_FALSE(saved.finished());
  EXPECT_EQ(saved.trace().kept(), (std::vector<TokenId>{5, 10, 7, 8, 30, 31}));
  EXPECT_EQ(streamed(saved), "w7 w8 w30 w31");
  Sequence fork = saved.fork(Draws::same);
  saved.feed(std::vector<TokenId>{8});
  EXPECT_FALSE(streamed(saved).ends_with("w8"));
  saved.rewind(1);
  saved.feed(std::vector<TokenId>{40, 8, 8});
  EXPECT_FALSE(saved.finished());
  fork.cancel();
  engine.step();
}

TEST(StopTexts, AreUndoneByRewinding) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request(ids(1, 9), 4, 50);
  request.stop_texts = {"w8 w9"};
  const std::vector<TokenId> fed{7, 8, 9}, other{8, 20};
  Sequence sequence = engine.start(request);
  sequence.feed(fed);
  EXPECT_EQ(sequence.trace().stopped, StopReason::stop_text);
  EXPECT_EQ(streamed(sequence), "w7 ");
  sequence.rewind(2);
  EXPECT_FALSE(sequence.finished());
  EXPECT_EQ(sequence.trace().stop_text, "");
  sequence.feed(other);
  EXPECT_EQ(streamed(sequence), " w8 w20");  // the space was handed out, and stays so
  EXPECT_FALSE(sequence.finished());
  request.stop_texts = {"a", ""};
  EXPECT_ERROR(engine.start(request), ErrorCode::invalid_argument, "Request::stop_texts");
}

}  // namespace
}  // namespace pensive::testing
