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
    const at::Tensor mixed = mix(q, joined(prefix_keys_, keys), joined(prefix_values_, values));
    return mixed.reshape({suffixes, kv_heads, group, length, head_dim})
        .permute({0, 3, 1, 2, 4})
        .reshape({suffixes * length, kv_heads * group, head_dim});
  }

 private:
  // In the brief precisions libtorch would choose cuDNN, which builds a plan for every new shape,
  // and every batch has one: ten times the time of all the rest.
  at::Tensor mix(const at::Tensor& queries, const at::Tensor& keys, const at::Tensor& values) {
    const bool is_brief =
        queries.scalar_type() == at::kBFloat16 || queries.scalar_type() == at::kHalf;
    if (!queries.is_cuda() || !is_brief || queries.size(3) % 8 != 0)
      return at::scaled_dot_product_attention(queries, keys, values, mask_);
    const at::Tensor bias =
        mask_.expand({queries.size(0), queries.size(1), queries.size(2), keys.size(2)});
    return std::get<0>(at::_scaled_dot_product_efficient_attention(
        queries, keys, values, bias, /*compute_log_sumexp=*/at::GradMode::is_enabled()));
  }

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

// Undefined where there are none.
at::Tensor to_device(const std::vector<double>& values, at::Device device) {
  return values.empty() ? at::Tensor() : at::tensor(values, at::kDouble).to(device);
}

