// What the model is given of the suffixes: how many together, their rows, and the constants before.
#include "train/batch.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include <c10/core/GradMode.h>

#include "kernels/packed.h"

namespace pensive {
namespace {

void append(std::vector<double>& all, const std::vector<double>& more) {
  all.insert(all.end(), more.begin(), more.end());
}

// Remembers the keys and values of a forward without gradient.
class CapturingAttention final : public Attention {
 public:
  CapturingAttention(std::int64_t length, at::Device device)
      : batch_(kernels::pack({length}, {length}, device)) {}
  at::Tensor attend(int, const at::Tensor& queries, const at::Tensor& keys,
                    const at::Tensor& values) override {
    keys_.push_back(keys);
    values_.push_back(values);
    const double scale = 1 / std::sqrt(static_cast<double>(queries.size(2)));
    return kernels::packed_attention(queries, keys, values, batch_, scale);
  }
  CachedPrefix take() { return {at::stack(keys_), at::stack(values_)}; }

 private:
  kernels::PackedBatch batch_;
  std::vector<at::Tensor> keys_, values_;
};

CachedPrefix compute_prefix(const SuffixSetting& setting, const Suffix& suffix) {
  const c10::NoGradGuard no_gradient;
  const at::Device device = setting.rows.device();
  const at::Tensor positions =
      at::arange(suffix.begins, at::TensorOptions(at::kLong).device(device));
  CapturingAttention attention(suffix.begins, device);
  setting.decoder.forward(
      embed(setting, {suffix.tokens.begin(), suffix.tokens.begin() + suffix.begins}), positions,
      attention, Arithmetic::fast);
  return attention.take();
}

CachedPrefix prefix_at(const SuffixSetting& setting, const Suffix& suffix, int index,
                       const PrefixOf& prefix_of) {
  std::optional<CachedPrefix> prefix = prefix_of(index);
  return prefix ? std::move(*prefix) : compute_prefix(setting, suffix);
}

// What lies before padded suffixes: zeros where one's is shorter than the longest.
CachedPrefix padded_prefixes(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                             const std::vector<int>& members, std::int64_t longest,
                             const PrefixOf& prefix_of) {
  const Config& config = setting.decoder.config();
  CachedPrefix all;
  all.keys =
      at::zeros({config.layers, std::ssize(members), longest, config.kv_heads, config.head_dim},
                setting.rows.options().requires_grad(false));
  all.values = at::zeros_like(all.keys);
  for (std::int64_t b = 0; b < std::ssize(members); ++b) {
    const Suffix& suffix = suffixes[members[b]];
    if (suffix.begins == 0) continue;
    const CachedPrefix prefix = prefix_at(setting, suffix, members[b], prefix_of);
    all.keys.select(1, b).slice(1, 0, suffix.begins).copy_(prefix.keys);
    all.values.select(1, b).slice(1, 0, suffix.begins).copy_(prefix.values);
  }
  return all;
}

// In the engine's pages, where all of them still stand there.
std::optional<PackedPrefix> paged_prefixes(const SuffixSetting& setting,
                                           std::span<const Suffix> suffixes,
                                           const std::vector<Strand>& strands) {
  if (!setting.pages_of) return std::nullopt;
  PackedPrefix all;
  std::vector<std::int64_t> slots;
  for (const Strand& strand : strands) {
    if (suffixes[strand.suffix].begins == 0) continue;
    const std::optional<PrefixPages> pages = setting.pages_of(strand.suffix);
    if (!pages) return std::nullopt;
    all.keys = *pages->keys;
    all.values = *pages->values;
    slots.insert(slots.end(), pages->slots.begin(), pages->slots.end());
  }
  all.slots = to_device(slots, setting.rows.device());
  return all;
}

PackedPrefix packed_prefixes(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                             const std::vector<Strand>& strands, const PrefixOf& prefix_of) {
  if (std::optional<PackedPrefix> paged = paged_prefixes(setting, suffixes, strands))
    return std::move(*paged);
  std::vector<at::Tensor> keys, values;
  int last = -1;
  for (const Strand& strand : strands) {
    const int s = strand.suffix;
    if (suffixes[s].begins == 0) continue;
    if (s == last) {  // another strand of the same sample
      keys.push_back(keys.back());
      values.push_back(values.back());
      continue;
    }
    CachedPrefix prefix = prefix_at(setting, suffixes[s], s, prefix_of);
    keys.push_back(std::move(prefix.keys));
    values.push_back(std::move(prefix.values));
    last = s;
  }
  PackedPrefix all;
  if (keys.empty()) return all;
  all.keys = at::cat(keys, 1).unbind(0);
  all.values = at::cat(values, 1).unbind(0);
  return all;
}

// Rows of the suffix that an aside whose parent is `row` sees, in order.
std::vector<std::int64_t> path_to(const Suffix& suffix, int row) {
  std::vector<std::int64_t> asides, path;
  for (; row >= suffix.kept(); row = suffix.asides[row - suffix.kept()].parent)
    asides.push_back(row);
  for (int r = 0; r <= row; ++r) path.push_back(r);
  path.insert(path.end(), asides.rbegin(), asides.rend());
  return path;
}

// The trunk of each suffix, and each run of asides that stood behind one another.
std::vector<Strand> strands_of(std::span<const Suffix> suffixes, const std::vector<int>& members) {
  std::vector<Strand> strands;
  std::int64_t first = 0;
  for (const int s : members) {
    const Suffix& suffix = suffixes[s];
    const auto add = [&](std::vector<std::int64_t> rows, std::int64_t queries) {
      for (std::int64_t& row : rows) row += first;
      strands.push_back({s, suffix.begins, queries, std::move(rows)});
    };
    if (suffix.kept() > 0) add(path_to(suffix, suffix.kept() - 1), suffix.kept());
    for (const auto& [from, to] : runs_of(suffix))
      add(path_to(suffix, suffix.kept() + to - 1), to - from);
    first += suffix.length();
  }
  return strands;
}

// What each row of a suffix does not see of it: the rows behind it, and, of what was taken back,
// all but its own context. -> bool [suffixes or 1, length, length]
at::Tensor hidden_rows(std::span<const Suffix> suffixes, const std::vector<int>& members,
                       std::int64_t length, at::Device device) {
  const bool is_plain =
      std::ranges::all_of(members, [&](int s) { return suffixes[s].asides.empty(); });
  const auto causal = [&](at::Device where) {
    return at::ones({1, length, length}, at::TensorOptions(at::kBool).device(where)).triu(1);
  };
  if (is_plain) return causal(device);
  const at::Tensor all = causal(at::kCPU).repeat({std::ssize(members), 1, 1});
  auto hidden = all.accessor<bool, 3>();
  for (std::size_t b = 0; b < members.size(); ++b) {
    const Suffix& suffix = suffixes[members[b]];
    auto of = hidden[static_cast<std::int64_t>(b)];
    std::int64_t row = suffix.kept();
    for (const Aside& aside : suffix.asides) {
      for (std::int64_t r = 0; r < length; ++r)
        of[row][r] = aside.parent < 0 || of[aside.parent][r];
      of[row][row] = false;
      ++row;
    }
  }
  return all.to(device);
}

// A padding row sees what a real row in its place would see: never nothing, so never NaN. Rows lie
// a multiple of 16 numbers apart, as CUDA's attention needs them.
at::Tensor make_mask(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                     const std::vector<int>& members, std::int64_t length,
                     std::int64_t prefix_length) {
  const auto options = setting.rows.options().requires_grad(false);
  const std::int64_t count = std::ssize(members);
  const std::int64_t group = setting.decoder.config().heads / setting.decoder.config().kv_heads;
  std::vector<std::int64_t> prefix_lengths;
  for (const int s : members) prefix_lengths.push_back(suffixes[s].begins);
  const at::Tensor lengths = to_device(prefix_lengths, options.device());
  const at::Tensor place = at::arange(prefix_length, lengths.options());
  const at::Tensor hidden_prefix =
      (place.unsqueeze(0) >= lengths.unsqueeze(1))  // [suffixes, prefix]
          .view({count, 1, 1, prefix_length})
          .expand({count, group, length, prefix_length});
  const at::Tensor hidden_suffix = hidden_rows(suffixes, members, length, options.device())
                                       .unsqueeze(1)
                                       .expand({count, group, length, length});
  const at::Tensor hidden = at::cat({hidden_prefix, hidden_suffix}, 3);
  const std::int64_t keys = hidden.size(3);
  return at::zeros({count, group, length, (keys + 15) / 16 * 16}, options)
      .narrow(3, 0, keys)
      .masked_fill_(hidden, -std::numeric_limits<double>::infinity())
      .view({count, 1, group * length, prefix_length + length});
}

std::unique_ptr<Attention> make_attention(const SuffixSetting& setting,
                                          std::span<const Suffix> suffixes,
                                          const std::vector<int>& members,
                                          const PrefixOf& prefix_of, bool is_packed) {
  if (is_packed) {
    const std::vector<Strand> strands = strands_of(suffixes, members);
    return packed_attention_of(strands, packed_prefixes(setting, suffixes, strands, prefix_of),
                               setting.rows.device());
  }
  std::int64_t longest = 0, longest_prefix = 0;
  for (const int s : members) {
    longest = std::max<std::int64_t>(longest, suffixes[s].length());
    longest_prefix = std::max<std::int64_t>(longest_prefix, suffixes[s].begins);
  }
  CachedPrefix prefix = padded_prefixes(setting, suffixes, members, longest_prefix, prefix_of);
  return padded_attention(std::move(prefix.keys), std::move(prefix.values),
                          make_mask(setting, suffixes, members, longest, longest_prefix));
}

}  // namespace

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

std::vector<std::pair<int, int>> runs_of(const Suffix& suffix) {
  std::vector<std::pair<int, int>> runs;
  for (int i = 0; i < static_cast<int>(suffix.asides.size()); ++i)
    if (!runs.empty() && suffix.asides[i].parent == suffix.kept() + i - 1)
      runs.back().second = i + 1;
    else
      runs.emplace_back(i, i + 1);
  return runs;
}

Batch make_batch(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                 const std::vector<int>& members, const PrefixOf& prefix_of, const Way& way) {
  Batch batch;
  batch.suffixes = members;
  std::int64_t longest = 0;
  for (const int s : members) longest = std::max<std::int64_t>(longest, suffixes[s].length());
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
    while (!way.is_packed && std::ssize(ids) < first_row + longest)
      add(0, suffix.begins + std::ssize(ids) - first_row);
  }
  const at::Device device = setting.rows.device();
  batch.embeddings = embed(setting, std::move(ids));
  // What layers add up is kept in float32 on a card: it costs little there, and brings the trainer
  // closer to what the weights say (docs/training.md).
  if (device.is_cuda() && batch.embeddings.element_size() == 2)
    batch.embeddings = batch.embeddings.to(at::kFloat);
  batch.positions = to_device(positions, device);
  batch.soft_rows = to_device(soft_rows, device);
  batch.target_rows = to_device(target_rows, device);
  batch.target_tokens = to_device(target_tokens, device);
  batch.advantages = to_device(advantages, device);
  batch.drawn_logprobs = to_device(drawn_logprobs, device);
  batch.old_logprobs = to_device(old_logprobs, device);
  batch.start_logprobs = to_device(start_logprobs, device);
  batch.attention = make_attention(setting, suffixes, members, prefix_of, way.is_packed);
  return batch;
}

}  // namespace pensive
