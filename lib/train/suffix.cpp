// The gradient of one row: forward and backward from the first soft token on.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include "train/steps.h"

namespace pensive {
namespace {

// Attention of padded suffixes over constant prefixes and themselves. Queries of one key head are
// laid out behind one another, so that keys need no copy for grouped heads.
class SuffixAttention final : public Attention {
 public:
  SuffixAttention(at::Tensor prefix_keys,    // [layers, suffixes, prefix, kv_heads, head_dim]
                  at::Tensor prefix_values,  // likewise
                  at::Tensor mask)           // [suffixes, 1, group * suffix, prefix + suffix]
      : prefix_keys_(std::move(prefix_keys)),
        prefix_values_(std::move(prefix_values)),
        mask_(std::move(mask)) {}

  at::Tensor attend(int layer, const at::Tensor& queries, const at::Tensor& keys,
                    const at::Tensor& values) override {
    const auto suffixes = mask_.size(0), kv_heads = keys.size(1), head_dim = keys.size(2);
    const auto group = queries.size(1) / kv_heads, length = keys.size(0) / suffixes;
    const at::Tensor q = queries.reshape({suffixes, length, kv_heads, group, head_dim})
                             .permute({0, 2, 3, 1, 4})
                             .reshape({suffixes, kv_heads, group * length, head_dim});
    const auto joined = [&](const at::Tensor& prefix, const at::Tensor& own) {
      return at::cat({prefix.select(0, layer), own.reshape({suffixes, length, kv_heads, head_dim})},
                     1)
          .transpose(1, 2);  // [suffixes, kv_heads, prefix + suffix, head_dim]
    };
    const at::Tensor mixed = at::scaled_dot_product_attention(
        q, joined(prefix_keys_, keys), joined(prefix_values_, values), mask_);
    return mixed.reshape({suffixes, kv_heads, group, length, head_dim})
        .permute({0, 3, 1, 2, 4})
        .reshape({suffixes * length, kv_heads * group, head_dim});
  }

 private:
  at::Tensor prefix_keys_, prefix_values_, mask_;
};

// Remembers the keys and values of a forward without gradient.
class CapturingAttention final : public Attention {
 public:
  at::Tensor attend(int layer, const at::Tensor& queries, const at::Tensor& keys,
                    const at::Tensor& values) override {
    keys_.push_back(keys);
    values_.push_back(values);
    return whole_.attend(layer, queries, keys, values);
  }
  CachedPrefix take() { return {at::stack(keys_), at::stack(values_)}; }

 private:
  WholeAttention whole_;
  std::vector<at::Tensor> keys_, values_;
};

at::Tensor to_device(const std::vector<std::int64_t>& values, at::Device device) {
  return at::tensor(values, at::kLong).to(device);
}

// Embeddings of ids that may be soft; -> [tokens, width], made here: a leaf may be made of it.
at::Tensor embed(const SuffixSetting& setting, std::vector<std::int64_t> ids) {
  const std::int64_t vocab = setting.decoder.config().vocab_size;
  std::vector<std::int64_t> places, which;
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] >= vocab) {
      places.push_back(static_cast<std::int64_t>(i));
      which.push_back(ids[i] - vocab);
      ids[i] = 0;
    }
  const at::Device device = setting.rows.device();
  at::Tensor embeddings = setting.decoder.embed(to_device(ids, device));
  if (!places.empty())
    embeddings.index_copy_(0, to_device(places, device),
                           setting.rows.index_select(0, to_device(which, device)));
  return embeddings;
}

CachedPrefix compute_prefix(const SuffixSetting& setting, const Suffix& suffix) {
  const c10::NoGradGuard no_gradient;
  const at::Tensor positions =
      at::arange(suffix.begins, at::TensorOptions(at::kLong).device(setting.rows.device()));
  CapturingAttention attention;
  setting.decoder.forward(
      embed(setting, {suffix.tokens.begin(), suffix.tokens.begin() + suffix.begins}), positions,
      attention, Arithmetic::fast);
  return attention.take();
}

// Padded suffixes as the decoder takes them; row r of suffix b is b * length + r.
struct Batch {
  std::vector<int> suffixes;
  std::int64_t length = 0;                // of the longest suffix
  std::int64_t prefix_length = 0;         // of the longest prefix
  at::Tensor embeddings;                  // [suffixes * length, width]
  at::Tensor positions;                   // int64 [suffixes * length]
  at::Tensor keys, values;                // [layers, suffixes, prefix, kv_heads, head_dim]
  at::Tensor mask;                        // [suffixes, 1, group * length, prefix + length]
  at::Tensor soft_rows;                   // int64: rows that hold the trained token
  at::Tensor target_rows, target_tokens;  // int64 [targets]
  at::Tensor advantages, old_logprobs;    // float64 [targets]; old_logprobs may be undefined
};

