// Exact logprobs: the engine's kernels over pages of their own, and gradients back through them.

#include "engine_helpers.h"
#include "train/exact.h"
#include "train_suffix.h"

namespace pensive {
namespace {

using testing::expect_equal;
using testing::no_prefix;
using testing::relative_gap;
using testing::samples;
using testing::setting_of;
using testing::taken_back;
using testing::tell_every_term;
using testing::tiny_config;
using testing::tiny_decoder;
using testing::tiny_rows;
using testing::whole_backward;

std::vector<Suffix> all_samples() {
  std::vector<Suffix> all = samples();
  for (const Suffix& one : taken_back()) all.push_back(one);
  return all;
}

SuffixSetting exact_setting(const Decoder& decoder, const at::Tensor& rows) {
  SuffixSetting setting = setting_of(decoder, rows);
  setting.logprobs = Logprobs::exact;
  return setting;
}

// An engine's pages, written by the exact forward itself; prefixes that are alike share whole ones.
class Pages {
 public:
  Pages(const SuffixSetting& setting, std::span<const Suffix> suffixes) {
    const SuffixSetting plain = [&] {
      SuffixSetting made = setting;
      made.pages_of = {};
      return made;
    }();
    std::vector<int> members;
    for (int s = 0; s < static_cast<int>(suffixes.size()); ++s) members.push_back(s);
    for (int s : members) {  // one by one: each in pages of its own
      forwards_.push_back(std::make_unique<ExactForward>(plain, suffixes,
                                                         std::vector<std::vector<int>>{{s}}, true));
      forwards_.back()->run(0, false);
    }
    const Config& config = setting.decoder.config();
    const int page = setting.page_tokens;
    for (int layer = 0; layer < config.layers; ++layer)
      for (auto* pages : {&keys_, &values_})
        pages->push_back(
            at::full({96, page, config.kv_heads, config.head_dim}, NAN, setting.rows.options()));
    std::map<std::vector<TokenId>, int> known;
    int next = 95;
    for (const int s : members) {
      const Suffix& suffix = suffixes[s];
      std::vector<std::int64_t>& slots = slots_.emplace_back();
      const CachedPrefix prefix = forwards_[s]->prefix_of(suffix, s);
      for (int at = 0; at < suffix.begins; at += page) {
        const int ends = std::min(at + page, suffix.begins);
        const std::vector<TokenId> text(suffix.tokens.begin(), suffix.tokens.begin() + ends);
        const bool is_whole = ends == at + page;
        const auto [found, is_new] = known.try_emplace(text, next);
        const int here = is_whole ? found->second : next;
        if (!is_whole || is_new) --next;
        for (int i = at; i < ends; ++i) {
          slots.push_back(std::int64_t{here} * page + i - at);
          for (int layer = 0; layer < config.layers; ++layer) {
            keys_[layer][here][i - at].copy_(prefix.keys[layer][i]);
            values_[layer][here][i - at].copy_(prefix.values[layer][i]);
          }
        }
      }
    }
    EXPECT_GE(next, 0);
  }

  PagesOf without(std::vector<int> gone) {
    return [this, gone](int s) -> std::optional<PrefixPages> {
      if (std::ranges::find(gone, s) != gone.end()) return std::nullopt;
      return PrefixPages{&keys_, &values_, slots_[s]};
    };
  }
  at::Tensor sum() const {  // of all that is written
    return at::stack(keys_).nan_to_num(0.5) + at::stack(values_).nan_to_num(0.25);
  }

