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