void fill_prefixes(Batch& batch, const SuffixSetting& setting, std::span<const Suffix> suffixes,
                   const PrefixOf& prefix_of) {
  const Config& config = setting.decoder.config();
  const auto count = static_cast<std::int64_t>(batch.suffixes.size());
  batch.keys =
      at::zeros({config.layers, count, batch.prefix_length, config.kv_heads, config.head_dim},
                setting.rows.options().requires_grad(false));
  batch.values = at::zeros_like(batch.keys);
  for (std::int64_t b = 0; b < count; ++b) {
    const Suffix& suffix = suffixes[batch.suffixes[b]];
    if (suffix.begins == 0) continue;
    std::optional<CachedPrefix> prefix = prefix_of(batch.suffixes[b]);
    if (!prefix) prefix = compute_prefix(setting, suffix);
    batch.keys.select(1, b).slice(1, 0, suffix.begins).copy_(prefix->keys);
    batch.values.select(1, b).slice(1, 0, suffix.begins).copy_(prefix->values);
  }
}

// A padding row sees what a real row in its place would see: never nothing, so never NaN.
at::Tensor make_mask(const Batch& batch, const SuffixSetting& setting,
                     std::span<const Suffix> suffixes) {
  const auto options = setting.rows.options().requires_grad(false);
  const auto count = static_cast<std::int64_t>(batch.suffixes.size());
  const std::int64_t group = setting.decoder.config().heads / setting.decoder.config().kv_heads;
  std::vector<std::int64_t> prefix_lengths;
  for (const int s : batch.suffixes) prefix_lengths.push_back(suffixes[s].begins);
  const at::Tensor lengths = to_device(prefix_lengths, options.device());
  const at::Tensor place = at::arange(batch.prefix_length, lengths.options());
  const at::Tensor hidden_prefix =
      (place.unsqueeze(0) >= lengths.unsqueeze(1))  // [suffixes, prefix]
          .view({count, 1, 1, batch.prefix_length})
          .expand({count, group, batch.length, batch.prefix_length});
  const at::Tensor hidden_suffix =
      at::ones({batch.length, batch.length}, lengths.options().dtype(at::kBool))
          .triu(1)
          .view({1, 1, batch.length, batch.length})
          .expand({count, group, batch.length, batch.length});
  const at::Tensor hidden = at::cat({hidden_prefix, hidden_suffix}, 3);
  return at::zeros(hidden.sizes(), options)
      .masked_fill_(hidden, -std::numeric_limits<double>::infinity())
      .view({count, 1, group * batch.length, batch.prefix_length + batch.length});
}

Batch make_batch(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                 const std::vector<int>& members, const PrefixOf& prefix_of) {
  Batch batch;
  batch.suffixes = members;
  for (const int s : members) {
    batch.length = std::max<std::int64_t>(batch.length, suffixes[s].length());
    batch.prefix_length = std::max<std::int64_t>(batch.prefix_length, suffixes[s].begins);
  }
  const std::int64_t last_position = setting.decoder.config().max_positions - 1;
  std::vector<std::int64_t> ids, positions, soft_rows, target_rows, target_tokens;
  std::vector<double> advantages, old_logprobs;
  for (const int s : members) {
    const Suffix& suffix = suffixes[s];
    const auto first_row = static_cast<std::int64_t>(ids.size());
    for (const Target& target : suffix.targets) {
      target_rows.push_back(first_row + target.position);
      target_tokens.push_back(target.token);
      advantages.push_back(suffix.advantage);
    }
    old_logprobs.insert(old_logprobs.end(), suffix.old_logprobs.begin(), suffix.old_logprobs.end());
    for (std::int64_t r = 0; r < batch.length; ++r) {
      const TokenId id = r < suffix.length() ? suffix.tokens[suffix.begins + r] : 0;
      if (id == setting.row) soft_rows.push_back(first_row + r);
      ids.push_back(id);
      positions.push_back(std::min(suffix.begins + r, last_position));
    }
  }
  const at::Device device = setting.rows.device();
  batch.embeddings = embed(setting, std::move(ids));
  batch.positions = to_device(positions, device);
  batch.soft_rows = to_device(soft_rows, device);
  batch.target_rows = to_device(target_rows, device);
  batch.target_tokens = to_device(target_tokens, device);
  batch.advantages = at::tensor(advantages, at::kDouble).to(device);
  if (!old_logprobs.empty()) batch.old_logprobs = at::tensor(old_logprobs, at::kDouble).to(device);
  fill_prefixes(batch, setting, suffixes, prefix_of);
  batch.mask = make_mask(batch, setting, suffixes);
  return batch;
}

// What the head gives back for all targets of a batch.
struct HeadResult {
  at::Tensor gradient;  // of the loss in the hidden states [targets, width]
  at::Tensor logprobs;  // [targets]
  double loss = 0;
  std::int64_t clipped = 0;
};

