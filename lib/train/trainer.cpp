// One training step: roll out, judge, update the row, report.
#include "pensive/train.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <new>

#include "base/inside.h"
#include "kernels/kernels.h"
#include "train/parts.h"

namespace pensive {
namespace {

class Clock {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
  }

 private:
  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
};

// Runs `work`, turning libtorch's exceptions into ours.
template <class Work>
auto translated(Work work) {
  constexpr std::string_view room = "room for one backward: lower max_batch_tokens";
  try {
    return work();
  } catch (const c10::OutOfMemoryError& error) {
    fail(ErrorCode::out_of_memory, room, error.what_without_backtrace(), "training step");
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::out_of_memory, room, "too little memory", "training step");
  } catch (const c10::Error& error) {
    const std::string_view what = error.what_without_backtrace();
    const bool is_memory = what.find("allocate memory") != std::string_view::npos;
    fail(is_memory ? ErrorCode::out_of_memory : ErrorCode::device,
         is_memory ? room : "a step that the device carries out", what, "training step");
  }
}

void check_number(bool holds, std::string_view expected, double found, std::string_view name) {
  require(holds, ErrorCode::invalid_argument, expected, fmt::format("{}", found),
          fmt::format("TrainOptions::{}", name));
}

void check_options(const TrainOptions& options) {
  check_number(options.group_size >= 2, "at least 2 samples a problem", options.group_size,
               "group_size");
  check_number(std::isfinite(options.learning_rate) && options.learning_rate > 0, "a positive rate",
               options.learning_rate, "learning_rate");
  check_number(options.total_steps >= 0, "0 or more steps", options.total_steps, "total_steps");
  check_number(options.clip > 0 && options.clip < 1, "a number between 0 and 1", options.clip,
               "clip");
  check_number(options.inner_steps >= 1, "at least one inner step", options.inner_steps,
               "inner_steps");
  check_number(std::isfinite(options.max_gradient_norm) && options.max_gradient_norm >= 0,
               "0 or more", options.max_gradient_norm, "max_gradient_norm");
  check_number(options.max_batch_tokens >= 1, "at least one token", options.max_batch_tokens,
               "max_batch_tokens");
}

// The rollouts' temperature, after the checkpoint's own defaults; refuses what the loss is not of.
double check_sampling(const Model& model, const Sampling& sampling) {
  const GenerationDefaults& defaults = model.defaults();
  const auto settled = [](const auto& mine, const auto& theirs, auto otherwise) {
    return mine ? *mine : theirs.value_or(otherwise);
  };
  const float temperature = settled(sampling.temperature, defaults.temperature, 1.0f);
  const float top_p = settled(sampling.top_p, defaults.top_p, 1.0f);
  const int top_k = settled(sampling.top_k, defaults.top_k, 0);
  require(std::isfinite(temperature) && temperature > 0, ErrorCode::invalid_argument,
          "a temperature above 0: greedy rollouts have no spread", fmt::format("{}", temperature),
          "TrainOptions::rollout.sampling.temperature");
  constexpr std::string_view source = " (rollout.sampling, else generation_config.json)";
  require(top_k <= 0 || top_k >= model.vocab_size(), ErrorCode::unsupported,
          "top_k = 0: the loss is that of the whole distribution",
          fmt::format("{}{}", top_k, source), "TrainOptions::rollout.sampling.top_k");
  const auto refuse = [](bool is_neutral, std::string_view what) {
    require(is_neutral, ErrorCode::unsupported,
            fmt::format("no {}: the loss is that of the model's own distribution", what), "one",
            "TrainOptions::rollout.sampling");
  };
  refuse(settled(sampling.min_p, defaults.min_p, 0.0f) == 0, "min_p");
  refuse(settled(sampling.repetition_penalty, defaults.repetition_penalty, 1.0f) == 1,
         "repetition_penalty");
  refuse(sampling.presence_penalty == 0, "presence_penalty");
  refuse(sampling.frequency_penalty == 0, "frequency_penalty");
  refuse(sampling.logit_bias.empty(), "logit_bias");
  refuse(sampling.allowed_tokens.empty() && sampling.banned_tokens.empty(),
         "allowed_tokens or banned_tokens");
  require(top_p >= 1, ErrorCode::unsupported,
          "top_p = 1: the loss is that of the whole distribution",
          fmt::format("{}{}", top_p, source), "TrainOptions::rollout.sampling.top_p");
  return temperature;
}

