#include <ATen/ATen.h>

#include "kernels/cpu.h"

namespace pensive::kernels::cpu {

at::Tensor paged_attention(const at::Tensor& queries, const at::Tensor& key_pages,
                           const at::Tensor& value_pages, const PagedBatch& batch, double scale) {
  int64_t heads = queries.size(1), dim = queries.size(2), kv_heads = key_pages.size(2);
  at::ScalarType wide = queries.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  at::Tensor out = at::empty_like(queries, at::MemoryFormat::Contiguous);
  for (int64_t s = 0; s + 1 < batch.starts.size(0); ++s) {
    int first = batch.starts[s].item<int>(), last = batch.starts[s + 1].item<int>();
    int length = batch.lengths[s].item<int>(), n = last - first;
    if (n == 0) continue;
    at::Tensor pages = batch.tables[s].to(at::kLong).narrow(
        0, 0, (length + key_pages.size(1) - 1) / key_pages.size(1));
    at::Tensor k = key_pages.index_select(0, pages).reshape({-1, kv_heads, dim}).narrow(0, 0, length);
    at::Tensor v =
        value_pages.index_select(0, pages).reshape({-1, kv_heads, dim}).narrow(0, 0, length);
    k = k.to(wide).repeat_interleave(heads / kv_heads, 1).transpose(0, 1);
    v = v.to(wide).repeat_interleave(heads / kv_heads, 1).transpose(0, 1);
    at::Tensor q = queries.narrow(0, first, n).to(wide).transpose(0, 1);
    at::Tensor scores = at::matmul(q, k.transpose(1, 2)) * scale;
    at::Tensor mask = at::ones({n, length}, at::kBool).tril(length - n);
    scores = scores.masked_fill(~mask, -INFINITY).softmax(-1);
    out.narrow(0, first, n).copy_(at::matmul(scores, v).transpose(0, 1));
  }
  return out;
}

}  // namespace pensive::kernels::cpu
