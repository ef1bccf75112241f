#include "engine/steering.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/inside.h"

namespace pensive {
namespace {

constexpr auto bad = ErrorCode::invalid_argument;

struct Entry {
  TokenId token = 0;
  float logit = 0, times = 0, repetition = 1, penalty = 0;
};

// One entry a token, so that no order among them matters.
void merge(std::vector<Entry>& entries) {
  std::ranges::stable_sort(entries, {}, &Entry::token);
  std::size_t last = 0;
  for (std::size_t i = 1; i < entries.size(); ++i) {
    if (entries[i].token != entries[last].token) {
      entries[++last] = entries[i];
      continue;
    }
    entries[last].logit += entries[i].logit;
    entries[last].times += entries[i].times;
    entries[last].repetition *= entries[i].repetition;
    entries[last].penalty += entries[i].penalty;
  }
  if (!entries.empty()) entries.resize(last + 1);
}

void require_finite(float value, std::string_view name) {
  require(std::isfinite(value), bad, fmt::format("a finite {}", name), fmt::format("{}", value),
          "Sampling");
}

void require_id(TokenId id, TokenId limit, std::string_view where) {
  require(id >= 0 && id < limit, bad, fmt::format("ids from 0 to {}", limit - 1),
          std::to_string(id), where);
}

std::vector<std::uint32_t> mask_of(const Sampling& sampling, TokenId vocab_size) {
  if (sampling.allowed_tokens.empty() && sampling.banned_tokens.empty()) return {};
  const bool is_open = sampling.allowed_tokens.empty();
  std::vector<std::uint32_t> mask((static_cast<std::size_t>(vocab_size) + 31) / 32,
                                  is_open ? ~0u : 0u);
  if (is_open && vocab_size % 32 != 0) mask.back() = (1u << (vocab_size % 32)) - 1;
  for (const TokenId id : sampling.allowed_tokens) {
    require_id(id, vocab_size, "Sampling::allowed_tokens");
    mask[static_cast<std::size_t>(id) / 32] |= 1u << (id % 32);
  }
  for (const TokenId id : sampling.banned_tokens) {
    require_id(id, vocab_size, "Sampling::banned_tokens");
    mask[static_cast<std::size_t>(id) / 32] &= ~(1u << (id % 32));
  }
  require(std::ranges::any_of(mask, [](std::uint32_t word) { return word != 0; }), bad,
          "at least one token that may be drawn", "none", "Sampling::banned_tokens");
  return mask;
}

}  // namespace

void Tally::follow(std::span<const TokenId> tokens, int prompt_tokens) {
  const auto same =
      static_cast<std::size_t>(std::ranges::mismatch(seen_, tokens).in1 - seen_.begin());
  const auto prompt = static_cast<std::size_t>(prompt_tokens);
  for (std::size_t i = seen_.size(); i > same; --i) {
    const auto found = counts_.find(seen_[i - 1]);
    found->second.output -= i > prompt ? 1 : 0;
    if (--found->second.all == 0) counts_.erase(found);
  }
  for (std::size_t i = same; i < tokens.size(); ++i) {
    Count& count = counts_[tokens[i]];
    ++count.all;
    count.output += i >= prompt ? 1 : 0;
  }
  seen_.assign(tokens.begin(), tokens.end());
}

Steering::Steering(const Sampling& sampling, TokenId vocab_size)
    : repetition(sampling.repetition_penalty.value_or(1)),
      presence(sampling.presence_penalty),
      frequency(sampling.frequency_penalty),
      biases(sampling.logit_bias),
      vocab_size(vocab_size) {
  require(std::isfinite(repetition) && repetition > 0, bad, "a repetition_penalty above 0",
          fmt::format("{}", repetition), "Sampling");
  require_finite(presence, "presence_penalty");
  require_finite(frequency, "frequency_penalty");
  std::ranges::sort(biases, {}, &LogitBias::token);
  for (std::size_t i = 0; i < biases.size(); ++i) {
    const auto& [token, bias] = biases[i];
    require_id(token, vocab_size, "Sampling::logit_bias");
    require(std::isfinite(bias) || bias == -std::numeric_limits<float>::infinity(), bad,
            "a finite bias, or -infinity", fmt::format("{}", bias), "Sampling::logit_bias");
    require(i == 0 || biases[i - 1].token != token, bad, "one bias a token",
            fmt::format("two for {}", token), "Sampling::logit_bias");
  }
  mask = mask_of(sampling, vocab_size);
}

void Steering::steer(kernels::DrawRow& row, const Tally& tally, std::span<const Bias> guides,
                     std::span<const std::uint32_t> guides_mask) const {
  std::vector<Entry> entries;
  for (const LogitBias& bias : biases) entries.push_back({bias.token, bias.bias});
  for (const Bias& bias : guides)
    entries.push_back({bias.token, bias.logit, bias.times_max_minus_mean});
  for (const auto& [token, count] : tally.counts()) {
    if (token >= vocab_size) continue;  // a soft id has no logit
    const float penalty =
        count.output > 0 ? presence + frequency * static_cast<float>(count.output) : 0;
    entries.push_back({token, 0, 0, repetition, penalty});
  }
  merge(entries);
  for (const Entry& entry : entries) {
    row.bias_tokens.push_back(entry.token);
    row.bias_logits.push_back(entry.logit);
    row.bias_times_max_minus_mean.push_back(entry.times);
    if (!counts()) continue;
    row.bias_repetitions.push_back(entry.repetition);
    row.bias_penalties.push_back(entry.penalty);
  }
  row.mask.assign(guides_mask.begin(), guides_mask.end());
  if (row.mask.empty()) row.mask = mask;
  for (std::size_t i = 0; i < mask.size(); ++i) row.mask[i] &= mask[i];
}

}  // namespace pensive
