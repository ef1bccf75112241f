// The gradient of one row: forward and backward from the first soft token on.
#include <algorithm>

#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include "train/batch.h"

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
HeadResult head_backward(const SuffixSetting& setting, const SuffixBatch& batch,
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
void scatter(const SuffixBatch& batch, std::span<const Suffix> suffixes, const at::Tensor& found,
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
at::Tensor forward(const SuffixSetting& setting, const SuffixBatch& batch,
                   const at::Tensor& embeddings) {
  SuffixAttention attention(batch.keys, batch.values, batch.mask);
  return setting.decoder.forward(embeddings, batch.positions, attention, Arithmetic::fast)
      .index_select(0, batch.target_rows);
}

void backward(const SuffixSetting& setting, std::span<const Suffix> suffixes,
              const SuffixBatch& batch, SuffixResult& result) {
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
    const SuffixBatch batch = make_batch(setting, suffixes, members, prefix_of);
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
