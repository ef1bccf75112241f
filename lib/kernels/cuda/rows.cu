// Norm, activation, rotation and writing to the cache: each bound by memory, one pass each.
#include "kernels/cuda/decode.h"
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

// A warp for each row: nobody waits for other warps, which pays where there are rows enough.
template <class S, class X, int V, class T = Compute<S>>
__global__ void __launch_bounds__(threads)
    rms_norm_of_many(const X* x, const S* weight, S* out, int rows, int width, T epsilon) {
  let_next_come();
  const int at = blockIdx.x * (threads / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (at >= rows) return;
  const X* row = x + static_cast<std::int64_t>(at) * width;
  S* to = out + static_cast<std::int64_t>(at) * width;
  T squares = 0;
#pragma unroll 4
  for (int i = lane * V; i < width; i += 32 * V) {
    const auto lot = load_lot<X, V>(row + i);
#pragma unroll
    for (int e = 0; e < V; ++e) squares += widen(lot.values[e]) * widen(lot.values[e]);
  }
#pragma unroll
  for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
  const T scale = static_cast<T>(1) / sqrt(squares / static_cast<T>(width) + epsilon);
#pragma unroll 4
  for (int i = lane * V; i < width; i += 32 * V) {
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

template <class S, int V, class T = Compute<S>>
__global__ void rotate(const S* x, std::int64_t stride, const T* cosines, const T* sines, S* out,
                       int heads, int head_dim) {
  const std::int64_t token = blockIdx.x;
  const int half = head_dim / 2, lots = half / V;
  for (int i = threadIdx.x; i < heads * lots; i += blockDim.x) {
    const int head = i / lots, at = i % lots * V;
    const auto c = load_lot<T, V>(cosines + token * half + at);
    const auto s = load_lot<T, V>(sines + token * half + at);
    const S* from = x + token * stride + head * head_dim + at;
    S* to = out + (token * heads + head) * head_dim + at;
    auto low = load_lot<S, V>(from), high = load_lot<S, V>(from + half);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      const T a = widen(low.values[e]), b = widen(high.values[e]);
      narrow(a * c.values[e] - b * s.values[e], &low.values[e]);
      narrow(b * c.values[e] + a * s.values[e], &high.values[e]);
    }
    store_lot(low, to);
    store_lot(high, to + half);
  }
}

// Keys, then values. Unit: as many bytes as divide every row and every address.
template <class Unit>
__global__ void write_pages(CudaPageRows keys, CudaPageRows values, const std::int64_t* slots,
                            int tokens, int row_units) {
  let_next_come();
  const CudaPageRows& rows = blockIdx.y == 0 ? keys : values;
  const std::int64_t token = std::int64_t{blockIdx.x} * blockDim.y + threadIdx.y;
  if (token >= tokens) return;
  const std::int64_t slot = slots[token];
  if (slot < 0) return;
  const Unit* from = static_cast<const Unit*>(rows.x) + token * rows.stride;
  Unit* to = static_cast<Unit*>(rows.pages) + slot * row_units;
  for (int i = threadIdx.x; i < row_units; i += blockDim.x) to[i] = from[i];
}

int round_to_warps(int count) {
  int rounded = (count + 31) / 32 * 32;
  return rounded < threads ? rounded : threads;
}

template <class Unit>
int copy_rows(CudaPageRows keys, CudaPageRows values, const std::int64_t* slots, int tokens,
              std::int64_t row_bytes, std::int64_t value_bytes, cudaStream_t stream) {
  constexpr auto unit = static_cast<std::int64_t>(sizeof(Unit));
  const int row_units = static_cast<int>(row_bytes / unit);
  keys.stride = keys.stride * value_bytes / unit;
  values.stride = values.stride * value_bytes / unit;
  // A block of several tokens: one of each costs more to start than it copies.
  const int width = row_units < threads ? row_units : threads, height = threads / width;
  write_pages<Unit><<<dim3((tokens + height - 1) / height, 2), dim3(width, height), 0, stream>>>(
      keys, values, slots, tokens, row_units);
  return cudaGetLastError();
}

}  // namespace

int launch_rms_norm(const void* x, const void* weight, void* out, std::int32_t rows,
                    std::int32_t width, double epsilon, bool is_invariant, Scalar scalar,
                    Scalar of_x, void* stream) {
  return by_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    return by_row_type<S>(scalar, of_x, [&](auto row_type) -> int {
      using X = decltype(row_type);
      return by_lots<X>({x, weight, out}, width, [&](auto lots) -> int {
        constexpr int V = decltype(lots)::count, warps = threads / 32;
        constexpr int many = 1024;
        const auto* from = static_cast<const X*>(x);
        const auto* weights = static_cast<const S*>(weight);
        auto* to = static_cast<S*>(out);
        auto* on = static_cast<cudaStream_t>(stream);
        const auto least = static_cast<Compute<S>>(epsilon);
        if (rows >= many && !is_invariant) {  // its sums have another order
          rms_norm_of_many<S, X, V><<<(rows + warps - 1) / warps, threads, 0, on>>>(
              from, weights, to, rows, width, least);
        } else {
          rms_norm<S, X, V>
              <<<rows, round_to_warps(width / V), 0, on>>>(from, weights, to, width, least);
        }
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
    return by_lots<S>({x, out, cosines, sines}, head_dim / 2 | x_stride, [&](auto lots) -> int {
      constexpr int V = decltype(lots)::count;
      rotate<S, V><<<tokens, round_to_warps(heads * head_dim / 2 / V), 0,
                     static_cast<cudaStream_t>(stream)>>>(
          static_cast<const S*>(x), x_stride, static_cast<const T*>(cosines),
          static_cast<const T*>(sines), static_cast<S*>(out), heads, head_dim);
      return cudaGetLastError();
    });
  });
}

int launch_write_pages(const CudaPageRows& keys, const CudaPageRows& values,
                       const std::int64_t* slots, std::int32_t tokens, std::int32_t row_values,
                       Scalar scalar, void* stream) {
  const std::int64_t size = scalar == Scalar::float64 ? 8 : scalar == Scalar::float32 ? 4 : 2;
  const std::int64_t row = row_values * size;
  auto common = static_cast<std::uintptr_t>(row);
  for (const CudaPageRows* rows : {&keys, &values})
    common |= reinterpret_cast<std::uintptr_t>(rows->x) |
              reinterpret_cast<std::uintptr_t>(rows->pages) |
              static_cast<std::uintptr_t>(rows->stride * size);
  auto* on = static_cast<cudaStream_t>(stream);
  if (common % 16 == 0) return copy_rows<uint4>(keys, values, slots, tokens, row, size, on);
  if (common % 4 == 0) return copy_rows<std::uint32_t>(keys, values, slots, tokens, row, size, on);
  return copy_rows<std::uint16_t>(keys, values, slots, tokens, row, size, on);
}

int find_kernel() {
  cudaFuncAttributes attributes;
  int error = cudaFuncGetAttributes(&attributes, rms_norm<float, float, 1>);
  cudaGetLastError();  // leaves no error behind for the host's next check
  return error;
}

}  // namespace pensive::kernels
