// The pure steps: numbers in, numbers out.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/inside.h"
#include "train/steps.h"

namespace pensive {

at::Tensor advantages(const at::Tensor& rewards, AdvantageScale scale) {
  if (rewards.size(1) < 2) return at::zeros_like(rewards);
  at::Tensor gains = rewards - rewards.mean(1, true);
  if (scale == AdvantageScale::group)
    gains = gains / (rewards.std(at::OptionalIntArrayRef({1}), /*correction=*/1, true) + 1e-4);
  if (scale == AdvantageScale::batch)
    gains = gains / (rewards.std(at::OptionalIntArrayRef({0, 1}), /*correction=*/1, true) + 1e-4);
  // Exact equality, not a small deviation: rounding of the mean alone must not teach anything.
  const at::Tensor differs = rewards.amax(1, true) > rewards.amin(1, true);
  return at::where(differs, gains, at::zeros_like(gains));
}

Loss grpo_loss(const LossTokens& tokens, const LossSetting& setting) {
  const double low = 1 - setting.clip_low, high = 1 + setting.clip_high;
  const at::Tensor& gains = tokens.advantages;
  const at::Tensor ratio = (tokens.logprobs - tokens.old_logprobs).exp();
  at::Tensor loss = -at::minimum(ratio * gains, ratio.clamp(low, high) * gains);
  const at::Tensor fixed = ratio.detach();
  const at::Tensor cut = ((fixed > high) & (gains > 0)) | ((fixed < low) & (gains < 0));
  at::Tensor weight = at::ones_like(fixed), kl = at::zeros_like(fixed);
  if (setting.max_weight > 0) {
    weight = (tokens.old_logprobs - tokens.drawn_logprobs).exp().clamp_max(setting.max_weight);
    loss = loss * weight;
  }
  if (setting.kl > 0) {
    const at::Tensor d = tokens.start_logprobs - tokens.logprobs;
    kl = d.exp() - d - 1;
    loss = loss + setting.kl * kl;
  }
  return {loss.sum() / setting.denominator, cut.sum(), weight.sum(), kl.detach().sum()};
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
