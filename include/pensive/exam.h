// exam: problems in; accuracy, tokens and honest intervals out.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pensive/engine.h"
#include "pensive/judge.h"

namespace pensive {

// The names of a problem file's fields. `answer_after`: the reference is what follows this text in
// the answer field, for example "#### " for GSM8K; empty takes the field whole.
struct ProblemFields {
  std::string question = "question";
  std::string answer = "answer";
  std::string id = "id";  // where a line has none, its number
  std::string answer_after{};
};
// Reads JSON lines. Throws corrupt_file naming the line and the key, not_found or io.
PENSIVE_EXPORT std::vector<Problem> load_problems(const std::filesystem::path& file,
                                                  const ProblemFields& fields = {});

// One sampled answer.
struct ExamSample {
  int problem = 0;  // index into the problems
  int sample = 0;
  double score = 0;
  int tokens = 0;           // decoded after the prompt: forced, taken back, probes, all
  double first_answer = 1;  // where the first answer segment opens, share of the response
  StopReason stopped = StopReason::running;
};

struct ExamResult {
  std::vector<ExamSample> samples;  // ordered by problem, then sample
  int problems = 0;
  double accuracy = 0;
  double standard_error = 0;  // clustered by problem (Miller, arXiv 2411.00640, eq. 4)
  double low = 0, high = 0;  // 95%: accuracy -/+ 1.96 standard errors; Wilson where n = 1 a problem
  double mean_tokens = 0;
  double mean_first_answer = 0;
  double truncated_share = 0;
};

struct ExamOptions {
  Request request{};       // sampling, limits, guides; each problem supplies the prompt
  PromptOf prompt_of{};    // empty: chat_prompt(tokenizer)
  int samples = 1;         // a problem
  std::uint64_t seed = 0;  // arms with the same seed share their draws
  // Called after samples finish, on the calling thread: done, of how many. May be empty.
  std::function<void(int, int)> progress{};
  // Where each sample goes as a JSON line as soon as it is finished; what the file held before is
  // lost. Empty: nowhere.
  std::filesystem::path samples_file{};
};

// Throws what Engine::start throws; a failing sample's Error names its problem.
PENSIVE_EXPORT ExamResult examine(Engine& engine, std::span<const Problem> problems,
                                  const Judge& judge, const ExamOptions& options);

// Two arms over the same problems.
struct Paired {
  double difference = 0;     // accuracy of b minus accuracy of a
  double low = 0, high = 0;  // 95%, paired by problem
  double token_difference = 0;
  double errors_removed = 0;               // share of a's errors that b does not make
  double errors_low = 0, errors_high = 0;  // 95%, by the delta method over problems
};
// Throws invalid_argument where the two were not made on the same number of problems.
PENSIVE_EXPORT Paired compare(const ExamResult& a, const ExamResult& b);

}  // namespace pensive
