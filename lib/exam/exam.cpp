// Many samples of many problems through one engine, scored as they finish.
#include <chrono>
#include <cmath>
#include <deque>
#include <optional>

#include "base/inside.h"
#include "engine/supplied.h"
#include "exam/answers.h"
#include "exam/samples.h"
#include "exam/statistics.h"

namespace pensive {
namespace {

// Where answers stand, what they are and what they cost.
ExamSample measured(const Problem& problem, const Trace& trace, const Response& response,
                    const ModelInfo& model) {
  const Places places = places_of(response, problem);
  // A box is what is searched first: without one only the rest is left to look for.
  const auto boxed = final_answer(response, Extraction::strict);
  ExamSample sample;
  sample.tokens = trace.decoded_tokens();
  sample.first_answer = places.first_answer;
  sample.stopped = trace.stopped;
  sample.answer = boxed ? *boxed : final_answer(response).value_or("");
  sample.think_tokens = response.think_tokens;
  sample.answer_tokens = response.answer_tokens;
  sample.probe_tokens = trace.probe_tokens;
  sample.first_partial = places.first_partial;
  sample.first_correct = places.first_correct;
  sample.is_boxed = boxed.has_value();
  sample.flops = flops_of(trace, model);
  return sample;
}

class Exam {
 public:
  Exam(Engine& engine, std::span<const Problem> problems, const Judge& judge,
       const ExamOptions& options)
      : engine_(engine),
        problems_(problems),
        judge_(judge),
        options_(options),
        tokenizer_(engine.options().soft ? engine.options().soft->tokenizer()
                                         : engine.model()->tokenizer()),
        prompt_of_(options.prompt_of ? options.prompt_of
                                     : chat_prompt(engine.model()->tokenizer())),
        is_done_(problems.size() * static_cast<std::size_t>(options.samples)) {
    result_.problems = static_cast<int>(problems.size());
    result_.samples.resize(is_done_.size());
    if (options.if_begun == IfBegun::resume)
      for (const ExamSample& sample : kept_samples(problems, options)) keep(sample);
    file_.emplace(options.samples_file, options.if_begun);
  }

  ExamResult run() {
    for (fill(); !flights_.empty(); fill()) {
      engine_.step();
      std::erase_if(flights_, [&](Flight& flight) {
        if (!flight.sequence.finished()) return false;
        record(flight);
        return true;
      });
    }
    file_->begin();
    summarize(result_);
    return std::move(result_);
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Flight {
    Sequence sequence;
    int problem = 0;
    int sample = 0;
    Clock::time_point began = Clock::now();
  };
  // A problem whose first sample is under way: the others wait until its prompt is in the cache.
  struct Open {
    Request request;
    int problem = 0;
    int first_sample = 0;
    int next_sample = 1;
  };

  std::size_t index_of(int problem, int sample) const {
    return static_cast<std::size_t>(problem) * static_cast<std::size_t>(options_.samples) +
           static_cast<std::size_t>(sample);
  }
  // The first sample from `sample` on that is still to be sat; options_.samples for none.
  int next_of(int problem, int sample) const {
    while (sample < options_.samples && is_done_[index_of(problem, sample)]) ++sample;
    return sample;
  }
  void keep(const ExamSample& sample) {
    const std::size_t index = index_of(sample.problem, sample.sample);
    is_done_[index] = 1;
    result_.samples[index] = sample;
    if (options_.progress) options_.progress(++done_, static_cast<int>(result_.samples.size()));
  }

  bool is_prefilling(const Open& open) const {
    for (const Flight& flight : flights_)
      if (flight.problem == open.problem && flight.sample == open.first_sample)
        return !flight.sequence.finished() &&
               std::ssize(flight.sequence.trace().tokens) <= flight.sequence.trace().prompt_tokens;
    return false;
  }

  void fill() {
    const std::size_t most = std::max(1, engine_.options().max_live_sequences);
    for (auto open = open_.begin(); open != open_.end() && flights_.size() < most;) {
      if (is_prefilling(*open)) {
        ++open;
        continue;
      }
      while (open->next_sample < options_.samples && flights_.size() < most) {
        start(*open, open->next_sample);
        open->next_sample = next_of(open->problem, open->next_sample + 1);
      }
      if (open->next_sample < options_.samples) break;
      open = open_.erase(open);
    }
    for (; next_problem_ < result_.problems && flights_.size() < most; ++next_problem_) {
      const int first = next_of(next_problem_, 0);
      if (first == options_.samples) continue;
      Open open{options_.request, next_problem_, first, next_of(next_problem_, first + 1)};
      open.request.sampling.seed = seed_of(options_.seed, next_problem_);
      start(open, first);
      if (open.next_sample < options_.samples) open_.push_back(std::move(open));
    }
  }

  void start(Open& open, int sample) {
    const Problem& problem = problems_[open.problem];
    try {
      if (sample == open.first_sample) open.request.prompt = prompt_of_(problem);
      open.request.sample = static_cast<std::uint32_t>(sample);
      flights_.push_back({engine_.start(open.request), open.problem, sample});
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{} (problem {})", error.what(), problem.id));
    }
  }

  void record(const Flight& flight) {
    const Problem& problem = problems_[flight.problem];
    const Trace& trace = flight.sequence.trace();
    if (trace.stopped == StopReason::error)
      fail(ErrorCode::invalid_argument, "a sample without an error", trace.error,
           fmt::format("sample {} of problem {}", flight.sample, problem.id));
    const Response response = respond(trace, *tokenizer_);
    ExamSample sample = measured(problem, trace, response, engine_.model()->info());
    sample.problem = flight.problem;
    sample.sample = flight.sample;
    sample.score = judge_.score(problem, response);
    sample.seconds = std::chrono::duration<double>(Clock::now() - flight.began).count();
    if (sample.is_boxed) sample.strict_score = sample.score;
    require(std::isfinite(sample.score), ErrorCode::invalid_argument, "a finite score",
            fmt::format("{}", sample.score),
            fmt::format("sample {} of problem {}", flight.sample, problem.id));
    file_->write(problem, sample, trace.seed, response.text);
    keep(sample);
  }

  Engine& engine_;
  std::span<const Problem> problems_;
  const Judge& judge_;
  const ExamOptions& options_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  PromptOf prompt_of_;
  ExamResult result_;
  std::vector<std::uint8_t> is_done_;  // as result_.samples
  std::optional<SampleFile> file_;
  std::vector<Flight> flights_;
  std::deque<Open> open_;
  int next_problem_ = 0;
  int done_ = 0;
};

}  // namespace

ExamResult examine(Engine& engine, std::span<const Problem> problems, const Judge& judge,
                   const ExamOptions& options) {
  require(options.samples >= 1, ErrorCode::invalid_argument, "at least one sample a problem",
          std::to_string(options.samples), "ExamOptions::samples");
  require(options.if_begun == IfBegun::refuse || !options.samples_file.empty(),
          ErrorCode::invalid_argument, "a samples_file to resume or restart", "none",
          "ExamOptions::if_begun");
  check_supplied(options.request, "ExamOptions::request", "ExamOptions::seed");
  return Exam(engine, problems, judge, options).run();
}

}  // namespace pensive