// The head and the loss in chunks, each backward at once: the loss is a sum over targets, so only
// the gradient in the hidden states has to outlive a chunk.
HeadResult head_backward(const SuffixSetting& setting, const Batch& batch,
                         const at::Tensor& hidden) {  // [targets, width], detached
  const std::int64_t vocab = setting.decoder.config().vocab_size;
  const std::int64_t chunk = std::max<std::int64_t>(1, setting.max_logits / vocab);
  std::vector<at::Tensor> gradients, logprobs, losses, clipped;
  for (std::int64_t from = 0; from < hidden.size(0); from += chunk) {
    const std::int64_t to = std::min(from + chunk, hidden.size(0));
    const at::Tensor leaf = hidden.slice(0, from, to).detach().requires_grad_(true);
    const at::Tensor logits = setting.decoder.head(leaf, Arithmetic::fast) / setting.temperature;
    const at::Tensor logprob = at::log_softmax(logits, -1)
                                   .gather(1, batch.target_tokens.slice(0, from, to).unsqueeze(1))
                                   .squeeze(1);
    const auto same_type = [&](const at::Tensor& x) {
      return x.slice(0, from, to).to(logprob.dtype());
    };
    const at::Tensor old =
        batch.old_logprobs.defined() ? same_type(batch.old_logprobs) : logprob.detach();
    const Loss loss =
        grpo_loss(logprob, old, same_type(batch.advantages), setting.clip, setting.denominator);
    loss.loss.backward();
    gradients.push_back(leaf.grad());
    logprobs.push_back(logprob.detach());
    losses.push_back(loss.loss.detach());
    clipped.push_back(loss.clipped);
  }
  return {at::cat(gradients), at::cat(logprobs),
          at::stack(losses).to(at::kDouble).sum().item<double>(),
          at::stack(clipped).sum().item<std::int64_t>()};
}

void backward(const SuffixSetting& setting, std::span<const Suffix> suffixes, Batch batch,
              SuffixResult& result) {
  const at::Tensor leaf = batch.embeddings.requires_grad_(true);
  SuffixAttention attention(batch.keys, batch.values, batch.mask);
  const at::Tensor hidden =
      setting.decoder.forward(leaf, batch.positions, attention, Arithmetic::fast)
          .index_select(0, batch.target_rows);
  const HeadResult head = head_backward(setting, batch, hidden.detach());
  hidden.backward(head.gradient);

  // The row stands in several places: its gradient is the sum of theirs, taken in float64.
  const at::Tensor sum =
      leaf.grad().index_select(0, batch.soft_rows).to(at::kCPU, at::kDouble).sum(0);
  const double* values = sum.const_data_ptr<double>();
  for (std::size_t i = 0; i < result.gradient.size(); ++i) result.gradient[i] += values[i];
  result.loss += head.loss;
  result.clipped += head.clipped;
  result.targets += batch.target_rows.size(0);
  const at::Tensor logprobs = head.logprobs.to(at::kCPU, at::kDouble).contiguous();
  const double* next = logprobs.const_data_ptr<double>();
  for (const int s : batch.suffixes) {
    const auto count = static_cast<std::ptrdiff_t>(suffixes[s].targets.size());
    result.logprobs[s].assign(next, next + count);
    next += count;
  }
}

}  // namespace

std::vector<std::vector<int>> plan_batches(std::span<const Suffix> suffixes, int max_batch_tokens) {
  constexpr int small_batch_tokens = 1024;  // below this, fewer calls are worth the padding
  std::vector<int> order(suffixes.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return suffixes[a].length() > suffixes[b].length(); });
  std::vector<std::vector<int>> batches;
  std::int64_t length = 0, prefix = 0;
  for (const int s : order) {
    const std::int64_t members = batches.empty() ? 0 : std::ssize(batches.back());
    const std::int64_t longest_prefix = std::max<std::int64_t>(prefix, suffixes[s].begins);
    const bool fits = members > 0 && (members + 1) * length <= max_batch_tokens &&
                      (members + 1) * longest_prefix <= std::int64_t{4} * max_batch_tokens;
    const bool is_alike =
        suffixes[s].length() * 8 >= length * 7 || (members + 1) * length <= small_batch_tokens;
    if (fits && is_alike) {
      prefix = longest_prefix;
    } else {
      batches.emplace_back();
      length = suffixes[s].length();
      prefix = suffixes[s].begins;
    }
    batches.back().push_back(s);
  }
  return batches;
}

SuffixResult suffix_backward(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                             const PrefixOf& prefix_of) {
  const c10::InferenceMode no_inference(false);
  const c10::AutoGradMode with_gradient(true);
  SuffixResult result;
  result.gradient.assign(setting.decoder.config().width, 0.0);
  result.logprobs.resize(suffixes.size());
  for (const std::vector<int>& members : plan_batches(suffixes, setting.max_batch_tokens))
    backward(setting, suffixes, make_batch(setting, suffixes, members, prefix_of), result);
  return result;
}

}  // namespace pensive
