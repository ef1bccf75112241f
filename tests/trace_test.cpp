#include <gmock/gmock.h>

#include <string>
#include <utility>
#include <vector>

#include "trace_helpers.h"

namespace pensive {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace pensive::testing;

std::shared_ptr<const Tokenizer> tokenizer() {
  const char* const words[] = {"<unk>", "<think>", "</think>", "<end>",    "1",
                               "2",     "3",       "wait",     "<answer>", "</answer>"};
  return tokenizer_of("tokenizer", words);
}

TEST(Trace, KeepsAllAndCountsWhatWasKept) {
  const Trace trace = example();
  EXPECT_THAT(trace.kept(),
              ElementsAre(think, one, wait, two, end_think, answer, three, end_answer, end_turn));
  EXPECT_EQ(trace.decoded_tokens(), 13) << "nine in the columns, four of probes";
  EXPECT_EQ(trace.count(Segment::think), 3);
  EXPECT_EQ(trace.count(Segment::answer), 2);
  EXPECT_EQ(trace.count(Segment::prompt), 0);
  EXPECT_TRUE(Trace{}.kept().empty());
  EXPECT_EQ(Trace{}.decoded_tokens(), 0);
}

TEST(Respond, PartsThinkingAndAnswer) {
  const Response response = respond(example(), *tokenizer());
  EXPECT_EQ(response.text, "1wait2</think><answer>3</answer><end>");
  EXPECT_EQ(response.thinking, "1wait2");
  EXPECT_EQ(response.answer, "3") << "neither markers nor special tokens";
  EXPECT_EQ(response.think_tokens, 3);
  EXPECT_EQ(response.answer_tokens, 2);
  EXPECT_FALSE(response.is_truncated);
}

TEST(Respond, JoinsSegmentsByLines) {
  Trace trace;
  for (const TokenId value : {one, two, three}) {
    add(trace, think, Segment::think, Origin::sampled, true);
    add(trace, wait, Segment::think, Origin::sampled);
    add(trace, end_think, Segment::think, Origin::sampled, true);
    add(trace, answer, Segment::answer, Origin::sampled, true);
    add(trace, value, Segment::answer, Origin::sampled);
    add(trace, end_answer, Segment::answer, Origin::sampled, true);
  }
  const Response response = respond(trace, *tokenizer());
  EXPECT_EQ(response.thinking, "wait\nwait\nwait");
  EXPECT_EQ(response.answer, "1\n2\n3");
  EXPECT_EQ(correct()->score({"", "", "3"}, response), 1) << "the last answer is the final one";
  EXPECT_EQ(correct()->score({"", "", "2"}, response), 0);
}

std::string shown(const Response& response) {
  std::string text;
  for (const ResponseSegment& part : response.segments)
    text += (part.is_thinking ? "T" : "A") + part.text + "@" + std::to_string(part.begin) + "+" +
            std::to_string(part.tokens) + " ";
  return text + "of " + std::to_string(response.tokens);
}

TEST(Respond, TellsSegmentsOneByOne) {
  EXPECT_EQ(shown(respond(example(), *tokenizer())), "T1wait2@0+3 A3@4+1 of 8")
      << "what was taken back, and the end of the turn, which has no text, are in none";
  Trace trace;
  for (const TokenId value : {one, two}) {
    add(trace, think, Segment::think, Origin::sampled, true);
    add(trace, wait, Segment::think, Origin::sampled);
    add(trace, three, Segment::think, Origin::sampled, false, true);
    add(trace, end_think, Segment::think, Origin::sampled, true);
    add(trace, answer, Segment::answer, Origin::sampled, true);
    add(trace, value, Segment::answer, Origin::sampled);
    add(trace, end_answer, Segment::answer, Origin::sampled, true);
  }
  const std::string first = "Twait@0+1 A1@3+1 Twait@6+1 A2@9+1 ";
  EXPECT_EQ(shown(respond(trace, *tokenizer())), first + "of 12");
  add(trace, answer, Segment::answer, Origin::sampled, true);
  add(trace, three, Segment::answer, Origin::sampled);
  add(trace, think, Segment::think, Origin::sampled, true);
  add(trace, end_think, Segment::think, Origin::sampled, true);
  EXPECT_EQ(shown(respond(trace, *tokenizer())), first + "A3@13+1 of 16")
      << "neighbours are two; what holds nothing is none";
  EXPECT_EQ(shown(respond(Trace{}, *tokenizer())), "of 0");
}

// Of a plain text tag one token may hold the end of the thinking and the beginning of the answer.
TEST(Respond, GivesTextBesideATagToItsSegment) {
  Trace trace;
  add(trace, one, Segment::think, Origin::sampled);
  add(trace, end_think, Segment::think, Origin::sampled, true);
  add(trace, two, Segment::answer, Origin::sampled);
  trace.marker_texts = {{1, Edge::before, Segment::think, "3"},
                        {1, Edge::behind, Segment::answer, "4"}};
  const Response response = respond(trace, *tokenizer());
  EXPECT_EQ(shown(response), "T13@0+1 A42@1+1 of 3");
  EXPECT_EQ(response.thinking, "13");
  EXPECT_EQ(response.answer, "42");
}

TEST(Respond, LeavesOutACloserThatEndsTheTurn) {
  Trace trace;
  add(trace, one, Segment::think, Origin::sampled);
  add(trace, end_think, Segment::think, Origin::sampled, true);
  EXPECT_EQ(respond(trace, *tokenizer()).text, "1</think>") << "still running";
  trace.stopped = StopReason::end_token;
  EXPECT_EQ(respond(trace, *tokenizer()).text, "1");
  EXPECT_EQ(respond(trace, *tokenizer()).thinking, "1");
  trace.is_taken_back.back() = 1;
  EXPECT_EQ(respond(trace, *tokenizer()).text, "1");
}

TEST(Respond, GivesUnknownIdsNoText) {
  Trace trace = example();
  trace.tokens[3] = 100;
  EXPECT_EQ(respond(trace, *tokenizer()).thinking, "12");
  const std::vector<std::pair<TokenId, std::string>> names = {{100, "<more>"}};
  EXPECT_THAT(respond(trace, *tokenizer()->with_names(names)).text, HasSubstr("<more>"));
}

TEST(Respond, IsTruncatedWhereALimitEndedIt) {
  for (const auto& [reason, is_truncated] :
       std::vector<std::pair<StopReason, bool>>{{StopReason::end_token, false},
                                                {StopReason::guide, false},
                                                {StopReason::stop_text, false},
                                                {StopReason::deadline, true},
                                                {StopReason::length, true},
                                                {StopReason::cancelled, true},
                                                {StopReason::error, true},
                                                {StopReason::running, true}}) {
    Trace trace = example();
    trace.stopped = reason;
    EXPECT_EQ(respond(trace, *tokenizer()).is_truncated, is_truncated) << to_string(reason);
  }
}

TEST(Respond, CutsTheLastTextAtItsStopText) {
  Trace trace;
  add(trace, one, Segment::prompt, Origin::prompt);
  for (const TokenId id : {two, three, one}) add(trace, id, Segment::think, Origin::sampled);
  add(trace, end_think, Segment::think, Origin::sampled, true);
  for (const TokenId id : {three, two, one}) add(trace, id, Segment::answer, Origin::sampled);
  trace.stopped = StopReason::stop_text;
  const Response whole = respond(trace, *tokenizer());
  trace.stop_text = "2";
  const Response cut = respond(trace, *tokenizer());
  EXPECT_EQ(cut.answer, whole.answer.substr(0, whole.answer.find('2')));
  EXPECT_EQ(cut.thinking, whole.thinking);  // what came before is not its end
  EXPECT_EQ(cut.text, whole.text);
}

TEST(Respond, RefusesColumnsOfUnequalLengths) {
  Trace trace = example();
  trace.segments.pop_back();
  EXPECT_THROW(respond(trace, *tokenizer()), Error);
  trace = example();
  trace.seconds = {1, 2};
  EXPECT_THROW(respond(trace, *tokenizer()), Error);
  trace = example();
  trace.prompt_tokens = 99;
  EXPECT_THROW(respond(trace, *tokenizer()), Error);
}

}  // namespace
}  // namespace pensive
