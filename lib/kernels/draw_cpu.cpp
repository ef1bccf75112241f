#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/cpu.h"
#include "kernels/loops.h"

namespace pensive::kernels::cpu {
namespace {

constexpr double none = -std::numeric_limits<double>::infinity();

// One row at a time; its two scratch rows live as long as a thread's share of the work.
template <class T>
class RowDraw {
 public:
  RowDraw(Scalar scalar, int64_t vocab) : scalar_(scalar), z_(vocab), scores_(vocab) {}

  Drawn run(const T* raw, const DrawRow& wish) {
    Drawn drawn;
    auto vocab = static_cast<int64_t>(z_.size());
    facts_ = loops().row_facts(raw, vocab, scalar_);
    drawn.is_finite = !facts_.is_bad && facts_.most > none;
    if (!drawn.is_finite) return drawn;

    double sum = 0, weighted = 0;
    loops().exp_sums(raw, vocab, facts_.most, none, scalar_, &sum, &weighted);
    double log_sum = facts_.most + std::log(sum);
    auto logprob_of = [&](int64_t token) { return static_cast<float>(raw[token] - log_sum); };
    drawn.entropy = static_cast<float>(std::max(0.0, std::log(sum) - weighted / sum));
    drawn.top_token = static_cast<int32_t>(loops().first_equal(raw, vocab, facts_.most, scalar_));
    drawn.top_logprob = logprob_of(drawn.top_token);
    drawn.watched.reserve(wish.watched.size());
    for (int32_t token : wish.watched) drawn.watched.push_back(logprob_of(token));
    list(raw, wish.listed, &drawn.listed_tokens);
    for (int32_t token : drawn.listed_tokens) drawn.listed_logprobs.push_back(logprob_of(token));

    drawn.token = drawn.top_token;
    bool is_steered = !wish.bias_tokens.empty() || !wish.mask.empty();
    const T* steered = is_steered ? steer(raw, wish) : raw;
    double top = facts_.most;
    if (is_steered) {
      RowFacts after = loops().row_facts(steered, vocab, scalar_);
      drawn.is_finite = !after.is_bad && after.most > none;
      if (!drawn.is_finite) return drawn;
      top = after.most;
      drawn.token = static_cast<int32_t>(loops().first_equal(steered, vocab, top, scalar_));
    }
    if (wish.temperature > 0) {
      loops().scale(steered, z_.data(), vocab, top, wish.temperature, scalar_);
      drawn.drawn_logprob = sample(wish, &drawn.token);
    }
    drawn.logprob = logprob_of(drawn.token);
    return drawn;
  }

 private:
  // The `count` largest, the largest first, of equals the lower id.
  void list(const T* raw, int count, std::vector<int32_t>* best) {
    if (count == 0) return;
    for (int32_t token = 0; token < static_cast<int32_t>(z_.size()); ++token) {
      bool is_full = static_cast<int>(best->size()) == count;
      if (is_full && !(raw[token] > raw[best->back()])) continue;
      auto place = std::upper_bound(best->begin(), best->end(), token,
                                    [&](int32_t a, int32_t b) { return raw[a] > raw[b]; });
      best->insert(place, token);
      if (is_full) best->pop_back();
    }
  }

  // Biases and mask, into z_.
  const T* steer(const T* raw, const DrawRow& wish) {
    std::copy_n(raw, z_.size(), z_.begin());
    double mean = facts_.sum / static_cast<double>(facts_.finite);
    for (std::size_t i = 0; i < wish.bias_tokens.size(); ++i) {
      double times = wish.bias_times_max_minus_mean.empty() ? 0 : wish.bias_times_max_minus_mean[i];
      double bias = wish.bias_logits[i] + times * (facts_.most - mean);
      T& z = z_[wish.bias_tokens[i]];
      z += static_cast<T>(bias);
      if (!wish.bias_repetitions.empty() && wish.bias_repetitions[i] != 1) {
        T factor = wish.bias_repetitions[i];
        z = z > 0 ? z / factor : z * factor;
      }
      if (!wish.bias_penalties.empty()) z -= static_cast<T>(wish.bias_penalties[i]);
    }
    if (wish.mask.empty()) return z_.data();
    for (std::size_t token = 0; token < z_.size(); ++token) {
      std::size_t word = token / 32;
      bool is_allowed = word < wish.mask.size() && (wish.mask[word] >> (token % 32) & 1);
      if (!is_allowed) z_[token] = static_cast<T>(none);
    }
    return z_.data();
  }

  // The k-th largest of z_.
  double kth_largest(int k) {
    std::copy(z_.begin(), z_.end(), scores_.begin());
    std::nth_element(scores_.begin(), scores_.begin() + (k - 1), scores_.end(), std::greater<>());
    return scores_[k - 1];
  }

