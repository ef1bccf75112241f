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
  // What it votes for in majority_at_k(): final_answer() of the response, or nothing.
  std::string answer{};
  int think_tokens = 0;  // kept, markers not counted
  int answer_tokens = 0;
  int probe_tokens = 0;  // fed and decoded on the side
  double seconds = 0;    // from its start, waiting included, to its last token
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
  double mean_think_tokens = 0, mean_answer_tokens = 0, mean_probe_tokens = 0;
  double seconds_p50 = 0, seconds_p95 = 0;  // of a sample; the nearest rank
};

enum class IfBegun : std::uint8_t { restart, resume };

struct ExamOptions {
  Request request{};       // sampling, limits, guides; each problem supplies the prompt
  PromptOf prompt_of{};    // empty: chat_prompt(tokenizer)
  int samples = 1;         // a problem
  std::uint64_t seed = 0;  // arms with the same seed share their draws
  // Called after samples finish, on the calling thread: done, of how many. May be empty.
  std::function<void(int, int)> progress{};
  // Where each sample goes as a JSON line as soon as it is finished. Empty: nowhere.
  std::filesystem::path samples_file{};
  // What samples_file held before: lost, or kept and not sat again. A line that was cut off in
  // writing is dropped; any other that is not of these problems, samples and seed is refused.
  IfBegun if_begun = IfBegun::restart;
};

// Throws what Engine::start throws; a failing sample's Error names its problem. Of an exam that was
// interrupted and resumed every sample equals that of an undisturbed one where arithmetic is
// row-invariant; `seconds` aside.
PENSIVE_EXPORT ExamResult examine(Engine& engine, std::span<const Problem> problems,
                                  const Judge& judge, const ExamOptions& options);

// Reads what samples_file holds. Of `problems` only the ids count; the rest of the result is
// summarized anew. Throws corrupt_file naming the line, not_found or io.
PENSIVE_EXPORT ExamResult load_exam(const std::filesystem::path& samples_file,
                                    std::span<const Problem> problems);
// Likewise where the problems are not at hand: as many as the largest index says.
PENSIVE_EXPORT ExamResult load_exam(const std::filesystem::path& samples_file);

// A share with its 95% interval over problems, by Student's t, cut to 0 and 1; Wilson's where every
// problem has the same value and t says nothing.
struct Share {
  double value = 0;
  double low = 0, high = 0;
};
// The chance that at least one of `k` samples of a problem is right (score 1), mean over problems:
// 1 - C(n - c, k) / C(n, k), unbiased (Chen et al., arXiv 2107.03374, eq. 1). Throws
// invalid_argument where a problem has fewer than `k` samples, or a score is neither 0 nor 1.
PENSIVE_EXPORT Share pass_at_k(const ExamResult& result, int k);
// The chance that the answer most of `k` samples give is right: the mean over problems of that over
// random subsets of `k` of a problem's samples, all of them where there are no more than 2,000,
// else 2,000 drawn with a fixed seed. Answers are one where same_answer() says so; samples without
// an answer do not vote; a tie counts as the share of right ones among the tied. Throws as above.
PENSIVE_EXPORT Share majority_at_k(const ExamResult& result, int k);

// Two arms over the same problems.
struct Paired {
  double difference = 0;     // accuracy of b minus accuracy of a
  double low = 0, high = 0;  // 95%, paired by problem
  double token_difference = 0;
  double errors_removed = 0;               // share of a's errors that b does not make
  double errors_low = 0, errors_high = 0;  // 95%, by the delta method over problems
  // Two-sided, that the arms do not differ: McNemar's exact test where each has one sample a
  // problem, scored 0 or 1; else the sign-flip permutation test on the problems' differences, over
  // all flips of up to 16 problems that differ, else 20,000 drawn with a fixed seed.
  double p_value = 1;
  int improved = 0, worsened = 0;  // problems on which b scores higher, and lower
};
// Throws invalid_argument where the two were not made on the same number of problems.
PENSIVE_EXPORT Paired compare(const ExamResult& a, const ExamResult& b);

}  // namespace pensive
