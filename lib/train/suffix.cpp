// The gradient of one row: forward and backward from the first soft token on.
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "kernels/packed.h"
#include "train/exact.h"

namespace pensive {
namespace {

// What the head gives back for all targets of a batch.
struct HeadResult {
  at::Tensor gradient;  // of the loss in the hidden states [targets, width]
  at::Tensor logprobs;  // [targets]
  at::Tensor sums;      // float64 [5]: loss, clipped targets, entropy, KL, weights
};

std::int64_t chunk_of(const SuffixSetting& setting) {
  return std::max<std::int64_t>(1, setting.max_logits / setting.decoder.config().vocab_size);
}

// Logits of hidden states, and of one token each what the setting's way makes of it.
std::pair<at::Tensor, kernels::TokenLogprobs> logprobs_of(const SuffixSetting& setting,
                                                          const at::Tensor& hidden,
                                                          const at::Tensor& tokens) {
  const bool is_exact = setting.logprobs == Logprobs::exact;
  at::Tensor logits =
      setting.decoder.head(hidden, is_exact ? Arithmetic::row_invariant : Arithmetic::fast);
  kernels::TokenLogprobs found = is_exact
                                     ? kernels::drawn_logprobs(logits, tokens, setting.temperature)
                                     : kernels::token_logprobs(logits, tokens, setting.temperature);
  return {std::move(logits), std::move(found)};
}

// The head and the loss in chunks, each backward at once: the loss is a sum over targets, so only
// the gradient in the hidden states has to outlive a chunk.
HeadResult head_backward(const SuffixSetting& setting, const Batch& batch,
                         const at::Tensor& hidden) {  // [targets, width], detached
  const std::int64_t chunk = chunk_of(setting);
  std::vector<at::Tensor> gradients, logprobs;
  at::Tensor sums = at::zeros({5}, hidden.options().dtype(at::kDouble));
  for (std::int64_t from = 0; from < hidden.size(0); from += chunk) {
    const std::int64_t to = std::min(from + chunk, hidden.size(0));
    const at::Tensor tokens = batch.target_tokens.slice(0, from, to);
    const auto [logits, found] = logprobs_of(setting, hidden.slice(0, from, to), tokens);
    const auto part = [&](const at::Tensor& x) {
      return x.defined() ? x.slice(0, from, to).to(logits.dtype()) : x;
    };
    const at::Tensor leaf = found.logprobs.clone().requires_grad_(true);
    const Loss loss = grpo_loss(
        {.logprobs = leaf,
         .old_logprobs = batch.old_logprobs.defined() ? part(batch.old_logprobs) : found.logprobs,
         .advantages = part(batch.advantages),
         .drawn_logprobs = part(batch.drawn_logprobs),
         .start_logprobs = part(batch.start_logprobs)},
        setting.loss);
    loss.loss.backward();
    gradients.push_back(kernels::token_logprobs_back(logits, tokens, found, leaf.grad(),
                                                     setting.temperature, hidden.scalar_type())
                            .matmul(setting.decoder.weights().head));
    logprobs.push_back(found.logprobs);
    const auto exact = [](const at::Tensor& x) { return x.detach().to(at::kDouble); };
    sums += at::stack({exact(loss.loss), exact(loss.clipped), exact(found.entropies.sum()),
                       exact(loss.kl), exact(loss.weight)});
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

// A batch's head, and the gradient of the loss in its embeddings [rows, width].
struct Pulls {
  HeadResult head;
  at::Tensor embeddings;
};

Pulls pulls_of(const SuffixSetting& setting, const Batch& batch) {
  const at::Tensor leaf = batch.embeddings.detach().requires_grad_(true);
  const at::Tensor hidden =
      setting.decoder.forward(leaf, batch.positions, *batch.attention, Arithmetic::fast)
          .index_select(0, batch.target_rows);
  HeadResult head = head_backward(setting, batch, hidden.detach());
  hidden.backward(head.gradient);
  return {std::move(head), leaf.grad()};
}

// What each layer is given, and after the last.
std::vector<at::Tensor> inputs_of(const SuffixSetting& setting, const Batch& batch,
                                  const Angles& angles) {
  const c10::NoGradGuard no_gradient;
  std::vector<at::Tensor> inputs{batch.embeddings};
  for (int index = 0; index < setting.decoder.config().layers; ++index)
    inputs.push_back(
        setting.decoder.layer(index, inputs.back(), angles, *batch.attention, Arithmetic::fast));
  return inputs;
}

// The same with each layer's input kept and nothing else; of exact rows it is the one that they had
// on their way.
Pulls pulls_by_layers(const SuffixSetting& setting, const Batch& batch, const ExactRows& exact) {
  const Decoder& decoder = setting.decoder;
  const Angles angles = decoder.angles(batch.positions);
  std::vector<at::Tensor> inputs =
      exact.inputs.defined() ? exact.inputs.unbind(0) : inputs_of(setting, batch, angles);
  at::Tensor leaf = inputs.back().detach().requires_grad_(true);
  const at::Tensor hidden = decoder.finish(leaf).index_select(0, batch.target_rows);
  HeadResult head = head_backward(
      setting, batch,
      exact.hidden.defined() ? exact.hidden.index_select(0, batch.target_rows) : hidden.detach());
  hidden.backward(head.gradient);
  for (int index = decoder.config().layers - 1; index >= 0; --index) {
    const at::Tensor pull = leaf.grad();
    inputs.pop_back();
    leaf = inputs.back().detach().requires_grad_(true);
    decoder.layer(index, leaf, angles, *batch.attention, Arithmetic::fast).backward(pull);
  }
  return {std::move(head), leaf.grad()};
}

void add_up(const Batch& batch, std::span<const Suffix> suffixes, const Pulls& pulls,
            SuffixResult& result) {
  // The row stands in several places: its gradient is the sum of theirs, taken in float64.
  const at::Tensor sum =
      pulls.embeddings.index_select(0, batch.soft_rows).to(at::kCPU, at::kDouble).sum(0);
  const double* values = sum.const_data_ptr<double>();
  for (std::size_t i = 0; i < result.gradient.size(); ++i) result.gradient[i] += values[i];
  const at::Tensor sums = pulls.head.sums.to(at::kCPU);
  const double* total = sums.const_data_ptr<double>();
  result.loss += total[0];
  result.clipped += static_cast<std::int64_t>(total[1]);
  result.entropy += total[2];
  result.kl += total[3];
  result.weight += total[4];
  result.targets += batch.target_rows.size(0);
  scatter(batch, suffixes, pulls.head.logprobs, result.logprobs);
}

// A card's memory is small, and known.
Way way_of(const SuffixSetting& setting, std::span<const Suffix> suffixes) {
  const at::Device device = setting.rows.device();
  if (!device.is_cuda()) return choose_way(setting, suffixes, std::nullopt);
  return choose_way(setting, suffixes,
                    kernels::memory({DeviceKind::cuda, device.index()}).free_bytes);
}

// Batches of suffixes one after the other, each with its exact rows where these are asked for.
class Batches {
 public:
  Batches(const SuffixSetting& setting, std::span<const Suffix> suffixes, const PrefixOf& prefix_of)
      : setting_(setting),
        suffixes_(suffixes),
        prefix_of_(prefix_of),
        way_(way_of(setting, suffixes)),
        members_(way_.is_packed ? plan_packs(suffixes, way_.batch_tokens)
                                : plan_batches(suffixes, way_.batch_tokens)) {
    if (setting.logprobs == Logprobs::exact && !members_.empty())
      exact_.emplace(setting, suffixes, members_, way_.is_packed);
  }

  const Way& way() const { return way_; }
  // Calls use(batch, exact rows) for each.
  template <class Use>
  void for_each(bool keeps_inputs, Use use) {
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (!exact_) {
        use(make_batch(setting_, suffixes_, members_[i], prefix_of_, way_), ExactRows{});
        continue;
      }
      const ExactRows rows = exact_->run(i, keeps_inputs);
      // What lies before the suffixes is there now.
      SuffixSetting setting = setting_;
      setting.pages_of = [&](int s) { return exact_->pages_of(suffixes_[s], s); };
      use(make_batch(
              setting, suffixes_, members_[i],
              [&](int s) { return exact_->prefix_of(suffixes_[s], s); }, way_),
          rows);
    }
  }

 private:
  const SuffixSetting& setting_;
  std::span<const Suffix> suffixes_;
  const PrefixOf& prefix_of_;
  Way way_;
  std::vector<std::vector<int>> members_;
  std::optional<ExactForward> exact_;
};

}  // namespace

SuffixResult suffix_backward(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                             const PrefixOf& prefix_of) {
  const c10::InferenceMode no_inference(false);
  const c10::AutoGradMode with_gradient(true);
  SuffixResult result;
  result.gradient.assign(setting.decoder.config().width, 0.0);
  result.logprobs.resize(suffixes.size());
  Batches batches(setting, suffixes, prefix_of);
  batches.for_each(true, [&](const Batch& batch, const ExactRows& exact) {
    add_up(batch, suffixes,
           batches.way().recomputes ? pulls_by_layers(setting, batch, exact)
                                    : pulls_of(setting, batch),
           result);
  });
  return result;
}

std::vector<std::vector<double>> suffix_logprobs(const SuffixSetting& setting,
                                                 std::span<const Suffix> suffixes,
                                                 const PrefixOf& prefix_of) {
  const c10::InferenceMode no_inference(false);
  const c10::NoGradGuard no_gradient;
  std::vector<std::vector<double>> logprobs(suffixes.size());
  const std::int64_t chunk = chunk_of(setting);
  Batches(setting, suffixes, prefix_of)
      .for_each(false, [&](const Batch& batch, const ExactRows& exact) {
        const at::Tensor all = exact.hidden.defined()
                                   ? exact.hidden
                                   : setting.decoder.forward(batch.embeddings, batch.positions,
                                                             *batch.attention, Arithmetic::fast);
        const at::Tensor hidden = all.index_select(0, batch.target_rows);
        std::vector<at::Tensor> found;
        for (std::int64_t from = 0; from < hidden.size(0); from += chunk) {
          const std::int64_t to = std::min(from + chunk, hidden.size(0));
          found.push_back(logprobs_of(setting, hidden.slice(0, from, to),
                                      batch.target_tokens.slice(0, from, to))
                              .second.logprobs);
        }
        scatter(batch, suffixes, at::cat(found), logprobs);
      });
  return logprobs;
}

}  // namespace pensive