 private:
  std::vector<std::unique_ptr<ExactForward>> forwards_;
  std::vector<at::Tensor> keys_, values_;
  std::vector<std::vector<std::int64_t>> slots_;
};

// Logprobs are rounded to float32 as a draw's are, so losses agree no closer than that.
TEST(ExactSuffixes, EqualTheWholeBackwardEveryWay) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  SuffixSetting setting = exact_setting(decoder, tiny_rows(at::kDouble));
  for (const Layout layout : {Layout::padded, Layout::packed})
    for (const int page_tokens : {1, 3, 16})
      for (const int most : {8, 30, 16384}) {
        setting.layout = layout;
        setting.page_tokens = page_tokens;
        setting.max_batch_tokens = most;
        setting.max_logits = most * testing::decoder_vocab;
        const std::vector<Suffix> all = all_samples();
        expect_equal(setting, all, no_prefix, 1e-7);
        const SuffixResult found = suffix_backward(setting, all, no_prefix);
        EXPECT_LT(relative_gap(found.gradient, whole_backward(setting, all).gradient), 1e-9);
        EXPECT_EQ(suffix_logprobs(setting, all, no_prefix), found.logprobs);
      }
}

TEST(ExactSuffixes, EqualTheWholeBackwardWithEveryTerm) {
  const Decoder decoder = tiny_decoder(at::kDouble);
  SuffixSetting setting = exact_setting(decoder, tiny_rows(at::kDouble));
  setting.loss = {
      .clip_low = 0.1, .clip_high = 0.3, .max_weight = 1.5, .kl = 0.2, .denominator = 31};
  std::vector<Suffix> suffixes = all_samples();
  tell_every_term(setting, suffixes);
  expect_equal(setting, suffixes, no_prefix, 1e-6);
  EXPECT_GT(suffix_backward(setting, suffixes, no_prefix).clipped, 0);
}

// However they are batched, laid out and paged, and whether what lies before them is found or
// computed again: the same bits. Nobody's pages are written.
TEST(ExactSuffixes, HaveTheSameBitsEveryWay) {
  for (const at::ScalarType scalar : {at::kFloat, at::kBFloat16, at::kHalf}) {
    const Decoder decoder = tiny_decoder(scalar);
    SuffixSetting setting = exact_setting(decoder, tiny_rows(scalar));
    const std::vector<Suffix> all = all_samples();
    const auto expected = suffix_logprobs(setting, all, no_prefix);
    for (const int page_tokens : {1, 3, 4}) {
      setting.page_tokens = page_tokens;
      Pages pages(setting, all);
      const at::Tensor before = pages.sum();
      for (const std::vector<int>& gone : {std::vector<int>{}, {0, 6, 7}})
        for (const Layout layout : {Layout::padded, Layout::packed})
          for (const int most : {8, 16384}) {
            setting.pages_of = pages.without(gone);
            setting.layout = layout;
            setting.max_batch_tokens = most;
            const SuffixResult found = suffix_backward(setting, all, no_prefix);
            EXPECT_EQ(found.logprobs, expected)
                << scalar << ", pages of " << page_tokens << ", batches of " << most;
            EXPECT_EQ(suffix_logprobs(setting, all, no_prefix), expected);
          }
      EXPECT_TRUE(at::equal(pages.sum(), before));
    }
  }
}

// More than goes through at once.
TEST(ExactSuffixes, ComputeLongPrefixesInPieces) {
  Config config = tiny_config();
  config.max_positions = 1024;
  std::string words;
  for (int i = 0; i < 600; ++i) words += fmt::format("p{} ", i * i % 50);
  const std::vector<Suffix> all = {testing::sample(words + "s4 x5 f51 s6 x7 x8 x9 f51 s8 s9", 0.7),
                                   testing::sample("p1 p2 s4 f51 s6 s7", -0.4),
                                   testing::sample(words.substr(3) + "f51 s6 s7", -0.9)};
  ASSERT_GT(all[0].begins, 2 * kernels::RowForward::most_rows);
  const Decoder exact(config, tiny_decoder(at::kDouble).weights());
  expect_equal(exact_setting(exact, tiny_rows(at::kDouble)), all, no_prefix, 1e-7);
  for (const at::DeviceType device : {at::kCPU, at::kCUDA}) {
    if (device == at::kCUDA && !testing::has_cuda()) continue;
    const Decoder decoder(config, tiny_decoder(at::kFloat, device).weights());
    SuffixSetting setting = exact_setting(decoder, tiny_rows(at::kFloat, device));
    const SuffixResult computed = suffix_backward(setting, all, no_prefix);
    Pages pages(setting, all);
    setting.pages_of = pages.without({1});
    const SuffixResult copied = suffix_backward(setting, all, no_prefix);
    EXPECT_EQ(copied.logprobs, computed.logprobs);
    EXPECT_LT(relative_gap(copied.gradient, at::tensor(computed.gradient, at::kDouble)), 1e-5);
  }
}

// Pages that several samples have are copied once, what is taken back shares those before it, and
// rows are computed that lie behind the constants and no others.
TEST(ExactSuffixes, ShareWholePages) {
  const Decoder decoder = tiny_decoder(at::kFloat);
  SuffixSetting setting = exact_setting(decoder, tiny_rows(at::kFloat));
  setting.page_tokens = 4;
  const std::vector<Suffix> forks = {
      testing::sample("p1 p2 p3 p4 p5 p6 s7 s8 s9 f51 s10 x11 x12 x13 f51 s14 s15", 0.5),
      testing::sample("p1 p2 p3 p4 p5 p6 s7 s8 s9 f51 s20 s21", -0.5)};
  ASSERT_EQ(forks[0].begins, 9);
  ASSERT_EQ(forks[0].asides.size(), 2u);
  const std::vector<at::Tensor> none;
  const std::vector<std::int64_t> slots = {40, 41, 42, 43, 80, 81, 82, 83, 12};
  setting.pages_of = [&](int) { return PrefixPages{&none, &none, slots}; };
  const ExactPlan plan = plan_exact(setting, forks, {0, 1}, true);
  ASSERT_EQ(plan.paths.size(), 3u);
  const ExactPath &first = plan.paths[0], &aside = plan.paths[1], &second = plan.paths[2];
  EXPECT_THAT(first.pages, ::testing::ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(aside.pages, ::testing::ElementsAre(0, 1, 4, 5));
  EXPECT_THAT(second.pages, ::testing::ElementsAre(0, 1, 6));
  EXPECT_THAT(plan.from, ::testing::ElementsAre(40, 41, 42, 43, 80, 81, 82, 83, 12, 12, 12));
  EXPECT_THAT(plan.to, ::testing::ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 24));
  const auto places = [](const ExactPath& path) {
    std::vector<std::int64_t> found;
    for (const ExactRow& row : path.rows) found.push_back(row.place);
    return found;
  };
  EXPECT_THAT(places(first), ::testing::ElementsAre(0, 1, 2, 3));  // the row, 10, the row, 14
  EXPECT_THAT(places(aside), ::testing::ElementsAre(-1, -1, 4, 5));
  EXPECT_THAT(places(second), ::testing::ElementsAre(6, 7));
  EXPECT_EQ(plan.rows, 8);
}

TEST(ExactSuffixes, IsCloseInFloat32AndBfloat16) {
  const Decoder exact = tiny_decoder(at::kDouble);
  const auto expected =
      whole_backward(setting_of(exact, tiny_rows(at::kDouble)), all_samples()).gradient;
  for (const auto& [scalar, within] :
       {std::pair{at::kFloat, 1e-5}, {at::kHalf, 2e-2}, {at::kBFloat16, 0.1}}) {
    const Decoder decoder = tiny_decoder(scalar);
    const SuffixSetting setting = exact_setting(decoder, tiny_rows(scalar));
    EXPECT_LT(relative_gap(suffix_backward(setting, all_samples(), no_prefix).gradient, expected),
              within)
        << scalar;
  }
}

TEST(ExactSuffixes, EqualTheFastWayOnCuda) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const at::ScalarType scalar : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    const Decoder decoder = tiny_decoder(scalar, at::kCUDA);
    SuffixSetting setting = exact_setting(decoder, tiny_rows(scalar, at::kCUDA));
    const std::vector<Suffix> all = all_samples();
    const SuffixResult exact = suffix_backward(setting, all, no_prefix);
    for (const int page_tokens : {3, 16})
      for (const int most : {8, 16384}) {
        setting.page_tokens = page_tokens;
        setting.max_batch_tokens = most;
        EXPECT_EQ(suffix_logprobs(setting, all, no_prefix), exact.logprobs) << scalar;
      }
    setting.logprobs = Logprobs::fast;
    const SuffixResult fast = suffix_backward(setting, all, no_prefix);
    const double within = scalar == at::kDouble ? 1e-6 : scalar == at::kFloat ? 1e-4 : 0.1;
    EXPECT_LT(relative_gap(exact.gradient, at::tensor(fast.gradient, at::kDouble)), within)
        << scalar;
    for (std::size_t s = 0; s < all.size(); ++s)
      EXPECT_THAT(exact.logprobs[s],
                  ::testing::Pointwise(::testing::DoubleNear(2 * within), fast.logprobs[s]));
  }
}

}  // namespace
}  // namespace pensive
