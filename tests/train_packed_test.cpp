// Packed suffixes and layers computed twice against the whole backward.
#include <c10/core/CachingDeviceAllocator.h>

#include <climits>
#include <random>

#include "engine_helpers.h"
#include "train/batch.h"
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
using testing::tiny_config;
using testing::tiny_decoder;
using testing::tiny_rows;
using testing::tiny_soft;
using testing::whole_backward;

// Every way through the model: padded or packed, all kept or computed twice.
TEST(PackedSuffixes, EqualsTheWholeBackwardEveryWay) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  SuffixSetting setting = setting_of(decoder, tiny_rows(at::kDouble));
  for (const Layout layout : {Layout::padded, Layout::packed})
    for (const Recompute recompute : {Recompute::never, Recompute::always})
      for (const int most : {8, 30, 16384}) {
        setting.layout = layout;
        setting.recompute = recompute;
        setting.max_batch_tokens = most;
        setting.max_logits = most * testing::decoder_vocab;
        std::vector<Suffix> all = samples();
        for (const Suffix& one : taken_back()) all.push_back(one);
        expect_equal(setting, all, no_prefix, 1e-9);
        const auto again = suffix_logprobs(setting, all, no_prefix);
        const SuffixResult found = suffix_backward(setting, all, no_prefix);
        for (std::size_t s = 0; s < all.size(); ++s)
          EXPECT_THAT(again[s],
                      ::testing::Pointwise(::testing::DoubleNear(1e-12), found.logprobs[s]));
      }
}

TEST(PackedSuffixes, PacksFewBatchesAlikeInSize) {
  std::vector<Suffix> suffixes(23);
  for (int i = 0; i < 23; ++i) suffixes[i].tokens.resize(60 - i);
  std::vector<int> members;
  int last = INT_MAX;
  const auto packs = plan_packs(suffixes, 600);
  EXPECT_EQ(packs.size(), 2u);
  for (const std::vector<int>& pack : packs) {
    int tokens = 0;
    for (const int s : pack) tokens += suffixes[s].length();
    EXPECT_NEAR(tokens, 563, 60);
    EXPECT_LE(tokens, last) << "the largest first";
    last = tokens;
    EXPECT_TRUE(std::ranges::is_sorted(pack));
    members.insert(members.end(), pack.begin(), pack.end());
  }
  std::ranges::sort(members);
  for (int s = 0; s < 23; ++s) EXPECT_EQ(members[s], s);
  EXPECT_EQ(members.size(), 23u);
  EXPECT_EQ(plan_packs(suffixes, 1).size(), 23u) << "always at least one";
  EXPECT_TRUE(plan_packs({}, 700).empty());
}

// A few long prefixes must not meet in one pack because the mean prefix is short.
TEST(PackedSuffixes, APackHasRoomForWhatStandsBeforeIt) {
  std::vector<Suffix> suffixes(12);
  for (int i = 0; i < 12; ++i) {
    suffixes[i].begins = i < 4 ? 3000 : 100;
    suffixes[i].tokens.resize(suffixes[i].begins + 50);
  }
  suffixes[5].asides = {{7, 10, 111}, {7, 50, 112}, {7, 3, 104}};  // two runs: two more strands
  EXPECT_EQ(gathered_before(suffixes[0]), 3000);
  EXPECT_EQ(gathered_before(suffixes[5]), 300);
  const auto bytes = [](std::int64_t tokens, std::int64_t before) { return 10 * tokens + before; };
  constexpr std::int64_t room = 7500;
  std::int64_t last = INT64_MAX;
  std::size_t members = 0;
  const auto packs = plan_packs(suffixes, 1000, bytes, room);
  for (const std::vector<int>& pack : packs) {
    std::int64_t tokens = 0, before = 0;
    for (const int s : pack) {
      tokens += suffixes[s].length();
      before += gathered_before(suffixes[s]);
    }
    EXPECT_LE(bytes(tokens, before), room);
    EXPECT_LE(bytes(tokens, before), last) << "the largest first";
    last = bytes(tokens, before);
    members += pack.size();
  }
  EXPECT_EQ(members, suffixes.size());
  EXPECT_EQ(packs.size(), 3u);
  EXPECT_EQ(plan_packs(suffixes, 1000, bytes, 10).size(), 12u) << "always at least one";
}

