// Packing suffixes: which go together, their rows, their constant prefixes, who sees whom.
#include "train/batch.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include <c10/core/GradMode.h>

namespace pensive {
namespace {

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

void fill_prefixes(SuffixBatch& batch, const SuffixSetting& setting,
                   std::span<const Suffix> suffixes, const PrefixOf& prefix_of) {
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

// What each row of a suffix does not see of it: the rows behind it, and, of what was taken back,
// all but its own context. -> bool [suffixes or 1, length, length]
at::Tensor hidden_rows(const SuffixBatch& batch, std::span<const Suffix> suffixes,
                       at::Device device) {
  const bool is_plain =
      std::ranges::all_of(batch.suffixes, [&](int s) { return suffixes[s].asides.empty(); });
  const auto causal = [&](at::Device where) {
    return at::ones({1, batch.length, batch.length}, at::TensorOptions(at::kBool).device(where))
        .triu(1);
  };
  if (is_plain) return causal(device);
  const at::Tensor all = causal(at::kCPU).repeat({std::ssize(batch.suffixes), 1, 1});
  auto hidden = all.accessor<bool, 3>();
  for (std::size_t b = 0; b < batch.suffixes.size(); ++b) {
    const Suffix& suffix = suffixes[batch.suffixes[b]];
    auto of = hidden[static_cast<std::int64_t>(b)];
    std::int64_t row = suffix.kept();
    for (const Aside& aside : suffix.asides) {
      for (std::int64_t r = 0; r < batch.length; ++r)
        of[row][r] = aside.parent < 0 || of[aside.parent][r];
      of[row][row] = false;
      ++row;
    }
  }
  return all.to(device);
}

// A padding row sees what a real row in its place would see: never nothing, so never NaN. Rows lie
// a multiple of 16 numbers apart, as CUDA's attention needs them.
at::Tensor make_mask(const SuffixBatch& batch, const SuffixSetting& setting,
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
  const at::Tensor hidden_suffix = hidden_rows(batch, suffixes, options.device())
                                       .unsqueeze(1)
                                       .expand({count, group, batch.length, batch.length});
  const at::Tensor hidden = at::cat({hidden_prefix, hidden_suffix}, 3);
  const std::int64_t keys = hidden.size(3);
  return at::zeros({count, group, batch.length, (keys + 15) / 16 * 16}, options)
      .narrow(3, 0, keys)
      .masked_fill_(hidden, -std::numeric_limits<double>::infinity())
      .view({count, 1, group * batch.length, batch.prefix_length + batch.length});
}

}  // namespace

SuffixBatch make_batch(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                       const std::vector<int>& members, const PrefixOf& prefix_of) {
  SuffixBatch batch;
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
    const auto add = [&](TokenId id, std::int64_t position) {
      if (id == setting.row) soft_rows.push_back(static_cast<std::int64_t>(ids.size()));
      ids.push_back(id);
      positions.push_back(std::min(position, last_position));
    };
    for (int r = 0; r < suffix.kept(); ++r)
      add(suffix.tokens[suffix.begins + r], suffix.begins + r);
    for (const Aside& aside : suffix.asides) add(aside.token, aside.depth);
    while (std::ssize(ids) < first_row + batch.length)
      add(0, suffix.begins + std::ssize(ids) - first_row);
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

}  // namespace pensive
