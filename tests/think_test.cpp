#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "think/segments.h"

namespace pensive {
namespace {

using testing::ElementsAre;

constexpr TokenId open_think = 90, close_think = 91, open_answer = 92, close_answer = 93;

Markers single() { return {{open_think}, {close_think}, {open_answer}, {close_answer}}; }

Segments begun(const Markers& markers, std::vector<TokenId> prompt = {},
               std::optional<Segment> begins_in = {}) {
  Segments segments(markers);
  segments.begin(prompt, begins_in);
  return segments;
}

// One letter a token: t, a; capital where the token belongs to a marker.
std::string labels(const Segments& segments, int tokens) {
  std::string text;
  for (int i = 0; i < tokens; ++i) {
    const char letter = segments.segment(i) == Segment::think ? 't' : 'a';
    text += segments.is_marker(i) ? static_cast<char>(letter - 'a' + 'A') : letter;
  }
  return text;
}

std::string labels(Segments segments, const std::vector<TokenId>& tokens) {
  for (const TokenId id : tokens) segments.push(id);
  return labels(segments, static_cast<int>(tokens.size()));
}

TEST(Segments, WithoutMarkersAllIsAnswer) {
  Segments segments;
  segments.begin(std::vector<TokenId>{1, 2, open_think}, {});
  EXPECT_EQ(segments.now(), Segment::answer);
  EXPECT_EQ(segments.push(close_think).completes, Marker::none);
  EXPECT_EQ(segments.segment(0), Segment::answer);
  EXPECT_EQ(segments.think_tokens(), 0);
  EXPECT_EQ(segments.index(Segment::answer), 0);
}

TEST(Segments, RefusesBeginningsThatCannotBe) {
  Segments none;
  EXPECT_THROW(none.begin({}, Segment::think), Error);
  Segments some(single());
  EXPECT_THROW(some.begin({}, Segment::prompt), Error);
}

TEST(Segments, ThePromptsLastMarkerTellsWhereTheTextGoesOn) {
  EXPECT_EQ(begun(single(), {1, 2}).now(), Segment::answer);
  EXPECT_EQ(begun(single(), {1, open_think, 2}).now(), Segment::think);
  EXPECT_EQ(begun(single(), {open_think, 1, close_think, 2}).now(), Segment::answer);
  EXPECT_EQ(begun(single(), {open_think, 1, close_think, 2, open_think}).now(), Segment::think);
  EXPECT_EQ(begun(single(), {open_answer, 1, close_answer}).now(), Segment::answer);
  EXPECT_EQ(begun(single(), {open_think}, Segment::answer).now(), Segment::answer);
  EXPECT_EQ(begun(single(), {close_think}, Segment::think).now(), Segment::think);
}

TEST(Segments, CountsNothingOfThePrompt) {
  Segments segments = begun(single(), {open_think, 1, 2, close_think, 3, open_think, 4});
  EXPECT_EQ(segments.think_tokens(), 0);
  EXPECT_EQ(segments.index(Segment::think), 0);
  EXPECT_EQ(segments.index(Segment::answer), -1);
  segments.push(5);
  EXPECT_EQ(segments.think_tokens(), 1);
}

TEST(Segments, FollowsThinkingAndAnswerInTurn) {
  EXPECT_EQ(
      labels(begun(single(), {open_think}), {1, 2, close_think, 3, open_think, 4, close_think, 5}),
      "ttTaTtTa");
  EXPECT_EQ(labels(begun(single(), {open_think}),
                   {1, close_think, 9, open_answer, 2, close_answer, 3, open_think, 4}),
            "tTaAaAaTt");
}

TEST(Segments, PlacesMarkersInTheSegmentThatTheyEndOrBegin) {
  Segments segments = begun(single());
  const Placed opener = segments.push(open_think);
  EXPECT_EQ(opener.segment, Segment::think);
  EXPECT_EQ(opener.completes, Marker::think_open);
  EXPECT_EQ(opener.marker_tokens, 1);
  segments.push(1);
  const Placed closer = segments.push(close_think);
  EXPECT_EQ(closer.segment, Segment::think);
  EXPECT_EQ(closer.completes, Marker::think_close);
  EXPECT_EQ(segments.push(open_answer).segment, Segment::answer);
  EXPECT_EQ(segments.push(close_answer).segment, Segment::answer);
  EXPECT_EQ(segments.now(), Segment::answer);
}

TEST(Segments, AnAnswerThatOpensInThinkingEndsIt) {
  Segments segments = begun(single(), {open_think});
  segments.push(1);
  EXPECT_EQ(segments.push(open_answer).segment, Segment::answer);
  EXPECT_EQ(segments.now(), Segment::answer);
  EXPECT_EQ(segments.index(Segment::answer), 0);
}

TEST(Segments, WhatIsOpenAlreadyIsNotOpenedAgain) {
  Segments segments = begun(single(), {open_think});
  for (const TokenId id : {open_think, 1, close_answer, 2, close_think, close_think})
    segments.push(id);
  EXPECT_EQ(labels(segments, 6), "TtTtTA");
  EXPECT_EQ(segments.index(Segment::think), 0);
  EXPECT_EQ(segments.index(Segment::answer), 0);
  EXPECT_EQ(segments.think_tokens(), 2);
}

TEST(Segments, NumbersTheSegmentsOfEachKind) {
  Segments segments = begun(single());
  std::vector<int> numbers;
  for (const TokenId id : {open_think, 1, close_think, 2, open_think, 3, close_think, 4}) {
    segments.push(id);
    numbers.push_back(segments.index_at(static_cast<int>(numbers.size())));
  }
  EXPECT_THAT(numbers, ElementsAre(0, 0, 0, 0, 1, 1, 1, 1));
  // Text before the first thinking is an answer of its own; no text is none.
  segments = begun(single());
  segments.push(7);
  segments.push(open_think);
  segments.push(close_think);
  EXPECT_EQ(segments.index(Segment::answer), 1);
}

Markers split() { return {{1, 2}, {1, 1, 3}, {}, {}}; }

TEST(Segments, HoldsBackWhatMayBecomeAMarker) {
  Segments segments = begun(split(), {1, 2});
  ASSERT_EQ(segments.now(), Segment::think);
  std::vector<int> pending;
  for (const TokenId id : {5, 1, 1, 1, 3, 1, 4}) {
    segments.push(id);
    pending.push_back(segments.pending());
  }
  // 1 1 1 3: the first 1 was a false start, the other three tokens are the closer.
  EXPECT_THAT(pending, ElementsAre(0, 1, 2, 2, 0, 1, 0));
  EXPECT_EQ(labels(segments, 7), "ttTTTaa");
  EXPECT_EQ(segments.think_tokens(), 2);
}

TEST(Segments, LabelsTheTokensOfASplitMarkerWhenItIsComplete) {
  Segments segments = begun(split());
  segments.push(9);
  EXPECT_EQ(segments.push(1).segment, Segment::answer);
  EXPECT_EQ(labels(segments, 2), "aa");
  const Placed placed = segments.push(2);
  EXPECT_EQ(placed.completes, Marker::think_open);
  EXPECT_EQ(placed.marker_tokens, 2);
  EXPECT_EQ(labels(segments, 3), "aTT");
  segments.take_back(1);
  EXPECT_EQ(labels(segments, 2), "aa");
  EXPECT_EQ(segments.pending(), 1);
  EXPECT_EQ(segments.now(), Segment::answer);
}

TEST(Segments, NoMarkerBeginsInThePrompt) {
  Segments segments = begun(split(), {1});
  EXPECT_EQ(segments.pending(), 0);
  EXPECT_EQ(segments.push(2).completes, Marker::none);
}

TEST(Segments, OfTwoMarkersThatEndTogetherTheLongerCounts) {
  Segments segments = begun({{8}, {2, 3}, {3}, {}}, {8});
  segments.push(2);
  EXPECT_EQ(segments.push(3).completes, Marker::think_close);
  EXPECT_EQ(segments.push(3).completes, Marker::answer_open);
}

TEST(Segments, TakesBackNoMoreThanThereIs) {
  Segments segments = begun(single());
  segments.push(1);
  EXPECT_THROW(segments.take_back(2), Error);
  EXPECT_THROW(segments.take_back(-1), Error);
  segments.take_back(1);
  EXPECT_EQ(segments.index(Segment::answer), -1);
}

// All that can be seen from outside.
std::vector<int> seen(const Segments& segments, int tokens) {
  std::vector<int> all = {static_cast<int>(segments.now()), segments.index(Segment::think),
                          segments.index(Segment::answer), segments.think_tokens(),
                          segments.pending()};
  for (int i = 0; i < tokens; ++i) {
    all.push_back(segments.is_marker(i));
    all.push_back(static_cast<int>(segments.segment(i)));
    all.push_back(segments.index_at(i));
  }
  return all;
}

using Random = std::mt19937;

int below(Random& random, int end) { return static_cast<int>(random() % end); }

std::vector<TokenId> random_tokens(Random& random, int least, int most) {
  std::vector<TokenId> tokens(least + below(random, most - least + 1));
  for (TokenId& id : tokens) id = below(random, 3);
  return tokens;
}

Markers random_markers(Random& random) {
  return {random_tokens(random, 1, 4), random_tokens(random, 1, 4), random_tokens(random, 0, 4),
          random_tokens(random, 0, 3)};
}

TEST(Segments, TakingBackEqualsReadingWhatIsKept) {
  Random random(1);
  for (int round = 0; round < 2000; ++round) {
    const Markers markers = random_markers(random);
    const std::vector<TokenId> prompt = random_tokens(random, 0, 6);
    Segments segments = begun(markers, prompt);
    std::vector<TokenId> kept;
    for (int step = 0; step < 20; ++step) {
      const int back = below(random, 3) == 0 ? below(random, static_cast<int>(kept.size()) + 1) : 0;
      segments.take_back(back);
      kept.resize(kept.size() - back);
      for (const TokenId id : random_tokens(random, 0, 4)) {
        segments.push(id);
        kept.push_back(id);
      }
      Segments again = begun(markers, prompt);
      for (const TokenId id : kept) again.push(id);
      const int tokens = static_cast<int>(kept.size());
      ASSERT_EQ(seen(segments, tokens), seen(again, tokens)) << "round " << round;
    }
  }
}

// Where markers end, found the plain way: at each token the longest one that lies behind the last.
TEST(Segments, FindsTheMarkersThatAPlainScanFinds) {
  Random random(2);
  for (int round = 0; round < 2000; ++round) {
    const Markers markers = random_markers(random);
    const std::vector<std::vector<TokenId>> all = {markers.think_open, markers.think_close,
                                                   markers.answer_open, markers.answer_close};
    const std::vector<TokenId> tokens = random_tokens(random, 10, 30);
    Segments segments = begun(markers);
    std::size_t start = 0;
    for (std::size_t end = 1; end <= tokens.size(); ++end) {
      std::size_t complete = 0, begun_tokens = 0;
      for (const auto& marker : all)
        for (std::size_t length = 1; length <= marker.size() && length <= end - start; ++length)
          if (std::equal(marker.begin(), marker.begin() + length, tokens.begin() + (end - length)))
            (length == marker.size() ? complete : begun_tokens) =
                std::max(length == marker.size() ? complete : begun_tokens, length);
      const Placed placed = segments.push(tokens[end - 1]);
      ASSERT_EQ(static_cast<std::size_t>(placed.marker_tokens), complete);
      ASSERT_EQ(placed.completes != Marker::none, complete > 0);
      if (complete > 0) start = end;
      ASSERT_EQ(static_cast<std::size_t>(segments.pending()), complete > 0 ? 0 : begun_tokens);
      ASSERT_LT(segments.pending(), 4) << "one less than the longest marker";
    }
  }
}

TEST(Segments, ACopyGoesItsOwnWay) {
  Segments first = begun(single(), {open_think});
  first.push(1);
  Segments second = first;
  second.push(close_think);
  EXPECT_EQ(first.now(), Segment::think);
  EXPECT_EQ(second.now(), Segment::answer);
}

TEST(SentenceEnd, IsALineEndOrAStop) {
  for (const char* text :
       {"one\n", "a\n\n", "a\n  ", "\r\n", "so it is.", "Really?", "Yes!", "well…",
        "he said \"yes.\"", "(done.)", "done. ", "it is so.’", "x.”  ", ".", "NASA.", "[a?]"})
    EXPECT_TRUE(is_sentence_end(text)) << text;
  for (const char* text : {"", " ", "one", "one,", "3.", "12.", "J.", "by J.", "(3.)", "a:", "\n)",
                           "1.5", "e.g", "\"", "))"})
    EXPECT_FALSE(is_sentence_end(text)) << text;
}

TEST(Words, NameEachValue) {
  EXPECT_EQ(to_string(Segment::think), "think");
  EXPECT_EQ(to_string(StopReason::end_token), "end_token");
  EXPECT_EQ(to_string(StopReason::error), "error");
  EXPECT_EQ(to_string(CloseReason::brake), "brake");
}

std::shared_ptr<const Tokenizer> tokenizer_of(const std::string& name, const std::string& words) {
  const auto folder = std::filesystem::path(testing::TempDir()) / ("pensive_think_" + name);
  std::filesystem::create_directories(folder);
  std::ofstream(folder / "tokenizer.json")
      << R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,)"
         R"("pre_tokenizer":null,"post_processor":null,"decoder":null,)"
         R"("model":{"type":"WordLevel","unk_token":"u","vocab":{"u":0)"
      << words << "}}}";
  return Tokenizer::load(folder);
}

TEST(FindMarkers, KnowsThoseThatAreTokensOfTheirOwn) {
  EXPECT_FALSE(find_markers(*tokenizer_of("none", R"(,"<think>":1)")));
  const auto plain =
      find_markers(*tokenizer_of("plain", R"(,"<think>":1,"</think>":2,"<answer>":3)"));
  ASSERT_TRUE(plain);
  EXPECT_THAT(plain->think_open, ElementsAre(1));
  EXPECT_THAT(plain->think_close, ElementsAre(2));
  EXPECT_TRUE(plain->answer_open.empty());
  const auto both = find_markers(
      *tokenizer_of("both", R"(,"<think>":1,"</think>":2,"<answer>":3,"</answer>":4)"));
  ASSERT_TRUE(both);
  EXPECT_THAT(both->answer_open, ElementsAre(3));
  EXPECT_THAT(both->answer_close, ElementsAre(4));
}

}  // namespace
}  // namespace pensive