// With less memory first smaller batches, then layers computed twice, then smaller batches again.
TEST(PackedSuffixes, GoAsTheMemoryAllows) {
  const Decoder decoder = tiny_decoder(at::kFloat);
  SuffixSetting setting = setting_of(decoder, tiny_rows(at::kFloat));
  setting.layout = Layout::packed;
  setting.max_logits = 1 << 10;
  std::vector<Suffix> suffixes(100);
  for (Suffix& suffix : suffixes) {
    suffix.tokens.resize(300);
    suffix.begins = 100;
  }
  const Sizes sizes = sizes_of(tiny_config(), at::kFloat, {DeviceKind::cpu});
  const auto needs = [&](std::int64_t tokens, bool recomputes) {
    const Load load{.tokens = tokens,
                    .prefix_tokens = tokens / 2,
                    .logits = setting.max_logits,
                    .is_packed = true,
                    .recomputes = recomputes};
    return backward_bytes(sizes, load) * 10 / 9 + 16;
  };
  Way way = choose_way(setting, suffixes, std::nullopt);
  EXPECT_TRUE(way.is_packed);
  EXPECT_FALSE(way.recomputes);
  const int most = way.batch_tokens;
  EXPECT_EQ(choose_way(setting, suffixes, needs(most, false) * 2).batch_tokens, most);
  way = choose_way(setting, suffixes, needs(3000, false));
  EXPECT_FALSE(way.recomputes);
  EXPECT_NEAR(way.batch_tokens, 3000, 100);
  way = choose_way(setting, suffixes, needs(1500, false));
  EXPECT_TRUE(way.recomputes);
  EXPECT_GT(way.batch_tokens, 1500);
  way = choose_way(setting, suffixes, needs(500, true));
  EXPECT_TRUE(way.recomputes);
  EXPECT_NEAR(way.batch_tokens, 500, 50);
  EXPECT_EQ(choose_way(setting, suffixes, 0).batch_tokens, 1) << "and then it fails";
  suffixes[5].tokens.resize(4100);  // goes through whole, or not at all
  EXPECT_TRUE(choose_way(setting, suffixes, needs(3000, false)).recomputes);
  suffixes[5].tokens.resize(300);
  suffixes[7].begins = 400000;  // it alone is gathered whole, and in every layer where all is kept
  suffixes[7].tokens.resize(400200);
  EXPECT_TRUE(choose_way(setting, suffixes, needs(3000, false)).recomputes);
  setting.recompute = Recompute::never;
  EXPECT_FALSE(choose_way(setting, suffixes, needs(500, false)).recomputes);
}

// Room is reckoned for them as they are padded.
TEST(PackedSuffixes, PaddedOnesGoTogetherWhereThereIsRoom) {
  const Decoder decoder = tiny_decoder(at::kFloat);
  SuffixSetting setting = setting_of(decoder, tiny_rows(at::kFloat));
  setting.layout = Layout::padded;
  std::vector<Suffix> suffixes(2);
  suffixes[0].tokens.resize(100);
  suffixes[1].tokens.resize(150);
  suffixes[1].begins = 55;
  const auto batches = [&](std::int64_t free_bytes) {
    return plan_batches(suffixes, choose_way(setting, suffixes, free_bytes).batch_tokens).size();
  };
  EXPECT_EQ(batches(1ll << 40), 1u);
  const Sizes sizes = sizes_of(tiny_config(), at::kFloat, {DeviceKind::cpu});
  const Load both{
      .tokens = 200, .prefix_tokens = 110, .longest = 150, .logits = setting.max_logits};
  EXPECT_EQ(batches(backward_bytes(sizes, both) * 10 / 9 + 16), 1u);
  EXPECT_EQ(batches(0), 2u);
}

