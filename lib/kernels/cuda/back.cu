// The ways back of norm and activation, and a token's logprob with its own: each bound by memory.
#include "kernels/cuda/pack.h"

namespace pensive::kernels {
namespace {

constexpr int threads = 256;
constexpr int most_blocks = 65535;

// With n = x scale and p = pull weight: (p - n mean(p n)) scale.
template <class S, class X, int V, class T = Compute<S>>
__global__ void __launch_bounds__(threads)
    rms_norm_back(const X* x, const S* weight, const S* pull, X* out, int width, T epsilon) {
  __shared__ T shared[33];
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * width;
  const X* row = x + first;
  const S* pulls = pull + first;
  T squares = 0, both = 0;
  for (int i = threadIdx.x * V; i < width; i += blockDim.x * V) {
    const auto a = load_lot<X, V>(row + i);
    const auto w = load_lot<S, V>(weight + i), p = load_lot<S, V>(pulls + i);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      T here = widen(a.values[e]);
      squares += here * here;
      both += here * widen(p.values[e]) * widen(w.values[e]);
    }
  }
  T count = static_cast<T>(width);
  T scale = static_cast<T>(1) / sqrt(join_block(squares, shared, Sum{}) / count + epsilon);
  T share = join_block(both, shared, Sum{}) / count * scale * scale;
  for (int i = threadIdx.x * V; i < width; i += blockDim.x * V) {
    auto a = load_lot<X, V>(row + i);
    const auto w = load_lot<S, V>(weight + i), p = load_lot<S, V>(pulls + i);
#pragma unroll
    for (int e = 0; e < V; ++e)
      narrow((widen(p.values[e]) * widen(w.values[e]) - widen(a.values[e]) * share) * scale,
             &a.values[e]);
    store_lot(a, out + first + i);
  }
}

template <class S, int V, class T = Compute<S>>
__global__ void __launch_bounds__(threads)
    silu_mul_back(const S* gate_up, const S* pull, S* out, int rows, int inner) {
  const int i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (i >= inner) return;
  for (std::int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    const S* from = gate_up + row * 2 * inner + i;
    const auto gates = load_lot<S, V>(from), ups = load_lot<S, V>(from + inner),
               pulls = load_lot<S, V>(pull + row * inner + i);
    Lot<S, V> of_gate, of_up;
#pragma unroll
    for (int e = 0; e < V; ++e) {
      T gate = widen(gates.values[e]), up = widen(ups.values[e]), p = widen(pulls.values[e]);
      T open = static_cast<T>(1) / (static_cast<T>(1) + exp(-gate));
      T silu = gate * open;
      narrow(p * up * (open + silu * (static_cast<T>(1) - open)), &of_gate.values[e]);
      narrow(p * silu, &of_up.values[e]);
    }
    store_lot(of_gate, out + row * 2 * inner + i);
    store_lot(of_up, out + row * 2 * inner + inner + i);
  }
}

// Largest of z, and sums of exp(z - largest) and of z exp(z - largest), over what was seen.
struct Seen {
  float most = -INFINITY, sum = 0, weighted = 0;

  __device__ void add(const Seen& other) {
    if (other.sum == 0) return;
    float larger = fmaxf(most, other.most);
    float mine = expf(most - larger), theirs = expf(other.most - larger);
    sum = sum * mine + other.sum * theirs;
    weighted = weighted * mine + other.weighted * theirs;
    most = larger;
  }
};

// One block a row.
template <int V>
__global__ void __launch_bounds__(threads) token_logprobs(CudaTokens call) {
  __shared__ Seen shared[threads / 32];
  const float* row = call.logits + static_cast<std::int64_t>(blockIdx.x) * call.vocab;
  const float by = 1 / call.temperature;
  Seen seen;
  for (int i = threadIdx.x * V; i < call.vocab; i += threads * V) {
    const auto lot = load_lot<float, V>(row + i);
    float most = seen.most, z[V];
#pragma unroll
    for (int e = 0; e < V; ++e) {
      z[e] = lot.values[e] * by;
      most = fmaxf(most, z[e]);
    }
    if (most > seen.most) {
      float shrink = expf(seen.most - most);  // 0 at first
      seen.sum *= shrink;
      seen.weighted *= shrink;
      seen.most = most;
    }
#pragma unroll
    for (int e = 0; e < V; ++e) {
      // A logit of -infinity weighs nothing, and what is multiplied by it would be NaN.
      float weight = z[e] == -INFINITY ? 0 : expf(z[e] - seen.most);
      seen.sum += weight;
      if (weight > 0) seen.weighted += weight * z[e];
    }
  }
  for (int step = 16; step > 0; step /= 2) {
    Seen other;
    other.most = __shfl_xor_sync(~0u, seen.most, step);
    other.sum = __shfl_xor_sync(~0u, seen.sum, step);
    other.weighted = __shfl_xor_sync(~0u, seen.weighted, step);
    seen.add(other);
  }
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = seen;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int warp = 1; warp < threads / 32; ++warp) seen.add(shared[warp]);
  const float all = seen.most + logf(seen.sum);
  call.sums[blockIdx.x] = all;
  call.logprobs[blockIdx.x] = row[call.tokens[blockIdx.x]] * by - all;
  call.entropies[blockIdx.x] = all - seen.weighted / seen.sum;
}

