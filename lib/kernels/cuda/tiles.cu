// Products of rows with a weight, on tensor cores: of few rows bound by reading the weight once. A
// block takes 8, 16 or 32 rows of the weight, and its warps share the sum over `in`. Every lane
// loads 16 bytes of a row of the weight and of a row of x at the same place of `in`; which of them
// the hardware multiplies first does not matter, as long as it is the same for both. Rows of x come
// in groups of 8, up to 64 a block, which share what is loaded of the weight: each row's sums are
// those it has alone, bit for bit.
#include "kernels/cuda/product.h"
#include "kernels/cuda/tile.h"

namespace pensive::kernels {
namespace {

constexpr int stretch = 32;  // values of `in` a warp takes at once
constexpr int warps = 8;
constexpr int most_ahead = 8;  // loads of the weight a lane has under way
constexpr int group_rows = 8;  // of x in one product of the tensor cores
constexpr int most_groups = 8;

template <class S>
struct Call {
  const S* x;
  const S* weight;
  const S* bias;
  void* out;  // S; float32 where it is added to, or wide
  int rows, in, out_width;
  int chunks;  // of x, each `groups` times 8 rows
};

// What a block does. height: rows of the weight, 8, 16 or 32, of gate and of up.
template <Into I, int height_, int groups_>
struct Plan {
  static constexpr int height = height_, groups = groups_;
  static constexpr int parts = I == Into::gated ? 2 : 1;
  static constexpr int strips = height / 8;  // of a part
  static constexpr int tiles = (strips + 1) / 2;
  static constexpr int wanted = most_ahead / (parts * strips);
  static constexpr int ahead = groups > 2 || wanted < 2 ? 2 : wanted;
  // Groups whose sums meet at once.
  static constexpr int few = 128 / (parts * height);
  static constexpr int at_once = few < groups ? few : groups;
  static constexpr int tile = height * group_rows;  // sums of a part and group
  static constexpr int room = warps * parts * at_once * tile;
};

// One sum, or gate and up, to where it belongs.
template <class S, Into I, int parts>
__device__ void give(const Call<S>& call, int row, int column, float (&sums)[parts]) {
  if (call.bias) {
#pragma unroll
    for (int p = 0; p < parts; ++p) sums[p] += widen(call.bias[p * call.out_width + column]);
  }
  std::int64_t place = static_cast<std::int64_t>(row) * call.out_width + column;
  if (I == Into::added || I == Into::wide) {
    float* to = static_cast<float*>(call.out) + place;
    *to = I == Into::added ? *to + sums[0] : sums[0];
    return;
  }
  float value = rounded<S>(sums[0]);
  if (I == Into::gated) value = value / (1 + expf(-value)) * rounded<S>(sums[parts - 1]);
  narrow(value, static_cast<S*>(call.out) + place);
}

// Adds the warps' sums [warps][parts][at_once][height][8] in their order and writes them.
template <class S, Into I, int height, int groups, class P = Plan<I, height, groups>>
__device__ void hand_out(const Call<S>& call, const float* room, int first_row, int first_column) {
  constexpr int each = P::at_once * P::tile;
  for (int i = threadIdx.x; i < each; i += warps * 32) {
    int row = first_row + i / P::tile * group_rows + i % group_rows;
    int column = first_column + i % P::tile / group_rows;
    if (row >= call.rows || column >= call.out_width) continue;
    float sums[P::parts] = {};
#pragma unroll
    for (int p = 0; p < P::parts; ++p)
#pragma unroll
      for (int w = 0; w < warps; ++w) sums[p] += room[(w * P::parts + p) * each + i];
    give<S, I>(call, row, column, sums);
  }
}

// What a lane has under way: `ahead` packs of each of its rows of the weight and of x.
template <class S, class P>
struct Loads {
  const S* weight[P::parts][P::strips];
  const S* x[P::groups];
  uint4 a[P::ahead][P::parts][P::strips], b[P::ahead][P::groups];

