// Products of up to 16 rows with a weight, on tensor cores: bound by reading the weight once. A
// block takes 16 rows of the weight, or 8 where there are few, and its warps share the sum over
// `in`. Every lane loads 16 bytes of a row of the weight and of a row of x at the same place of
// `in`; which of them the hardware multiplies first does not matter, as long as it is the same for
// both.
#include "kernels/cuda/product.h"
#include "kernels/cuda/tile.h"

namespace pensive::kernels {
namespace {

constexpr int stretch = 32;    // values of `in` a warp takes at once
constexpr int most_ahead = 8;  // loads of the weight a lane has under way

template <class S>
struct Call {
  const S* x;
  const S* weight;
  const S* bias;
  S* out;
  int rows, in, out_width;
};

// Adds the warps' sums [warps][parts][N][height][8] in their order and writes them.
template <class S, int N, Into I, int height, int warps>
__device__ void hand_out(const Call<S>& call, const float* room) {
  constexpr int parts = I == Into::gated ? 2 : 1, tile = height * 8;
  for (int i = threadIdx.x; i < N * tile; i += warps * 32) {
    int row = i / tile * 8 + i % 8, column = blockIdx.x * height + i % tile / 8;
    if (row >= call.rows || column >= call.out_width) continue;
    float sums[parts] = {};
#pragma unroll
    for (int p = 0; p < parts; ++p)
      for (int w = 0; w < warps; ++w) sums[p] += room[(w * parts + p) * N * tile + i];
    if (call.bias) {
#pragma unroll
      for (int p = 0; p < parts; ++p) sums[p] += widen(call.bias[p * call.out_width + column]);
    }
    S* to = call.out + static_cast<std::int64_t>(row) * call.out_width + column;
    float value = rounded<S>(sums[0]);
    if (I == Into::gated) value = value / (1 + expf(-value)) * rounded<S>(sums[parts - 1]);
    if (I == Into::added) value += widen(*to);
    narrow(value, to);
  }
}

// N: how many times 8 rows of x there may be. height: 8 or 16 rows of the weight.
template <class S, int N, Into I, int height, int warps>
__global__ void __launch_bounds__(warps * 32) multiply_tiles(Call<S> call) {
  constexpr int parts = I == Into::gated ? 2 : 1, halves = height / 8;
  constexpr int ahead = most_ahead / (parts * halves);
  __shared__ float room[warps * parts * N * height * 8];
  let_next_come();
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, row = lane / 4;
  const S* from[parts][halves];
#pragma unroll
  for (int p = 0; p < parts; ++p)
#pragma unroll
    for (int half = 0; half < halves; ++half) {
      int column = min(static_cast<int>(blockIdx.x) * height + half * 8 + row, call.out_width - 1);
      from[p][half] =
          call.weight + (static_cast<std::int64_t>(p) * call.out_width + column) * call.in;
    }
  uint4 a[ahead][parts][halves], b[ahead][N];
  const uint4 nothing{0, 0, 0, 0};
  auto load_weight = [&](int u, int k) {
#pragma unroll
    for (int p = 0; p < parts; ++p)
#pragma unroll
      for (int half = 0; half < halves; ++half) {
        a[u][p][half] = nothing;
        if (k >= call.in) continue;
        Pack16<S> pack = fetch(from[p][half] + k);
        memcpy(&a[u][p][half], &pack, 16);
      }
  };
  constexpr int stride = warps * stretch;
  int first = warp * stretch, k = first + lane % 4 * 8;
#pragma unroll
  for (int u = 0; u < ahead; ++u) load_weight(u, k + u * stride);
  wait_for_previous();

  const S* x[N];
#pragma unroll
  for (int n = 0; n < N; ++n) {
    int mine = n * 8 + row;  // a row that is not there is never written
    x[n] = call.x + static_cast<std::int64_t>(mine < call.rows ? mine : 0) * call.in;
  }
  auto load_x = [&](int u, int k) {
#pragma unroll
    for (int n = 0; n < N; ++n)
      b[u][n] = k < call.in ? *reinterpret_cast<const uint4*>(x[n] + k) : nothing;
  };
#pragma unroll
  for (int u = 0; u < ahead; ++u) load_x(u, k + u * stride);

  float sums[parts][N][4] = {};
  for (; first < call.in; first += ahead * stride, k += ahead * stride) {
#pragma unroll
    for (int u = 0; u < ahead; ++u) {
#pragma unroll
      for (int p = 0; p < parts; ++p) {
        uint4 low = a[u][p][0], high = halves == 2 ? a[u][p][halves - 1] : nothing;
#pragma unroll
        for (int n = 0; n < N; ++n) {
          join_tile<S>(sums[p][n], low.x, high.x, low.y, high.y, b[u][n].x, b[u][n].y);
          join_tile<S>(sums[p][n], low.z, high.z, low.w, high.w, b[u][n].z, b[u][n].w);
        }
      }
      load_weight(u, k + (ahead + u) * stride);
      load_x(u, k + (ahead + u) * stride);
    }
  }
#pragma unroll
  for (int p = 0; p < parts; ++p)
#pragma unroll
    for (int n = 0; n < N; ++n)
#pragma unroll
      for (int i = 0; i < 2 * halves; ++i) {
        int line = row + i / 2 * 8, column = lane % 4 * 2 + i % 2;
        room[(((warp * parts + p) * N + n) * height + line) * 8 + column] = sums[p][n][i];
      }
  __syncthreads();
  hand_out<S, N, I, height, warps>(call, room);
}

template <class S, int N, Into I, int height, int warps>
int launch(const Call<S>& call, Way way) {
  return start(multiply_tiles<S, N, I, height, warps>, dim3((call.out_width + height - 1) / height),
               warps * 32, 0, way, call);
}

template <class S, int N>
int launch_into(const Call<S>& call, Into into, Way way) {
  // Few rows of weight: half as many a block, so that all of the card has some.
  bool is_narrow = call.out_width < 4096;
  switch (into) {
    case Into::plain:
      return is_narrow ? launch<S, N, Into::plain, 8, 8>(call, way)
                       : launch<S, N, Into::plain, 16, 8>(call, way);
    case Into::added:
      return is_narrow ? launch<S, N, Into::added, 8, 8>(call, way)
                       : launch<S, N, Into::added, 16, 8>(call, way);
    case Into::gated:
      // Smaller blocks where more registers are needed, so that all of them find a place at once.
      return launch < S, N, Into::gated, 16, N == 1 ? 8 : 4 > (call, way);
  }
  return cudaErrorInvalidValue;
}

template <class S>
int launch_for(const Product& product, Way way) {
  Call<S> call{static_cast<const S*>(product.x),
               static_cast<const S*>(product.weight),
               static_cast<const S*>(product.bias),
               static_cast<S*>(product.out),
               product.rows,
               product.in,
               product.out_width};
  return product.rows <= 8 ? launch_into<S, 1>(call, product.into, way)
                           : launch_into<S, 2>(call, product.into, way);
}

}  // namespace

bool takes_tiles(int rows, int in, Scalar scalar, Way way) {
  return way.capability >= 80 && rows <= 16 && in % 8 == 0 &&
         (scalar == Scalar::bfloat16 || scalar == Scalar::float16);
}

int launch_tiles(const Product& product, Scalar scalar, Way way) {
  if (!takes_tiles(product.rows, product.in, scalar, way) || product.norm)
    return cudaErrorInvalidValue;
  return scalar == Scalar::bfloat16 ? launch_for<__nv_bfloat16>(product, way)
                                    : launch_for<__half>(product, way);
}

}  // namespace pensive::kernels
