// exam: problems in; accuracy, tokens and honest intervals out.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/engine.h"
#include "pensive/judge.h"

namespace pensive {

// The names of a problem file's fields. With both `question` and `answer` empty the other names do
// not count either: the keys of the first problem tell which of problem_fields() it is.
struct ProblemFields {
  std::string question = "question";  // a text, or a chat: then what the user says last in it
  std::string answer = "answer";
  std::string id = "id";  // where a problem has none, its number in the file, from 1 on
  // The reference is what follows this text in the answer field, for example "#### " for GSM8K;
  // empty takes the field whole.
  std::string answer_after{};
  std::string body{};  // a field whose text stands before the question, as SVAMP's Body does
  // A list of the right answers of the steps, texts or numbers; or a text of which the results of
  // its calculations are taken, 4 of "<<2+2=4>>", as GSM8K writes them in its answers. The
  // reference at the end of them is left out. Empty: the list "intermediates" of those problems
  // that have one.
  std::string intermediates{};
  // A whole number, for lcpo_exact() and lcpo_max(). Empty: "target_tokens", where there is one.
  std::string target_tokens{};
};
// Those of a data set, as its files are spread: "plain" (question, answer), "gsm8k" (GSM8K-Platinum
// too), "svamp", "math500" and "aime" (the chat list `prompt`, `final_answer`), "math" (problem,
// answer, unique_id). "auto": found by the first problem's keys. Throws invalid_argument.
PENSIVE_EXPORT ProblemFields problem_fields(std::string_view name);

// Reads JSON lines, or one JSON array. Throws corrupt_file naming the line (of an array, the entry)
// and the key, not_found or io. With `broken`, lines or entries that are no such problem are passed
// over, and what would have been thrown is added there.
PENSIVE_EXPORT std::vector<Problem> load_problems(const std::filesystem::path& file,
                                                  const ProblemFields& fields = {},
                                                  std::vector<std::string>* broken = nullptr);

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
  // Likewise where the first partial answer opens: the first that is one of the problem's
  // intermediates or its reference, or, of a problem without intermediates, that another follows;
  // and the first that correct() takes for the reference. 1 where there is none.
  double first_partial = 1, first_correct = 1;
  // The score where \boxed{} holds the answer that was found, else 0: `score` is lenient, this
  // strict. (The paper's "regex only", arXiv 2506.11274, table 6.)
  double strict_score = 0;
  bool is_boxed = false;
  double flops = 0;  // flops_of()
};

struct ExamResult {
  std::vector<ExamSample> samples{};  // ordered by problem, then sample
  int problems = 0;
  double accuracy = 0;
  // What other problems of this kind would change: clustered by problem (Miller, arXiv 2411.00640,
  // eq. 4). Accuracy is the same as pass_at_k() of 1, and so are low and high, its 95% interval.
  double standard_error = 0;
  double low = 0, high = 0;
  double mean_tokens = 0;
  double mean_first_answer = 0;
  double truncated_share = 0;
  double mean_think_tokens = 0, mean_answer_tokens = 0, mean_probe_tokens = 0;
  double seconds_p50 = 0, seconds_p95 = 0;  // of a sample; the nearest rank
  double mean_first_partial = 0, mean_first_correct = 0;
  double strict_accuracy = 0;              // of the strict scores
  double strict_low = 0, strict_high = 0;  // 95%, as low and high
  double boxed_share = 0;
  double mean_flops = 0;
  double tokens_low = 0, tokens_high = 0;  // 95% of mean_tokens, over problems, by Student's t
  // What other samples of these same problems would change. NaN where a problem has one sample,
  // which does not tell.
  double sample_error = 0;
};
// The rest of a result, from samples: some of another's, such as the long ones. Throws
// invalid_argument for a sample of a problem that is not below `problems`.
PENSIVE_EXPORT ExamResult summarized(std::vector<ExamSample> samples, int problems);

// Floating-point operations of all that was decoded after the prompt, probes included: 2 x
// parameters for each token, and 4 x layers x heads x head size for each pair of a token and one
// that it looks at, itself too. What was taken back counts. Throws invalid_argument for columns of
// unequal lengths.
PENSIVE_EXPORT double flops_of(const Trace& trace, const ModelInfo& model);

// About a samples_file that holds something already: not begun at all, gone on with, or begun anew.
enum class IfBegun : std::uint8_t { refuse, resume, restart };

