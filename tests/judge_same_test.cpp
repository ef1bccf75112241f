// same_answer(): what is the same, what is not, and that it is soon done.
#include <gtest/gtest.h>
#include <time.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/inside.h"
#include "pensive/judge.h"

namespace pensive {
namespace {

std::string repeated(std::string_view piece, std::size_t times) {
  std::string text;
  for (std::size_t i = 0; i < times; ++i) text += piece;
  return text;
}

struct Row {
  const char* text;
  const char* answer;
};

void expect_all(const std::vector<Row>& rows, bool is_same) {
  for (const Row& row : rows) {
    EXPECT_EQ(same_answer(row.text, row.answer), is_same) << row.text << " and " << row.answer;
    EXPECT_EQ(same_answer(row.answer, row.text), is_same) << row.answer << " and " << row.text;
  }
}
void expect_same(const std::vector<Row>& rows) { expect_all(rows, true); }
void expect_different(const std::vector<Row>& rows) { expect_all(rows, false); }

TEST(SameAnswer, PlainNumbersByTheirDigits) {
  expect_same({
      {"42", "42"},        {" 42 ", "42\n"},
      {"42.", "42"},       {"042", "42"},
      {"+42", "42"},       {"-0", "0"},
      {"42.00", "42"},     {"0.50", ".5"},
      {"1,234", "1234"},   {"12,345,678.9", "12345678.90"},
      {"$5", "5"},         {"\\$5", "5.0"},
      {"-$5", "-5"},       {"$-5", "-5"},
      {"€ 7", "7"},        {"50%", "50"},
      {"50 \\%", "50"},    {"50%.", "50"},
      {"−3", "-3"},        {"1/2", "0.5"},
      {"1/2", "2/4"},      {"-1/2", "-0.50"},
      {"3/1", "3"},        {"0/5", "0"},
      {"-0/5", "0"},       {"1.5/3", "1/2"},
      {"1/2", "0.5/1.0"},  {"1,000/3", "2000/6"},
      {"200/2", "100"},    {"1/8", "0.125"},
      {"1e5", "1E5"},      {"1e2", "100"},
      {"1.5e-3", ".0015"}, {"1 000", "1000"},
      {"1/-2", "-1/2"},    {"1/2/3", "1/6"},
      {"", " "},           {"1/0", "1/0"},
  });
  expect_different({
      {"42", "43"},
      {"42", "-42"},
      {"0.1", "0.10000000000000001"},
      {"1/3", "0.3333333333333333"},
      {"1/3", "-1/3"},
      {"1,23", "123"},
      {"12,34,567", "1234567"},
      {"1234,567", "1234567"},
      {"0,123", "123"},
      {",123", "123"},
      {"1.2.3", "1.23"},
      {"1/0", "2/0"},
      {"0/0", "0"},
      {"", "0"},
      {".", "0"},
      {"-", "0"},
      {"$", "0"},
      {"%", "0"},
      {"50%", "5"},
      {"9007199254740993", "9007199254740992"},
      {"nan", "0"},
      {"inf", "1/0"},
  });
}

TEST(SameAnswer, OfAnyLength) {
  constexpr std::size_t many = 1'000'000;
  const std::string nines(many, '9'), zeros(many, '0');
  EXPECT_TRUE(same_answer(zeros + nines, nines + "." + zeros));
  EXPECT_FALSE(same_answer(nines, nines + "9"));
  EXPECT_FALSE(same_answer("0." + nines, "1"));
  EXPECT_TRUE(same_answer("0." + zeros + "1", "." + zeros + "10"));
  EXPECT_TRUE(same_answer("1" + zeros, "1" + zeros + "."));
  // A third of 0.999… with a million nines; and the same but for the last digit.
  const std::string threes(many, '3');
  EXPECT_FALSE(same_answer("1/3", "0." + threes));
  EXPECT_FALSE(same_answer(threes, "1/3"));
  EXPECT_TRUE(same_answer(std::string(1000, '9') + "/3", std::string(1000, '3')));
  EXPECT_FALSE(same_answer(std::string(1000, '9') + "/3", std::string(999, '3') + "4"));
  EXPECT_TRUE(same_answer("1/1" + std::string(900, '0'), "." + std::string(899, '0') + "1"));
  // Longer fractions are text: never wrong, and never slow.
  EXPECT_TRUE(same_answer(nines + "/" + nines, nines + "/" + nines));
  EXPECT_FALSE(same_answer(nines + "/" + nines, "1"));
}

// Each pair both ways; the verdicts are ours. tests/judge_pairs.py asks Math-Verify about them too.
TEST(SameAnswer, EveryPairOfTheFile) {
  const std::string file = PENSIVE_TEST_DATA "/judge/pairs.jsonl";
  const std::string all = read_text(file);
  std::size_t count = 0;
  for (std::size_t begin = 0; begin < all.size();) {
    const std::size_t end = all.find('\n', begin);
    const auto pair = parse_json(std::string_view(all).substr(begin, end - begin), file);
    const auto reference = pair["reference"].get<std::string>();
    const auto answer = pair["answer"].get<std::string>();
    const bool is_same = pair["same"].get<bool>();
    EXPECT_EQ(same_answer(reference, answer), is_same) << reference << " and " << answer;
    EXPECT_EQ(same_answer(answer, reference), is_same) << answer << " and " << reference;
    ++count;
    begin = end + 1;
  }
  EXPECT_GE(count, 400u);
}

TEST(SameAnswer, IsExactWhereNumbersAreRational) {
  expect_same({
      {"2^{200}", "4^{100}"},
      {"10^{10^{10}}", "100^{5000000000}"},
      {"\\frac{10^{40}+1}{10^{40}}", "1+10^{-40}"},
      {"20!", "2432902008176640000"},
      {"\\binom{100}{50}", "\\frac{100!}{50! 50!}"},
      {"(x+1)^{60}", "(1+x)^{59}(x+1)"},
      {"0.\\overline{142857}", "1/7"},
      {"i^2", "-1"},
      {"(1+i)^2", "2i"},
  });
  expect_different({
      {"2^{200}", "2^{200}+1"},
      {"10^{10^{10}}", "10^{10^{10}}+1"},
      {"\\frac{10^{40}+1}{10^{40}}", "1"},
      {"10^{20}+x", "10^{20}+1+x"},
      {"(x+1)^{60}", "(x+1)^{60}+10^{-30}"},
      {"4611686018427387817+x", "x"},  // a prime that is computed with
      {"i", "-i"},
  });
}

TEST(SameAnswer, FunctionsAgreeWithinRoundingErrorsOnly) {
  expect_same({
      {"\\sin 2x", "2 \\sin x \\cos x"},
      {"\\sin 30^\\circ", "\\frac12"},
      {"\\tan^{-1} 1", "\\pi/4"},
      {"\\ln(ab)", "\\ln a + \\ln b"},
      {"\\log_{10} 1000", "3"},
      {"e^{i\\pi}", "-1"},
      {"\\sqrt{x^2}", "|x|"},
      {"\\sqrt[3]{-8}", "-2"},
      {"\\lfloor \\pi \\rfloor", "3"},
      {"90^\\circ", "\\frac{\\pi}{2}"},
      {"\\sqrt{2}-\\sqrt{2}", "0"},
  });
  expect_different({
      {"\\sqrt{x^2}", "x"},
      {"\\sqrt{2}", "1.414213562"},
      {"\\pi", "\\frac{355}{113}"},
      {"10^{-20}\\pi", "10^{-20} \\cdot 2\\pi"},
      {"10^{20}\\pi", "10^{20}\\pi+10^{9}"},
      {"\\sin x", "x"},
  });
}

TEST(SameAnswer, WordsAreNoProducts) {
  expect_same({{"Paris ", " paris"}, {"x = 5", "X = 5"}, {"\\text{no solution}", "No solution."}});
  expect_different({{"Paris", "London"}, {"east", "seat"}, {"now", "won"}, {"5 cats", "6 cats"}});
}

TEST(SameAnswer, ForgivesWhatIsBroken) {
  for (const char* broken : {"\\frac{1}{",
                             "\\frac",
                             "\\sqrt[",
                             "{",
                             "}",
                             "\\begin{pmatrix}",
                             "^",
                             "_",
                             "\\",
                             "\\text{",
                             "(1,",
                             "|x",
                             "1_{",
                             "\\left(",
                             "$$",
                             "\xff\xfe",
                             "1:",
                             ":",
                             "=",
                             "x=",
                             "\\pm",
                             "5^",
                             "\\end{pmatrix}",
                             "\\binom{1}"}) {
    EXPECT_TRUE(same_answer(broken, broken)) << broken;
    EXPECT_FALSE(same_answer(broken, "77")) << broken;
  }
}

double thread_seconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

void expect_soon(const std::string& a, const std::string& b) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(NDEBUG)
  constexpr double limit = 0.5;
#else
  constexpr double limit = 0.01;
#endif
  const double begin = thread_seconds();
  same_answer(a, b);
  EXPECT_LT(thread_seconds() - begin, limit) << a.substr(0, 60) << "… (" << a.size() << ")";
}

TEST(SameAnswer, IsDoneInTenMillisecondsWhateverIsSent) {
  for (const char* unit : {"{",
                           "(",
                           "[",
                           "\\{",
                           "|",
                           "-",
                           "^",
                           "\\frac",
                           "\\frac{1}{",
                           "\\sqrt",
                           "\\sqrt[",
                           "1",
                           "1, ",
                           "x",
                           "cat ",
                           "x^",
                           "10^{",
                           "5!",
                           "200!",
                           "170!+",
                           "\\binom{200}{100}+",
                           "%",
                           "\\pm",
                           "\\pm 1,",
                           "\\begin{pmatrix}",
                           "\\begin{pmatrix}1&",
                           "&",
                           "\\\\",
                           "\\left(",
                           "\\text{",
                           "\\boxed{",
                           "\\sin ",
                           "\\log_",
                           "x=",
                           "x<1<",
                           "(1,2)\\cup ",
                           "1:",
                           "{1,2},",
                           "(1,2),",
                           "\\{1,",
                           "((1,2),",
                           "$",
                           "^\\circ",
                           "π",
                           "0.\\overline{",
                           "1e9",
                           "\\in ",
                           "5_{",
                           "1\\,000",
                           "\\lfloor ",
                           "x'",
                           "x_",
                           "1/",
                           "x^{-1}+",
                           "\\sqrt{x}+",
                           "x^{9999999999999}+",
                           "a and "})
    for (const std::size_t size : {400u, 2000u, 4090u, 1'000'000u}) {
      const std::size_t times = size / std::string_view(unit).size();
      const std::string text = repeated(unit, times);
      expect_soon(text, repeated(unit, times - 1) + "7");
      expect_soon("1+" + text, "x" + text);
      expect_soon(repeated(unit, times / 2) + "1" + repeated("}", times / 2),
                  repeated(unit, times / 2) + "2" + repeated("}", times / 2));
    }
  expect_soon("10^{10^{10}}", "10^{10^{10^{10}}}");
  expect_soon("9^{9^{9^{9^9}}}", "100000!");
  expect_soon("{9}\\begin{pmatrix}" + repeated("1&", 1500) + "1\\end{pmatrix}", "1");
  const std::string nines(1'000'000, '9');
  expect_soon(nines, nines.substr(1) + "8");
  expect_soon(nines.substr(0, 1000) + "/7", nines.substr(0, 1000) + "/11");
  expect_soon(nines.substr(0, 4000) + "+x", "x" + nines.substr(0, 4000));
}

}  // namespace
}  // namespace pensive
