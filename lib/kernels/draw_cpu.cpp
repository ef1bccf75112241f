#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu.h"
#include "kernels/noise.h"

namespace pensive::kernels::cpu {
namespace {

Drawn draw_row(const std::vector<double>& raw, const DrawRow& wish) {
  constexpr double none = -std::numeric_limits<double>::infinity();
  Drawn drawn;
  int vocab = static_cast<int>(raw.size());
  double most = none, sum = 0, weighted = 0, mean = 0;
  for (int t = 0; t < vocab; ++t) {
    if (std::isnan(raw[t]) || raw[t] == -none) drawn.is_finite = false;
    if (raw[t] > most) most = raw[t], drawn.top_token = t;
    mean += raw[t] / vocab;
  }
  if (!drawn.is_finite || most == none) return drawn.is_finite = false, drawn;
  for (double logit : raw) {
    double p = std::exp(logit - most);
    sum += p;
    if (p > 0) weighted += p * (logit - most);
  }
  double log_sum = most + std::log(sum);
  drawn.entropy = static_cast<float>(std::log(sum) - weighted / sum);
  drawn.top_logprob = static_cast<float>(most - log_sum);
  for (int t : wish.watched) drawn.watched.push_back(static_cast<float>(raw[t] - log_sum));

  std::vector<double> scaled = raw;
  for (std::size_t i = 0; i < wish.bias_tokens.size(); ++i) {
    double times = wish.bias_times_max_minus_mean.empty() ? 0 : wish.bias_times_max_minus_mean[i];
    scaled[wish.bias_tokens[i]] += wish.bias_logits[i] + (times != 0 ? times * (most - mean) : 0);
  }
  if (!wish.mask.empty()) {
    for (int t = 0; t < vocab; ++t) {
      bool allowed = t / 32u < wish.mask.size() && (wish.mask[t / 32] >> (t % 32) & 1);
      if (!allowed) scaled[t] = none;
    }
  }
  int best = static_cast<int>(std::max_element(scaled.begin(), scaled.end()) - scaled.begin());
  double top = scaled[best];
  if (!(top > none) || top == -none) return drawn.is_finite = false, drawn;
  drawn.token = best;
  if (wish.temperature > 0) {
    for (double& z : scaled) z = (z - top) / wish.temperature;
    std::vector<double> sorted = scaled;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    double least = none;
    if (wish.top_k > 0 && wish.top_k < vocab) least = sorted[wish.top_k - 1];
    double total = 0;
    for (double z : sorted) total += z >= least ? std::exp(z) : 0;
    if (wish.top_p < 1) {
      double mass = 0;
      for (double z : sorted) {
        mass += std::exp(z);
        if (mass >= wish.top_p * total) {
          least = std::max(least, z);
          break;
        }
      }
    }
    double kept = 0, best_score = none;
    for (int t = 0; t < vocab; ++t) {
      if (scaled[t] < least || scaled[t] == none) continue;
      kept += std::exp(scaled[t]);
      double score = scaled[t] + gumbel_of(wish.key, t);
      if (score > best_score) best_score = score, drawn.token = t;
    }
    drawn.drawn_logprob = static_cast<float>(scaled[drawn.token] - std::log(kept));
  }
  drawn.logprob = static_cast<float>(raw[drawn.token] - log_sum);
  return drawn;
}

}  // namespace

std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows) {
  at::Tensor wide = logits.to(at::kDouble).contiguous();
  std::vector<Drawn> result;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    const double* row = wide.data_ptr<double>() + r * wide.size(1);
    result.push_back(draw_row(std::vector<double>(row, row + wide.size(1)), rows[r]));
  }
  return result;
}

}  // namespace pensive::kernels::cpu
