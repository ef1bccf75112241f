// The suffix gradient against a plain backward through whole sequences.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "engine_helpers.h"
#include "train_suffix.h"

namespace pensive {
namespace {

using testing::expect_equal;
using testing::no_prefix;
using testing::Recording;
using testing::relative_gap;
using testing::sample;
using testing::samples;
using testing::setting_of;
using testing::taken_back;
using testing::tell_every_term;
using testing::tiny_config;
using testing::tiny_decoder;
using testing::tiny_rows;
using testing::whole_backward;

TEST(SuffixBackward, EqualsTheWholeBackward) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  const SuffixSetting setting = setting_of(decoder, tiny_rows(at::kDouble));
  expect_equal(setting, samples(), no_prefix, 1e-9);
  for (const Suffix& one : samples()) expect_equal(setting, {&one, 1}, no_prefix, 1e-9);
}

TEST(SuffixBackward, EqualsTheWholeBackwardThroughWhatWasTakenBack) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  SuffixSetting setting = setting_of(decoder, tiny_rows(at::kDouble));
  std::vector<Suffix> all = taken_back();
  for (const Suffix& one : all) expect_equal(setting, {&one, 1}, no_prefix, 1e-9);
  for (const Suffix& one : samples()) all.push_back(one);
  expect_equal(setting, all, no_prefix, 1e-9);
  setting.max_batch_tokens = 24;
  setting.max_logits = 3 * testing::decoder_vocab;
  expect_equal(setting, all, no_prefix, 1e-9);
}

TEST(SuffixBackward, EqualsTheWholeBackwardWithClippedRatios) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  const SuffixSetting setting = setting_of(decoder, tiny_rows(at::kDouble));
  std::vector<Suffix> suffixes = samples();
  const SuffixResult now = suffix_backward(setting, suffixes, no_prefix);
  std::mt19937 random(3);
  for (std::size_t s = 0; s < suffixes.size(); ++s)
    for (const double logprob : now.logprobs[s])
      suffixes[s].old_logprobs.push_back(logprob + std::normal_distribution<>(0, 0.3)(random));
  expect_equal(setting, suffixes, no_prefix, 1e-9);
  const SuffixResult clipped = suffix_backward(setting, suffixes, no_prefix);
  EXPECT_GT(clipped.clipped, 0);
  EXPECT_LT(clipped.clipped, clipped.targets);
}

// Asymmetric clip, importance weights and KL, with chunks and batches that cut suffixes apart.
TEST(SuffixBackward, EqualsTheWholeBackwardWithEveryTerm) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  SuffixSetting setting = setting_of(decoder, tiny_rows(at::kDouble));
  setting.loss = {
      .clip_low = 0.1, .clip_high = 0.3, .max_weight = 1.5, .kl = 0.2, .denominator = 31};
  std::vector<Suffix> suffixes = samples();
  const std::vector<Suffix> untold = suffixes;
  const auto now = tell_every_term(setting, suffixes);
  const auto again = suffix_logprobs(setting, untold, no_prefix);
  for (std::size_t s = 0; s < suffixes.size(); ++s)
    EXPECT_THAT(again[s], ::testing::Pointwise(::testing::DoubleNear(1e-12), now[s]));
  expect_equal(setting, suffixes, no_prefix, 1e-9);
  setting.max_batch_tokens = 8;
  setting.max_logits = 3 * testing::decoder_vocab;
  expect_equal(setting, suffixes, no_prefix, 1e-9);
  const SuffixResult found = suffix_backward(setting, suffixes, no_prefix);
  EXPECT_GT(found.kl, 0);
  EXPECT_NE(found.weight, static_cast<double>(found.targets));
  EXPECT_GT(found.entropy, 0);
  EXPECT_LT(found.entropy, static_cast<double>(found.targets) * std::log(testing::decoder_vocab));
}

TEST(SuffixBackward, EqualsFiniteDifferences) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  const at::Tensor rows = tiny_rows(at::kDouble);
  std::vector<Suffix> suffixes = samples();
  for (const Suffix& one : taken_back()) suffixes.push_back(one);
  const SuffixResult exact = suffix_backward(setting_of(decoder, rows), suffixes, no_prefix);
  for (std::size_t s = 0; s < suffixes.size(); ++s)  // the ratio's other end must stay where it is
    suffixes[s].old_logprobs = exact.logprobs[s];
  const double step = 1e-5;
  for (const int i : {0, 5, 17, 31}) {
    const auto loss_at = [&](double moved) {
      const at::Tensor other = rows.clone();
      other[1][i] += moved;
      return whole_backward(setting_of(decoder, other), suffixes).loss;
    };
    EXPECT_NEAR((loss_at(step) - loss_at(-step)) / (2 * step), exact.gradient[i], 1e-8);
  }
}

TEST(SuffixBackward, DoesNotDependOnBatchesAndChunks) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  SuffixSetting setting = setting_of(decoder, tiny_rows(at::kDouble));
  setting.max_batch_tokens = 8;
  setting.max_logits = 3 * testing::decoder_vocab;
  expect_equal(setting, samples(), no_prefix, 1e-9);
  setting.max_logits = 1;
  expect_equal(setting, samples(), no_prefix, 1e-9);
}

