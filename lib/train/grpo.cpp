// The pure steps: numbers in, numbers out.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/inside.h"
#include "train/steps.h"

namespace pensive {

at::Tensor advantages(const at::Tensor& rewards) {
  if (rewards.size(1) < 2) return at::zeros_like(rewards);
  const at::Tensor centred = rewards - rewards.mean(1, true);
  const at::Tensor spread = rewards.std(at::OptionalIntArrayRef({1}), /*correction=*/1, true);
  // Exact equality, not a small deviation: rounding of the mean alone must not teach anything.
  const at::Tensor differs = rewards.amax(1, true) > rewards.amin(1, true);
  return at::where(differs, centred / (spread + 1e-4), at::zeros_like(centred));
}

Loss grpo_loss(const at::Tensor& logprobs, const at::Tensor& old_logprobs,
               const at::Tensor& advantages, double clip, double denominator) {
  const at::Tensor ratio = (logprobs - old_logprobs).exp();
  const at::Tensor clamped = ratio.clamp(1 - clip, 1 + clip);
  const at::Tensor gain = at::minimum(ratio * advantages, clamped * advantages);
  const at::Tensor fixed = ratio.detach();
  const at::Tensor cut =
      ((fixed > 1 + clip) & (advantages > 0)) | ((fixed < 1 - clip) & (advantages < 0));
  return {-gain.sum() / denominator, cut.sum()};
}

std::optional<Suffix> find_suffix(const Trace& trace, TokenId row) {
  Suffix suffix;
  suffix.begins = -1;
  for (std::size_t i = 0; i < trace.tokens.size(); ++i) {
    const bool is_drawn = trace.origins[i] == Origin::sampled;
    if (is_drawn && suffix.begins >= 0) {
      // Tokens are taken back from the end, so a token whose context was taken back with it always
      // follows a token that was taken back.
      if (trace.is_taken_back[i] && trace.is_taken_back[i - 1])
        fail(ErrorCode::unsupported,
             "at most one drawn token taken back at a time after the soft token",
             fmt::format("several in a row (a closer of several tokens?), ending with id {}",
                         trace.tokens[i]),
             fmt::format("token {} of a rollout", i));
      const int last = static_cast<int>(suffix.tokens.size()) - 1;
      suffix.targets.push_back({last - suffix.begins, trace.tokens[i], trace.drawn_logprobs[i]});
    }
    if (trace.is_taken_back[i]) continue;
    if (suffix.begins < 0 && trace.tokens[i] == row)
      suffix.begins = static_cast<int>(suffix.tokens.size());
    suffix.tokens.push_back(trace.tokens[i]);
  }
  if (suffix.targets.empty()) return std::nullopt;
  suffix.tokens.resize(suffix.begins + suffix.targets.back().position + 1);
  return suffix;
}

std::int64_t drawn_tokens(const Trace& trace) noexcept {
  return std::count(trace.origins.begin(), trace.origins.end(), Origin::sampled);
}

void Adam::update(std::vector<float>& values, std::span<const double> gradient, double rate) {
  constexpr double first_decay = 0.9, second_decay = 0.95, epsilon = 1e-8;
  first.resize(values.size());
  second.resize(values.size());
  ++updates;
  const double first_scale = 1 - std::pow(first_decay, updates);
  const double second_scale = 1 - std::pow(second_decay, updates);
  for (std::size_t i = 0; i < values.size(); ++i) {
    first[i] = first_decay * first[i] + (1 - first_decay) * gradient[i];
    second[i] = second_decay * second[i] + (1 - second_decay) * gradient[i] * gradient[i];
    const double step = first[i] / first_scale / (std::sqrt(second[i] / second_scale) + epsilon);
    values[i] = static_cast<float>(values[i] - rate * step);
  }
}

double scheduled_rate(double rate, int step, int total_steps) noexcept {
  if (total_steps <= 0) return rate;
  if (step >= total_steps) return 0;
  return rate * 0.5 * (1 + std::cos(std::numbers::pi * step / total_steps));
}

}  // namespace pensive
