#include "kernels/cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "base/inside.h"
#include "kernels/loops.h"

namespace pensive::kernels {

const Loops& loops() {
  static const Loops& widest = []() -> const Loops& {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
      return loops_avx512();
    }
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return loops_avx2();
#endif
    return loops_any();
  }();
  return widest;
}

namespace cpu {
namespace {

constexpr int64_t few_rows = 4;      // as many as Loops::few_rows takes
constexpr int64_t few_work = 32768;  // operations that are not worth waking a thread for

// Rows a thread should take at least, for rows of that much work.
int64_t grain(int64_t work_per_row) { return std::max<int64_t>(1, few_work / (work_per_row + 1)); }

// x as rows whose values are contiguous; whole copies only where they are not.
at::Tensor with_contiguous_rows(const at::Tensor& x) {
  bool holds = x.stride(2) == 1 && x.stride(1) == x.size(2);
  return holds ? x : x.contiguous();
}

const std::byte* bytes_of(const at::Tensor& tensor) {
  return static_cast<const std::byte*>(tensor.const_data_ptr());
}

struct ProductTensors {
  at::Tensor x, weight, bias, y;
  Product product;
};

ProductTensors prepare(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       at::ScalarType of_y) {
  ProductTensors t;
  t.x = x.to(wide_of(x)).contiguous();
  t.weight = weight.contiguous();
  if (bias.defined()) t.bias = bias.contiguous();
  t.y = at::empty({x.size(0), weight.size(0)}, x.options().dtype(of_y));
  t.product = {t.x.const_data_ptr(),
               t.weight.const_data_ptr(),
               t.bias.defined() ? t.bias.const_data_ptr() : nullptr,
               t.y.mutable_data_ptr(),
               x.size(0),
               x.size(1),
               weight.size(0),
               256,
               scalar_of(x),
               of_y != x.scalar_type()};
  return t;
}

at::Tensor few_rows_product(const ProductTensors& t) {
  at::parallel_for(0, t.product.out, grain(t.product.in),
                   [&](int64_t first, int64_t last) { loops().few_rows(t.product, first, last); });
  return t.y;
}

at::Tensor product(ProductTensors t) {
  Product& p = t.product;
  if (p.rows == 0 || p.out == 0) return t.y;
  const Loops& best = loops();
  int64_t width = best.panel_outputs(p.scalar);
  int64_t panels = (p.out + width - 1) / width;
  // Few outputs: share out the rows as well.
  if (panels < 2 * at::get_num_threads()) p.row_block = 64;
  int64_t tasks = panels * ((p.rows + p.row_block - 1) / p.row_block);
  int64_t work = p.in * width * (std::min(p.rows, p.row_block) + 4) / 8;
  at::parallel_for(0, tasks, grain(work), [&](int64_t first, int64_t last) {
    at::Tensor scratch = at::empty({best.product_scratch(p)}, t.x.options());
    best.product(p, first, last, scratch.mutable_data_ptr());
  });
  return t.y;
}

bool are_few(const at::Tensor& x) { return x.size(0) <= few_rows && x.size(0) > 0; }

}  // namespace

// A product of a few rows is bound by reading the weights, which libtorch does at a third to a half
// of the memory's speed. Its bfloat16 products are fast only where the processor multiplies
// bfloat16 itself; its float16 products round every sum to float16 on some processors.
bool takes_own_loops(const at::Tensor& x, const at::Tensor& weight) {
  if (x.scalar_type() != weight.scalar_type() || x.scalar_type() == at::kDouble) return false;
  if (x.scalar_type() == at::kHalf || x.size(0) <= few_rows) return true;
#if defined(__x86_64__)
  static const bool has_brief = __builtin_cpu_supports("avx512bf16");
  return x.scalar_type() == at::kBFloat16 && !has_brief;
#else
  return false;
#endif
}

at::Tensor linear_own(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const ProductTensors t = prepare(x, weight, bias, x.scalar_type());
  return are_few(x) ? few_rows_product(t) : product(t);
}

at::Tensor linear_invariant(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  return product(prepare(x, weight, bias, x.scalar_type()));
}

at::Tensor linear_wide(const at::Tensor& x, const at::Tensor& weight, Arithmetic arithmetic) {
  const ProductTensors t = prepare(x, weight, {}, wide_of(x));
  return arithmetic == Arithmetic::fast && are_few(x) ? few_rows_product(t) : product(t);
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon) {
  at::Tensor from = x.contiguous(), weights = weight.contiguous(), out = at::empty_like(from);
  Scalar scalar = scalar_of(x);
  int64_t width = weight.size(0), rows = width == 0 ? 0 : x.numel() / width;
  int64_t row_bytes = width * x.element_size();
  auto* to = static_cast<std::byte*>(out.mutable_data_ptr());
  at::parallel_for(0, rows, grain(width), [&](int64_t first, int64_t last) {
    loops().rms_norm(bytes_of(from) + first * row_bytes, weights.const_data_ptr(),
                     to + first * row_bytes, last - first, width, epsilon, scalar);
  });
  return out;
}

at::Tensor silu_mul(const at::Tensor& gate_up) {
  at::Tensor from = gate_up.contiguous();
  Scalar scalar = scalar_of(gate_up);
  int64_t rows = from.size(0), inner = from.size(1) / 2;
  at::Tensor out = at::empty({rows, inner}, from.options());
  int64_t row_bytes = inner * from.element_size();
  auto* to = static_cast<std::byte*>(out.mutable_data_ptr());
  at::parallel_for(0, rows, grain(4 * inner), [&](int64_t first, int64_t last) {
    loops().silu_mul(bytes_of(from) + 2 * first * row_bytes, to + first * row_bytes, last - first,
                     inner, scalar);
  });
  return out;
}

at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines) {
  at::Tensor from = with_contiguous_rows(x), c = cosines.contiguous(), s = sines.contiguous();
  at::Tensor out = at::empty(x.sizes(), x.options());
  Scalar scalar = scalar_of(x);
  int64_t heads = x.size(1), dim = x.size(2), stride = from.stride(0);
  int64_t size = x.element_size(), half_bytes = dim / 2 * c.element_size();
  auto* to = static_cast<std::byte*>(out.mutable_data_ptr());
  at::parallel_for(0, x.size(0), grain(heads * dim), [&](int64_t first, int64_t last) {
    loops().rotate(bytes_of(from) + first * stride * size, stride, bytes_of(c) + first * half_bytes,
                   bytes_of(s) + first * half_bytes, to + first * heads * dim * size, last - first,
                   heads, dim, scalar);
  });
  return out;
}