  __device__ void find_weight(const Call<S>& call, int first_column) {
#pragma unroll
    for (int p = 0; p < P::parts; ++p)
#pragma unroll
      for (int s = 0; s < P::strips; ++s) {
        int column = min(first_column + s * 8 + line(), call.out_width - 1);
        weight[p][s] =
            call.weight + (static_cast<std::int64_t>(p) * call.out_width + column) * call.in;
      }
  }
  // A row that is not there is never written.
  __device__ void find_x(const Call<S>& call, int first_row) {
#pragma unroll
    for (int g = 0; g < P::groups; ++g) {
      int row = first_row + g * group_rows + line();
      x[g] = call.x + static_cast<std::int64_t>(row < call.rows ? row : 0) * call.in;
    }
  }
  __device__ void load_weight(int in, int u, int k) {
#pragma unroll
    for (int p = 0; p < P::parts; ++p)
#pragma unroll
      for (int s = 0; s < P::strips; ++s) {
        a[u][p][s] = uint4{0, 0, 0, 0};
        if (k >= in) continue;
        Pack16<S> pack = fetch(weight[p][s] + k);
        memcpy(&a[u][p][s], &pack, 16);
      }
  }
  __device__ void load_x(int in, int u, int k) {
#pragma unroll
    for (int g = 0; g < P::groups; ++g)
      b[u][g] = k < in ? *reinterpret_cast<const uint4*>(x[g] + k) : uint4{0, 0, 0, 0};
  }

