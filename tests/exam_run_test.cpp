// Exams through an engine with a tiny random model.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <regex>
#include <set>

#include "engine_helpers.h"
#include "pensive/exam.h"

namespace pensive {
namespace {

using testing::exact;
using testing::tiny_model;

class EvenLength final : public Judge {
 public:
  double score(const Problem&, const Response& response) const override {
    return response.text.size() % 2 == 0 ? 1 : 0;
  }
};

class Broken final : public Judge {
 public:
  double score(const Problem& problem, const Response&) const override {
    if (problem.id == "p3") throw std::runtime_error("the judge broke");
    return problem.id == "p2" ? std::numeric_limits<double>::infinity() : 0;
  }
};

std::vector<Problem> problems(int count, int first = 0) {
  std::vector<Problem> all;
  for (int i = first; i < first + count; ++i)
    all.push_back({fmt::format("p{}", i), std::to_string(i), "x"});
  return all;
}

ExamOptions options_of(int samples) {
  ExamOptions options;
  options.request = testing::plain_request({}, 99, 10);
  options.request.sampling.seed.reset();
  options.request.ignore_end_tokens = false;
  options.request.markers = testing::tiny_markers();
  options.request.begins_in = Segment::think;
  options.prompt_of = [](const Problem& problem) {
    return testing::ids(std::stoi(problem.question), 18 + std::stoi(problem.question));
  };
  options.samples = samples;
  options.seed = 5;
  return options;
}

std::string print(const ExamResult& result) {
  std::string text;
  for (const ExamSample& one : result.samples)
    text += fmt::format("{} {} {} {} {} {}\n", one.problem, one.sample, one.score, one.tokens,
                        one.first_answer, to_string(one.stopped));
  return text;
}

TEST(Examine, IsTheSameHoweverManyRunAtOnce) {
  std::set<std::string> seen;
  for (const int live : {1, 3, 256}) {
    EngineOptions with = exact();
    with.max_live_sequences = live;
    Engine engine(tiny_model(), with);
    const ExamResult result = examine(engine, problems(5), EvenLength(), options_of(4));
    EXPECT_EQ(result.problems, 5);
    ASSERT_EQ(result.samples.size(), 20u);
    for (int i = 0; i < 20; ++i) {
      EXPECT_EQ(result.samples[i].problem, i / 4);
      EXPECT_EQ(result.samples[i].sample, i % 4);
      EXPECT_GE(result.samples[i].tokens, 1);
      EXPECT_LE(result.samples[i].tokens, 10);
    }
    seen.insert(print(result));
    testing::expect_no_leak(engine);
  }
  EXPECT_EQ(seen.size(), 1u);
}

TEST(Examine, DrawsBySeedProblemAndSample) {
  Engine engine(tiny_model(), exact());
  const auto run = [&](std::uint64_t seed, int samples) {
    ExamOptions options = options_of(samples);
    options.seed = seed;
    return examine(engine, problems(4), EvenLength(), options);
  };
  const ExamResult one = run(1, 2), more = run(1, 3), other = run(2, 2);
  EXPECT_NE(print(one), print(other));
  for (int p = 0; p < 4; ++p)  // the first samples of a longer exam are those of the shorter
    for (int j = 0; j < 2; ++j) {
      EXPECT_EQ(one.samples[p * 2 + j].tokens, more.samples[p * 3 + j].tokens);
      EXPECT_EQ(one.samples[p * 2 + j].score, more.samples[p * 3 + j].score);
    }
}

TEST(Examine, SharesPromptsWithinAProblem) {
  Engine engine(tiny_model(), exact());
  examine(engine, problems(3), EvenLength(), options_of(4));
  EXPECT_GE(engine.counters().reused_tokens, 3 * 3 * 16);
}

TEST(Examine, WritesEverySampleAsALineAndTellsProgress) {
  const testing::TempDir folder;
  Engine engine(tiny_model(), exact());
  ExamOptions options = options_of(3);
  options.samples_file = folder / "samples.jsonl";
  std::vector<std::pair<int, int>> told;
  options.progress = [&](int done, int of) { told.emplace_back(done, of); };
  const ExamResult result = examine(engine, problems(2), EvenLength(), options);
  ASSERT_EQ(told.size(), 6u);
  EXPECT_EQ(told.front(), std::pair(1, 6));
  EXPECT_EQ(told.back(), std::pair(6, 6));
  EXPECT_ERROR(examine(engine, problems(2), EvenLength(), options), ErrorCode::invalid_argument,
               "samples.jsonl");
  options.if_begun = IfBegun::restart;
  examine(engine, problems(2), EvenLength(), options);

  const std::string text = testing::read_file(options.samples_file);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 6) << "the second exam replaces the first";
  const auto line = parse_json(text.substr(0, text.find('\n')), "first line");
  const ExamSample& sample = result.samples.at(member<std::int64_t>(line, "problem", "line") * 3 +
                                               member<std::int64_t>(line, "sample", "line"));
  EXPECT_EQ(member<double>(line, "score", "line"), sample.score);
  EXPECT_EQ(member<std::int64_t>(line, "tokens", "line"), sample.tokens);
  EXPECT_EQ(member<std::string>(line, "stopped", "line"), to_string(sample.stopped));
  EXPECT_EQ(member<std::string>(line, "id", "line"), fmt::format("p{}", sample.problem));
  EXPECT_FALSE(member<std::string>(line, "text", "line").empty());
}

// Killed anywhere, also in the middle of a line: what was whole is kept, the rest is sat again.
TEST(Examine, GoesOnWhereItWasInterrupted) {
  const testing::TempDir folder;
  Engine engine(tiny_model(), exact());
  ExamOptions options = options_of(3);
  options.samples_file = folder / "samples.jsonl";
  options.if_begun = IfBegun::resume;
  const std::string whole = print(examine(engine, problems(4), EvenLength(), options));
  const std::string text = testing::read_file(options.samples_file);
  EXPECT_EQ(print(load_exam(options.samples_file, problems(4))), whole);
  EXPECT_EQ(print(load_exam(options.samples_file)), whole);
  for (const std::size_t size : {std::size_t{0}, std::size_t{1}, text.size() / 3, text.size() / 2,
                                 text.size() - 1, text.size()}) {
    testing::write_file(options.samples_file, text.substr(0, size));
    int told = 0;
    options.progress = [&](int, int) { ++told; };
    const ExamResult result = examine(engine, problems(4), EvenLength(), options);
    EXPECT_EQ(print(result), whole) << "cut after " << size << " bytes";
    EXPECT_EQ(told, 12);
    const std::string now = testing::read_file(options.samples_file);
    EXPECT_EQ(std::count(now.begin(), now.end(), '\n'), 12);
    EXPECT_EQ(print(load_exam(options.samples_file)), whole);
  }
  testing::expect_no_leak(engine);
}

TEST(Examine, RefusesToGoOnWithAnotherExam) {
  const testing::TempDir folder;
  Engine engine(tiny_model(), exact());
  ExamOptions options = options_of(2);
  options.samples_file = folder / "samples.jsonl";
  examine(engine, problems(3), EvenLength(), options);
  options.if_begun = IfBegun::resume;
  const auto refuses = [&](ExamOptions wanted, int count, int first, const char* why) {
    EXPECT_ERROR(examine(engine, problems(count, first), EvenLength(), wanted),
                 ErrorCode::invalid_argument, why);
  };
  refuses(options, 2, 0, "samples of 2 problems");
  refuses(options, 3, 1, "the id");
  ExamOptions other = options;
  other.seed = 6;
  refuses(other, 3, 0, "the seed");
  other = options;
  other.samples = 1;
  refuses(other, 3, 0, "1 samples a problem");
  for (std::string Problem::*text : {&Problem::question, &Problem::reference}) {
    std::vector<Problem> others = problems(3);
    others[1].*text = "17";
    EXPECT_ERROR(examine(engine, others, EvenLength(), options), ErrorCode::invalid_argument,
                 "question and reference");
    EXPECT_ERROR(load_exam(options.samples_file, others), ErrorCode::invalid_argument,
                 "problem 1 (id \"p1\")");
  }
  const std::string text = testing::read_file(options.samples_file);
  testing::write_file(options.samples_file, text + text);
  EXPECT_ERROR(examine(engine, problems(3), EvenLength(), options), ErrorCode::corrupt_file,
               "again");
  testing::write_file(options.samples_file, "{}\n" + text);
  EXPECT_ERROR(examine(engine, problems(3), EvenLength(), options), ErrorCode::corrupt_file,
               "line 1");
  EXPECT_EQ(testing::read_file(options.samples_file), "{}\n" + text) << "nothing is lost";
  options.samples_file.clear();
  refuses(options, 3, 0, "a samples_file");
  options.if_begun = IfBegun::restart;
  refuses(options, 3, 0, "a samples_file");
}

// Lines from before there was a problem_hash are known by their ids.
TEST(Examine, GoesOnWithLinesThatTellIdsOnly) {
  const testing::TempDir folder;
  Engine engine(tiny_model(), exact());
  ExamOptions options = options_of(2);
  options.samples_file = folder / "samples.jsonl";
  const std::string whole = print(examine(engine, problems(3), EvenLength(), options));
  const std::string text = testing::read_file(options.samples_file);
  const std::string old =
      std::regex_replace(text, std::regex("\"problem_hash\":\"[0-9a-f]{16}\","), "");
  ASSERT_EQ(text.size() - old.size(),
            6 * std::string_view(R"("problem_hash":"0123456789abcdef",)").size());
  testing::write_file(options.samples_file, old);
  std::vector<Problem> others = problems(3);
  others[1].question = "17";
  EXPECT_EQ(print(load_exam(options.samples_file, others)), whole);
  options.if_begun = IfBegun::resume;
  EXPECT_EQ(print(examine(engine, problems(3), EvenLength(), options)), whole);
  EXPECT_EQ(testing::read_file(options.samples_file), old) << "nothing was sat again";
}

// Whatever is wrong is found before anything that was there is lost.
TEST(Examine, LosesNothingBeforeTheFirstSample) {
  const testing::TempDir folder;
  Engine engine(tiny_model(), exact());
  ExamOptions options = options_of(2);
  options.samples_file = folder / "samples.jsonl";
  testing::write_file(options.samples_file, "a day's work\n");
  options.if_begun = IfBegun::restart;
  ExamOptions wrong = options;
  wrong.request.max_new_tokens = -1;
  EXPECT_ERROR(examine(engine, problems(2), EvenLength(), wrong), ErrorCode::invalid_argument,
               "max_new_tokens");
  EXPECT_THROW(examine(engine, problems(1, 3), Broken(), options), std::runtime_error);
  EXPECT_EQ(testing::read_file(options.samples_file), "a day's work\n");
  examine(engine, {}, EvenLength(), options);
  EXPECT_EQ(testing::read_file(options.samples_file), "") << "it was restarted all the same";
  options.if_begun = IfBegun::refuse;
  examine(engine, problems(2), EvenLength(), options);
  EXPECT_EQ(load_exam(options.samples_file, problems(2)).samples.size(), 4u);
}

// Opens with four forced tokens and then a closer: the answer begins at a known place.
TEST(Examine, FindsWhereTheFirstAnswerOpens) {
  Engine engine(tiny_model(), exact());
  ExamOptions options = options_of(1);
  options.request.ignore_end_tokens = true;
  auto opener = testing::scripted([](const Moment&) -> Action { return Proceed{}; });
  opener->begin = [](const Moment&) -> Action { return Force{{20, 21, 22, 11}, 0}; };
  options.request.guides = {opener};
  const ExamResult closed = examine(engine, problems(2), EvenLength(), options);
  EXPECT_NEAR(closed.mean_first_answer, 0.4, 1e-12) << "after 4 of 10 tokens";
  EXPECT_EQ(closed.truncated_share, 1);
  options.request.markers =
      Markers{.think_open = {62}, .think_close = {63}, .answer_open = {}, .answer_close = {}};
  opener->begin = nullptr;
  opener->token = [](const Moment& moment) -> Action {
    if (moment.token == 63) return Force{{5}, 1};
    return Proceed{};
  };
  EXPECT_EQ(examine(engine, problems(1), EvenLength(), options).mean_first_answer, 1);
}

TEST(Examine, NamesTheProblemThatFails) {
  Engine engine(tiny_model(), exact());
  ExamOptions options = options_of(2);
  EXPECT_ERROR(examine(engine, problems(1, 2), Broken(), options), ErrorCode::invalid_argument,
               "problem p2");
  EXPECT_THROW(examine(engine, problems(1, 3), Broken(), options), std::runtime_error);
  ExamOptions no_prompt = options_of(1);
  no_prompt.prompt_of = [](const Problem&) { return std::vector<TokenId>{}; };
  EXPECT_ERROR(examine(engine, problems(1), EvenLength(), no_prompt), ErrorCode::invalid_argument,
               "problem p0");
  no_prompt.prompt_of = [](const Problem&) { return std::vector<TokenId>(5000, 5); };
  EXPECT_ERROR(examine(engine, problems(1, 7), EvenLength(), no_prompt),
               ErrorCode::invalid_argument, "problem p7");
  options.request.guides = {testing::scripted(
      [](const Moment&) -> Action { throw std::runtime_error("a broken guide"); })};
  EXPECT_ERROR(examine(engine, problems(1), EvenLength(), options), ErrorCode::invalid_argument,
               "a broken guide");
  testing::expect_no_leak(engine);
}

TEST(Examine, RefusesWhatItCannotDo) {
  Engine engine(tiny_model(), exact());
  EXPECT_ERROR(examine(engine, problems(1), EvenLength(), options_of(0)),
               ErrorCode::invalid_argument, "ExamOptions::samples");
  ExamOptions options = options_of(1);
  options.samples_file = "/dev/full";
  EXPECT_ERROR(examine(engine, problems(1), EvenLength(), options), ErrorCode::io, "/dev/full");
  options.samples_file = "/nowhere/at/all.jsonl";
  EXPECT_ERROR(examine(engine, problems(1), EvenLength(), options), ErrorCode::io, "all.jsonl");
  for (const char* field : {"request.prompt", "request.sampling.seed", "request.sample"}) {
    ExamOptions own = options_of(1);
    if (field == std::string_view("request.prompt")) own.request.prompt = {1};
    if (field == std::string_view("request.sampling.seed")) own.request.sampling.seed = 0;
    if (field == std::string_view("request.sample")) own.request.sample = 1;
    EXPECT_ERROR(examine(engine, problems(1), EvenLength(), own), ErrorCode::invalid_argument,
                 field);
  }
}

TEST(Examine, OfNoProblemsIsEmpty) {
  Engine engine(tiny_model(), exact());
  const ExamResult result = examine(engine, {}, EvenLength(), options_of(2));
  EXPECT_TRUE(result.samples.empty());
  EXPECT_EQ(result.low, 0);
  EXPECT_EQ(result.high, 1);
}

}  // namespace
}  // namespace pensive