// Pages in any order, one of them shared; where one's are gone all are asked for otherwise.
TEST(PackedSuffixes, TakesPrefixesFromPages) {
  constexpr int page_tokens = 4;
  const Decoder decoder = tiny_decoder(at::kDouble);
  SuffixSetting setting = setting_of(decoder, tiny_rows(at::kDouble));
  const Config config = tiny_config();
  const std::vector<Suffix> suffixes = samples();
  const at::Tensor places = at::randperm(16, at::kLong);
  std::vector<at::Tensor> keys, values;
  for (int layer = 0; layer < config.layers; ++layer)
    for (auto* pages : {&keys, &values})
      pages->push_back(
          at::full({16, page_tokens, config.kv_heads, config.head_dim}, NAN, at::kDouble));
  std::vector<std::vector<std::int64_t>> slots(suffixes.size());
  int next = 0;
  for (std::size_t s = 0; s < suffixes.size(); ++s) {
    const Suffix& suffix = suffixes[s];
    at::Tensor embeddings = at::empty({suffix.begins, config.width}, at::kDouble);
    for (int i = 0; i < suffix.begins; ++i)
      embeddings[i] = suffix.tokens[i] >= testing::decoder_vocab
                          ? setting.rows[suffix.tokens[i] - testing::decoder_vocab]
                          : decoder.embed(at::tensor({std::int64_t{suffix.tokens[i]}}))[0];
    Recording recording;
    decoder.forward(embeddings, at::arange(suffix.begins), recording, Arithmetic::fast);
    const CachedPrefix prefix = recording.prefix(suffix.begins);
    for (int i = 0; i < suffix.begins; ++i) {
      const std::int64_t page = places[next + i / page_tokens].item<std::int64_t>();
      slots[s].push_back(page * page_tokens + i % page_tokens);
      for (int layer = 0; layer < config.layers; ++layer) {
        keys[layer][page][i % page_tokens].copy_(prefix.keys[layer][i]);
        values[layer][page][i % page_tokens].copy_(prefix.values[layer][i]);
      }
    }
    next += (suffix.begins + page_tokens - 1) / page_tokens;
  }
  int asked = 0, gone = -1;
  setting.layout = Layout::packed;
  setting.pages_of = [&](int s) -> std::optional<PrefixPages> {
    ++asked;
    if (s == gone) return std::nullopt;
    return PrefixPages{&keys, &values, slots[s]};
  };
  const PrefixOf nobody = [](int s) -> std::optional<CachedPrefix> {
    ADD_FAILURE() << "asked for a copy of prefix " << s;
    return std::nullopt;
  };
  expect_equal(setting, suffixes, nobody, 1e-9);
  EXPECT_EQ(asked, 7) << "the sample that begins with the soft token has no prefix";
  gone = 2;
  expect_equal(setting, suffixes, no_prefix, 1e-9);
}

// A wider model, so that flash attention has something to do; its weights are numbers of `rounded`.
Decoder wide_decoder(at::ScalarType rounded, const at::TensorOptions& where, int head_dim,
                     int kv_heads) {
  Config config = tiny_config();
  config.head_dim = head_dim;
  config.kv_heads = kv_heads;
  config.max_positions = 512;
  at::Generator random = at::detail::createCPUGenerator(17);
  const auto make = [&](at::IntArrayRef sizes, double deviation) {
    return testing::normal(sizes, deviation, random).to(rounded).to(where);
  };
  Weights weights;
  weights.embedding = make({config.vocab_size, config.width}, 0.5);
  weights.final_norm = 1 + make({config.width}, 0.1);
  weights.head = make({config.vocab_size, config.width}, 0.4);
  for (int layer = 0; layer < config.layers; ++layer)
    weights.layers.push_back(
        {.attention_norm = 1 + make({config.width}, 0.1),
         .qkv = make({(config.heads + 2 * config.kv_heads) * config.head_dim, config.width}, 0.2),
         .output = make({config.width, config.heads * config.head_dim}, 0.1),
         .mlp_norm = 1 + make({config.width}, 0.1),
         .gate_up = make({2 * config.inner, config.width}, 0.2),
         .down = make({config.width, config.inner}, 0.2)});
  return Decoder(config, std::move(weights));
}

std::vector<Suffix> long_samples() {
  std::mt19937 random(5);
  std::vector<Suffix> all;
  for (const auto& [prefix, length] : {std::pair(3, 200), std::pair(0, 17), std::pair(129, 64),
                                       std::pair(64, 1), std::pair(40, 130)}) {
    std::string words;
    for (int i = 0; i < prefix; ++i) words += fmt::format("p{} ", random() % 50);
    words += "f51";
    for (int i = 0; i < length; ++i) words += fmt::format(" s{}", random() % 50);
    all.push_back(sample(words, all.size() % 2 == 0 ? 0.8 : -1.1));
  }
  return all;
}