double norm(std::span<const double> values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

std::string name_of(const Problem& problem, std::size_t sample) {
  return fmt::format("sample {} of problem {}", sample, problem.id);
}

void clip_norm(std::vector<double>& gradient, double most) {
  const double length = norm(gradient);
  if (most <= 0 || length <= most) return;
  for (double& value : gradient) value *= most / length;
}

// What one update learns from: the suffixes with an advantage, and the sequences they are of.
struct Lesson {
  std::vector<Suffix> suffixes;
  std::vector<std::size_t> sources;
  std::int64_t drawn = 0;    // tokens of all sequences, with and without an advantage
  std::int64_t decoded = 0;  // likewise
};

Lesson make_lesson(std::span<const Sequence> sequences, const at::Tensor& gains, TokenId row) {
  Lesson lesson;
  const at::Tensor flat = gains.contiguous();
  const double* gain = flat.const_data_ptr<double>();
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Trace& trace = sequences[i].trace();
    lesson.drawn += drawn_tokens(trace);
    lesson.decoded += trace.decoded_tokens();
    std::optional<Suffix> suffix = find_suffix(trace, row);
    if (!suffix || gain[i] == 0) continue;
    suffix->advantage = gain[i];
    lesson.suffixes.push_back(std::move(*suffix));
    lesson.sources.push_back(i);
  }
  return lesson;
}

// The gap is that between what the engine drew from and what the trainer has for the same tokens.
void report_backward(std::span<const Suffix> suffixes, const SuffixResult& result, bool is_first,
                     TrainReport& report) {
  const double gradient_norm = norm(result.gradient);
  require(std::isfinite(gradient_norm) && std::isfinite(result.loss), ErrorCode::invalid_argument,
          "a finite gradient: lower the learning rate", fmt::format("{}", gradient_norm),
          "training step");
  const double targets = static_cast<double>(result.targets);
  report.clip_share = static_cast<double>(result.clipped) / targets;
  if (!is_first) return;
  report.loss = result.loss;
  report.gradient_norm = gradient_norm;
  for (std::size_t s = 0; s < suffixes.size(); ++s)
    for (std::size_t t = 0; t < suffixes[s].targets.size(); ++t) {
      const double gap = std::abs(suffixes[s].targets[t].drawn_logprob - result.logprobs[s][t]);
      report.mean_logprob_gap += gap / targets;
      report.max_logprob_gap = std::max(report.max_logprob_gap, gap);
    }
}

}  // namespace

Trainer::Trainer(Engine& engine, std::shared_ptr<SoftVocab> soft, TokenId row,
                 std::shared_ptr<const Judge> judge, const TrainOptions& options) {
  require(soft != nullptr, ErrorCode::invalid_argument, "a SoftVocab", "none", "Trainer");
  require(judge != nullptr, ErrorCode::invalid_argument, "a judge", "none", "Trainer");
  require(engine.options().soft == soft, ErrorCode::invalid_argument,
          "an engine made with this SoftVocab (EngineOptions::soft)",
          engine.options().soft ? "another one" : "none", "Trainer");
  check_options(options);
  const Model& model = *engine.model();
  const double temperature = check_sampling(model, options.rollout.sampling);
  std::vector<float> started = soft->row(row);  // refuses an id that is no soft row
  parts_ = std::unique_ptr<Parts>(new Parts{
      .engine = engine,
      .soft = soft,
      .row = row,
      .judge = std::move(judge),
      .options = options,
      .tokenizer = soft->tokenizer(),
      .prompt_of = options.prompt_of ? options.prompt_of : chat_prompt(model.tokenizer()),
      .temperature = temperature,
      .started = std::move(started),
      .adam = {},
      .example = {},
  });
}

Trainer::~Trainer() = default;

int Trainer::steps_done() const noexcept { return parts_->steps; }

TrainReport Trainer::step(std::span<const Problem> problems) {
  require(!problems.empty(), ErrorCode::invalid_argument, "at least one problem", "none",
          "Trainer::step");
  return translated([&] {
    TrainReport report;
    const Clock rollout_clock;
    const std::vector<Sequence> sequences = parts_->roll_out(problems);
    parts_->check_rollouts(problems, sequences);
    const at::Tensor rewards = parts_->judge_all(problems, sequences);
    report.rollout_seconds = rollout_clock.seconds();
    const Clock update_clock;
    parts_->update(sequences, rewards, report);
    report.update_seconds = update_clock.seconds();
    parts_->example = problems.front();
    return report;
  });
}

// After a prompt that holds the row itself, every drawn token depends on it: nothing is shared.
bool Trainer::Parts::is_forked(const Sequence& first) const {
  const auto prompt = std::span(first.trace().tokens).first(first.trace().prompt_tokens);
  return options.branch == Branch::at_soft_token &&
         std::find(prompt.begin(), prompt.end(), row) == prompt.end();
}

// Samples that begin at the prompt find it in the cache, where the first has left it.
bool Trainer::Parts::may_branch(const Sequence& first) const {
  if (first.finished()) return true;
  const std::vector<TokenId>& tokens = first.trace().tokens;
  if (is_forked(first)) return std::find(tokens.begin(), tokens.end(), row) != tokens.end();
  return !engine.options().reuse_prefixes || std::ssize(tokens) > first.trace().prompt_tokens;
}

