// Products of up to 8 rows with a weight, on tensor cores: bound by reading the weight once. A
// block takes 16 rows of the weight, or 8 where there are few, and its warps share the sum over
// `in`. Every lane loads 16 bytes of a row of the weight and of a row of x at the same place of
// `in`; which of them the hardware multiplies first does not matter, as long as it is the same for
// both.
#include "kernels/cuda/product.h"
#include "kernels/cuda/tile.h"

namespace pensive::kernels {
namespace {

constexpr int stretch = 32;  // values of `in` a warp takes at once
constexpr int warps = 8;
constexpr int most_ahead = 8;  // loads of the weight a lane has under way

template <class S>
struct Call {
  const S* x;
  const S* weight;
  const S* bias;
  S* out;
  int rows, in, out_width;
};

// Adds the warps' sums [warps][parts][height][8] in their order and writes them.
template <class S, Into I, int height>
__device__ void hand_out(const Call<S>& call, const float* room) {
  constexpr int parts = I == Into::gated ? 2 : 1, tile = height * 8;
  for (int i = threadIdx.x; i < tile; i += warps * 32) {
    int row = i % 8, column = blockIdx.x * height + i / 8;
    if (row >= call.rows || column >= call.out_width) continue;
    float sums[parts] = {};
#pragma unroll
    for (int p = 0; p < parts; ++p)
      for (int w = 0; w < warps; ++w) sums[p] += room[(w * parts + p) * tile + i];
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

// height: 8 or 16 rows of the weight.
template <class S, Into I, int height>
__global__ void __launch_bounds__(warps * 32) multiply_tiles(Call<S> call) {
  constexpr int parts = I == Into::gated ? 2 : 1, halves = height / 8;
  constexpr int ahead = most_ahead / (parts * halves);
  __shared__ float room[warps * parts * height * 8];
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
  uint4 a[ahead][parts][halves], b[ahead];
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

  // A row that is not there is never written.
  const S* x = call.x + static_cast<std::int64_t>(row < call.rows ? row : 0) * call.in;
  auto load_x = [&](int u, int k) {
    b[u] = k < call.in ? *reinterpret_cast<const uint4*>(x + k) : nothing;
  };
#pragma unroll
  for (int u = 0; u < ahead; ++u) load_x(u, k + u * stride);

  float sums[parts][4] = {};
  for (; first < call.in; first += ahead * stride, k += ahead * stride) {
#pragma unroll
    for (int u = 0; u < ahead; ++u) {
#pragma unroll
      for (int p = 0; p < parts; ++p) {
        uint4 low = a[u][p][0], high = halves == 2 ? a[u][p][halves - 1] : nothing;
        join_tile<S>(sums[p], low.x, high.x, low.y, high.y, b[u].x, b[u].y);
        join_tile<S>(sums[p], low.z, high.z, low.w, high.w, b[u].z, b[u].w);
      }
      load_weight(u, k + (ahead + u) * stride);
      load_x(u, k + (ahead + u) * stride);
    }
  }
#pragma unroll
  for (int p = 0; p < parts; ++p)
#pragma unroll
    for (int i = 0; i < 2 * halves; ++i) {
      int line = row + i / 2 * 8, column = lane % 4 * 2 + i % 2;
      room[((warp * parts + p) * height + line) * 8 + column] = sums[p][i];
    }
  __syncthreads();
  hand_out<S, I, height>(call, room);
}

template <class S, Into I, int height>
int launch(const Call<S>& call, Way way) {
  return start(multiply_tiles<S, I, height>, dim3((call.out_width + height - 1) / height),
               warps * 32, 0, way, call);
}

template <class S>
int launch_into(const Call<S>& call, Into into, Way way) {
  // Few rows of weight: half as many a block, so that all of the card has some.
  bool is_narrow = call.out_width < 4096;
  switch (into) {
    case Into::plain:
      return is_narrow ? launch<S, Into::plain, 8>(call, way)
                       : launch<S, Into::plain, 16>(call, way);
    case Into::added:
      return is_narrow ? launch<S, Into::added, 8>(call, way)
                       : launch<S, Into::added, 16>(call, way);
    case Into::gated:
      return launch<S, Into::gated, 16>(call, way);
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
  return launch_into(call, product.into, way);
}

}  // namespace

bool takes_tiles(int rows, int in, Scalar scalar, Way way) {
  return way.capability >= 80 && rows <= 8 && in % 8 == 0 &&
         (scalar == Scalar::bfloat16 || scalar == Scalar::float16);
}

int launch_tiles(const Product& product, Scalar scalar, Way way) {
  if (!takes_tiles(product.rows, product.in, scalar, way) || product.norm)
    return cudaErrorInvalidValue;
  return scalar == Scalar::bfloat16 ? launch_for<__nv_bfloat16>(product, way)
                                    : launch_for<__half>(product, way);
}

}  // namespace pensive::kernels
