#include <gmock/gmock.h>

#include <cmath>

#include "trace_helpers.h"

namespace pensive {
namespace {

using ::testing::DoubleEq;
using ::testing::ElementsAre;
using ::testing::IsNan;
using namespace pensive::testing;

const char* const words[] = {
    "<unk>", "<think>", "</think>", "<end>",         "1",     "2",   "3", "\n",    " wait", " Hmm",
    "The ",  "answer ", "is ",      "Alternatively", " hold", " on", "s", "#### ", "so "};
enum : TokenId {
  unknown,
  open,
  closer,
  end_turn,
  one,
  two,
  three,
  newline,
  wait,
  hmm,
  the,
  answer_word,
  is,
  alternatively,
  hold,
  on,
  s,
  hashes,
  so
};

const std::shared_ptr<const Tokenizer>& tokenizer() {
  static const auto made = tokenizer_of("measure", words);
  return made;
}

// <think> | thinking … </think> answer … <end>
Trace told(std::initializer_list<TokenId> thinking, std::initializer_list<TokenId> answer) {
  Trace trace;
  add(trace, open, Segment::prompt, Origin::prompt, true);
  for (const TokenId id : thinking) add(trace, id, Segment::think, Origin::sampled);
  add(trace, closer, Segment::think, Origin::sampled, true);
  for (const TokenId id : answer) add(trace, id, Segment::answer, Origin::sampled);
  add(trace, end_turn, Segment::answer, Origin::sampled);
  trace.stopped = StopReason::end_token;
  return trace;
}

std::vector<std::string> texts(const Measures& measures) {
  std::vector<std::string> all;
  for (const FoundAnswer& answer : measures.answers) all.push_back(answer.text);
  return all;
}

TEST(Measure, CountsEveryTokenOnce) {
  Trace trace = told({one, wait, two}, {newline, three});
  trace.is_taken_back[1] = 1;
  trace.origins[2] = Origin::forced;
  trace.probe_tokens = 9;
  trace.is_steered.assign(trace.tokens.size(), 0);
  trace.is_steered[1] = trace.is_steered[3] = 1;
  const Measures measures = measure(trace, tokenizer());
  EXPECT_EQ(measures.think_tokens, 2);
  EXPECT_EQ(measures.answer_tokens, 3);
  EXPECT_EQ(measures.marker_tokens, 1);
  EXPECT_EQ(measures.taken_back_tokens, 1);
  EXPECT_EQ(measures.probe_tokens, 9);
  EXPECT_EQ(measures.decoded_tokens, 16);
  EXPECT_EQ(measures.decoded_tokens, trace.decoded_tokens());
  EXPECT_EQ(measures.forced_tokens, 1);
  EXPECT_EQ(measures.steered_tokens, 2);
}

TEST(Measure, SaysWhenTheAnswerBegins) {
  Trace trace = told({one, two}, {newline, three});
  Measures measures = measure(trace, tokenizer());
  EXPECT_EQ(measures.tokens_to_answer, 4) << "not the line end that comes first";
  EXPECT_THAT(measures.share_to_answer, DoubleEq(4.0 / 6));
  EXPECT_THAT(measures.seconds_to_answer, IsNan());
  EXPECT_EQ(measure(trace, nullptr).tokens_to_answer, 3) << "without text the line end counts";

  trace.probe_tokens = 7;
  TraceAction& probe = trace.actions.emplace_back();
  probe.kind = "probe";
  probe.position = 2;
  probe.tokens = 7;
  for (std::size_t i = 0; i < trace.tokens.size(); ++i)
    trace.seconds.push_back(i == 0 ? none : static_cast<float>(i));
  measures = measure(trace, tokenizer());
  EXPECT_EQ(measures.tokens_to_answer, 11);
  EXPECT_THAT(measures.share_to_answer, DoubleEq(11.0 / 13));
  EXPECT_EQ(measures.seconds_to_answer, 5);
  EXPECT_EQ(measures.seconds, 6);

  measures = measure(told({one, two}, {}), tokenizer());
  EXPECT_EQ(measures.tokens_to_answer, -1);
  EXPECT_THAT(measures.share_to_answer, IsNan());
}

TEST(Measure, DoubtsAreWholeWordsAndTheirTokensCount) {
  // "1 wait waits Hmm hold on" of eight tokens: one doubt is of two.
  const Trace trace = told({one, wait, wait, s, hmm, hold, on, two}, {three});
  Measures measures = measure(trace, tokenizer());
  EXPECT_EQ(measures.doubts, 3) << "waits is none";
  EXPECT_THAT(measures.doubt_share, DoubleEq(4.0 / 8));
  measures = measure(trace, tokenizer(), {.doubts = {"WAIT", "wait waits"}});
  EXPECT_EQ(measures.doubts, 1) << "what overlaps is one";
  EXPECT_THAT(measures.doubt_share, DoubleEq(3.0 / 8));
  EXPECT_THAT(measure(told({}, {three}), tokenizer()).doubt_share, IsNan());
  EXPECT_THAT(measure(trace, nullptr).doubt_share, IsNan());
}

TEST(Measure, SwitchesAndTheirInterval) {
  const Trace trace =
      told({alternatively, s, one, alternatively, one, two, alternatively}, {three});
  const Measures measures = measure(trace, tokenizer());
  EXPECT_EQ(measures.switches, 2) << "the first runs on into another letter";
  EXPECT_THAT(measures.switch_interval, DoubleEq(3));
  const Measures other = measure(trace, tokenizer(), {.switches = {"1"}});
  EXPECT_EQ(other.switches, 2);
  EXPECT_THAT(other.switch_interval, DoubleEq(2));
  EXPECT_THAT(measure(told({alternatively}, {}), tokenizer()).switch_interval, IsNan());
}

// The answer is 1 \n (5) the answer is 2 \n (10) wait \n the answer is 2 (16)
Trace changing(TokenId final_answer) {
  return told({the, answer_word, is, one, newline, the, answer_word, is, two, newline, wait,
               newline, the, answer_word, is, two},
              {final_answer});
}

TEST(Measure, FollowsTheAnswersOfTheThinking) {
  const Measures measures = measure(changing(two), tokenizer());
  EXPECT_THAT(texts(measures), ElementsAre("1", "2", "2"));
  EXPECT_EQ(measures.answer_changes, 1);
  EXPECT_EQ(measures.final_answer, "2");
  EXPECT_FALSE(measures.is_right.has_value());
  EXPECT_EQ(measures.answers[0].position, 4);
  EXPECT_EQ(measures.answers[0].think_tokens, 4);
  EXPECT_EQ(measures.answers[1].think_tokens, 9);
  EXPECT_EQ(measures.answers[2].think_tokens, 16);
  EXPECT_FALSE(measures.answers[0].is_final);
  EXPECT_TRUE(measures.answers[1].is_final);
  EXPECT_EQ(measures.first_think_tokens, 9);
  EXPECT_EQ(measures.think_tokens_after, 7);
  EXPECT_THAT(measures.eta, DoubleEq(9.0 / 16));
  EXPECT_THAT(measures.overthink_score, DoubleEq(0.1 / 16 + 0.9 * 7 / 16)) << "one wait";
  EXPECT_THAT(measures.outcome_efficiency, IsNan()) << "nobody knows what is right";
  EXPECT_THAT(measures.underthinking, IsNan());
  EXPECT_THAT(measure(changing(two), tokenizer(), {.beta = 1}).overthink_score, DoubleEq(1.0 / 16));
}

TEST(Measure, ScoresAgainstAReference) {
  // Right in the end, and from the second answer on; two tokens of answer.
  Measures measures = measure(changing(two), tokenizer(), {.reference = "2.0"});
  EXPECT_EQ(measures.is_right, true);
  EXPECT_THAT(measures.outcome_efficiency, DoubleEq(9.0 / 18));
  EXPECT_THAT(measures.underthinking, IsNan()) << "only of wrong answers";
  // It had been right at first, and gave that up.
  measures = measure(changing(two), tokenizer(), {.reference = "1"});
  EXPECT_EQ(measures.is_right, false);
  EXPECT_TRUE(measures.answers[0].is_right);
  EXPECT_THAT(measures.underthinking, DoubleEq(1 - 4.0 / 18));
  EXPECT_THAT(measures.eta, DoubleEq(4.0 / 16));
  // It never was.
  measures = measure(changing(two), tokenizer(), {.reference = "3"});
  EXPECT_EQ(measures.underthinking, 0);
  EXPECT_EQ(measures.outcome_efficiency, 0);
  EXPECT_EQ(measures.first_think_tokens, -1);
  EXPECT_THAT(measures.eta, IsNan());
  // No answer at all is wrong.
  measures = measure(told({one}, {}), tokenizer(), {.reference = "3"});
  EXPECT_EQ(measures.is_right, false);
  EXPECT_FALSE(measures.final_answer.has_value());
}

TEST(Measure, ReadsAnswersAsTheCallerSays) {
  const Trace trace = told({so, one, s, so, two, s}, {two});
  const MeasureOptions options = {.find = answer_after("so "), .step_end = "s"};
  Measures measures = measure(trace, tokenizer(), options);
  EXPECT_THAT(texts(measures), ElementsAre()) << "each s ends a step, that of so too";
  measures = measure(trace, tokenizer(), {.find = answer_after("so ")});
  EXPECT_THAT(texts(measures), ElementsAre("2s"));
  measures = measure(trace, tokenizer(), {.find = answer_after("o "), .step_end = "s"});
  EXPECT_THAT(texts(measures), ElementsAre("1", "2"));
  EXPECT_EQ(measures.answers[0].think_tokens, 2) << "the token with the answer's last byte";
}

TEST(Measure, SegmentsAreStepsOfTheirOwn) {
  Trace trace = told({the, answer_word, is, one}, {newline});
  for (const TokenId id : {two, the, answer_word, is, three})
    add(trace, id, Segment::think, Origin::sampled);
  add(trace, 999, Segment::think, Origin::sampled);  // without a text
  const Measures measures = measure(trace, tokenizer());
  EXPECT_THAT(texts(measures), ElementsAre("1", "3"));
  EXPECT_EQ(measures.answers[1].think_tokens, 9);
  EXPECT_EQ(measures.think_tokens, 10);
}

TEST(Measure, TakesNothingAndRefusesNonsense) {
  const Measures measures = measure(Trace{}, tokenizer());
  EXPECT_EQ(measures.decoded_tokens, 0);
  EXPECT_THAT(measures.share_to_answer, IsNan());
  const Trace trace = changing(two);
  EXPECT_THROW(measure(trace, tokenizer(), {.step_end = ""}), Error);
  EXPECT_THROW(measure(trace, tokenizer(), {.doubts = {""}}), Error);
  EXPECT_THROW(measure(trace, tokenizer(), {.switches = {"a", ""}}), Error);
  EXPECT_THROW(measure(trace, tokenizer(), {.beta = 1.5}), Error);
  EXPECT_THROW(measure(trace, tokenizer(), {.beta = NAN}), Error);
  EXPECT_THROW(answer_after(""), Error);
  Trace torn = trace;
  torn.origins.pop_back();
  EXPECT_THROW(measure(torn, tokenizer()), Error);
}

}  // namespace
}  // namespace pensive