TEST(SuffixBackward, TakesPrefixesFromACache) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  const SuffixSetting setting = setting_of(decoder, tiny_rows(at::kDouble));
  const std::vector<Suffix> suffixes = samples();
  int asked = 0;
  const PrefixOf from_cache = [&](int s) -> std::optional<CachedPrefix> {
    ++asked;
    const c10::InferenceMode as_in_an_engine;
    const Suffix& suffix = suffixes[s];
    std::vector<std::int64_t> ids(suffix.tokens.begin(), suffix.tokens.begin() + suffix.begins);
    at::Tensor embeddings = at::empty({suffix.begins, tiny_config().width}, at::kDouble);
    for (int i = 0; i < suffix.begins; ++i)
      embeddings[i] = ids[i] >= testing::decoder_vocab
                          ? setting.rows[ids[i] - testing::decoder_vocab]
                          : decoder.embed(at::tensor({ids[i]}))[0];
    Recording recording;
    decoder.forward(embeddings, at::arange(suffix.begins), recording, Arithmetic::fast);
    return recording.prefix(suffix.begins);
  };
  expect_equal(setting, suffixes, from_cache, 1e-9);
  EXPECT_EQ(asked, 5) << "the sample that begins with the soft token has no prefix";
}

// Samples that part at the soft token have one prefix, the very same tensors.
TEST(SuffixBackward, SharesThePrefixOfForks) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  const SuffixSetting setting = setting_of(decoder, tiny_rows(at::kDouble));
  const std::vector<Suffix> forks = {sample("p1 p2 p3 s4 s9 x5 f51 s6 s7 s8 s9", 0.9),
                                     sample("p1 p2 p3 s4 s9 x5 f51 s11", -0.3),
                                     sample("p1 p2 p3 s4 s9 x5 f51 s6 x5 x7 x8 f51 s12", 0.4),
                                     sample("p1 p2 p3 s4 s9 x5 f51 s6 s6 x5 f51 s9 s12 s30", -0.6)};
  const at::Tensor embeddings = decoder.embed(at::tensor(std::vector<std::int64_t>{1, 2, 3, 4, 9}));
  Recording recording;
  decoder.forward(embeddings, at::arange(5), recording, Arithmetic::fast);
  const CachedPrefix shared = recording.prefix(5);
  expect_equal(
      setting, forks, [&](int) { return std::optional(shared); }, 1e-9);
}

TEST(SuffixBackward, IsCloseInFloat32AndBfloat16) {
  const Decoder exact = tiny_decoder(at::kDouble);
  const at::Tensor expected =
      whole_backward(setting_of(exact, tiny_rows(at::kDouble)), samples()).gradient;
  for (const auto& [scalar, within] :
       {std::pair(at::kFloat, 1e-5), std::pair(at::kBFloat16, 0.1)}) {
    const Decoder decoder = tiny_decoder(scalar);
    const SuffixResult found =
        suffix_backward(setting_of(decoder, tiny_rows(scalar)), samples(), no_prefix);
    EXPECT_LT(relative_gap(found.gradient, expected), within) << scalar;
  }
}

TEST(SuffixBackward, WorksInTheHostsModesAndLeavesThem) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  const SuffixSetting setting = setting_of(decoder, tiny_rows(at::kDouble));
  const std::vector<double> expected = suffix_backward(setting, samples(), no_prefix).gradient;
  {
    const c10::NoGradGuard no_gradient;
    EXPECT_EQ(suffix_backward(setting, samples(), no_prefix).gradient, expected);
    EXPECT_FALSE(c10::GradMode::is_enabled());
  }
  {
    const c10::InferenceMode inference;
    EXPECT_EQ(suffix_backward(setting, samples(), no_prefix).gradient, expected);
    EXPECT_TRUE(c10::InferenceMode::is_enabled());
    EXPECT_FALSE(c10::GradMode::is_enabled());
  }
  EXPECT_TRUE(c10::GradMode::is_enabled());
}

TEST(SuffixBackward, OfNothingIsZero) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  const SuffixResult result =
      suffix_backward(setting_of(decoder, tiny_rows(at::kDouble)), {}, no_prefix);
  EXPECT_THAT(result.gradient, ::testing::Each(0.0));
  EXPECT_EQ(result.targets, 0);
}

TEST(SuffixBackward, EqualsTheWholeBackwardOnCuda) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const auto& [scalar, within] : {std::pair(at::kDouble, 1e-9), std::pair(at::kFloat, 1e-3)}) {
    const Decoder decoder = tiny_decoder(scalar, at::kCUDA);
    expect_equal(setting_of(decoder, tiny_rows(scalar, at::kCUDA)), samples(), no_prefix, within);
  }
  const Decoder exact = tiny_decoder(at::kDouble);
  const at::Tensor expected =
      whole_backward(setting_of(exact, tiny_rows(at::kDouble)), samples()).gradient;
  for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf}) {  // another attention
    const Decoder decoder = tiny_decoder(scalar, at::kCUDA);
    const SuffixResult found =
        suffix_backward(setting_of(decoder, tiny_rows(scalar, at::kCUDA)), samples(), no_prefix);
    EXPECT_LT(relative_gap(found.gradient, expected), 0.1) << scalar;
  }
}

}  // namespace
}  // namespace pensive