void append(std::vector<double>& all, const std::vector<double>& more) {
  all.insert(all.end(), more.begin(), more.end());
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
  // float64 [targets]; undefined where the suffixes have none
  at::Tensor advantages, drawn_logprobs, old_logprobs, start_logprobs;
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

// A padding row sees what a real row in its place would see: never nothing, so never NaN. Rows lie
// a multiple of 16 numbers apart, as CUDA's attention needs them.
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
  const std::int64_t keys = hidden.size(3);
  return at::zeros({count, group, batch.length, (keys + 15) / 16 * 16}, options)
      .narrow(3, 0, keys)
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
  std::vector<double> advantages, drawn_logprobs, old_logprobs, start_logprobs;
  for (const int s : members) {
    const Suffix& suffix = suffixes[s];
    const auto first_row = static_cast<std::int64_t>(ids.size());
    for (const Target& target : suffix.targets) {
      target_rows.push_back(first_row + target.position);
      target_tokens.push_back(target.token);
      advantages.push_back(suffix.advantage);
      drawn_logprobs.push_back(target.drawn_logprob);
    }
    append(old_logprobs, suffix.old_logprobs);
    append(start_logprobs, suffix.start_logprobs);
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
  batch.advantages = to_device(advantages, device);
  batch.drawn_logprobs = to_device(drawn_logprobs, device);
  batch.old_logprobs = to_device(old_logprobs, device);
  batch.start_logprobs = to_device(start_logprobs, device);
  fill_prefixes(batch, setting, suffixes, prefix_of);
  batch.mask = make_mask(batch, setting, suffixes);
  return batch;
}

// What the head gives back for all targets of a batch.
struct HeadResult {
  at::Tensor gradient;  // of the loss in the hidden states [targets, width]
  at::Tensor logprobs;  // [targets]
  at::Tensor sums;      // float64 [5]: loss, clipped targets, entropy, KL, weights
};

// Of one chunk of targets, differentiable in `hidden`; -> [targets, vocabulary].
at::Tensor head_logprobs(const SuffixSetting& setting, const at::Tensor& hidden) {
  return at::log_softmax(setting.decoder.head(hidden, Arithmetic::fast) / setting.temperature, -1);
}

// [targets]
at::Tensor pick(const at::Tensor& logprobs, const at::Tensor& tokens) {
  return logprobs.gather(1, tokens.unsqueeze(1)).squeeze(1);
}

// The head and the loss in chunks, each backward at once: the loss is a sum over targets, so only
// the gradient in the hidden states has to outlive a chunk.
HeadResult head_backward(const SuffixSetting& setting, const Batch& batch,
                         const at::Tensor& hidden) {  // [targets, width], detached
  const std::int64_t vocab = setting.decoder.config().vocab_size;
  const std::int64_t chunk = std::max<std::int64_t>(1, setting.max_logits / vocab);
  std::vector<at::Tensor> gradients, logprobs;
  at::Tensor sums = at::zeros({5}, hidden.options().dtype(at::kDouble));
  for (std::int64_t from = 0; from < hidden.size(0); from += chunk) {
    const std::int64_t to = std::min(from + chunk, hidden.size(0));
    const at::Tensor leaf = hidden.slice(0, from, to).detach().requires_grad_(true);
    const at::Tensor all = head_logprobs(setting, leaf);
    const at::Tensor logprob = pick(all, batch.target_tokens.slice(0, from, to));
    const auto part = [&](const at::Tensor& x) {
      return x.defined() ? x.slice(0, from, to).to(logprob.dtype()) : x;
    };
    const at::Tensor now = logprob.detach();
    const Loss loss =
        grpo_loss({.logprobs = logprob,
                   .old_logprobs = batch.old_logprobs.defined() ? part(batch.old_logprobs) : now,
                   .advantages = part(batch.advantages),
                   .drawn_logprobs = part(batch.drawn_logprobs),
                   .start_logprobs = part(batch.start_logprobs)},
                  setting.loss);
    loss.loss.backward();
    gradients.push_back(leaf.grad());
    logprobs.push_back(now);
    const at::Tensor fixed = all.detach();
    const at::Tensor entropy = -(fixed.exp() * fixed).sum();
    const auto exact = [](const at::Tensor& x) { return x.detach().to(at::kDouble); };
    sums += at::stack({exact(loss.loss), exact(loss.clipped), exact(entropy), exact(loss.kl),
                       exact(loss.weight)});
  }
  return {at::cat(gradients), at::cat(logprobs), sums};
}

// Hands a batch's logprobs out, suffix by suffix.
void scatter(const Batch& batch, std::span<const Suffix> suffixes, const at::Tensor& found,
             std::vector<std::vector<double>>& logprobs) {
  const at::Tensor flat = found.to(at::kCPU, at::kDouble).contiguous();
  const double* next = flat.const_data_ptr<double>();
  for (const int s : batch.suffixes) {
    const auto count = static_cast<std::ptrdiff_t>(suffixes[s].targets.size());
    logprobs[s].assign(next, next + count);
    next += count;
  }
}

// [targets, width], differentiable in `embeddings`.
at::Tensor forward(const SuffixSetting& setting, const Batch& batch, const at::Tensor& embeddings) {
  SuffixAttention attention(batch.keys, batch.values, batch.mask);
  return setting.decoder.forward(embeddings, batch.positions, attention, Arithmetic::fast)
      .index_select(0, batch.target_rows);
}

void backward(const SuffixSetting& setting, std::span<const Suffix> suffixes, const Batch& batch,
              SuffixResult& result) {
  const at::Tensor leaf = batch.embeddings.detach().requires_grad_(true);
  const at::Tensor hidden = forward(setting, batch, leaf);
  const HeadResult head = head_backward(setting, batch, hidden.detach());
  hidden.backward(head.gradient);

  // The row stands in several places: its gradient is the sum of theirs, taken in float64.
  const at::Tensor sum =
      leaf.grad().index_select(0, batch.soft_rows).to(at::kCPU, at::kDouble).sum(0);
  const double* values = sum.const_data_ptr<double>();
  for (std::size_t i = 0; i < result.gradient.size(); ++i) result.gradient[i] += values[i];
  const at::Tensor sums = head.sums.to(at::kCPU);
  const double* total = sums.const_data_ptr<double>();
  result.loss += total[0];
  result.clipped += static_cast<std::int64_t>(total[1]);
  result.entropy += total[2];
  result.kl += total[3];
  result.weight += total[4];
  result.targets += batch.target_rows.size(0);
  scatter(batch, suffixes, head.logprobs, result.logprobs);
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

std::vector<std::vector<double>> suffix_logprobs(const SuffixSetting& setting,
                                                 std::span<const Suffix> suffixes,
                                                 const PrefixOf& prefix_of) {
  const c10::InferenceMode no_inference(false);
  const c10::NoGradGuard no_gradient;
  std::vector<std::vector<double>> logprobs(suffixes.size());
  const std::int64_t chunk =
      std::max<std::int64_t>(1, setting.max_logits / setting.decoder.config().vocab_size);
  for (const std::vector<int>& members : plan_batches(suffixes, setting.max_batch_tokens)) {
    const Batch batch = make_batch(setting, suffixes, members, prefix_of);
    const at::Tensor hidden = forward(setting, batch, batch.embeddings);
    std::vector<at::Tensor> found;
    for (std::int64_t from = 0; from < hidden.size(0); from += chunk) {
      const std::int64_t to = std::min(from + chunk, hidden.size(0));
      found.push_back(pick(head_logprobs(setting, hidden.slice(0, from, to)),
                           batch.target_tokens.slice(0, from, to)));
    }
    scatter(batch, suffixes, at::cat(found), logprobs);
  }
  return logprobs;
}

}  // namespace pensive
