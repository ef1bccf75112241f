// Many samples of many problems through one engine, scored as they finish.
#include <cmath>
#include <deque>
#include <fstream>

#include "base/inside.h"
#include "exam/statistics.h"

namespace pensive {
namespace {

// One well-mixed seed a problem (splitmix64), so that arms with the same seed share their draws.
std::uint64_t seed_of(std::uint64_t seed, int problem) {
  std::uint64_t z = seed + 0x9E3779B97F4A7C15u * (static_cast<std::uint64_t>(problem) + 1);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Where the first answer opens, as a share of what was kept after the prompt.
double first_answer(const Trace& trace) {
  int kept = 0, opened = -1;
  for (std::size_t i = trace.prompt_tokens; i < trace.tokens.size(); ++i) {
    if (trace.is_taken_back[i]) continue;
    if (opened < 0 && trace.segments[i] == Segment::answer) opened = kept;
    ++kept;
  }
  return opened < 0 ? 1.0 : static_cast<double>(opened) / kept;
}

// Whole lines, flushed one by one.
class SampleFile {
 public:
  explicit SampleFile(const std::filesystem::path& path) : path_(path) {
    if (path.empty()) return;
    stream_.open(path, std::ios::trunc | std::ios::binary);
    check();
  }
  void write(const Problem& problem, const ExamSample& sample, const Trace& trace,
             const Response& response) {
    if (path_.empty()) return;
    const nlohmann::ordered_json line = {{"problem", sample.problem},
                                         {"id", problem.id},
                                         {"sample", sample.sample},
                                         {"seed", trace.seed},
                                         {"score", sample.score},
                                         {"tokens", sample.tokens},
                                         {"first_answer", sample.first_answer},
                                         {"stopped", to_string(sample.stopped)},
                                         {"text", response.text}};
    stream_ << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
    stream_.flush();
    check();
  }

 private:
  void check() {
    require(stream_.good(), ErrorCode::io, "a file that can be written", "a failure",
            path_.string());
  }
  std::filesystem::path path_;
  std::ofstream stream_;
};

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
        file_(options.samples_file) {
    result_.problems = static_cast<int>(problems.size());
    result_.samples.resize(problems.size() * options.samples);
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
    summarize(result_);
    return std::move(result_);
  }

 private:
  struct Flight {
    Sequence sequence;
    int problem = 0;
    int sample = 0;
  };
  // A problem whose first sample is under way: the others wait until its prompt is in the cache.
  struct Open {
    Request request;
    int problem = 0;
    int next_sample = 1;
  };

  bool is_prefilling(int problem) const {
    for (const Flight& flight : flights_)
      if (flight.problem == problem && flight.sample == 0)
        return !flight.sequence.finished() &&
               std::ssize(flight.sequence.trace().tokens) <= flight.sequence.trace().prompt_tokens;
    return false;
  }

  void fill() {
    const std::size_t most = std::max(1, engine_.options().max_live_sequences);
    for (auto open = open_.begin(); open != open_.end() && flights_.size() < most;) {
      if (is_prefilling(open->problem)) {
        ++open;
        continue;
      }
      while (open->next_sample < options_.samples && flights_.size() < most)
        start(*open, open->next_sample++);
      if (open->next_sample < options_.samples) break;
      open = open_.erase(open);
    }
    for (; next_problem_ < result_.problems && flights_.size() < most; ++next_problem_) {
      Open open{options_.request, next_problem_};
      open.request.sampling.seed = seed_of(options_.seed, next_problem_);
      start(open, 0);
      if (options_.samples > 1) open_.push_back(std::move(open));
    }
  }

  void start(Open& open, int sample) {
    const Problem& problem = problems_[open.problem];
    try {
      if (sample == 0) open.request.prompt = prompt_of_(problem);
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
    const ExamSample sample{
        flight.problem,         flight.sample,       judge_.score(problem, response),
        trace.decoded_tokens(), first_answer(trace), trace.stopped};
    require(std::isfinite(sample.score), ErrorCode::invalid_argument, "a finite score",
            fmt::format("{}", sample.score),
            fmt::format("sample {} of problem {}", flight.sample, problem.id));
    file_.write(problem, sample, trace, response);
    result_.samples[static_cast<std::size_t>(flight.problem) * options_.samples + flight.sample] =
        sample;
    if (options_.progress) options_.progress(++done_, static_cast<int>(result_.samples.size()));
  }

  Engine& engine_;
  std::span<const Problem> problems_;
  const Judge& judge_;
  const ExamOptions& options_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  PromptOf prompt_of_;
  SampleFile file_;
  ExamResult result_;
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
  return Exam(engine, problems, judge, options).run();
}

}  // namespace pensive
