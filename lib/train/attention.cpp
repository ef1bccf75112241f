// Attention of suffixes over constant prefixes and themselves: padded, and packed.
#include <c10/core/GradMode.h>

#include <cmath>

#include "kernels/packed.h"
#include "train/batch.h"

namespace pensive {
namespace {

// Queries of one key head are laid out behind one another, so that keys need no copy for grouped
// heads.
class PaddedAttention final : public Attention {
 public:
  PaddedAttention(at::Tensor prefix_keys,    // [layers, suffixes, prefix, kv_heads, head_dim]
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

class PackedAttention final : public Attention {
 public:
  PackedAttention(kernels::PackedBatch batch, PackedPrefix prefix, at::Tensor prefix_places,
                  at::Tensor own_places, at::Tensor own_rows)
      : batch_(std::move(batch)),
        prefix_(std::move(prefix)),
        prefix_places_(std::move(prefix_places)),
        own_places_(std::move(own_places)),
        own_rows_(std::move(own_rows)) {}

  at::Tensor attend(int layer, const at::Tensor& queries, const at::Tensor& keys,
                    const at::Tensor& values) override {
    const auto index = static_cast<std::size_t>(layer);
    const double scale = 1 / std::sqrt(static_cast<double>(queries.size(2)));
    if (prefix_places_.size(0) == 0)
      return kernels::packed_attention(queries, seen(keys), seen(values), batch_, scale);
    return kernels::packed_attention(queries, joined(prefix_.keys[index], keys),
                                     joined(prefix_.values[index], values), batch_, scale);
  }

 private:
  at::Tensor seen(const at::Tensor& own) const {
    return own_rows_.defined() ? own.index_select(0, own_rows_) : own;
  }
  // [key rows, kv_heads, head_dim], what each strand sees behind its prefix.
  at::Tensor joined(const at::Tensor& prefix, const at::Tensor& own) const {
    at::Tensor all = at::empty(
        {prefix_places_.size(0) + own_places_.size(0), own.size(1), own.size(2)}, own.options());
    all.index_copy_(
        0, prefix_places_,
        prefix_.slots.defined() ? prefix.flatten(0, 1).index_select(0, prefix_.slots) : prefix);
    return all.index_copy_(0, own_places_, seen(own));
  }

  kernels::PackedBatch batch_;
  PackedPrefix prefix_;
  at::Tensor prefix_places_, own_places_;  // among the joined rows
  at::Tensor own_rows_;                    // that go there; undefined: all, in order
};

}  // namespace

std::unique_ptr<Attention> padded_attention(at::Tensor prefix_keys, at::Tensor prefix_values,
                                            at::Tensor mask) {
  return std::make_unique<PaddedAttention>(std::move(prefix_keys), std::move(prefix_values),
                                           std::move(mask));
}

std::unique_ptr<Attention> packed_attention_of(const std::vector<Strand>& strands,
                                               PackedPrefix prefix, at::Device device) {
  std::vector<std::int64_t> queries, keys, prefix_places, own_places, own_rows;
  std::int64_t next = 0, all = 0;
  for (const Strand& strand : strands) {
    queries.push_back(strand.queries);
    keys.push_back(strand.prefix + std::ssize(strand.rows));
    for (std::int64_t r = 0; r < strand.prefix; ++r) prefix_places.push_back(next++);
    for (std::int64_t r = 0; r < std::ssize(strand.rows); ++r) own_places.push_back(next++);
    own_rows.insert(own_rows.end(), strand.rows.begin(), strand.rows.end());
    all += strand.queries;
  }
  const bool is_plain = std::ssize(own_rows) == all;  // no row is seen by two strands
  return std::make_unique<PackedAttention>(
      kernels::pack(queries, keys, device), std::move(prefix), to_device(prefix_places, device),
      to_device(own_places, device), is_plain ? at::Tensor() : to_device(own_rows, device));
}

}  // namespace pensive
