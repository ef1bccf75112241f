// One update of the row: what of the samples depends on it, the loss, Adam, the bounds.
#include <algorithm>
#include <cmath>

#include <c10/core/InferenceMode.h>

#include "train/parts.h"

namespace pensive {

namespace {

double norm(std::span<const double> values) {
  double squares = 0;
  for (const double value : values) squares += value * value;
  return std::sqrt(squares);
}

double root_mean_square(std::span<const float> values) {
  return norm(std::vector<double>(values.begin(), values.end())) /
         std::sqrt(static_cast<double>(values.size()));
}

void clip_norm(std::vector<double>& gradient, double most) {
  const double length = norm(gradient);
  if (most <= 0 || length <= most) return;
  for (double& value : gradient) value *= most / length;
}

Lesson make_lesson(std::span<const Sequence> sequences, const Scores& scores, TokenId row,
                   const TrainOptions& options) {
  Lesson lesson;
  const at::Tensor gains = advantages(scores.rewards, options.advantage_scale).contiguous();
  const double* gain = gains.const_data_ptr<double>();
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    require(std::isfinite(gain[i]), ErrorCode::invalid_argument,
            "rewards whose differences are finite", fmt::format("an advantage of {}", gain[i]),
            fmt::format("sample {} of the step", i));
    const Trace& trace = sequences[i].trace();
    lesson.drawn += drawn_tokens(trace);
    lesson.decoded += trace.decoded_tokens();
    std::optional<Suffix> suffix = find_suffix(trace, depths_of(sequences[i]), row);
    const bool is_masked = options.truncated == Truncated::masked && scores.is_ended[i];
    if (!suffix || is_masked) continue;
    lesson.dependent += std::ssize(suffix->targets);
    lesson.has_advantage = lesson.has_advantage || gain[i] != 0;
    if (gain[i] == 0 && options.kl == 0) continue;
    suffix->advantage = gain[i];
    lesson.suffixes.push_back(std::move(*suffix));
    lesson.sources.push_back(i);
  }
  return lesson;
}

double denominator_of(const Lesson& lesson, std::size_t samples, const TrainOptions& options) {
  if (options.denominator == Denominator::suffix_tokens)
    return static_cast<double>(lesson.dependent);
  if (options.denominator == Denominator::drawn_tokens) return static_cast<double>(lesson.drawn);
  const int tokens =
      options.constant_tokens > 0 ? options.constant_tokens : options.rollout.max_new_tokens;
  return static_cast<double>(samples) * tokens;
}

// The gap is that between what the engine drew from and what the trainer has for the same tokens.
void report_backward(std::span<const Suffix> suffixes, const SuffixResult& result, bool is_first,
                     TrainReport& report) {
  const double gradient_norm = norm(result.gradient);
  require(std::isfinite(gradient_norm) && std::isfinite(result.loss), ErrorCode::invalid_argument,
          "a finite gradient and loss: the row has grown too large, or kl or pull are",
          fmt::format("{} and {}", gradient_norm, result.loss), "training step");
  const double targets = static_cast<double>(result.targets);
  report.clip_share = static_cast<double>(result.clipped) / targets;
  if (!is_first) return;
  report.loss = result.loss;
  report.gradient_norm = gradient_norm;
  report.entropy_nats = result.entropy / targets;
  report.kl_nats = result.kl / targets;
  report.mean_weight = result.weight / targets;
  for (std::size_t s = 0; s < suffixes.size(); ++s)
    for (std::size_t t = 0; t < suffixes[s].targets.size(); ++t) {
      const double gap = std::abs(suffixes[s].targets[t].drawn_logprob - result.logprobs[s][t]);
      report.mean_logprob_gap += gap / targets;
      report.max_logprob_gap = std::max(report.max_logprob_gap, gap);
    }
}

std::vector<double> moved_from(std::span<const float> values, std::span<const float> started) {
  std::vector<double> moved(values.begin(), values.end());
  for (std::size_t i = 0; i < moved.size(); ++i) moved[i] -= started[i];
  return moved;
}

// Half the squared distance, times `weight`.
void add_pull(SuffixResult& result, std::span<const double> moved, double weight) {
  for (std::size_t i = 0; i < moved.size(); ++i) {
    result.gradient[i] += weight * moved[i];
    result.loss += weight / 2 * moved[i] * moved[i];
  }
}

// The point nearest to the row that the bounds allow.
void bound(std::vector<float>& values, std::span<const float> started,
           const TrainOptions& options) {
  const bool is_distance = options.max_row_distance > 0;
  const double most = is_distance ? options.max_row_distance : options.max_row_norm;
  const std::vector<float> origin(values.size(), 0.0f);
  const std::span<const float> from = is_distance ? started : std::span<const float>(origin);
  const std::vector<double> moved = moved_from(values, from);
  const double length = norm(moved);
  if (most <= 0 || length <= most) return;
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(from[i] + moved[i] * (most / length));
}

void report_samples(const Lesson& lesson, const Scores& scores, TrainReport& report) {
  const auto samples = static_cast<double>(scores.is_ended.size());
  const at::Tensor& rewards = scores.rewards;
  report.mean_reward = rewards.mean().item<double>();
  report.mean_parts = scores.mean_parts;
  report.mean_tokens = static_cast<double>(lesson.decoded) / samples;
  report.truncated_share =
      static_cast<double>(std::count(scores.is_ended.begin(), scores.is_ended.end(), 1)) / samples;
  report.spread_share = (rewards.amax(1) > rewards.amin(1)).to(at::kDouble).mean().item<double>();
}

}  // namespace

