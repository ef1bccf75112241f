// Where a sample's answers stand, what it cost, s1's measures, and files as data sets are spread.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "base/inside.h"
#include "exam/answers.h"
#include "exam/statistics.h"
#include "pensive/exam.h"
#include "testing.h"
#include "trace_helpers.h"

namespace pensive {
namespace {

using testing::add;

enum : TokenId { unknown, think, end_think, answer, end_answer, eos, one, two, three, wait };
constexpr const char* words[] = {"<unk>", "<think>", "</think>", "<answer>", "</answer>",
                                 "<eos>", "1",       "2",        "3",        "wait "};

std::shared_ptr<const Tokenizer> tokenizer() {
  static const auto made = testing::tokenizer_of("exam_answers", words);
  return made;
}

bool is_marker(TokenId id) { return id >= think && id <= end_answer; }

// One letter a token: t thinks, T ends it, a opens an answer, A ends it, e ends the turn, w, 1 to
// 3; behind '-' one that was taken back.
Trace written(std::string_view letters) {
  Trace trace;
  add(trace, think, Segment::prompt, Origin::prompt, true);
  bool is_thinking = true;
  for (std::size_t i = 0; i < letters.size(); ++i) {
    const bool is_gone = letters[i] == '-';
    if (is_gone) ++i;
    constexpr std::string_view known = ".tTaAe123w";
    const auto id = static_cast<TokenId>(known.find(letters[i]));
    if (id == think) is_thinking = true;
    add(trace, id, is_thinking ? Segment::think : Segment::answer, Origin::sampled, is_marker(id),
        is_gone);
    if (id == end_think && !is_gone) is_thinking = false;
  }
  return trace;
}

Places places(std::string_view letters, const std::string& reference,
              std::vector<std::string> intermediates = {}) {
  return places_of(respond(written(letters), *tokenizer()),
                   {"p", "q", reference, std::move(intermediates)});
}

TEST(Places, OfOneAnswer) {
  const Places right = places(
      "11wT"
      "a12Ae",
      "12");
  EXPECT_NEAR(right.first_answer, 4.0 / 9, 1e-12);
  EXPECT_EQ(right.first_partial, 1) << "no other follows";
  EXPECT_NEAR(right.first_correct, 4.0 / 9, 1e-12);
  EXPECT_EQ(places("11wT"
                   "a12Ae",
                   "21")
                .first_correct,
            1);
}

TEST(Places, OfSeveralAnswersAreThoseOfTheFirst) {
  for (const char* letters : {"wTa1AtwTa12Ae", "wTa1Atw-w-wTa12Ae", "wT1twT12eee"}) {
    const Places found = places(letters, "12");
    const double kept = letters[2] == 'a' ? 13 : 11;
    EXPECT_NEAR(found.first_answer, 2 / kept, 1e-12) << letters;
    EXPECT_EQ(found.first_partial, found.first_answer) << letters;
    EXPECT_NEAR(found.first_correct, (letters[2] == 'a' ? 8 : 6) / kept, 1e-12) << letters;
  }
  const Places early = places("wTa12AtwTa12Ae", "12");
  EXPECT_EQ(early.first_correct, early.first_answer);
}

TEST(Places, TellNeighboursApart) {
  const Places found = places("wTa1Aa2Ae", "2");
  EXPECT_NEAR(found.first_partial, 2.0 / 9, 1e-12);
  EXPECT_NEAR(found.first_correct, 6.0 / 9, 1e-12) << "1 and 2 are two answers, not 12";
}

// With intermediates the first partial answer is a right one, of a step or of the problem.
TEST(Places, OfIntermediatesAreThoseOfTheFirstThatIsOne) {
  const std::string_view letters = "wTa3AtwTa1AtwTa12Ae";  // 3, 1, then 12, of 19
  EXPECT_NEAR(places(letters, "12").first_partial, 2.0 / 19, 1e-12) << "any that another follows";
  EXPECT_NEAR(places(letters, "12", {"2", "1.0"}).first_partial, 8.0 / 19, 1e-12);
  EXPECT_NEAR(places(letters, "12", {"3", "1"}).first_partial, 2.0 / 19, 1e-12);
  EXPECT_NEAR(places(letters, "12", {"2"}).first_partial, 14.0 / 19, 1e-12) << "the reference";
  EXPECT_EQ(places(letters, "13", {"2"}).first_partial, 1) << "none is right";
  EXPECT_EQ(places(letters, "12", {"2"}).first_answer, 2.0 / 19);
}

TEST(Places, OfNoAnswerAreTheEnd) {
  for (const char* letters : {"", "wwww", "wwT", "wwTae", "ww-T-112"}) {
    const Places found = places(letters, "12");
    EXPECT_EQ(found.first_answer, 1) << letters;
    EXPECT_EQ(found.first_partial, 1) << letters;
    EXPECT_EQ(found.first_correct, 1) << letters;
  }
}

// Text of an answer may stand in the same token as a part of its tag.
TEST(Places, ReadWhatStandsBesideATag) {
  Trace trace = written("wTa1Ae");
  trace.marker_texts = {{3, Edge::behind, Segment::answer, "2"},
                        {5, Edge::before, Segment::answer, "3"}};
  EXPECT_NEAR(places_of(respond(trace, *tokenizer()), {"p", "q", "213"}).first_correct, 2.0 / 6,
              1e-12);
}

TEST(Flops, CountTokensAndWhatTheyLookAt) {
  ModelInfo model;
  model.parameters = 1000;
  model.layers = 3;
  model.heads = 2;
  model.head_dim = 5;
  Trace trace = written("12-3-3-3T");  // one of the prompt; six more, three of them in vain
  // 2, 3, then 4, 5, 6 behind the two that are kept, and the last where the first of these stood.
  EXPECT_EQ(flops_of(trace, model), 2.0 * 1000 * 6 + 4.0 * 3 * 2 * 5 * (2 + 3 + 4 + 5 + 6 + 4));
  trace.probe_tokens = 2;
  TraceAction& probe = trace.actions.emplace_back();
  probe.position = 2;
  probe.kind = "probe";
  probe.tokens = 2;
  EXPECT_EQ(flops_of(trace, model),
            2.0 * 1000 * 8 + 4.0 * 3 * 2 * 5 * (2 + 3 + 4 + 5 + 6 + 4 + (4 + 5)));
  trace.is_taken_back.pop_back();
  EXPECT_THROW(flops_of(trace, model), Error);
}

ExamResult run_of(double accuracy, double think_tokens) {
  ExamResult result;
  result.accuracy = accuracy;
  result.mean_think_tokens = think_tokens;
  return result;
}

TEST(Scaling, IsThatOfS1) {
  const std::vector<ExamResult> runs = {run_of(.2, 100), run_of(.5, 200), run_of(.4, 400)};
  const std::vector<TokenRange> asked = {{0, 128}, {0, 256}, {0, 384}};
  const Scaling found = scaling(runs, asked);
  EXPECT_NEAR(found.control, 2.0 / 3, 1e-12);
  EXPECT_NEAR(found.slope, (.3 / 100 + .2 / 300 - .1 / 200) / 3, 1e-12);
  EXPECT_EQ(found.performance, .5);
  EXPECT_TRUE(std::isnan(scaling(runs).control));
  EXPECT_NEAR(scaling(std::vector{runs[2], runs[0], runs[1]}).slope, found.slope, 1e-12);
  EXPECT_EQ(scaling(std::vector{runs[0], runs[0]}).slope, 0) << "equally long says nothing";
  EXPECT_THROW(scaling(runs, std::span(asked).first(2)), Error);
  EXPECT_THROW(scaling({}), Error);
}

TEST(Strict, HasItsOwnInterval) {
  ExamResult result;
  result.problems = 4;
  for (int p = 0; p < 4; ++p) {
    ExamSample sample{.problem = p, .score = p < 3 ? 1.0 : 0.0};
    sample.is_boxed = p != 0;
    sample.strict_score = sample.is_boxed ? sample.score : 0;
    result.samples.push_back(sample);
  }
  summarize(result);
  EXPECT_EQ(result.accuracy, .75);
  EXPECT_EQ(result.strict_accuracy, .5);
  EXPECT_EQ(result.boxed_share, .75);
  EXPECT_EQ(result.strict_low, wilson(.5, 4).low);
  EXPECT_EQ(result.strict_high, wilson(.5, 4).high);
  const ExamResult some = summarized({result.samples[3], result.samples[1]}, 4);
  EXPECT_EQ(some.accuracy, .5);
  EXPECT_EQ(some.samples.front().problem, 1) << "in order";
}

TEST(Tokens, HaveAnIntervalOverProblems) {
  std::vector<ExamSample> samples;
  for (const auto& [problem, tokens] : {std::pair(0, 10), std::pair(0, 30), std::pair(1, 40)}) {
    ExamSample sample{.problem = problem, .sample = static_cast<int>(samples.size())};
    sample.tokens = tokens;
    samples.push_back(sample);
  }
  const ExamResult result = summarized(samples, 2);
  EXPECT_NEAR(result.tokens_high - result.mean_tokens, t_quantile(1) * 10, 1e-6)
      << "20 and 40, a problem each";
  EXPECT_EQ(result.tokens_low, 0);
  EXPECT_TRUE(std::isinf(summarized({samples[0]}, 1).tokens_high));
}

std::vector<Problem> load(const std::string& text, const ProblemFields& fields,
                          std::vector<std::string>* broken = nullptr) {
  const testing::TempDir folder;
  testing::write_file(folder / "file", text);
  return load_problems(folder / "file", fields, broken);
}

std::string shown(const std::vector<Problem>& problems) {
  std::string text;
  for (const Problem& one : problems)
    text += fmt::format("[{}|{}|{}]", one.id, one.question, one.reference);
  return text;
}

constexpr const char* gsm8k = R"({"question": "Six?", "answer": "3 + 3 = <<3+3=6>>6\n#### 6"})"
                              "\n"
                              R"({"question": "Many?", "answer": "#### 1,000"})";
constexpr const char* svamp = R"([{"ID": "chal-1", "Body": "Dan had $ 3. He bought a bar",
  "Question": "What is left?", "Answer": 1.0, "Type": "Subtraction"},
  {"ID": "chal-2", "Body": "A dog barks.", "Question": "How often?", "Answer": 2}])";