 private:
  __device__ static int line() {
    int lane = threadIdx.x % 32;
    return lane / 4;
  }
};

// A lane's sums: for each tile of 16 rows of the weight and group of x as the tensor cores have
// them.
template <class P>
using TileSums = float[P::parts][P::tiles][P::groups][4];

template <class S, class P>
__device__ void join_loads(const Loads<S, P>& loads, int u, TileSums<P>& sums) {
  const uint4 nothing{0, 0, 0, 0};
#pragma unroll
  for (int p = 0; p < P::parts; ++p)
#pragma unroll
    for (int t = 0; t < P::tiles; ++t) {
      const uint4 low = loads.a[u][p][2 * t];
      const uint4 high = P::strips > 1 ? loads.a[u][p][(2 * t + 1) % P::strips] : nothing;
#pragma unroll
      for (int g = 0; g < P::groups; ++g) {
        uint4 here = loads.b[u][g];
        join_tile<S>(sums[p][t][g], low.x, high.x, low.y, high.y, here.x, here.y);
        join_tile<S>(sums[p][t][g], low.z, high.z, low.w, high.w, here.z, here.w);
      }
    }
}

// A warp's sums of the groups from `before` on to its part of the room.
template <class P>
__device__ void lay_down(const TileSums<P>& sums, int before, float* room) {
  int lane = threadIdx.x % 32, warp = threadIdx.x / 32, line = lane / 4;
#pragma unroll
  for (int p = 0; p < P::parts; ++p)
#pragma unroll
    for (int s = 0; s < P::strips; ++s)
#pragma unroll
      for (int g = 0; g < P::at_once; ++g)
#pragma unroll
        for (int i = 0; i < 2; ++i)
          room[(((warp * P::parts + p) * P::at_once + g) * P::height + s * 8 + line) * group_rows +
               lane % 4 * 2 + i] = sums[p][s / 2][before + g][s % 2 * 2 + i];
}

template <class S, Into I, int height, int groups, class P = Plan<I, height, groups>>
__global__ void __launch_bounds__(warps * 32) multiply_tiles(Call<S> call) {
  constexpr int ahead = P::ahead, stride = warps * stretch;
  __shared__ float room[P::room];
  let_next_come();
  // Blocks that share a piece of the weight come together.
  int first_column = static_cast<int>(blockIdx.x) / call.chunks * height;
  int first_row = static_cast<int>(blockIdx.x) % call.chunks * groups * group_rows;
  int lane = threadIdx.x % 32, first = threadIdx.x / 32 * stretch, k = first + lane % 4 * 8;
  Loads<S, P> loads;
  loads.find_weight(call, first_column);
#pragma unroll
  for (int u = 0; u < ahead; ++u) loads.load_weight(call.in, u, k + u * stride);
  wait_for_previous();
  loads.find_x(call, first_row);
#pragma unroll
  for (int u = 0; u < ahead; ++u) loads.load_x(call.in, u, k + u * stride);

  TileSums<P> sums = {};
  for (; first < call.in; first += ahead * stride, k += ahead * stride) {
#pragma unroll
    for (int u = 0; u < ahead; ++u) {
      join_loads(loads, u, sums);
      loads.load_weight(call.in, u, k + (ahead + u) * stride);
      loads.load_x(call.in, u, k + (ahead + u) * stride);
    }
  }
#pragma unroll
  for (int before = 0; before < groups; before += P::at_once) {
    if (before > 0) __syncthreads();  // the room was read
    lay_down<P>(sums, before, room);
    __syncthreads();
    hand_out<S, I, height, groups>(call, room, first_row + before * group_rows, first_column);
  }
}

template <class S, Into I, int height, int groups>
int launch(Call<S> call, Way way) {
  call.chunks = (call.rows + groups * group_rows - 1) / (groups * group_rows);
  int columns = (call.out_width + height - 1) / height;
  return start(multiply_tiles<S, I, height, groups>, dim3(columns * call.chunks), warps * 32, 0,
               way, call);
}

// Few rows of weight: half as many a block, so that all of the card has some; many rows of x: twice
// as many, since x then takes as long as the weight.
template <class S, Into I>
int launch_even(const Call<S>& call, Way way) {
  bool is_narrow = call.out_width < 4096;
  if (call.rows <= 8)
    return is_narrow ? launch<S, I, 8, 1>(call, way) : launch<S, I, 16, 1>(call, way);
  if (call.rows <= 16)
    return is_narrow ? launch<S, I, 8, 2>(call, way) : launch<S, I, 16, 2>(call, way);
  if (call.rows <= 32)
    return is_narrow ? launch<S, I, 16, 4>(call, way) : launch<S, I, 32, 4>(call, way);
  return is_narrow ? launch<S, I, 16, 8>(call, way) : launch<S, I, 32, 8>(call, way);
}

template <class S>
int launch_gated(const Call<S>& call, Way way) {
  if (call.rows <= 8) return launch<S, Into::gated, 16, 1>(call, way);
  if (call.rows <= 16) return launch<S, Into::gated, 16, 2>(call, way);
  if (call.rows <= 32) return launch<S, Into::gated, 16, 4>(call, way);
  return launch<S, Into::gated, 16, most_groups>(call, way);
}

template <class S>
int launch_for(const Product& product, Way way) {
  Call<S> call{static_cast<const S*>(product.x),
               static_cast<const S*>(product.weight),
               static_cast<const S*>(product.bias),
               product.out,
               product.rows,
               product.in,
               product.out_width,
               1};
  switch (product.into) {
    case Into::plain:
      return launch_even<S, Into::plain>(call, way);
    case Into::added:
      return launch_even<S, Into::added>(call, way);
    case Into::gated:
      return launch_gated(call, way);
    case Into::wide:
      return launch_even<S, Into::wide>(call, way);
  }
  return cudaErrorInvalidValue;
}

}  // namespace

bool takes_tiles(int in, Scalar scalar, Way way) {
  return way.capability >= 80 && in % 8 == 0 &&
         (scalar == Scalar::bfloat16 || scalar == Scalar::float16);
}

int launch_tiles(const Product& product, Scalar scalar, Way way) {
  if (!takes_tiles(product.in, scalar, way) || product.norm) return cudaErrorInvalidValue;
  return scalar == Scalar::bfloat16 ? launch_for<__nv_bfloat16>(product, way)
                                    : launch_for<__half>(product, way);
}

}  // namespace pensive::kernels