  // The value down to which the likeliest, of those at least `least`, sum up to top_p.
  double nucleus(double top_p, double least, double total) {
    // What is below this sums to less than what may be left out, so it need not be sorted.
    double floor = std::log((1 - top_p) * total / static_cast<double>(z_.size()));
    floor = std::max(floor, least);
    auto end = std::copy_if(z_.begin(), z_.end(), scores_.begin(), [&](T z) { return z >= floor; });
    std::sort(scores_.begin(), end, std::greater<>());
    double mass = 0, enough = top_p * total * (1 - 1e-6);  // float sums do not end exactly on it
    for (auto z = scores_.begin(); z != end; ++z) {
      mass += std::exp(static_cast<double>(*z));
      if (mass >= enough) return *z;
    }
    return least;
  }

  // Draws from z_; returns the logprob under the distribution it was drawn from.
  float sample(const DrawRow& wish, int32_t* token) {
    auto vocab = static_cast<int64_t>(z_.size());
    double least = none, kept = 0, unused = 0;
    if (wish.top_k > 0 && wish.top_k < vocab) least = kth_largest(wish.top_k);
    loops().exp_sums(z_.data(), vocab, 0, least, scalar_, &kept, &unused);
    if (wish.top_p < 1) {
      double cut = nucleus(wish.top_p, least, kept);
      if (cut > least) {
        least = cut;
        loops().exp_sums(z_.data(), vocab, 0, least, scalar_, &kept, &unused);
      }
    }
    if (wish.min_p > 0) {
      double cut = log_of_min_p(wish);
      if (cut > least) {
        least = cut;
        loops().exp_sums(z_.data(), vocab, 0, least, scalar_, &kept, &unused);
      }
    }
    *token = static_cast<int32_t>(
        loops().gumbel_argmax(z_.data(), scores_.data(), vocab, least, wish.key, scalar_));
    return static_cast<float>(z_[*token] - std::log(kept));
  }

  Scalar scalar_;
  RowFacts facts_;
  std::vector<T> z_, scores_;
};

template <class T>
std::vector<Drawn> draw_rows(const at::Tensor& logits, const std::vector<DrawRow>& wishes) {
  at::Tensor contiguous = logits.contiguous();
  const T* raw = contiguous.const_data_ptr<T>();
  int64_t vocab = logits.size(1), rows = logits.size(0);
  std::vector<Drawn> drawn(wishes.size());
  at::parallel_for(0, rows, 4096 / vocab + 1, [&](int64_t first, int64_t last) {
    RowDraw<T> draw(scalar_of(logits), vocab);
    for (int64_t row = first; row < last; ++row) {
      drawn[row] = draw.run(raw + row * vocab, wishes[row]);
    }
  });
  return drawn;
}

// What RowDraw::sample() has of a token, and the entropy of what it samples.
template <class T>
TokenLogprobs logprobs_of(const at::Tensor& logits, const at::Tensor& tokens, double temperature) {
  const Scalar scalar = scalar_of(logits);
  const at::Tensor ids = tokens.contiguous();
  const at::Tensor found = at::empty({3, logits.size(0)}, logits.options());
  const int64_t vocab = logits.size(1), rows = logits.size(0);
  T *logprobs = found.data_ptr<T>(), *entropies = logprobs + rows, *sums = entropies + rows;
  at::parallel_for(0, rows, 4096 / vocab + 1, [&](int64_t first, int64_t last) {
    std::vector<T> z(static_cast<std::size_t>(vocab));
    for (int64_t row = first; row < last; ++row) {
      const T* raw = logits.const_data_ptr<T>() + row * vocab;
      const double top = loops().row_facts(raw, vocab, scalar).most;
      double kept = 0, weighted = 0;
      loops().scale(raw, z.data(), vocab, top, temperature, scalar);
      loops().exp_sums(z.data(), vocab, 0, none, scalar, &kept, &weighted);
      const double log_sum = std::log(kept);
      const T drawn = z[static_cast<std::size_t>(ids.const_data_ptr<int64_t>()[row])];
      logprobs[row] = static_cast<float>(drawn - log_sum);  // rounded as the draw's is
      entropies[row] = static_cast<T>(std::max(0.0, log_sum - weighted / kept));
      sums[row] = static_cast<T>(top / temperature + log_sum);
    }
  });
  return {found[0], found[1], found[2]};
}

}  // namespace

TokenLogprobs drawn_logprobs(const at::Tensor& logits, const at::Tensor& tokens,
                             double temperature) {
  return logits.scalar_type() == at::kDouble ? logprobs_of<double>(logits, tokens, temperature)
                                             : logprobs_of<float>(logits, tokens, temperature);
}

std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows) {
  if (logits.scalar_type() == at::kDouble) return draw_rows<double>(logits, rows);
  return draw_rows<float>(logits, rows);
}

}  // namespace pensive::kernels::cpu
