// What stands between the products of a decode step: one pass over the rows each.
#include "kernels/cuda/decode.h"
#include "kernels/cuda/launch.h"

namespace pensive::kernels {
namespace {

constexpr int threads = 256;

template <class S>
__global__ void __launch_bounds__(threads)
    embed(const CudaRow* step, const CudaDraw* draw, S* x, int width) {
  let_next_come();
  wait_for_previous();
  const CudaRow row = step[blockIdx.x];
  const bool is_there = row.position >= 0;
  const S* from = static_cast<const S*>(row.embedding);
  if (row.drawn >= 0) from += static_cast<std::int64_t>(draw->tokens[row.drawn]) * width;
  S* to = x + static_cast<std::int64_t>(blockIdx.x) * width;
  for (int i = threadIdx.x; i < width; i += threads) {
    if (is_there) {
      to[i] = from[i];
    } else {
      narrow(0.0f, to + i);
    }
  }
}

template <class S>
__global__ void __launch_bounds__(threads)
    add_norm(S* x, const S* bias, const S* weight, S* out, int width, float epsilon) {
  constexpr int V = Pack16<S>::size;
  __shared__ float shared[33];
  let_next_come();
  wait_for_previous();
  S* row = x + static_cast<std::int64_t>(blockIdx.x) * width;
  S* to = out + static_cast<std::int64_t>(blockIdx.x) * width;
  float squares = 0;
  for (int i = threadIdx.x * V; i < width; i += threads * V) {
    auto pack = *reinterpret_cast<Pack16<S>*>(row + i);
    if (bias) {
      auto more = *reinterpret_cast<const Pack16<S>*>(bias + i);
#pragma unroll
      for (int e = 0; e < V; ++e)
        narrow(widen(pack.values[e]) + widen(more.values[e]), &pack.values[e]);
      *reinterpret_cast<Pack16<S>*>(row + i) = pack;
    }
#pragma unroll
    for (int e = 0; e < V; ++e) squares += widen(pack.values[e]) * widen(pack.values[e]);
  }
  float mean = join_block(squares, shared, Sum{}) / static_cast<float>(width) + epsilon;
  float scale = 1 / sqrtf(mean);
  for (int i = threadIdx.x * V; i < width; i += threads * V) {
    auto pack = *reinterpret_cast<const Pack16<S>*>(row + i);
    auto weights = *reinterpret_cast<const Pack16<S>*>(weight + i);
#pragma unroll
    for (int e = 0; e < V; ++e)
      narrow(widen(pack.values[e]) * scale * widen(weights.values[e]), &pack.values[e]);
    *reinterpret_cast<Pack16<S>*>(to + i) = pack;
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

int launch_embed(const CudaRow* step, const CudaDraw* draw, void* x, int rows, int width,
                 Scalar scalar, Way way) {
  return by_brief_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    return start(embed<S>, dim3(rows), threads, 0, way, step, draw, static_cast<S*>(x), width);
  });
}

int launch_add_norm(void* x, const void* bias, const void* weight, void* out, int rows, int width,
                    double epsilon, Scalar scalar, Way way) {
  return by_brief_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    return start(add_norm<S>, dim3(rows), threads, 0, way, static_cast<S*>(x),
                 static_cast<const S*>(bias), static_cast<const S*>(weight), static_cast<S*>(out),
                 width, static_cast<float>(epsilon));
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
