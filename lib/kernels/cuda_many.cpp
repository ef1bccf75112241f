// What prompts ask of cards of capability 9.0 alone: products of many rows and what follows them,
// and attention of packed sequences. Others, and what these do not take, go through libtorch.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <limits>

#include "base/inside.h"
#include "kernels/cpu.h"

namespace pensive::kernels::cuda {
namespace {

constexpr std::int64_t many = 1024;  // with fewer our tiles leave a third of the card idle

bool is_brief(at::ScalarType scalar) { return scalar == at::kBFloat16 || scalar == at::kHalf; }

bool is_on_packs(const at::Tensor& x) {
  return reinterpret_cast<std::uintptr_t>(x.const_data_ptr()) % 16 == 0;
}

bool has_kernels(int card) { return capability(card) == std::pair(9, 0); }

CudaManyRows product_of(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& out,
                        const char* where) {
  CudaManyRows product{};
  product.x = x.const_data_ptr();
  product.weight = weight.const_data_ptr();
  product.out = out.mutable_data_ptr();
  product.rows = narrow(x.size(0), where);
  product.in = narrow(x.size(1), where);
  product.out_width = narrow(out.size(1), where);
  product.scalar = scalar_of(x);
  return product;
}

}  // namespace

bool takes_many_rows(const at::Tensor& x, const at::Tensor& weight, std::int64_t out_width) {
  return x.size(0) >= many && is_brief(x.scalar_type()) && x.size(1) % 8 == 0 &&
         out_width % 8 == 0 && x.is_contiguous() && weight.is_contiguous() && is_on_packs(x) &&
         is_on_packs(weight) && has_kernels(x.device().index());
}

at::Tensor silu_linear(const at::Tensor& x, const at::Tensor& weight) {
  const char* where = "silu_linear";
  c10::DeviceGuard guard(x.device());
  at::Tensor out = at::empty({x.size(0), weight.size(0) / 2}, x.options());
  const CudaManyRows product = product_of(x, weight, out, where);
  check(table().many_rows(product, stream_of(x)), where);
  return out;
}

at::Tensor linear_rotated(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                          const at::Tensor& cosines, const at::Tensor& sines,
                          std::int64_t turned_heads) {
  const char* where = "linear_rotated";
  c10::DeviceGuard guard(x.device());
  const std::int64_t head_dim = 2 * cosines.size(1);
  const at::Tensor c = cosines.contiguous(), s = sines.contiguous();
  at::Tensor out = at::empty({x.size(0), weight.size(0)}, x.options());
  CudaManyRows product = product_of(x, weight, out, where);
  product.bias = bias.defined() ? bias.const_data_ptr() : nullptr;
  product.turned_width = narrow(turned_heads * head_dim, where);
  product.head_dim = narrow(head_dim, where);
  product.cosines = c.const_data_ptr<float>();
  product.sines = s.const_data_ptr<float>();
  check(table().many_rows(product, stream_of(x)), where);
  return out.view({x.size(0), weight.size(0) / head_dim, head_dim});
}

bool takes_packed_attention(const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values) {
  const std::int64_t head_dim = queries.size(2);
  if ((head_dim != 64 && head_dim != 128) || !is_brief(queries.scalar_type()) ||
      !has_kernels(queries.device().index()))
    return false;
  const auto suits = [&](const at::Tensor& x) {
    return x.stride(2) == 1 && x.stride(1) == head_dim && x.stride(0) % 8 == 0 && is_on_packs(x);
  };
  return suits(queries) && suits(keys) && suits(values) && queries.size(0) > 0;
}

at::Tensor packed_attention(const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values, const PackedBatch& batch, double scale) {
  const char* where = "packed_attention";
  c10::DeviceGuard guard(queries.device());
  const at::Tensor query_starts = batch.query_starts.contiguous(),
                   key_starts = batch.key_starts.contiguous();
  at::Tensor out = at::empty(queries.sizes(), queries.options());
  CudaPackedAttention call{};
  call.queries = queries.const_data_ptr();
  call.keys = keys.const_data_ptr();
  call.values = values.const_data_ptr();
  call.query_stride = queries.stride(0);
  call.key_stride = keys.stride(0);
  call.value_stride = values.stride(0);
  call.out = out.mutable_data_ptr();
  call.query_starts = query_starts.const_data_ptr<std::int32_t>();
  call.key_starts = key_starts.const_data_ptr<std::int32_t>();
  call.sequences = narrow(query_starts.size(0) - 1, where);
  call.query_rows = narrow(queries.size(0), where);
  call.key_rows = narrow(keys.size(0), where);
  call.heads = narrow(queries.size(1), where);
  call.kv_heads = narrow(keys.size(1), where);
  call.head_dim = narrow(queries.size(2), where);
  call.longest_query = batch.longest_query;
  call.scale = scale;
  call.scalar = scalar_of(queries);
  check(table().packed_attention(call, stream_of(queries)), where);
  return out;
}

}  // namespace pensive::kernels::cuda

namespace pensive::kernels {

std::int64_t least_gated_rows(const Device& resolved, at::ScalarType scalar, std::int64_t in,
                              std::int64_t inner) {
  const bool is_ours = resolved.kind == DeviceKind::cuda && cuda::is_brief(scalar) && in % 8 == 0 &&
                       inner % 8 == 0 && cuda::has_kernels(resolved.index);
  return is_ours ? cuda::many : std::numeric_limits<std::int64_t>::max();
}

}  // namespace pensive::kernels
