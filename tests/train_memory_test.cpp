// What a backward was planned to take, held against what libtorch's allocator says.
#include <ATen/Parallel.h>

#include <limits>

#include "base/inside.h"
#include "counted.h"
#include "model/parts.h"
#include "testing.h"
#include "train/steps.h"
#include "train_toy.h"

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

// What backwards of `count` suffixes take, of so many positions each behind four times as many, and
// at most `batch` together.
std::int64_t taken_of(const Model& model, int count, int length, int batch, Logprobs logprobs) {
  const ModelInfo& info = model.info();
  const int begins = 4 * length;
  std::vector<Suffix> suffixes(static_cast<std::size_t>(count));
  for (Suffix& suffix : suffixes) {
    suffix.begins = begins;
    suffix.tokens.assign(static_cast<std::size_t>(begins + length), 5);
    suffix.tokens[static_cast<std::size_t>(begins)] = model.vocab_size();
    for (int t = 0; t < length; ++t) suffix.targets.push_back({t, 7, -1.0f});
    suffix.advantage = 1;
  }
  const auto options = at::dtype(model.parts().scalar);
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
  const SuffixSetting setting{.decoder = *model.parts().decoder,
                              .rows = at::randn({1, info.width}, options),
                              .row = model.vocab_size(),
                              .loss = {.denominator = 100},
                              .max_batch_tokens = batch,
                              .pages_of = pages_of,
                              .logprobs = logprobs};
  return peak_of([&] { suffix_backward(setting, suffixes, [&](int) { return prefix; }); });
}

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
      // Eight that fill a batch, behind as much as there may be; and one that no batch holds, which
      // goes through whole.
      const int length = std::min(100, model->max_positions() / 5);
      for (const auto& [count, batch] : {std::pair{8, 8 * length}, {1, length / 8}}) {
        TrainOptions training;
        training.max_batch_tokens = batch;
        training.logprobs = logprobs;
        training.rollout.max_new_tokens = count == 1 ? length : 5 * length;
        const std::int64_t planned =
            plan_memory(folder, how, {.cache_tokens = 1024}, training).training_bytes;
        const std::int64_t taken = taken_of(*model, count, length, batch, logprobs);
        SCOPED_TRACE(
            fmt::format("{} {} {}, {} suffixes: {:.1f} MB planned, {:.1f} taken", folder.string(),
                        to_string(precision), logprobs == Logprobs::exact ? "exact" : "fast", count,
                        1e-6 * static_cast<double>(planned), 1e-6 * static_cast<double>(taken)));
        EXPECT_LE(taken, planned);
        EXPECT_GE(taken, planned / (count == 1 ? 8 : 4));
      }
    }
}

TEST(TrainMemory, OfWhateverNumbersIsANumberOrRefused) {
  const ModelOptions how{.device = {DeviceKind::cuda}};
  const PlanOptions card{.memory_bytes = std::int64_t{80} << 30};
  const auto planned = [&](int batch, int drawn) {
    TrainOptions training;
    training.max_batch_tokens = batch;
    training.rollout.max_new_tokens = drawn;
    return plan_memory(PENSIVE_REASONER, how, {}, training, card);
  };
  constexpr int most = std::numeric_limits<int>::max();
  // No suffix is longer than the model knows positions.
  const int positions = planned(64, 64).max_positions;
  EXPECT_EQ(planned(64, most).training_bytes, planned(64, 2 * positions).training_bytes);
  EXPECT_GT(planned(64, positions).training_bytes, planned(64, positions / 2).training_bytes);
  EXPECT_GT(planned(64, positions / 2).training_bytes, planned(64, 64).training_bytes);
  EXPECT_EQ(planned(positions, positions / 2).training_bytes,
            planned(positions, positions / 4).training_bytes)
      << "a batch holds them";
  EXPECT_GT(planned(most, most).training_bytes, planned(most / 2, most).training_bytes);
  EXPECT_FALSE(planned(most, most).fits());
  expect_error(ErrorCode::invalid_argument, "max_batch_tokens", [&] { planned(-5, 64); });
  expect_error(ErrorCode::invalid_argument, "max_new_tokens", [&] { planned(64, 0); });
  // What no number tells is the most that a plan does.
  Sizes sizes{.layers = 1000, .width = 1 << 20, .inner = 1 << 20, .heads = 4096, .kv_heads = 1};
  sizes.head_dim = 256;
  sizes.vocab = most;
  const Load load{.tokens = most, .prefix_tokens = std::int64_t{4} * most, .longest = most};
  EXPECT_EQ(backward_bytes(sizes, load), unlimited);
}

}  // namespace
}  // namespace pensive::testing
