// Judges of length, and the grading by a model.
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "pensive/judge.h"

namespace pensive {
namespace {

const Problem forty_two{"p", "6 x 7?", "42", {"6"}, 100};
const Problem without_target{"q", "6 x 7?", "42"};

Response of(std::string answer, int think_tokens, int answer_tokens = 0) {
  Response response;
  response.text = "<think>7</think>" + answer;
  response.thinking = "7";
  response.answer = std::move(answer);
  response.think_tokens = think_tokens;
  response.answer_tokens = answer_tokens;
  return response;
}

TEST(TokenPrice, CountsThinkingAndAnswer) {
  EXPECT_DOUBLE_EQ(token_price(0.25)->score(forty_two, of("42", 10, 2)), -3);
  EXPECT_EQ(token_price(0.25)->score(forty_two, of("42", 0)), 0);
  EXPECT_DOUBLE_EQ(sum(correct(), token_price(1), 0.01)->score(forty_two, of("42", 50)), 0.5);
  EXPECT_THROW(token_price(std::nan("")), Error);
}

// No answer would ever be right.
TEST(Correct, NeedsAReference) {
  for (const Extraction extraction : {Extraction::lenient, Extraction::strict})
    for (const char* blank : {"", " \n\t"}) {
      try {
        correct(extraction)->score({"p7", "6 x 7?", blank}, of("42", 1));
        FAIL();
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
        EXPECT_NE(std::string(error.what()).find("problem \"p7\""), std::string::npos);
      }
    }
  EXPECT_EQ(boxed()->score({"p7", "6 x 7?", ""}, of("\\boxed{42}", 1)), 1);
}

// arXiv 2503.04697, equation 1, with its alpha of 0.0003.
TEST(LcpoExact, TakesThePriceOfEveryTokenBesideTheTarget) {
  const auto judge = lcpo_exact(correct());
  EXPECT_DOUBLE_EQ(judge->score(forty_two, of("42", 80, 20)), 1);
  EXPECT_DOUBLE_EQ(judge->score(forty_two, of("42", 1000, 100)), 1 - 0.3);
  EXPECT_DOUBLE_EQ(judge->score(forty_two, of("42", 0)), 1 - 0.03);
  EXPECT_DOUBLE_EQ(judge->score(forty_two, of("41", 1100)), -0.3);
}

// Equation 2, with its delta of 0.5.
TEST(LcpoMax, MultipliesByWhatIsLeft) {
  const auto judge = lcpo_max(correct());
  EXPECT_DOUBLE_EQ(judge->score(forty_two, of("42", 100)), 0.5);
  EXPECT_DOUBLE_EQ(judge->score(forty_two, of("42", 0)), 0.53);
  EXPECT_DOUBLE_EQ(judge->score(forty_two, of("42", 600)), 0.35);
  EXPECT_EQ(judge->score(forty_two, of("42", 3000)), 0);
  EXPECT_EQ(judge->score(forty_two, of("41", 0)), 0);
  const auto wide = lcpo_max(correct(), {.target_tokens = 10'000});
  EXPECT_EQ(wide->score(forty_two, of("42", 0)), 1);
}

TEST(Lcpo, AsksForATarget) {
  for (const auto& judge : {lcpo_exact(correct()), lcpo_max(correct())}) {
    try {
      judge->score(without_target, of("42", 1));
      FAIL();
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
      EXPECT_NE(std::string(error.what()).find("target_tokens"), std::string::npos) << error.what();
    }
  }
  const auto own = lcpo_exact(correct(), {.target_tokens = 1});
  EXPECT_EQ(own->score(without_target, of("42", 1)), 1);
  EXPECT_EQ(own->score(forty_two, of("42", 1)), 1);  // goes before the problem's
  EXPECT_THROW(lcpo_exact(nullptr), Error);
  EXPECT_THROW(lcpo_max(correct(), {.target_tokens = -1}), Error);
  EXPECT_THROW(lcpo_max(correct(), {.per_token = -0.1}), Error);
  EXPECT_THROW(lcpo_max(correct(), {.offset = std::nan("")}), Error);
}

TEST(Hybrid, AsksOnlyWhereNoAnswerIsFound) {
  int asked = 0;
  std::string reply = "True", prompt;
  const auto ask = [&](const std::string& text) {
    ++asked;
    prompt = text;
    return reply;
  };
  const auto judge = hybrid(correct(Extraction::strict), ask);
  EXPECT_EQ(judge->score(forty_two, of("\\boxed{42}", 1)), 1);
  EXPECT_EQ(judge->score(forty_two, of("\\boxed{41}", 1)), 0);
  EXPECT_EQ(asked, 0);
  EXPECT_EQ(judge->score(forty_two, of("It is forty-two.", 1)), 1);
  EXPECT_EQ(asked, 1);
  EXPECT_EQ(prompt, grading_prompt(forty_two, of("It is forty-two.", 1)));
  for (const char* text : {" true.\n", "TRUE", "True, it is"}) {
    reply = text;
    EXPECT_EQ(judge->score(forty_two, of("so", 1)), 1) << text;
  }
  for (const char* text : {"False", "", "It is True", "Trueish", "1"}) {
    reply = text;
    EXPECT_EQ(judge->score(forty_two, of("so", 1)), 0) << text;
  }
  const int before = asked;
  EXPECT_EQ(hybrid(correct(), ask, Extraction::lenient)->score(forty_two, of("42", 1)), 1);
  EXPECT_EQ(asked, before);
}

TEST(Hybrid, LetsErrorsOutAndRefusesNothing) {
  const auto judge =
      hybrid(correct(), [](const std::string&) -> std::string { throw std::out_of_range("busy"); });
  EXPECT_THROW(judge->score(forty_two, of("no box", 1)), std::out_of_range);
  EXPECT_THROW(hybrid(nullptr, [](const std::string&) { return std::string(); }), Error);
  EXPECT_THROW(hybrid(correct(), nullptr), Error);
}

TEST(GradingPrompt, HoldsQuestionReferenceAndSolution) {
  const std::string prompt = grading_prompt(forty_two, of("It is 42.", 1));
  EXPECT_NE(prompt.find("question: 6 x 7? END-OF-QUESTION correct answer: 42 student's"),
            std::string::npos);
  EXPECT_NE(prompt.find("START-OF-STUDENT-SOLUTION It is 42. END-OF-STUDENT-SOLUTION"),
            std::string::npos);
  EXPECT_NE(grading_prompt(forty_two, of("", 1)).find("SOLUTION <think>7</think> END"),
            std::string::npos);
}

}  // namespace
}  // namespace pensive