template <class S, int V>
__global__ void __launch_bounds__(threads)
    token_logprobs_back(CudaTokens call, const float* pulls, S* out) {
  const int i = (blockIdx.x * blockDim.x + threadIdx.x) * V;
  if (i >= call.vocab) return;
  const float by = 1 / call.temperature;
  for (std::int64_t row = blockIdx.y; row < call.rows; row += gridDim.y) {
    const auto lot = load_lot<float, V>(call.logits + row * call.vocab + i);
    const float pull = pulls[row] * by, sum = call.sums[row];
    const std::int64_t token = call.tokens[row];
    Lot<S, V> made;
#pragma unroll
    for (int e = 0; e < V; ++e) {
      float share = (i + e == token ? 1.0f : 0.0f) - expf(lot.values[e] * by - sum);
      narrow(pull * share, &made.values[e]);
    }
    store_lot(made, out + row * call.vocab + i);
  }
}

dim3 grid_of(int rows, int width, int lot) {
  const int across = (width / lot + threads - 1) / threads;
  return dim3(across, rows < most_blocks ? rows : most_blocks);
}

int warps_of(int count) {
  const int rounded = (count + 31) / 32 * 32;
  return rounded < threads ? rounded : threads;
}

}  // namespace

int launch_rms_norm_back(const void* x, const void* weight, const void* pull, void* out,
                         std::int32_t rows, std::int32_t width, double epsilon, Scalar scalar,
                         Scalar of_x, void* stream) {
  return by_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    return by_row_type<S>(scalar, of_x, [&](auto row_type) -> int {
      using X = decltype(row_type);
      return by_lots<X>({x, weight, pull, out}, width, [&](auto lots) -> int {
        constexpr int V = decltype(lots)::count;
        const dim3 block(warps_of(width / V));
        rms_norm_back<S, X, V><<<rows, block, 0, static_cast<cudaStream_t>(stream)>>>(
            static_cast<const X*>(x), static_cast<const S*>(weight), static_cast<const S*>(pull),
            static_cast<X*>(out), width, static_cast<Compute<S>>(epsilon));
        return cudaGetLastError();
      });
    });
  });
}

int launch_silu_mul_back(const void* gate_up, const void* pull, void* out, std::int32_t rows,
                         std::int32_t inner, Scalar scalar, void* stream) {
  return by_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    return by_lots<S>({gate_up, pull, out}, inner, [&](auto lots) -> int {
      constexpr int V = decltype(lots)::count;
      silu_mul_back<S, V>
          <<<grid_of(rows, inner, V), threads, 0, static_cast<cudaStream_t>(stream)>>>(
              static_cast<const S*>(gate_up), static_cast<const S*>(pull), static_cast<S*>(out),
              rows, inner);
      return cudaGetLastError();
    });
  });
}

int launch_token_logprobs(const CudaTokens& tokens, void* stream) {
  return by_lots<float>({tokens.logits}, tokens.vocab, [&](auto lots) -> int {
    token_logprobs<decltype(lots)::count>
        <<<tokens.rows, threads, 0, static_cast<cudaStream_t>(stream)>>>(tokens);
    return cudaGetLastError();
  });
}

int launch_token_logprobs_back(const CudaTokens& tokens, const float* pulls, void* out,
                               Scalar scalar, void* stream) {
  return by_brief_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    const bool packs = reinterpret_cast<std::uintptr_t>(out) % 16 == 0;
    return by_lots<float>({tokens.logits}, packs ? tokens.vocab : 1, [&](auto lots) -> int {
      constexpr int V = decltype(lots)::count;
      token_logprobs_back<S, V>
          <<<grid_of(tokens.rows, tokens.vocab, V), threads, 0,
             static_cast<cudaStream_t>(stream)>>>(tokens, pulls, static_cast<S*>(out));
      return cudaGetLastError();
    });
  });
}

}  // namespace pensive::kernels
