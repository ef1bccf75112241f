// Samples of every kind, and the suffix gradient held against the whole backward.
#pragma once
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "train_tiny.h"

namespace pensive::testing {

inline const PrefixOf no_prefix = [](int) { return std::nullopt; };

inline Suffix sample(const std::string& words, double advantage) {
  std::optional<Suffix> suffix = suffix_of(words, tiny_soft);
  suffix->advantage = advantage;
  return *suffix;
}

// One and two soft tokens, a closer taken back, one of three tokens, another soft row, a soft token
// in the prompt, prompts and suffixes of different lengths.
inline std::vector<Suffix> samples() {
  return {sample("p1 p2 p3 s4 x5 f51 s6 s7 s8 s9", 0.7),
          sample("p1 s4 s9 s8 s11 s12 x5 f51 s6 x5 f51 s9 s9 s10 s11 s12 s13 s14", -1.2),
          sample("p20 p21 p22 p23 p24 p25 p26 p27 p28 p29 s4 f51 s6 s7 f8 f9 s1", 1.9),
          sample("p1 p2 f50 f51 s6 f50 s8", -0.4),
          sample("p51 p2 s3 s4", 0.3),
          sample("p1 p2 s3 f51 s4 x5 x6 x7 f51 s8 x5 x6 x7 f51 f9 s10", -0.8)};
}

// Closers of several tokens: one beside another, before the row, behind it, without it, of forced
// tokens, with the row in what was taken back, as the last and as the first of all.
inline std::vector<Suffix> taken_back() {
  return {sample("p1 p2 s3 f51 s4 x5 x6 x7 f51 s8 x5 x9 x7 f51 f9 s10 x11 x12", 0.7),
          sample("p1 s4 x5 x6 x7 f51 x8 x9 f51 x5 x6", -1.2),
          sample("p1 p2 p3 p4 p5 s4 f51 s9 x5 y6 x7 f51 s8", 1.9),
          sample("p1 p2 s3 s4 x5 y51 x6 x7 f8 s9", -0.4),
          sample("p1 p2 s3 x5 y51 x6 x7 f51 s9 x8 x7", 0.6),
          sample("p51 x2 x3 x4", 0.3),
          sample("p1 f51 x2 x3", -0.9)};
}

inline SuffixSetting setting_of(const Decoder& decoder, const at::Tensor& rows) {
  return {.decoder = decoder,
          .rows = rows,
          .row = tiny_soft,
          .temperature = 0.8,
          .loss = {.denominator = 31}};
}

// Tells suffixes what every term of the loss asks for: their logprobs under another row, and with
// noise those of before the first inner step and the engine's. -> The present ones, undisturbed.
inline std::vector<std::vector<double>> tell_every_term(const SuffixSetting& setting,
                                                        std::vector<Suffix>& suffixes) {
  SuffixSetting plain = setting_of(setting.decoder, setting.rows);
  plain.logprobs = setting.logprobs;
  SuffixSetting other = plain;
  other.rows = setting.rows.clone();
  other.rows.select(0, 1).add_(0.05);
  const auto start = suffix_logprobs(other, suffixes, no_prefix);
  const auto now = suffix_backward(plain, suffixes, no_prefix).logprobs;
  std::mt19937 random(4);
  std::normal_distribution<> noise(0, 0.3);
  for (std::size_t s = 0; s < suffixes.size(); ++s) {
    suffixes[s].start_logprobs = start[s];
    for (std::size_t t = 0; t < suffixes[s].targets.size(); ++t) {
      suffixes[s].old_logprobs.push_back(now[s][t] + noise(random));
      suffixes[s].targets[t].drawn_logprob =
          static_cast<float>(suffixes[s].old_logprobs[t] + noise(random));
    }
  }
  return now;
}

inline double relative_gap(const std::vector<double>& found, const at::Tensor& expected) {
  const at::Tensor mine = at::tensor(found, at::kDouble);
  return ((mine - expected).norm() / expected.norm()).item<double>();
}

inline void expect_equal(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                         const PrefixOf& prefix_of, double within) {
  const SuffixResult fast = suffix_backward(setting, suffixes, prefix_of);
  const WholeResult slow = whole_backward(setting, suffixes);
  EXPECT_LT(relative_gap(fast.gradient, slow.gradient), within);
  EXPECT_NEAR(fast.loss, slow.loss, within * 10);
  const auto count = static_cast<double>(fast.targets);
  EXPECT_NEAR(fast.entropy, slow.entropy, within * 20 * count);
  EXPECT_NEAR(fast.kl, slow.kl, within * 20 * count);
  EXPECT_NEAR(fast.weight, slow.weight, within * 20 * count);
  ASSERT_EQ(fast.logprobs.size(), slow.logprobs.size());
  for (std::size_t s = 0; s < suffixes.size(); ++s)
    EXPECT_THAT(fast.logprobs[s],
                ::testing::Pointwise(::testing::DoubleNear(within * 20), slow.logprobs[s]));
}

// Keys and values as a cache would hold them.
class Recording final : public Attention {
 public:
  at::Tensor attend(int layer, const at::Tensor& queries, const at::Tensor& keys,
                    const at::Tensor& values) override {
    keys_.push_back(keys.clone());
    values_.push_back(values.clone());
    return whole_.attend(layer, queries, keys, values);
  }
  CachedPrefix prefix(int length) const {
    return {at::stack(keys_).slice(1, 0, length), at::stack(values_).slice(1, 0, length)};
  }

 private:
  WholeAttention whole_;
  std::vector<at::Tensor> keys_, values_;
};

}  // namespace pensive::testing
