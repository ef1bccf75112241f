// Products of a few rows with a weight: bound by reading the weight once. A warp takes one or two
// rows of the weight and asks for the first of its bytes before it waits for x. Every row of x gets
// its sums in the same order whatever its company; more than 8 go in eights.
#include "kernels/cuda/product.h"

namespace pensive::kernels {
namespace {

constexpr int warps = 4;
constexpr int threads = warps * 32;

template <class S>
struct Call {
  const void* x;  // S, float32 where it is normed
  const S* norm;
  float epsilon;
  const S* weight;
  const S* bias;
  void* out;  // S; float32 where it is added to, or wide
  int rows, in, out_width;
  int first_row;  // of this block
};

// Brings x near, all of it at once: the loop below would wait for it piece by piece.
template <class S>
__device__ void touch(const Call<S>& call) {
  const char* x = reinterpret_cast<const char*>(call.x);
  int bytes = call.rows * call.in * static_cast<int>(sizeof(S));
  for (int at = threadIdx.x * 128; at < bytes; at += threads * 128) {
    unsigned seen;
    asm volatile("ld.global.u32 %0, [%1];" : "=r"(seen) : "l"(x + at) : "memory");
  }
}

// The weight's rows of one warp.
template <class S, int R, Into I>
struct Rows {
  int first;
  __device__ int row(int r, int out_width) const {
    if (I == Into::gated) return min(first, out_width - 1) + r * out_width;
    return min(first + r, out_width - 1);
  }
};

__device__ inline float silu(float gate, float up) { return gate / (1 + expf(-gate)) * up; }

// sums [M][R] of all lanes to the output.
template <class S, int M, int R, Into I>
__device__ void hand_out(const Call<S>& call, Rows<S, R, I> mine, float (&sums)[M][R]) {
  int lane = threadIdx.x % 32;
  float own = 0, up = 0;  // the values of row lane / columns
  constexpr int columns = I == Into::gated ? 1 : R;
#pragma unroll
  for (int m = 0; m < M; ++m) {
#pragma unroll
    for (int r = 0; r < R; ++r) {
      float sum = sums[m][r];
      for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
      if (I == Into::gated) {
        if (lane == m) (r == 0 ? own : up) = sum;
      } else if (lane == m * R + r) {
        own = sum;
      }
    }
  }
  int m = lane / columns, column = mine.first + lane % columns;
  if (m >= call.rows || m >= M || column >= call.out_width) return;
  std::int64_t place = static_cast<std::int64_t>(call.first_row + m) * call.out_width + column;
  if (call.bias) own += widen(call.bias[column]);
  if (I == Into::gated) {
    if (call.bias) up += widen(call.bias[call.out_width + column]);
    S gate_rounded, up_rounded;  // as the product of a larger batch is stored
    narrow(own, &gate_rounded);
    narrow(up, &up_rounded);
    own = silu(widen(gate_rounded), widen(up_rounded));
  }
  if (I == Into::added || I == Into::wide) {
    float* to = static_cast<float*>(call.out) + place;
    *to = I == Into::added ? *to + own : own;
    return;
  }
  narrow(own, static_cast<S*>(call.out) + place);
}

// The rows of this block, at most M of them.
template <class S, int M, bool is_normed>
__device__ void find_rows(Call<S>* call) {
  std::int64_t before = blockIdx.y * M;
  call->rows = min(M, call->rows - static_cast<int>(before));
  if (is_normed) {
    call->x = static_cast<const float*>(call->x) + before * call->in;
  } else {
    call->x = static_cast<const S*>(call->x) + before * call->in;
  }
  call->first_row = static_cast<int>(before);
}

// Packs of the weight's rows times those of x that stand at the same place, `from`.
template <class S, int M, int R, int V>
__device__ inline void add_products(const float (&w)[R][V], const S* from, int in, int rows,
                                    float (&sums)[M][R]) {
#pragma unroll
  for (int m = 0; m < M; ++m) {
    int row = m < rows ? m : 0;  // a sum that nobody asks for does no harm
    auto pack = *reinterpret_cast<const Pack16<S>*>(from + row * in);
#pragma unroll
    for (int e = 0; e < V; ++e) {
      float value = widen(pack.values[e]);
#pragma unroll
      for (int r = 0; r < R; ++r) sums[m][r] += w[r][e] * value;
    }
  }
}

// M: at least as many rows as a block has. R: rows of the weight a warp. U: packs of each row that
// are under way.
template <class S, int M, int R, int U, Into I, bool is_normed>
__global__ void __launch_bounds__(threads) multiply(Call<S> call) {
  constexpr int V = Pack16<S>::size;
  extern __shared__ __align__(16) unsigned char room[];
  let_next_come();
  find_rows<S, M, is_normed>(&call);
  int lane = threadIdx.x % 32, warp = blockIdx.x * warps + threadIdx.x / 32;
  Rows<S, R, I> mine{I == Into::gated ? warp : warp * R};
  const S* from[R];
#pragma unroll
  for (int r = 0; r < R; ++r)
    from[r] = call.weight + static_cast<std::int64_t>(mine.row(r, call.out_width)) * call.in;

  Pack16<S> weights[U][R];
  auto load = [&](int u, int k) {
    if (k >= call.in) return;
#pragma unroll
    for (int r = 0; r < R; ++r) weights[u][r] = fetch(from[r] + k);
  };
  int k = lane * V;
#pragma unroll
  for (int u = 0; u < U; ++u) load(u, k + u * 32 * V);
  if (is_normed)
    for (int at = threadIdx.x * V; at < call.in; at += threads * V) ask_for(call.norm + at);
  if (call.bias && lane == 0) ask_for(call.bias + mine.row(0, call.out_width));
  wait_for_previous();
  const S* x = static_cast<const S*>(call.x);
  if (is_normed) {
    S* normed = reinterpret_cast<S*>(room);
    norm_rows<S, M, warps>(static_cast<const float*>(call.x), call.norm, call.epsilon, call.rows,
                           call.in, call.in, normed);
    x = normed;
  } else {
    touch(call);
  }

  float sums[M][R] = {};
  while (k < call.in) {
#pragma unroll
    for (int u = 0; u < U; ++u) {
      int here = k + u * 32 * V;
      if (here < call.in) {
        float w[R][V];
#pragma unroll
        for (int r = 0; r < R; ++r)
#pragma unroll
          for (int e = 0; e < V; ++e) w[r][e] = widen(weights[u][r].values[e]);
        load(u, here + U * 32 * V);
        add_products(w, x + here, call.in, call.rows, sums);
      }
    }
    k += U * 32 * V;
  }
  hand_out<S, M, R, I>(call, mine, sums);
}

template <class S, int M, int R, int U, Into I, bool is_normed>
int launch(const Call<S>& call, Way way) {
  int each = I == Into::gated ? warps : warps * R;
  std::size_t shared = is_normed ? sizeof(S) * call.rows * call.in : 0;
  dim3 grid((call.out_width + each - 1) / each, (call.rows + M - 1) / M);
  return start(multiply<S, M, R, U, I, is_normed>, grid, threads, shared, way, call);
}

// Few rows of weight: one a warp, so that all of the card has some.
bool is_narrow(int out_width) { return out_width < 8192; }

template <class S, int M, Into I, bool is_normed>
int launch_even(const Call<S>& call, Way way) {
  return is_narrow(call.out_width) ? launch<S, M, 1, 8, I, is_normed>(call, way)
                                   : launch<S, M, 2, 4, I, is_normed>(call, way);
}

template <class S, int M>
int launch_into(const Call<S>& call, Into into, Way way) {
  switch (into) {
    case Into::gated:
      return launch<S, M, 2, 4, Into::gated, true>(call, way);
    case Into::added:
      return launch<S, M, 1, 8, Into::added, false>(call, way);
    case Into::plain:
      return launch_even<S, M, Into::plain, true>(call, way);
    case Into::wide:
      return launch_even<S, M, Into::wide, true>(call, way);
  }
  return cudaErrorInvalidValue;
}

template <class S>
Call<S> call_of(const Product& product) {
  return {product.x,
          static_cast<const S*>(product.norm),
          static_cast<float>(product.epsilon),
          static_cast<const S*>(product.weight),
          static_cast<const S*>(product.bias),
          product.out,
          product.rows,
          product.in,
          product.out_width,
          0};
}

}  // namespace

bool takes_product(int rows, int in, Scalar scalar) {
  std::size_t row = static_cast<std::size_t>(scalar == Scalar::float32 ? 4 : 2) * in;
  // A little is left for what the kernel holds beside the rows.
  return scalar != Scalar::float64 && rows <= 8 && row % 16 == 0 &&
         row * static_cast<std::size_t>(rows) + 1024 <= most_shared;
}

int launch_product(const Product& product, Scalar scalar, Way way) {
  return by_brief_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    const Call<S> call = call_of<S>(product);
    if (product.rows == 1) return launch_into<S, 1>(call, product.into, way);
    if (product.rows == 2) return launch_into<S, 2>(call, product.into, way);
    if (product.rows <= 4) return launch_into<S, 4>(call, product.into, way);
    if (product.rows <= 8) return launch_into<S, 8>(call, product.into, way);
    return cudaErrorInvalidValue;
  });
}

int launch_invariant(const Product& product, Scalar scalar, Way way) {
  if (takes_tiles(product.in, scalar, way)) return launch_tiles(product, scalar, way);
  if (product.norm) return cudaErrorInvalidValue;
  return by_brief_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    if (product.in % Pack16<S>::size != 0) return cudaErrorInvalidValue;
    const Call<S> call = call_of<S>(product);
    switch (product.into) {
      case Into::gated:
        return launch<S, 8, 2, 4, Into::gated, false>(call, way);
      case Into::added:
        return launch<S, 8, 1, 8, Into::added, false>(call, way);
      case Into::plain:
        return launch_even<S, 8, Into::plain, false>(call, way);
      case Into::wide:
        return launch_even<S, 8, Into::wide, false>(call, way);
    }
    return cudaErrorInvalidValue;
  });
}

}  // namespace pensive::kernels