TEST(PackedSuffixes, PackedEqualsTheWholeBackwardOnCuda) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const auto& [head_dim, kv_heads] :
       {std::pair(64, 2), std::pair(80, 4), std::pair(96, 1), std::pair(128, 2)}) {
    for (const at::ScalarType scalar : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const Decoder exact = wide_decoder(scalar, at::dtype(at::kDouble), head_dim, kv_heads);
      const testing::WholeResult expected =
          whole_backward(setting_of(exact, tiny_rows(scalar).to(at::kDouble)), long_samples());
      const Decoder decoder =
          wide_decoder(scalar, at::dtype(scalar).device(at::kCUDA), head_dim, kv_heads);
      SuffixSetting setting = setting_of(decoder, tiny_rows(scalar, at::kCUDA));
      const double within = scalar == at::kFloat ? 1e-3 : 0.1;
      for (const Layout layout : {Layout::padded, Layout::packed}) {
        SCOPED_TRACE(fmt::format("head_dim {}, {}, {}", head_dim, at::toString(scalar),
                                 layout == Layout::packed ? "packed" : "padded"));
        std::vector<double> kept;
        for (const Recompute recompute : {Recompute::never, Recompute::always}) {
          setting.layout = layout;
          setting.recompute = recompute;
          const SuffixResult found = suffix_backward(setting, long_samples(), no_prefix);
          EXPECT_LT(relative_gap(found.gradient, expected.gradient), within);
          for (std::size_t s = 0; s < expected.logprobs.size(); ++s)
            EXPECT_THAT(found.logprobs[s], ::testing::Pointwise(::testing::DoubleNear(2 * within),
                                                                expected.logprobs[s]));
          if (kept.empty()) kept = found.gradient;
          // Sums of flash attention's way back come in no fixed order.
          EXPECT_LT(relative_gap(found.gradient, at::tensor(kept, at::kDouble)), within / 10);
        }
      }
    }
  }
}

// What is planned for is enough, and no more than twice what is taken.
TEST(PackedSuffixes, TakesTheMemoryThatIsPlannedOnCuda) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  Config config = tiny_config();
  config.layers = 12;
  config.width = 512;
  config.inner = 2048;
  config.heads = 8;
  config.kv_heads = 2;
  config.head_dim = 64;
  config.max_positions = 2048;
  const auto make = [&](at::IntArrayRef sizes) {
    return at::randn(sizes, at::dtype(at::kBFloat16).device(at::kCUDA)) * 0.05;
  };
  Weights weights;
  weights.embedding = make({config.vocab_size, config.width});
  weights.final_norm = make({config.width});
  weights.head = make({config.vocab_size, config.width});
  for (int layer = 0; layer < config.layers; ++layer)
    weights.layers.push_back({.attention_norm = make({config.width}),
                              .qkv = make({12 * 64, config.width}),
                              .output = make({config.width, 8 * 64}),
                              .mlp_norm = make({config.width}),
                              .gate_up = make({2 * config.inner, config.width}),
                              .down = make({config.width, config.inner})});
  const Decoder decoder(config, std::move(weights));
  SuffixSetting setting = setting_of(decoder, make({2, config.width}));
  std::vector<Suffix> suffixes;
  for (int i = 0; i < 8; ++i) {
    Suffix& suffix = suffixes.emplace_back();
    suffix.tokens.assign(1024, 7);
    suffix.begins = 512;
    suffix.tokens[512] = tiny_soft;
    suffix.advantage = 1;
    for (int t = 0; t < 512; ++t) suffix.targets.push_back({t, 9});
  }
  auto* allocator = at::getDeviceAllocator(at::kCUDA);
  for (const auto& [recompute, logprobs] : {std::pair{Recompute::never, Logprobs::fast},
                                            {Recompute::always, Logprobs::fast},
                                            {Recompute::always, Logprobs::exact}}) {
    const bool is_exact = logprobs == Logprobs::exact;
    setting.recompute = recompute;
    setting.logprobs = logprobs;
    suffix_backward(setting, suffixes, no_prefix);
    allocator->resetPeakStats(0);
    const auto before = allocator->getDeviceStats(0).allocated_bytes[0].current;
    suffix_backward(setting, suffixes, no_prefix);
    const auto taken =
        static_cast<double>(allocator->getDeviceStats(0).allocated_bytes[0].peak - before);
    // What a prefix computed again takes comes on top.
    const double prefixes = 2.0 * 2 * config.layers * 2 * 64 * 8 * 512 * 2;
    const Load load{.tokens = 8 * 512,
                    .prefix_tokens = 8 * 512,
                    .logits = setting.max_logits,
                    .is_packed = true,
                    .recomputes = recompute == Recompute::always,
                    .is_exact = is_exact};
    const auto planned = static_cast<double>(
        backward_bytes(sizes_of(config, at::kBFloat16, {DeviceKind::cuda}), load));
    EXPECT_LT(taken, planned + (is_exact ? 0 : prefixes)) << (recompute == Recompute::always);
    EXPECT_GT(taken, (is_exact ? 0.4 : 0.5) * planned) << (recompute == Recompute::always);
  }
}

}  // namespace
}  // namespace pensive