struct ExamOptions {
  Request request{};       // sampling, limits, guides; one with a prompt, seed or sample is refused
  PromptOf prompt_of{};    // empty: chat_prompt(tokenizer)
  int samples = 1;         // a problem
  std::uint64_t seed = 0;  // arms with the same seed share their draws
  // Called after samples finish, on the calling thread: done, of how many. May be empty.
  std::function<void(int, int)> progress{};
  // Where each sample goes as a JSON line as soon as it is finished. Empty: nowhere.
  std::filesystem::path samples_file{};
  // What samples_file held before. Refused: invalid_argument. Resumed: it is kept and not sat
  // again; a line that was cut off in writing is dropped, any other that is not of these problems
  // (by place, id, question and reference), samples and seed is refused. What else decides is not
  // in the lines and not compared: judge, request, prompt_of, the engine and its model and cache
  // are the caller's to keep. Restarted: it is lost, but not before the first new sample is there.
  IfBegun if_begun = IfBegun::refuse;
};

// Throws what Engine::start throws; a failing sample's Error names its problem. Of an exam that was
// interrupted and resumed every sample equals that of an undisturbed one where arithmetic is
// row-invariant; `seconds` aside.
PENSIVE_EXPORT ExamResult examine(Engine& engine, std::span<const Problem> problems,
                                  const Judge& judge, const ExamOptions& options);

// Reads what samples_file holds; the rest of the result is summarized anew. Of `problems` ids,
// questions and references are compared, of lines of older versions, which have no problem_hash,
// ids only: throws invalid_argument for others. Throws corrupt_file naming the line, not_found or
// io.
PENSIVE_EXPORT ExamResult load_exam(const std::filesystem::path& samples_file,
                                    std::span<const Problem> problems);
// Likewise where the problems are not at hand: as many as the largest index says.
PENSIVE_EXPORT ExamResult load_exam(const std::filesystem::path& samples_file);

// A share with its 95% interval over problems: by Student's t, cut to 0 and 1. Near 0 and 1, where
// fewer than ten trials' worth of answers are right or are wrong, Wilson's of as many independent
// trials as have that standard error; of the problems where all have the same value.
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

// s1's measures of a way to think longer (arXiv 2501.19393, section 3.2), over runs on the same
// problems with different budgets. The amount of thinking of a run is its mean_think_tokens.
struct TokenRange {
  double least = 0, most = std::numeric_limits<double>::infinity();
};
struct Scaling {
  // The share of runs whose thinking is as long as was asked; NaN without ranges.
  double control = std::numeric_limits<double>::quiet_NaN();
  // The mean over pairs of runs of the gain in accuracy for each thinking token more: a share, not
  // points. Pairs that think equally long are left out.
  double slope = 0;
  double performance = 0;  // the best accuracy
};
// `ranges`: what was asked of each run, or none. Throws invalid_argument.
PENSIVE_EXPORT Scaling scaling(std::span<const ExamResult> runs,
                               std::span<const TokenRange> ranges = {});

// Two arms over the same problems.
struct Paired {
  double difference = 0;  // accuracy of b minus accuracy of a
  // 95%, or as asked for, paired by problem: Student's t; where all problems differ by the same, t
  // says nothing, and it reaches as far as Wilson's interval of a share that was never seen.
  double low = 0, high = 0;
  double token_difference = 0;
  // The share of a's errors that b does not make, and its interval by the delta method over
  // problems, as wide as above where that says nothing. NaN where a makes no errors.
  double errors_removed = std::numeric_limits<double>::quiet_NaN();
  double errors_low = std::numeric_limits<double>::quiet_NaN();
  double errors_high = std::numeric_limits<double>::quiet_NaN();
  // Two-sided, that the arms do not differ: McNemar's exact test where each has one sample a
  // problem, scored 0 or 1; else the sign-flip permutation test on the problems' differences, over
  // all flips of up to 16 problems that differ, else 20,000 drawn with a fixed seed.
  double p_value = 1;
  int improved = 0, worsened = 0;  // problems on which b scores higher, and lower
  // The smallest difference that four of five such exams would show: whose interval, of this
  // confidence, would leave out 0. At most 1 of scores from 0 to 1, and 1 where there is one
  // problem: so few show none.
  double detectable = 1;
};
// Throws invalid_argument where the two were not made on the same number of problems, or a
// confidence is none. Who compares several arms with one divides what is left: of m arms, each at
// 1 - 0.05 / m, all intervals hold together in 95% (Bonferroni).
PENSIVE_EXPORT Paired compare(const ExamResult& a, const ExamResult& b, double confidence = 0.95);

}  // namespace pensive
