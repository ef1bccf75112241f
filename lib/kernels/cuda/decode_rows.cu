// What stands between the products of a decode step: one pass over the rows each.
#include "kernels/cuda/decode.h"
#include "kernels/cuda/pack.h"

namespace pensive::kernels {
namespace {

constexpr int threads = 256;

template <class S>
__global__ void __launch_bounds__(threads)
    embed(const CudaRow* step, const CudaDraw* draw, float* x, int width) {
  let_next_come();
  wait_for_previous();
  const CudaRow row = step[blockIdx.x];
  const bool is_there = row.position >= 0;
  const S* from = static_cast<const S*>(row.embedding);
  if (row.drawn >= 0) from += static_cast<std::int64_t>(draw->tokens[row.drawn]) * width;
  float* to = x + static_cast<std::int64_t>(blockIdx.x) * width;
  for (int i = threadIdx.x; i < width; i += threads) to[i] = is_there ? widen(from[i]) : 0.0f;
}

template <class S>
__global__ void __launch_bounds__(threads)
    add_norm(float* x, const S* bias, const S* weight, S* out, int width, float epsilon) {
  constexpr int V = 4;
  __shared__ float shared[33];
  let_next_come();
  wait_for_previous();
  float* row = x + static_cast<std::int64_t>(blockIdx.x) * width;
  S* to = out + static_cast<std::int64_t>(blockIdx.x) * width;
  float squares = 0;
  for (int i = threadIdx.x * V; i < width; i += threads * V) {
    auto lot = load_lot<float, V>(row + i);
    if (bias) {
      const auto more = load_lot<S, V>(bias + i);
#pragma unroll
      for (int e = 0; e < V; ++e) lot.values[e] += widen(more.values[e]);
      store_lot(lot, row + i);
    }
#pragma unroll
    for (int e = 0; e < V; ++e) squares += lot.values[e] * lot.values[e];
  }
  float mean = join_block(squares, shared, Sum{}) / static_cast<float>(width) + epsilon;
  float scale = 1 / sqrtf(mean);
  for (int i = threadIdx.x * V; i < width; i += threads * V) {
    const auto lot = load_lot<float, V>(row + i);
    auto made = load_lot<S, V>(weight + i);
#pragma unroll
    for (int e = 0; e < V; ++e)
      narrow(lot.values[e] * scale * widen(made.values[e]), &made.values[e]);
    store_lot(made, to + i);
  }
}

template <class S>
__global__ void __launch_bounds__(threads)
    gate(const S* gate_up, const S* bias, S* out, int inner) {
  constexpr int V = Pack16<S>::size;
  let_next_come();
  wait_for_previous();
  int i = (blockIdx.x * threads + threadIdx.x) * V;
  if (i >= inner) return;
  const S* row = gate_up + static_cast<std::int64_t>(blockIdx.y) * 2 * inner;
  auto gates = *reinterpret_cast<const Pack16<S>*>(row + i);
  auto ups = *reinterpret_cast<const Pack16<S>*>(row + inner + i);
  if (bias) {
#pragma unroll
    for (int e = 0; e < V; ++e) {
      narrow(widen(gates.values[e]) + widen(bias[i + e]), &gates.values[e]);
      narrow(widen(ups.values[e]) + widen(bias[inner + i + e]), &ups.values[e]);
    }
  }
#pragma unroll
  for (int e = 0; e < V; ++e) {
    float g = widen(gates.values[e]);
    narrow(g / (1 + expf(-g)) * widen(ups.values[e]), &gates.values[e]);
  }
  *reinterpret_cast<Pack16<S>*>(out + static_cast<std::int64_t>(blockIdx.y) * inner + i) = gates;
}

}  // namespace

int launch_embed(const CudaRow* step, const CudaDraw* draw, float* x, int rows, int width,
                 Scalar scalar, Way way) {
  return by_brief_scalar(scalar, [&](auto type) -> int {
    return start(embed<decltype(type)>, dim3(rows), threads, 0, way, step, draw, x, width);
  });
}

int launch_add_norm(float* x, const void* bias, const void* weight, void* out, int rows, int width,
                    double epsilon, Scalar scalar, Way way) {
  return by_brief_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    return start(add_norm<S>, dim3(rows), threads, 0, way, x, static_cast<const S*>(bias),
                 static_cast<const S*>(weight), static_cast<S*>(out), width,
                 static_cast<float>(epsilon));
  });
}

int launch_gate(const void* gate_up, const void* bias, void* out, int rows, int inner,
                Scalar scalar, Way way) {
  return by_brief_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    int each = threads * Pack16<S>::size;
    return start(gate<S>, dim3((inner + each - 1) / each, rows), threads, 0, way,
                 static_cast<const S*>(gate_up), static_cast<const S*>(bias), static_cast<S*>(out),
                 inner);
  });
}

}  // namespace pensive::kernels
