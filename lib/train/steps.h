// The steps of one update of one row, each a plain function: what of a sample depends on the row,
// group advantages, the clipped loss, the backward of the suffixes, Adam.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "engine/access.h"
#include "engine/memory.h"
#include "model/decoder.h"
#include "pensive/trace.h"
#include "pensive/train.h"

namespace pensive {

// (r - mean of the group) / (standard deviation + 1e-4), the deviation with n - 1; zeros in groups
// whose rewards are all equal. rewards float64 [problems, group]; -> likewise.
at::Tensor advantages(const at::Tensor& rewards, AdvantageScale scale);

// The clipped loss of tokens, and what is added to it.
struct LossSetting {
  double clip_low = 0.2;   // ratios are cut at 1 - clip_low
  double clip_high = 0.2;  // and at 1 + clip_high
  double max_weight = 0;   // cap of the importance weights; 0: they are all 1
  double kl = 0;           // beta
  double denominator = 1;
};
// All [tokens]. Everything but `logprobs` is constant.
struct LossTokens {
  at::Tensor logprobs;
  at::Tensor old_logprobs;  // before the first inner step
  at::Tensor advantages;
  at::Tensor drawn_logprobs;  // the engine's; asked for where max_weight > 0
  at::Tensor start_logprobs;  // under the row when training began; asked for where kl > 0
};
struct Loss {
  at::Tensor loss;     // a scalar, differentiable in logprobs
  at::Tensor clipped;  // int64 scalar: tokens whose gradient the clip cut off
  at::Tensor weight;   // scalar: sum of the importance weights
  at::Tensor kl;       // scalar: sum of the k3 estimates
};
// sum(-w min(ratio A, clamp(ratio, 1 - clip_low, 1 + clip_high) A) + kl k3) / denominator with
//   ratio = exp(logprobs - old_logprobs), w = min(exp(old_logprobs - drawn_logprobs), max_weight),
//   k3 = exp(d) - d - 1, d = start_logprobs - logprobs.
Loss grpo_loss(const LossTokens& tokens, const LossSetting& setting);

// One drawn token whose probability depends on the row.
struct Target {
  int position = 0;  // the suffix's row that holds the last token of its context
  TokenId token = 0;
  float drawn_logprob = 0;  // as the engine had it
};

// A token that was taken back, but was context of a target by then: of a closer of several tokens
// all but the last.
struct Aside {
  TokenId token = 0;
  int parent = 0;  // the suffix's row of the token before it; -1: the prefix's last token
  int depth = 0;   // how many tokens stood before it
};

// What the gradient needs of one sample. Its rows are the kept tokens from `begins` on, then the
// asides; each row sees the prefix, its own context, and itself.
struct Suffix {
  std::vector<TokenId> tokens;  // kept, up to the last that is context of a target
  int begins = 0;               // everything before this token is constant: no soft token is there
  std::vector<Aside> asides;
  std::vector<Target> targets;
  double advantage = 0;
  std::vector<double> old_logprobs;    // one a target; empty: the present ones
  std::vector<double> start_logprobs;  // likewise, under the row when training began; with kl only

  int kept() const noexcept { return static_cast<int>(tokens.size()) - begins; }
  int length() const noexcept { return kept() + static_cast<int>(asides.size()); }
};

// Nothing when no drawn token depends on the row. `depths`: of each token of the trace, how many
// stood before it when it came.
std::optional<Suffix> find_suffix(const Trace& trace, std::span<const int> depths, TokenId row);
// Tokens drawn from the model after the prompt, taken back or not: what the loss is divided by.
std::int64_t drawn_tokens(const Trace& trace) noexcept;

// Logits that exist at once, in one chunk of the head: enough rows to fill a card with its
// products.
constexpr std::int64_t most_logits(bool is_cuda) { return std::int64_t{1} << (is_cuda ? 28 : 24); }

// Where the constants before a suffix stand in the engine's cache; nothing: not there any more.
using PagesOf = std::function<std::optional<PrefixPages>(int suffix)>;

// How suffixes of unequal length go through the model together.
enum class Layout : std::uint8_t {
  automatic,  // packed where the device has flash attention for it
  padded,     // to the longest of a few that are alike: the slow twin
  packed      // one behind the other
};
// What the way back keeps of the way there.
enum class Recompute : std::uint8_t {
  automatic,  // what the card has room for
  never,      // all that is needed
  always      // each layer's input: the layer is computed twice
};

// What all suffixes of one backward share.
struct SuffixSetting {
  const Decoder& decoder;
  at::Tensor rows;  // [soft rows, width] on the model's device, in its precision
  TokenId row = 0;  // the id that is trained
  double temperature = 1;
  LossSetting loss{};
  int max_batch_tokens = 4096;
  std::int64_t max_logits = most_logits(false);
  Layout layout = Layout::automatic;
  Recompute recompute = Recompute::automatic;
  PagesOf pages_of{};  // asked before PrefixOf, of packed and exact suffixes; empty: none
  Logprobs logprobs = Logprobs::fast;  // exact: prefixes come from pages_of, or from the start
  int page_tokens = 16;                // of pages for exact ones, as the engine has them
};

// How large one backward is.
struct Load {
  std::int64_t tokens = 0;         // of suffixes, with padding
  std::int64_t prefix_tokens = 0;  // before them
  std::int64_t longest = 0;        // positions of the longest sample; of padded suffixes
  std::int64_t logits = 0;         // that exist at once
  bool is_packed = false;
  bool recomputes = false;  // each layer is computed twice
  bool is_exact = false;    // the forward goes through pages of its own
};
// What it takes at most, beside weights and the engine's cache.
std::int64_t backward_bytes(const Sizes& sizes, const Load& load);

struct SuffixResult {
  std::vector<double> gradient;  // of the loss in the row [width]
  double loss = 0;
  std::int64_t targets = 0;
  std::int64_t clipped = 0;
  double entropy = 0;  // sums over targets, in nats
  double kl = 0;
  double weight = 0;
  std::vector<std::vector<double>> logprobs;  // of each suffix's targets, before the update
};

// The constants before a suffix, or nothing: then they are computed again, without gradient.
using PrefixOf = std::function<std::optional<CachedPrefix>(int suffix)>;

// Loss and gradient of the row over all suffixes, a batch of them at a time. Sets its own grad and
// inference modes and leaves the caller's as they were.
SuffixResult suffix_backward(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                             const PrefixOf& prefix_of);

// Only the logprobs, by a forward without gradient.
std::vector<std::vector<double>> suffix_logprobs(const SuffixSetting& setting,
                                                 std::span<const Suffix> suffixes,
                                                 const PrefixOf& prefix_of);

// Which padded suffixes go through the model together: alike in length, at most `max_batch_tokens`
// padded suffix positions and four times as many prefix positions, but always at least one.
std::vector<std::vector<int>> plan_batches(std::span<const Suffix> suffixes, int max_batch_tokens);
// Likewise of packed ones, in their order: few batches, alike in size. The largest batch comes
// first: what libtorch's allocator keeps of it has room for all others.
std::vector<std::vector<int>> plan_packs(std::span<const Suffix> suffixes, int max_batch_tokens);

// Adam (arXiv 1412.6980) with decay rates .9 and .95, no weight decay, on float32 values.
struct Adam {
  std::vector<double> first;  // moments; empty before the first update
  std::vector<double> second;
  int updates = 0;

  void update(std::vector<float>& values, std::span<const double> gradient, double rate);
};

// The rate of step `step` (from 0): half a cosine down to 0 at total_steps; 0 keeps it.
double scheduled_rate(double rate, int step, int total_steps) noexcept;

}  // namespace pensive