std::vector<Sequence> Trainer::Parts::roll_out(std::span<const Problem> problems) {
  const std::size_t group = options.group_size;
  std::vector<Request> requests(problems.size(), options.rollout);
  std::vector<std::optional<Sequence>> begun(problems.size() * group);
  const auto start = [&](std::size_t p, std::size_t j) {
    try {
      if (j == 0) requests[p].prompt = prompt_of(problems[p]);
      const std::optional<Sequence>& first = begun[p * group];
      if (j > 0 && is_forked(*first)) {
        begun[p * group + j].emplace(first->fork(Draws::fresh));
        return;
      }
      requests[p].sample = static_cast<std::uint32_t>(j);
      begun[p * group + j].emplace(engine.start(requests[p]));
    } catch (const Error& error) {
      throw Error(error.code(), fmt::format("{} (problem {})", error.what(), problems[p].id));
    }
  };
  const std::uint64_t seed = kernels::mix(options.seed, steps);
  for (std::size_t p = 0; p < problems.size(); ++p) {
    requests[p].sampling.seed = kernels::mix(seed, p);
    start(p, 0);
  }
  std::vector<std::uint8_t> is_open(problems.size());
  const auto open = [&] {
    bool all = true;
    for (std::size_t p = 0; p < problems.size(); ++p) {
      const bool is_ready = is_open[p] || may_branch(*begun[p * group]);
      if (!is_open[p] && is_ready)
        for (std::size_t j = 1; j < group; ++j) start(p, j);
      is_open[p] = is_ready;
      all = all && is_open[p];
    }
    return all;
  };
  while (!open()) engine.step();
  std::vector<Sequence> sequences;
  sequences.reserve(begun.size());
  for (std::optional<Sequence>& sequence : begun) sequences.push_back(std::move(*sequence));
  engine.finish(sequences);
  return sequences;
}

void Trainer::Parts::check_rollouts(std::span<const Problem> problems,
                                    std::span<const Sequence> sequences) const {
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const auto name = [&] {
      return name_of(problems[i / options.group_size], i % options.group_size);
    };
    const Trace& trace = sequences[i].trace();
    if (trace.stopped == StopReason::error)
      fail(ErrorCode::invalid_argument, "a rollout without an error", trace.error, name());
    if (const std::optional<std::string> guide = steered_by(sequences[i]))
      fail(ErrorCode::unsupported,
           "guides that neither bias nor mask draws: the loss is that of the model's own "
           "distribution",
           fmt::format("guide {}", *guide), name());
  }
}

at::Tensor Trainer::Parts::judge_all(std::span<const Problem> problems,
                                     std::span<const Sequence> sequences) const {
  std::vector<double> rewards;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Problem& problem = problems[i / options.group_size];
    const std::size_t sample = i % options.group_size;
    rewards.push_back(judge->score(problem, respond(sequences[i].trace(), *tokenizer)));
    require(std::isfinite(rewards.back()), ErrorCode::invalid_argument, "a finite reward",
            fmt::format("{}", rewards.back()), name_of(problem, sample));
  }
  return at::tensor(rewards, at::kDouble).view({-1, options.group_size});
}

void Trainer::Parts::update(std::span<const Sequence> sequences, const at::Tensor& rewards,
                            TrainReport& report) {
  const c10::InferenceMode no_inference(false);
  Lesson lesson = make_lesson(sequences, advantages(rewards), row);
  const auto prefix_of = [&](int s) {
    return cached_prefix(sequences[lesson.sources[s]], lesson.suffixes[s].begins);
  };
  SuffixSetting setting{.decoder = *engine.model()->parts().decoder,
                        .rows = soft->rows()->rounded.clone(),
                        .row = row,
                        .temperature = temperature,
                        .clip = options.clip,
                        .denominator = static_cast<double>(lesson.drawn),
                        .max_batch_tokens = options.max_batch_tokens};
  std::vector<float> values = soft->row(row);
  Adam next_adam = adam;
  const double rate = scheduled_rate(options.learning_rate, steps, options.total_steps);
  const bool teaches = !lesson.suffixes.empty();
  for (int inner = 0; inner < options.inner_steps && teaches; ++inner) {
    SuffixResult result = suffix_backward(setting, lesson.suffixes, prefix_of);
    report_backward(lesson.suffixes, result, inner == 0, report);
    clip_norm(result.gradient, options.max_gradient_norm);
    next_adam.update(values, result.gradient, rate);
    setting.rows.select(0, row - engine.model()->vocab_size()).copy_(at::tensor(values));
    if (inner > 0) continue;
    for (std::size_t s = 0; s < lesson.suffixes.size(); ++s)
      lesson.suffixes[s].old_logprobs = std::move(result.logprobs[s]);
  }
  report.step = steps + 1;
  report.mean_reward = rewards.mean().item<double>();
  report.mean_tokens = static_cast<double>(lesson.decoded) / static_cast<double>(sequences.size());
  report.spread_share = (rewards.amax(1) > rewards.amin(1)).to(at::kDouble).mean().item<double>();
  std::vector<double> whole(values.begin(), values.end()), moved(whole);
  for (std::size_t i = 0; i < moved.size(); ++i) moved[i] -= started[i];
  report.row_norm = norm(whole);
  report.row_distance = norm(moved);

  if (teaches) soft->set_row(row, values);
  adam = std::move(next_adam);
  ++steps;
}

}  // namespace pensive
