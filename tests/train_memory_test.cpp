// What a backward was planned to take, held against what libtorch's allocator says.
#include <ATen/Parallel.h>

#include "base/inside.h"
#include "counted.h"
#include "model/parts.h"
#include "testing.h"
#include "train/steps.h"

namespace pensive::testing {
namespace {

// Few threads, for each has room of its own, which most of so small a model's plan would be for.
class FewThreads {
 public:
  FewThreads() { at::set_num_threads(std::min(before_, 4)); }
  ~FewThreads() { at::set_num_threads(before_); }
  FewThreads(const FewThreads&) = delete;
  FewThreads& operator=(const FewThreads&) = delete;

 private:
  int before_ = at::get_num_threads();
};

TEST(TrainMemory, OfABackwardIsPlanned) {
  const FewThreads few;
  const Counting counting;
  for (const char* name : {"", "models/qwen3_default"})
    for (const auto& [precision, logprobs] : {std::pair{Precision::float32, Logprobs::fast},
                                              {Precision::bfloat16, Logprobs::fast},
                                              {Precision::float32, Logprobs::exact},
                                              {Precision::bfloat16, Logprobs::exact}}) {
      const std::filesystem::path folder = *name ? data(name) : PENSIVE_REASONER;
      const ModelOptions how{.device = {DeviceKind::cpu}, .precision = precision};
      const auto model = Model::load(folder, how);
      const ModelInfo& info = model->info();
      // As many tokens as are asked for, behind prefixes four times as long: the most there may be.
      const int length = std::min(100, info.max_positions / 5), begins = 4 * length;
      std::vector<Suffix> suffixes(8);
      for (Suffix& suffix : suffixes) {
        suffix.begins = begins;
        suffix.tokens.assign(static_cast<std::size_t>(begins + length), 5);
        suffix.tokens[static_cast<std::size_t>(begins)] = model->vocab_size();
        for (int t = 0; t < length; ++t) suffix.targets.push_back({t, 7, -1.0f});
        suffix.advantage = 1;
      }
      const auto options = at::dtype(model->parts().scalar);
      const std::vector<std::int64_t> cached = {info.layers, begins, info.kv_heads, info.head_dim};
      const CachedPrefix prefix{at::randn(cached, options), at::randn(cached, options)};
      // All samples' constants in one stretch of pages.
      const std::vector<std::int64_t> paged = {begins / 16 + 1, 16, info.kv_heads, info.head_dim};
      std::vector<at::Tensor> pages;
      for (int layer = 0; layer < info.layers; ++layer) pages.push_back(at::randn(paged, options));
      const auto pages_of = [&](int) -> std::optional<PrefixPages> {
        PrefixPages found{&pages, &pages, {}};
        for (std::int64_t at = 0; at < begins; ++at) found.slots.push_back(at);
        return found;
      };
      const SuffixSetting setting{.decoder = *model->parts().decoder,
                                  .rows = at::randn({1, info.width}, options),
                                  .row = model->vocab_size(),
                                  .loss = {.denominator = 100},
                                  .max_batch_tokens = 8 * length,
                                  .pages_of = pages_of,
                                  .logprobs = logprobs};
      TrainOptions training;
      training.max_batch_tokens = setting.max_batch_tokens;
      training.logprobs = logprobs;
      training.rollout.max_new_tokens = 5 * length;
      const std::int64_t planned =
          plan_memory(folder, how, {.cache_tokens = 1024}, training).training_bytes;
      const std::int64_t taken =
          peak_of([&] { suffix_backward(setting, suffixes, [&](int) { return prefix; }); });
      SCOPED_TRACE(fmt::format("{} {} {}: {:.1f} MB planned, {:.1f} taken", folder.string(),
                               to_string(precision), logprobs == Logprobs::exact ? "exact" : "fast",
                               1e-6 * static_cast<double>(planned),
                               1e-6 * static_cast<double>(taken)));
      EXPECT_LE(taken, planned);
      EXPECT_GE(taken, planned / 4);
    }
}

}  // namespace
}  // namespace pensive::testing
