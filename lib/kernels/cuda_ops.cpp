// Tensors to the pointers of CudaTable. Everything runs on libtorch's current stream.
#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include "base/inside.h"
#include "kernels/cpu.h"

namespace pensive::kernels::cuda {
namespace {

at::Tensor with_contiguous_rows(const at::Tensor& x) {
  bool holds = x.stride(2) == 1 && x.stride(1) == x.size(2);
  return holds ? x : x.contiguous();
}

bool takes_multiply(const at::Tensor& x, const at::Tensor& weight) {
  const int64_t pack = 16 / static_cast<int64_t>(x.element_size());
  const auto at = reinterpret_cast<std::uintptr_t>(weight.const_data_ptr());
  return x.scalar_type() != at::kDouble && x.size(1) % pack == 0 && weight.is_contiguous() &&
         at % 16 == 0;
}

at::Tensor multiply(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                    at::ScalarType of_out) {
  const char* where = "linear";
  at::Tensor from = x.contiguous();
  if (reinterpret_cast<std::uintptr_t>(from.const_data_ptr()) % 16 != 0) from = from.clone();
  at::Tensor out = at::empty({x.size(0), weight.size(0)}, x.options().dtype(of_out));
  if (out.numel() == 0) return out;
  const auto [major, minor] = capability(x.device().index());
  CudaProduct product{};
  product.x = from.const_data_ptr();
  product.weight = weight.const_data_ptr();
  product.bias = bias.defined() ? bias.const_data_ptr() : nullptr;
  product.out = out.mutable_data_ptr();
  product.rows = narrow(x.size(0), where);
  product.in = narrow(x.size(1), where);
  product.out_width = narrow(weight.size(0), where);
  product.scalar = scalar_of(x);
  product.is_wide = of_out != x.scalar_type();
  check(table().multiply(product, major * 10 + minor, stream_of(x)), where);
  return out;
}

// What our kernel does not take: cuBLAS picks its own by the shape, so that equal tiles get equal
// kernels.
at::Tensor multiply_in_tiles(const at::Tensor& x, const at::Tensor& weight,
                             const at::Tensor& bias) {
  constexpr int64_t tile = 16;
  int64_t rows = x.size(0);
  at::Tensor out = at::empty({rows, weight.size(0)}, x.options());
  at::Tensor padded = at::zeros({tile, x.size(1)}, x.options());
  for (int64_t row = 0; row < rows; row += tile) {
    int64_t here = std::min(tile, rows - row);
    padded.narrow(0, 0, here).copy_(x.narrow(0, row, here));
    at::Tensor y = bias.defined() ? at::linear(padded, weight, bias) : at::linear(padded, weight);
    out.narrow(0, row, here).copy_(y.narrow(0, 0, here));
  }
  return out;
}

}  // namespace

at::Tensor linear_invariant(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  c10::DeviceGuard guard(x.device());
  return takes_multiply(x, weight) ? multiply(x, weight, bias, x.scalar_type())
                                   : multiply_in_tiles(x, weight, bias);
}

at::Tensor linear_invariant_wide(const at::Tensor& x, const at::Tensor& weight) {
  c10::DeviceGuard guard(x.device());
  return takes_multiply(x, weight) ? multiply(x, weight, {}, at::kFloat)
                                   : multiply_in_tiles(x, weight, {}).to(at::kFloat);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                    Arithmetic arithmetic) {
  c10::DeviceGuard guard(x.device());
  at::Tensor from = x.contiguous(), weights = weight.contiguous();
  at::Tensor out = at::empty(from.sizes(), weights.options());
  int64_t width = weight.size(0);
  if (from.numel() == 0) return out;
  check(table().rms_norm(from.const_data_ptr(), weights.const_data_ptr(), out.mutable_data_ptr(),
                         narrow(from.numel() / width, "rms_norm"), narrow(width, "rms_norm"),
                         epsilon, arithmetic == Arithmetic::row_invariant, scalar_of(weight),
                         scalar_of(x), stream_of(x)),
        "rms_norm");
  return out;
}

at::Tensor silu_mul(const at::Tensor& gate_up) {
  c10::DeviceGuard guard(gate_up.device());
  at::Tensor from = gate_up.contiguous();
  int64_t rows = from.size(0), inner = from.size(1) / 2;
  at::Tensor out = at::empty({rows, inner}, from.options());
  if (out.numel() == 0) return out;
  check(table().silu_mul(from.const_data_ptr(), out.mutable_data_ptr(), narrow(rows, "silu_mul"),
                         narrow(inner, "silu_mul"), scalar_of(from), stream_of(from)),
        "silu_mul");
  return out;
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  c10::DeviceGuard guard(x.device());
  at::Tensor from = with_contiguous_rows(x), c = cosines.contiguous(), s = sines.contiguous();
  at::Tensor out = at::empty(x.sizes(), x.options());
  if (out.numel() == 0) return out;
  check(table().rotate(from.const_data_ptr(), from.stride(0), c.const_data_ptr(),
                       s.const_data_ptr(), out.mutable_data_ptr(), narrow(x.size(0), "rotate"),
                       narrow(x.size(1), "rotate"), narrow(x.size(2), "rotate"), scalar_of(x),
                       stream_of(x)),
        "rotate");
  return out;
}

void write_pages(const at::Tensor& keys, const at::Tensor& values, at::Tensor& key_pages,
                 at::Tensor& value_pages, const PagedBatch& batch) {
  const char* where = "write_pages";
  c10::DeviceGuard guard(keys.device());
  const at::Tensor slots = batch.slots.contiguous(), from = with_contiguous_rows(keys),
                   from_values = with_contiguous_rows(values);
  check(table().write_pages(
            {from.const_data_ptr(), from.stride(0), key_pages.mutable_data_ptr()},
            {from_values.const_data_ptr(), from_values.stride(0), value_pages.mutable_data_ptr()},
            slots.const_data_ptr<int64_t>(), narrow(from.size(0), where),
            narrow(from.size(1) * from.size(2), where), scalar_of(from), stream_of(from)),
        where);
}

at::Tensor paged_attention(const at::Tensor& queries, const at::Tensor& key_pages,
                           const at::Tensor& value_pages, const PagedBatch& batch, double scale) {
  c10::DeviceGuard guard(queries.device());
  at::Tensor from = with_contiguous_rows(queries);
  at::Tensor tables = batch.tables.contiguous(), starts = batch.starts.contiguous();
  at::Tensor lengths = batch.lengths.contiguous();
  at::Tensor out = at::empty(queries.sizes(), queries.options());
  const char* where = "paged_attention";
  CudaShape shape{narrow(queries.size(0), where),
                  narrow(queries.size(1), where),
                  narrow(key_pages.size(2), where),
                  narrow(queries.size(2), where),
                  narrow(key_pages.size(1), where),
                  narrow(tables.size(0), where),
                  narrow(tables.size(1), where),
                  batch.longest_query,
                  batch.longest_length};
  require(shape.head_dim <= most_cuda_head_dim, ErrorCode::unsupported,
          fmt::format("a head_dim of at most {}", most_cuda_head_dim),
          std::to_string(shape.head_dim), where);
  check(table().paged_attention(from.const_data_ptr(), from.stride(0), key_pages.const_data_ptr(),
                                value_pages.const_data_ptr(), out.mutable_data_ptr(),
                                tables.const_data_ptr<int32_t>(), starts.const_data_ptr<int32_t>(),
                                lengths.const_data_ptr<int32_t>(), shape, scale, scalar_of(queries),
                                stream_of(queries)),
        where);
  return out;
}

}  // namespace pensive::kernels::cuda