constexpr const char* math500 = R"([{"prompt": [{"from": "user", "value": "A half?"}],
  "final_answer": "\\frac{1}{2}"}, {"prompt": [{"role": "system", "content": "s"},
  {"role": "user", "content": "old"}, {"role": "assistant", "content": "?"},
  {"role": "user", "content": "new"}], "final_answer": 73}])";

TEST(ProblemKinds, AreReadByNameAndFoundByThemselves) {
  const std::pair<std::string, std::pair<const char*, std::string>> files[] = {
      {"gsm8k", {gsm8k, "[1|Six?|6][2|Many?|1,000]"}},
      {"svamp",
       {svamp,
        "[chal-1|Dan had $ 3. He bought a bar. What is left?|1.0]"
        "[chal-2|A dog barks. How often?|2]"}},
      {"math500", {math500, "[1|A half?|\\frac{1}{2}][2|new|73]"}},
      {"aime", {math500, "[1|A half?|\\frac{1}{2}][2|new|73]"}},
      {"math",
       {R"({"problem": "p", "solution": "long", "answer": "4", "unique_id": "u/1"})", "[u/1|p|4]"}},
      {"plain", {R"({"question": "q", "answer": "no #### mark", "id": 3})", "[3|q|no #### mark]"}}};
  for (const auto& [name, file] : files) {
    EXPECT_EQ(shown(load(file.first, problem_fields(name))), file.second) << name;
    EXPECT_EQ(shown(load(file.first, problem_fields("auto"))), file.second) << name << " by itself";
  }
  EXPECT_ERROR(problem_fields("gsm9k"), ErrorCode::invalid_argument, "math500");
  EXPECT_ERROR(load(R"({"q": "1", "a": "2"})", problem_fields("auto")), ErrorCode::corrupt_file,
               "q, a");
  EXPECT_ERROR(load("[1]", problem_fields("auto")), ErrorCode::corrupt_file, "entry 1");
  EXPECT_ERROR(load(svamp, problem_fields("math500")), ErrorCode::corrupt_file, "entry 1");
  EXPECT_ERROR(load(R"([{"prompt": [{"from": "gpt", "value": "?"}], "final_answer": "1"}])",
                    problem_fields("aime")),
               ErrorCode::corrupt_file, "a turn of the user");
  EXPECT_ERROR(load("[{}", problem_fields("aime")), ErrorCode::corrupt_file, "file");
}

std::string steps_of(const Problem& problem) {
  std::string text;
  for (const std::string& one : problem.intermediates) text += "[" + one + "]";
  return text + " " + std::to_string(problem.target_tokens);
}

TEST(ProblemKinds, ReadIntermediatesAndTargets) {
  const std::string line =
      R"({"question": "q", "answer": "9", "intermediates": ["4", 5, "9.0"], "target_tokens": 64,)"
      R"( "steps": ["<<1>>"], "long": 8, "text": "a <<2+2=4>>4, <<3=>> <<7>> <<4+5=9>>9 <<1=1"})";
  EXPECT_EQ(steps_of(load(line, {})[0]), "[4][5] 64") << "the usual keys; the last is the answer";
  EXPECT_EQ(steps_of(load(line, {.intermediates = "steps", .target_tokens = "long"})[0]),
            "[<<1>>] 8");
  EXPECT_EQ(steps_of(load(line, {.intermediates = "text"})[0]), "[4] 64");
  EXPECT_EQ(steps_of(load(gsm8k, problem_fields("auto"))[0]), " 0") << "3 + 3 is the answer itself";
  EXPECT_EQ(steps_of(load(R"({"question": "q", "answer": "1"})", {})[0]), " 0");
  EXPECT_EQ(steps_of(load(R"({"question": "q", "answer": "1", "s": null, "t": null})",
                          {.intermediates = "s", .target_tokens = "t"})[0]),
            " 0");
}

TEST(ProblemKinds, RefuseIntermediatesAndTargetsThatAreNone) {
  const auto with = [](const std::string& more) {
    return R"({"question": "q", "answer": "1", )" + more + "}";
  };
  const auto bad = ErrorCode::corrupt_file;
  EXPECT_ERROR(load(with(R"("a": 1)"), {.intermediates = "steps"}), bad, "the key \"steps\"");
  EXPECT_ERROR(load(with(R"("a": 1)"), {.target_tokens = "long"}), bad, "the key \"long\"");
  EXPECT_ERROR(load(with(R"("intermediates": "4")"), {}), bad, "a list of answers");
  EXPECT_ERROR(load(with(R"("intermediates": [" "])"), {}), bad, "intermediates");
  EXPECT_ERROR(load(with(R"("intermediates": [[1]])"), {}), bad, "intermediates");
  for (const char* target : {"-1", "1.5", "\"8\"", "3000000000"})
    EXPECT_ERROR(load(with(std::string(R"("target_tokens": )") + target), {}), bad,
                 "a number of tokens in \"target_tokens\"");
}

TEST(ProblemKinds, PassOverWhatIsBroken) {
  const std::string text =
      "{\"question\": \"a\", \"answer\": \"1\"}\n{\"question\":\n\n"
      "{\"question\": \"b\", \"answer\": \"\"}\n{\"question\": \"c\"}\n"
      "{\"question\": \"d\", \"answer\": 2}\n";
  std::vector<std::string> broken;
  EXPECT_EQ(shown(load(text, problem_fields("auto"), &broken)), "[1|a|1][6|d|2]");
  ASSERT_EQ(broken.size(), 3u);
  EXPECT_THAT(broken[0], ::testing::HasSubstr("line 2"));
  EXPECT_THAT(broken[1], ::testing::HasSubstr("an answer in \"answer\""));
  EXPECT_THAT(broken[2], ::testing::HasSubstr("line 5"));
  EXPECT_ERROR(load(text, {}), ErrorCode::corrupt_file, "line 2");
}

// The data sets themselves, where they lie beside the project.
TEST(ProblemKinds, ReadTheDataSets) {
  const std::filesystem::path folder =
      std::filesystem::path(PENSIVE_REASONER).parent_path().parent_path().parent_path() / "shared" /
      "data";
  if (!std::filesystem::exists(folder / "gsm8k_test.jsonl")) GTEST_SKIP() << "no " << folder;
  const std::pair<const char*, int> files[] = {{"gsm8k_test.jsonl", 1319},
                                               {"gsm8k_train.jsonl", 7473},
                                               {"svamp.json", 1000},
                                               {"math500.json", 500},
                                               {"aime2024.json", 30}};
  for (const auto& [name, count] : files)
    EXPECT_EQ(std::ssize(load_problems(folder / name, problem_fields("auto"))), count) << name;
  const std::vector<Problem> gsm8k =
      load_problems(folder / "gsm8k_test.jsonl", problem_fields("gsm8k"));
  EXPECT_EQ(gsm8k.front().reference, "18");
  EXPECT_EQ(steps_of(gsm8k[0]), "[9] 0") << "of <<16-3-4=9>> and <<9*2=18>>";
  EXPECT_EQ(steps_of(gsm8k[1]), "[1] 0");
  int with_steps = 0;
  for (const Problem& one : gsm8k) with_steps += one.intermediates.empty() ? 0 : 1;
  EXPECT_GT(with_steps, 1200);
}

}  // namespace
}  // namespace pensive