void write_pages(const at::Tensor& keys, const at::Tensor& values, at::Tensor& key_pages,
                 at::Tensor& value_pages, const PagedBatch& batch) {
  at::Tensor slots = batch.slots.contiguous();
  const auto* slot = slots.const_data_ptr<int64_t>();
  int64_t end = key_pages.size(0) * key_pages.size(1);
  for (int64_t row = 0; row < keys.size(0); ++row) {
    require(slot[row] < end, ErrorCode::internal, "a slot within the pages",
            std::to_string(slot[row]), "write_pages");
  }
  std::pair<const at::Tensor*, at::Tensor*> both[] = {{&keys, &key_pages}, {&values, &value_pages}};
  for (auto [rows, pages] : both) {
    at::Tensor from = with_contiguous_rows(*rows);
    auto row_bytes = static_cast<std::size_t>(from.size(1) * from.size(2) * from.element_size());
    int64_t stride = from.stride(0) * from.element_size();
    auto* to = static_cast<std::byte*>(pages->mutable_data_ptr());
    for (int64_t row = 0; row < from.size(0); ++row) {
      if (slot[row] < 0) continue;
      std::memcpy(to + slot[row] * static_cast<int64_t>(row_bytes), bytes_of(from) + row * stride,
                  row_bytes);
    }
  }
}

}  // namespace cpu
}  // namespace pensive::kernels
