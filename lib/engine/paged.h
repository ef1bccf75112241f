// How the decoder's attention finds the engine's cache.
#pragma once
#include <ATen/ATen.h>

#include <cmath>
#include <optional>

#include "engine/runner.h"

namespace pensive {

// The engine's cache as the decoder's attention.
class PagedAttention final : public Attention {
 public:
  PagedAttention(Cache& cache, const kernels::PagedBatch& batch, int head_dim,
                 const std::optional<Prompts>& prompts)
      : cache_(cache),
        batch_(batch),
        prompts_(prompts),
        scale_(1 / std::sqrt(static_cast<double>(head_dim))) {}

  at::Tensor attend(int layer, const at::Tensor& queries, const at::Tensor& keys,
                    const at::Tensor& values) override {
    at::Tensor& key_pages = cache_.keys[static_cast<std::size_t>(layer)];
    at::Tensor& value_pages = cache_.values[static_cast<std::size_t>(layer)];
    kernels::write_pages(keys, values, key_pages, value_pages, batch_);
    if (!prompts_) return kernels::paged_attention(queries, key_pages, value_pages, batch_, scale_);
    const std::int64_t first = prompts_->first;
    const auto seen = [&](const at::Tensor& own, const at::Tensor& pages) {
      return prompts_->slots.defined() ? pages.flatten(0, 1).index_select(0, prompts_->slots)
                                       : own.slice(0, first);
    };
    const at::Tensor mixed =
        kernels::packed_attention(queries.slice(0, first), seen(keys, key_pages),
                                  seen(values, value_pages), prompts_->batch, scale_);
    if (first == 0) return mixed;
    return at::cat({kernels::paged_attention(queries.slice(0, 0, first), key_pages, value_pages,
                                             decoding(), scale_),
                    mixed});
  }

 private:
  // The lanes before the prompts, of one token each.
  kernels::PagedBatch decoding() const {
    kernels::PagedBatch batch = batch_;
    batch.tables = batch_.tables.slice(0, 0, prompts_->first);
    batch.starts = batch_.starts.slice(0, 0, prompts_->first + 1);
    batch.lengths = batch_.lengths.slice(0, 0, prompts_->first);
    batch.longest_query = 1;
    return batch;
  }

  Cache& cache_;
  const kernels::PagedBatch& batch_;
  const std::optional<Prompts>& prompts_;
  double scale_;
};

}  // namespace pensive
