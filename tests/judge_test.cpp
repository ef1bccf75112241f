#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "pensive/judge.h"

namespace pensive {
namespace {

std::string found(std::string_view text) { return find_answer(text).value_or("nothing"); }

std::string repeated(std::string_view piece, int times) {
  std::string text;
  for (int i = 0; i < times; ++i) text += piece;
  return text;
}

struct Row {
  const char* text;
  const char* answer;
};

void expect_found(const std::vector<Row>& rows) {
  for (const Row& row : rows) EXPECT_EQ(found(row.text), row.answer) << row.text;
}

TEST(FindAnswer, InTheLastBox) {
  expect_found({
      {R"(so \boxed{42})", "42"},
      {R"(\boxed{1} then \boxed{2}.)", "2"},
      {R"($\boxed{ \frac{1}{2} }$)", R"(\frac{1}{2})"},
      {R"(\boxed{\boxed{5}})", "5"},
      {R"(\boxed{a{b{c}d}e})", "a{b{c}d}e"},
      {R"(\boxed{\{1, 2\}})", R"(\{1, 2\})"},
      {R"(\boxed{x\}y})", R"(x\}y)"},
      {R"(\boxed{12} and \boxed{13)", "12"},
      {R"(} { \boxed{7} })", "7"},
      {R"(put it in \boxed{}: \boxed{3}, not \boxed{ })", "3"},
      {R"(twice escaped \\boxed{8})", "8"},
      {R"(\boxed{1} <answer>2</answer> #### 3)", "1"},
  });
}

TEST(FindAnswer, ElseInTheLastTag) {
  expect_found({
      {"<answer>5</answer>", "5"},
      {"<answer>1</answer> no, <answer> 2 \n</answer>", "2"},
      {"<answer><answer>3</answer></answer>", "3"},
      {"<answer>4</answer> and <answer>5", "4"},
      {"</answer> <answer>6</answer> </answer>", "6"},
      {"<answer>7</answer><answer> </answer>", "7"},
      {"#### 1\n<answer>8</answer>\nthe answer is 2", "8"},
      {R"(\boxed{1 <answer>9</answer>)", "9"},
  });
}

TEST(FindAnswer, ElseAfterTheLastHashes) {
  expect_found({
      {"so 3 + 4 = 7\n#### 7", "7"},
      {"#### 1\n#### 2 \nthe end", "2"},
      {"#### 5\n#### \n", "5"},
      {"####\n", "nothing"},
      {"##### 6", "6"},
      {"the answer is 1\n#### 1,234", "1,234"},
  });
}

TEST(FindAnswer, ElseAfterTheLastPhrase) {
  expect_found({
      {"The answer is 42.", "42"},
      {"the ANSWER is: 42", "42"},
      {"The answer is 3.5. It was easy.", "3.5"},
      {"Final Answer: -7\nDone.", "-7"},
      {"**Final Answer**\n\n**12**\n", "12"},
      {"The final answer is $\\$5$!", "\\$5"},
      {"The final answer is \\( 1/2 \\).", "1/2"},
      {"final answer = 9", "9"},
      {"The answer is 1. No: the answer is 2. Final answer below", "below"},
      {"The answer is 1. That is my final answer.", "1"},
      {"the answer is 6\nMy final answers differ", "6"},
      {"the answer is island", "island"},
      {"the answer is", "nothing"},
      {"", "nothing"},
      {"42", "nothing"},
  });
}

TEST(FindAnswer, InBoxesOfOtherWritings) {
  expect_found({
      {"\\fbox{5}", "5"},
      {"\\boxed {6}", "6"},
      {"so $\\boxed 5$.", "5"},
      {"so \\boxed -5.", "-5"},
      {"\\boxed{1} or \\boxed 2, then", "2"},
      {"\\boxed{1} in \\boxed form", "1"},
      {"\\boxed{\\boxed 7}", "7"},
      {"\\boxed", "nothing"},
      {"\\boxed -", "nothing"},
  });
}

TEST(FindAnswer, StrictlyInABoxOnly) {
  for (const char* text : {"the answer is 1", "#### 1", "<answer>1</answer>", "\\boxed{", "1"})
    EXPECT_EQ(find_answer(text, Extraction::strict), std::nullopt) << text;
  EXPECT_EQ(find_answer("\\boxed{2} #### 1", Extraction::strict), "2");
}

TEST(FindAnswer, BesideMathematics) {
  expect_found({
      {"The answer is $\\frac{1}{2}$ because it is.", "\\frac{1}{2}"},
      {"Final Answer: The final answer is $x=2.5$. I hope it is correct.", "x=2.5"},
      {"the answer is \\(3\\) apples", "3"},
      {"the answer is $5 and not $6", "$5 and not $6"},
      {"the answer is $5", "$5"},
  });
}

TEST(FindAnswer, StaysLinearWhateverIsSent) {
  constexpr int many = 200'000;
  EXPECT_EQ(found(repeated("{", many) + "\\boxed{5}" + repeated("}", many)), "5");
  EXPECT_EQ(found(repeated("\\boxed{", many) + "5" + repeated("}", many)), "5");
  EXPECT_EQ(found(repeated("\\boxed{", many)), "nothing");
  EXPECT_EQ(found(repeated("\\boxed 5", many)), "5");
  EXPECT_EQ(found(repeated("\\boxed", many) + repeated(" ", many)), "nothing");
  EXPECT_EQ(found(repeated("\\boxed{}", many)), "nothing");
  EXPECT_EQ(found(repeated("\\", many) + repeated("}", many)), "nothing");
  EXPECT_EQ(found(repeated("<answer>", many)), "nothing");
  EXPECT_EQ(found(repeated("<answer>", many) + "6" + repeated("</answer>", many)), "6");
  EXPECT_EQ(found(repeated("<answer></answer>", many)), "nothing");
  EXPECT_EQ(found(repeated("#### \n", many)), "nothing");
  EXPECT_EQ(found("the answer is 7. " + repeated("final answer. ", many)), "7");
  EXPECT_EQ(found("final answer: 8. " + repeated("the answer is. ", many)), "8");
  EXPECT_EQ(found("the answer is" + std::string(many, ' ')), "nothing");
}

Response answered(std::string answer) {
  Response response;
  response.text = "the answer is 1</think>" + answer;
  response.thinking = "the answer is 1";
  response.answer = std::move(answer);
  return response;
}

const Problem forty_two{"p", "6 x 7?", "42"};

TEST(Correct, ReadsTheAnswerSegment) {
  const auto judge = correct();
  for (const char* right : {"42", " 42.0\n", "So \\boxed{42}.", "It is so.\n#### 42",
                            "The answer is 42.", "12\n\n42\n", "<answer>42</answer>", "42 apples"})
    EXPECT_EQ(judge->score(forty_two, answered(right)), 1) << right;
  for (const char* wrong : {"43", "42\n43", "\\boxed{41}\n42", "I do not know."})
    EXPECT_EQ(judge->score(forty_two, answered(wrong)), 0) << wrong;
}

TEST(Correct, ReadsTheWholeTextWhereNoAnswerWasOpened) {
  Response response;
  response.text = "Let me see. The answer is 42. Wait";
  EXPECT_EQ(correct()->score(forty_two, response), 1);
  response.text = "42";
  EXPECT_EQ(correct()->score(forty_two, response), 0);
  response.text.clear();
  EXPECT_EQ(correct()->score(forty_two, response), 0);
}

TEST(Correct, AnswersThatAreNoNumbersAreComparedAsText) {
  EXPECT_EQ(correct()->score({"p", "?", "Paris"}, answered("paris")), 1);
  EXPECT_EQ(correct()->score({"p", "?", "Paris"}, answered("London")), 0);
}

TEST(Correct, StrictlyAsksForABox) {
  const auto judge = correct(Extraction::strict);
  EXPECT_EQ(judge->score(forty_two, answered("\\boxed{42}")), 1);
  EXPECT_EQ(judge->score(forty_two, answered("42")), 0);
  EXPECT_EQ(judge->score(forty_two, answered("the answer is 42")), 0);
}

TEST(FinalAnswer, IsWhatCorrectLooksAt) {
  EXPECT_EQ(final_answer(answered("12\n\n42\n")), "42");
  EXPECT_EQ(final_answer(answered("12\n\n42\n"), Extraction::strict), std::nullopt);
  EXPECT_EQ(final_answer(answered(" ")), "1</think>");  // of the text: nothing was answered
  EXPECT_EQ(final_answer(Response{}), std::nullopt);
}

TEST(Boxed, AsksForABoxWithSomethingInIt) {
  Response response;
  for (const auto& [text, score] : std::vector<std::pair<std::string, double>>{
           {"\\boxed{1}", 1}, {"\\boxed{", 0}, {"\\boxed{}", 0}, {"boxed{1}", 0}, {"", 0}}) {
    response.text = text;
    EXPECT_EQ(boxed()->score(forty_two, response), score) << text;
  }
}

TEST(Sum, AddsTheWeightedSecond) {
  EXPECT_EQ(sum(correct(), boxed())->score(forty_two, answered("\\boxed{42}")), 2);
  EXPECT_EQ(sum(correct(), boxed(), 0.5)->score(forty_two, answered("\\boxed{4}")), 0.5);
  EXPECT_EQ(sum(correct(), boxed(), 0.5)->score(forty_two, answered("42")), 1);
}

TEST(Sum, RefusesWhatIsNoJudgeOrNoWeight) {
  EXPECT_THROW(sum(nullptr, boxed()), Error);
  EXPECT_THROW(sum(correct(), nullptr), Error);
  EXPECT_THROW(sum(correct(), boxed(), std::nan("")), Error);
  EXPECT_THROW(sum(correct(), boxed(), std::numeric_limits<double>::infinity()), Error);
}

}  // namespace
}  // namespace pensive
