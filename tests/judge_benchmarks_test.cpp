// Extraction on benchmarks that people use, where they are at hand beside the repository.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "base/inside.h"
#include "pensive/judge.h"

namespace pensive {
namespace {

const std::filesystem::path data =
    std::filesystem::path(PENSIVE_TEST_DATA) / ".." / ".." / ".." / "shared" / "data";

TEST(Benchmarks, EverySolutionOfGsm8k) {
  const auto file = data / "gsm8k_test.jsonl";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file;
  const std::string all = read_text(file);
  int count = 0;
  for (std::size_t begin = 0; begin < all.size(); ++count) {
    const std::size_t end = std::min(all.find('\n', begin), all.size());
    const auto line = parse_json(std::string_view(all).substr(begin, end - begin), "gsm8k");
    const auto solution = line["answer"].get<std::string>();
    const std::string reference = solution.substr(solution.find("#### ") + 5);
    EXPECT_EQ(find_answer(solution), reference);
    EXPECT_EQ(find_answer("The solution is long. \\boxed{" + reference + "}", Extraction::strict),
              reference);
    EXPECT_EQ(find_answer("It is so. The final answer is " + reference + "."), reference);
    begin = end + 1;
  }
  EXPECT_EQ(count, 1319);
}

TEST(Benchmarks, EveryFinalAnswerOfMath500) {
  const auto file = data / "math500.json";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file;
  const auto problems = parse_json(read_text(file), "math500");
  int count = 0;
  for (const auto& problem : problems) {
    const auto reference = problem["final_answer"].get<std::string>();
    const std::string response = "Thus \\boxed{1}. No: $\\boxed{" + reference + "}$, we see.";
    const auto found = find_answer(response, Extraction::strict);
    ASSERT_TRUE(found) << reference;
    EXPECT_TRUE(same_answer(*found, reference)) << reference;
    EXPECT_EQ(*found, reference);
    EXPECT_EQ(find_answer(response), found);
    // What stands for it in no benchmark is another answer.
    EXPECT_FALSE(same_answer(*found, "\\frac{1234}{5671}")) << reference;
    ++count;
  }
  EXPECT_EQ(count, 500);
}

std::string without_blanks(std::string text) {
  std::erase(text, ' ');
  return text;
}

// Written differently, and the same: a half turn, the same roots, roots that may be a point.
bool is_known(const std::string& a, const std::string& b) {
  const std::pair<std::string_view, std::string_view> known[] = {
      {"\\frac14", "\\frac{1}{4}"}, {"180^\\circ", "\\pi"}, {"-2,1", "1,-2"}, {"-2,1", "(-2,1)"}};
  return std::any_of(std::begin(known), std::end(known), [&](const auto& pair) {
    return (pair.first == a && pair.second == b) || (pair.first == b && pair.second == a);
  });
}

TEST(Benchmarks, NoTwoAnswersOfMath500AreTakenForEachOther) {
  const auto file = data / "math500.json";
  if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file;
  const auto problems = parse_json(read_text(file), "math500");
  std::vector<std::string> answers;
  for (const auto& problem : problems) {
    const auto answer = problem["final_answer"].get<std::string>();
    const bool is_plain = answer.find_first_not_of("0123456789") == answer.npos;
    if (!is_plain) answers.push_back(answer);
  }
  EXPECT_GT(answers.size(), 150u);
  for (std::size_t i = 0; i < answers.size(); ++i)
    for (std::size_t j = 0; j <= i; ++j)
      EXPECT_EQ(same_answer(answers[i], answers[j]),
                without_blanks(answers[i]) == without_blanks(answers[j]) ||
                    is_known(answers[i], answers[j]))
          << answers[i] << " and " << answers[j];
}

}  // namespace
}  // namespace pensive
