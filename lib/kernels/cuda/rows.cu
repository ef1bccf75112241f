// Norm, activation, rotation and writing to the cache: each bound by memory, one pass each.
#include "kernels/cuda/pack.h"

namespace pensive::kernels {
namespace {

constexpr int threads = 256;
constexpr int most_blocks = 65535;

template <class S, class X, int V, class T = Compute<S>>
__global__ void __launch_bounds__(threads)
    rms_norm(const X* x, const S* weight, S* out, int width, T epsilon) {
  __shared__ T shared[33];
  const X* row = x + static_cast<std::int64_t>(blockIdx.x) * width;
  S* to = out + static_cast<std::int64_t>(blockIdx.x) * width;
  T squares = 0;
  for (int i = threadIdx.x * V; i < width; i += blockDim.x * V) {
    const auto lot = load_lot<X, V>(row + i);
#pragma unroll
    for (int e = 0; e < V; ++e) squares += widen(lot.values[e]) * widen(lot.values[e]);
  }
  T mean = join_block(squares, shared, Sum{}) / static_cast<T>(width) + epsilon;
  T scale = static_cast<T>(1) / sqrt(mean);
  for (int i = threadIdx.x * V; i < width; i += blockDim.x * V) {
    const auto lot = load_lot<X, V>(row + i);
    auto made = load_lot<S, V>(weight + i);
#pragma unroll
    for (int e = 0; e < V; ++e)
      narrow(widen(lot.values[e]) * scale * widen(made.values[e]), &made.values[e]);
    store_lot(made, to + i);
  }
}

template <class S, int V, class T = Compute<S>>
__global__ void __launch_bounds__(threads) silu_mul(const S* gate_up, S* out, int rows, int inner) {
  const int i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (i >= inner) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    auto lot = load_lot<S, V>(gate_up + row * 2 * inner + i);
    const auto ups = load_lot<S, V>(gate_up + row * 2 * inner + inner + i);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      T gate = widen(lot.values[e]);
      narrow(gate / (static_cast<T>(1) + exp(-gate)) * widen(ups.values[e]), &lot.values[e]);
    }
    store_lot(lot, out + row * inner + i);
  }
}

template <class S, class T = Compute<S>>
__global__ void rotate(const S* x, std::int64_t stride, const T* cosines, const T* sines, S* out,
                       int heads, int head_dim) {
  std::int64_t token = blockIdx.x;
  int half = head_dim / 2;
  for (int i = threadIdx.x; i < heads * half; i += blockDim.x) {
    int head = i / half, at = i % half;
    T c = cosines[token * half + at], s = sines[token * half + at];
    const S* from = x + token * stride + head * head_dim + at;
    S* to = out + (token * heads + head) * head_dim + at;
    T a = widen(from[0]), b = widen(from[half]);
    narrow(a * c - b * s, to);
    narrow(b * c + a * s, to + half);
  }
}

// Unit: as many bytes as divide every row and every address.
template <class Unit>
__global__ void write_pages(const Unit* x, std::int64_t stride, Unit* pages,
                            const std::int64_t* slots, int row_units) {
  std::int64_t slot = slots[blockIdx.x];
  if (slot < 0) return;
  for (int i = threadIdx.x; i < row_units; i += blockDim.x) {
    pages[slot * row_units + i] = x[blockIdx.x * stride + i];
  }
}

template <class Unit>
int copy_rows(const void* x, std::int64_t stride, void* pages, const std::int64_t* slots,
              int tokens, std::int64_t row_bytes, cudaStream_t stream) {
  write_pages<<<tokens, 128, 0, stream>>>(
      static_cast<const Unit*>(x), stride / static_cast<std::int64_t>(sizeof(Unit)),
      static_cast<Unit*>(pages), slots, static_cast<int>(row_bytes / sizeof(Unit)));
  return cudaGetLastError();
}

int round_to_warps(int count) {
  int rounded = (count + 31) / 32 * 32;
  return rounded < threads ? rounded : threads;
}

}  // namespace

int launch_rms_norm(const void* x, const void* weight, void* out, std::int32_t rows,
                    std::int32_t width, double epsilon, Scalar scalar, Scalar of_x, void* stream) {
  return by_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    return by_row_type<S>(scalar, of_x, [&](auto row_type) -> int {
      using X = decltype(row_type);
      return by_lots<X>({x, weight, out}, width, [&](auto lots) -> int {
        constexpr int V = decltype(lots)::count;
        rms_norm<S, X, V>
            <<<rows, round_to_warps(width / V), 0, static_cast<cudaStream_t>(stream)>>>(
                static_cast<const X*>(x), static_cast<const S*>(weight), static_cast<S*>(out),
                width, static_cast<Compute<S>>(epsilon));
        return cudaGetLastError();
      });
    });
  });
}

int launch_silu_mul(const void* gate_up, void* out, std::int32_t rows, std::int32_t inner,
                    Scalar scalar, void* stream) {
  return by_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    return by_lots<S>({gate_up, out}, inner, [&](auto lots) -> int {
      constexpr int V = decltype(lots)::count;
      dim3 grid((inner / V + threads - 1) / threads, rows < most_blocks ? rows : most_blocks);
      silu_mul<S, V><<<grid, threads, 0, static_cast<cudaStream_t>(stream)>>>(
          static_cast<const S*>(gate_up), static_cast<S*>(out), rows, inner);
      return cudaGetLastError();
    });
  });
}

int launch_rotate(const void* x, std::int64_t x_stride, const void* cosines, const void* sines,
                  void* out, std::int32_t tokens, std::int32_t heads, std::int32_t head_dim,
                  Scalar scalar, void* stream) {
  return by_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    using T = Compute<S>;
    rotate<S>
        <<<tokens, round_to_warps(heads * head_dim / 2), 0, static_cast<cudaStream_t>(stream)>>>(
            static_cast<const S*>(x), x_stride, static_cast<const T*>(cosines),
            static_cast<const T*>(sines), static_cast<S*>(out), heads, head_dim);
    return cudaGetLastError();
  });
}

int launch_write_pages(const void* x, std::int64_t x_stride, void* pages, const std::int64_t* slots,
                       std::int32_t tokens, std::int32_t row_values, Scalar scalar, void* stream) {
  std::int64_t size = scalar == Scalar::float64 ? 8 : scalar == Scalar::float32 ? 4 : 2;
  std::int64_t row = row_values * size, stride = x_stride * size;
  auto common = reinterpret_cast<std::uintptr_t>(x) | reinterpret_cast<std::uintptr_t>(pages) |
                static_cast<std::uintptr_t>(row) | static_cast<std::uintptr_t>(stride);
  auto* on = static_cast<cudaStream_t>(stream);
  if (common % 16 == 0) return copy_rows<uint4>(x, stride, pages, slots, tokens, row, on);
  if (common % 4 == 0) return copy_rows<std::uint32_t>(x, stride, pages, slots, tokens, row, on);
  return copy_rows<std::uint16_t>(x, stride, pages, slots, tokens, row, on);
}

int find_kernel() {
  cudaFuncAttributes attributes;
  int error = cudaFuncGetAttributes(&attributes, rms_norm<float, float, 1>);
  cudaGetLastError();  // leaves no error behind for the host's next check
  return error;
}

}  // namespace pensive::kernels