void Trainer::Parts::learn(std::span<const Sequence> sequences, Lesson& lesson,
                           std::vector<float>& values, Adam& next, TrainReport& report) const {
  const auto prefix_of = [&](int s) {
    return cached_prefix(sequences[lesson.sources[s]], lesson.suffixes[s].begins);
  };
  SuffixSetting setting{
      .decoder = *engine.model()->parts().decoder,
      .rows = soft->rows()->rounded.clone(),
      .row = row,
      .temperature = temperature,
      .loss = {.clip_low = options.clip,
               .clip_high = options.clip_high > 0 ? options.clip_high : options.clip,
               .max_weight = options.max_importance_weight,
               .kl = options.kl,
               .denominator = denominator_of(lesson, sequences.size(), options)},
      .max_batch_tokens = options.max_batch_tokens,
      .max_logits = most_logits(soft->rows()->rounded.is_cuda()),
      .pages_of =
          [&](int s) {
            return prefix_pages(sequences[lesson.sources[s]], lesson.suffixes[s].begins);
          },
      .logprobs = options.logprobs,
      .page_tokens = engine.options().page_tokens};
  const at::Tensor trained = setting.rows.select(0, row - engine.model()->vocab_size());
  if (options.kl > 0) {
    trained.copy_(at::tensor(started));
    auto logprobs = suffix_logprobs(setting, lesson.suffixes, prefix_of);
    for (std::size_t s = 0; s < lesson.suffixes.size(); ++s)
      lesson.suffixes[s].start_logprobs = std::move(logprobs[s]);
    trained.copy_(at::tensor(values));
  }
  for (int inner = 0; inner < options.inner_steps; ++inner) {
    SuffixResult result = suffix_backward(setting, lesson.suffixes, prefix_of);
    if (options.pull > 0) add_pull(result, moved_from(values, started), options.pull);
    report_backward(lesson.suffixes, result, inner == 0, report);
    clip_norm(result.gradient, options.max_gradient_norm);
    next.update(values, result.gradient, report.learning_rate);
    bound(values, started, options);
    trained.copy_(at::tensor(values));
    if (inner > 0) continue;
    for (std::size_t s = 0; s < lesson.suffixes.size(); ++s)
      lesson.suffixes[s].old_logprobs = std::move(result.logprobs[s]);
  }
}

void Trainer::Parts::update(std::span<const Sequence> sequences, const Scores& scores,
                            TrainReport& report) {
  const c10::InferenceMode no_inference(false);
  Lesson lesson = make_lesson(sequences, scores, row, options);
  std::vector<float> values = soft->row(row);
  Adam next_adam = adam;
  Watch next_watch = watch;
  const at::Tensor means = scores.rewards.mean(1).contiguous();
  next_watch.add({means.const_data_ptr<double>(), static_cast<std::size_t>(means.numel())}, values,
                 steps + 1, options.stop_errors);
  report_samples(lesson, scores, report);
  report.learning_rate =
      scheduled_rate(options.learning_rate, steps, options.total_steps) *
      (options.rate_unit == RateUnit::start_rms ? root_mean_square(started) : 1.0);
  report.has_stopped = next_watch.has_stopped;
  report.best_step = next_watch.best_step;
  const bool teaches = lesson.has_advantage && !next_watch.has_stopped;
  if (teaches) learn(sequences, lesson, values, next_adam, report);
  if (next_watch.has_stopped) values = next_watch.best_row;
  report.step = steps + 1;
  report.row_norm = norm(std::vector<double>(values.begin(), values.end()));
  report.row_distance = norm(moved_from(values, started));

  if (teaches || next_watch.has_stopped) soft->set_row(row, values);
  adam = std::move(next_adam);
  watch = std::move(next_watch);
  ++steps;
}

}  // namespace pensive
