// A block makes tiles of 128 rows by 256 or 192 columns of the result, one after the other. One
// thread has the copy engine bring what the tile's rows and the weight's rows hold, 64 values deep
// at a time, some stretches ahead; two groups of four warps multiply, 64 of the rows each. Two
// blocks are a cluster: their tiles lie below one another and share the weight's rows, of which
// each brings half for both, since the second cache could not give as much as the products take.
#include "kernels/cuda/cluster.h"
#include "kernels/cuda/decode.h"
#include "kernels/cuda/near.h"
#include "kernels/cuda/quad.h"
#include "kernels/cuda/tile_map.h"
#include "kernels/cuda/warpgroup.h"

namespace pensive::kernels {
namespace {

constexpr int tile_rows = 128;
constexpr int team = 2;           // blocks of a cluster
constexpr int threads = 3 * 128;  // one group asks, two multiply
constexpr int pairs_at_once = 8;  // pairs of tiles below one another that share what is cached
constexpr int tile_bytes_of_x = tile_rows * tile_depth * 2;

// What is done with a product's columns before they are written.
enum class End { gated, turned_64, turned_128 };  // heads of so many dimensions

template <int columns>
constexpr int slot_bytes = tile_bytes_of_x + columns* tile_depth * 2;
template <int columns>
constexpr int slots = columns == 256 ? 4 : 5;
// Slots begin at a multiple of 1,024.
template <int columns>
constexpr int shared_bytes = slots<columns>* slot_bytes<columns> + 1024;

struct Call {
  CUtensorMap x, weight;
  const void* bias;              // or null
  const float *cosines, *sines;  // [rows, head_dim / 2]
  void* out;
  int turned_width;         // so many of the first columns
  int rows, in, out_width;  // of the result; the gated end's weight has twice as many rows
  int row_pairs, column_tiles;
};

// Which tile comes when: rows of pairs_at_once pairs first, so that they meet in the second cache.
struct Place {
  int rows, columns;  // of tiles
  __device__ Place(const Call& call, int turn, int rank) {
    const int per_lot = pairs_at_once * call.column_tiles;
    const int lot = turn / per_lot, in_lot = turn % per_lot;
    const int pairs = min(pairs_at_once, call.row_pairs - lot * pairs_at_once);
    rows = (lot * pairs_at_once + in_lot % pairs) * team + rank;
    columns = in_lot / pairs;
  }
};

// A ring of slots: where it stands and which phase its gates are in.
template <int count>
struct Turn {
  int slot = 0;
  unsigned phase = 0;
  __device__ void next() {
    if (++slot < count) return;
    slot = 0;
    phase ^= 1;
  }
};

template <int columns>
struct Gates {
  std::uint64_t full[slots<columns>], empty[slots<columns>];
};

__device__ float gated(float gate, float up) { return __fdividef(gate, 1 + __expf(-gate)) * up; }

// Writes a lane's sums of two rows. They stand two to each eight columns; four eights at a time are
// exchanged between four lanes, so that each writes one. What is read on the way does not change,
// so that it can be asked for long before.
template <class S, End end, int columns>
struct Writer {
  const Call& call;
  int row, column;  // of the tile

  __device__ void write(const float (&sums)[columns / 2]) const {
    if constexpr (end == End::gated) {
      write_gated(sums);
    } else {
      constexpr int of_half = (end == End::turned_64 ? 64 : 128) / 16;
#pragma unroll
      for (int in_head = 0; in_head < of_half; in_head += 4)
#pragma unroll
        for (int half = 0; half < 2; ++half) write_turned<of_half>(sums, in_head, half);
    }
  }

 private:
  __device__ void write_gated(const float (&sums)[columns / 2]) const {
    constexpr int up = columns / 4;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int first = 0; first < columns / 16; first += 4) {
        unsigned words[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int s = (first + i) * 4 + half * 2;
          words[i] = word_of<S>(gated(sums[s], sums[up + s]), gated(sums[s + 1], sums[up + s + 1]));
        }
        store(words, half, first);
      }
  }

  // Of every head: eights of its first half from in_head on, and those of_half further.
  template <int of_half>
  __device__ void write_turned(const float (&sums)[columns / 2], int in_head, int half) const {
    const std::int64_t at = min(row_of(half), call.rows - 1);
    const std::int64_t angles = at * of_half * 8 + in_head * 8 + threadIdx.x % 4 * 2;
    float2 cosines[4], sines[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      cosines[i] = __ldg(reinterpret_cast<const float2*>(call.cosines + angles + i * 8));
      sines[i] = __ldg(reinterpret_cast<const float2*>(call.sines + angles + i * 8));
    }
#pragma unroll
    for (int head = 0; head < columns / 8; head += 2 * of_half) {
      const int first = head + in_head;
      const bool turns = column + head * 8 < call.turned_width;
      unsigned low[4], high[4];
      load_bias(first, low);
      load_bias(first + of_half, high);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int s = (first + i) * 4 + half * 2;
        float2 a = values_of<S>(low[i]), b = values_of<S>(high[i]);
        a.x += sums[s], a.y += sums[s + 1];
        b.x += sums[s + of_half * 4], b.y += sums[s + of_half * 4 + 1];
        const float2 c = turns ? cosines[i] : float2{1, 1}, d = turns ? sines[i] : float2{0, 0};
        low[i] = word_of<S>(a.x * c.x - b.x * d.x, a.y * c.y - b.y * d.y);
        high[i] = word_of<S>(b.x * c.x + a.x * d.x, b.y * c.y + a.y * d.y);
      }
      store(low, half, first);
      store(high, half, first + of_half);
    }
  }

  __device__ int row_of(int half) const { return row + threadIdx.x % 32 / 4 + 8 * half; }
  __device__ int own(int first) const { return column + (first + threadIdx.x % 4) * 8; }
  // Two values for each of four eights, where the lane has sums.
  __device__ void load_bias(int first, unsigned (&words)[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int at = min(column + (first + i) * 8, call.out_width - 8) + threadIdx.x % 4 * 2;
      words[i] =
          call.bias
              ? __ldg(reinterpret_cast<const unsigned*>(static_cast<const S*>(call.bias) + at))
              : 0;
    }
  }
  __device__ void store(unsigned (&words)[4], int half, int first) const {
    turn_words(words);
    if (row_of(half) < call.rows && own(first) < call.out_width)
      store_words(words, static_cast<S*>(call.out) +
                             static_cast<std::int64_t>(row_of(half)) * call.out_width + own(first));
  }
};

// The thread that asks for all tiles of its block.
template <End end, int columns>
__device__ void ask(const Call& call, unsigned char* ring, Gates<columns>& gates, int rank,
                    int first, int stride, int turns) {
  constexpr int half = columns / 2;
  Turn<slots<columns>> turn;
  for (int i = first; i < turns; i += stride) {
    const Place place(call, i, rank);
    const int row = place.rows * tile_rows;
    // Gate and up lie out_width rows apart.
    const int weight_row = end == End::gated ? place.columns * half + rank * call.out_width
                                             : place.columns * columns + rank * half;
    for (int k = 0; k < call.in; k += tile_depth, turn.next()) {
      wait_at_gate(gates.empty + turn.slot, turn.phase ^ 1);
      std::uint64_t* full = gates.full + turn.slot;
      unsigned char* slot = ring + turn.slot * slot_bytes<columns>;
      expect_bytes(full, slot_bytes<columns>);
      bring_tile(slot, &call.x, k, 0, row, full);
      bring_tile(slot + tile_bytes_of_x + rank * half * tile_depth * 2, &call.weight, k, 0,
                 weight_row, full, (1u << team) - 1);
    }
  }
}

template <class S, End end, int columns>
__device__ void take(const Call& call, const unsigned char* ring, Gates<columns>& gates, int rank,
                     int first, int stride, int turns) {
  const int group = threadIdx.x / 128 - 1, warp = threadIdx.x % 128 / 32;
  // One thread for each block of the team tells it that this group is done with a slot.
  const bool tells = threadIdx.x % 32 == 0 && warp < team;
  float sums[columns / 2] = {};
  Turn<slots<columns>> turn;
  for (int i = first; i < turns; i += stride) {
    int before = -1;
    for (int k = 0; k < call.in; k += tile_depth, turn.next()) {
      wait_at_gate(gates.full + turn.slot, turn.phase);
      const unsigned char* slot = ring + turn.slot * slot_bytes<columns>;
      const std::uint64_t a = tile_at(slot + group * (tile_bytes_of_x / 2));
      const std::uint64_t b = tile_at(slot + tile_bytes_of_x);
      open_products();
#pragma unroll
      for (int part = 0; part < tile_depth / 16; ++part)
        multiply_tiles<S, columns>(sums, a + part * 2, b + part * 2, k + part > 0);
      close_products();
      wait_for_products<1>();
      if (before >= 0 && tells) arrive_at_gate_of(gates.empty + before, warp);
      before = turn.slot;
    }
    wait_for_products<0>();
    hold(sums);
    if (tells) arrive_at_gate_of(gates.empty + before, warp);
    const Place place(call, i, rank);
    constexpr int own = end == End::gated ? columns / 2 : columns;
    const int row = place.rows * tile_rows + group * 64 + warp * 16;
    Writer<S, end, columns>{call, row, place.columns * own}.write(sums);
  }
}

template <class S, End end, int columns>
__global__ void __cluster_dims__(team, 1, 1) __launch_bounds__(threads, 1)
    many_rows(const __grid_constant__ Call call) {
#ifdef PENSIVE_WARPGROUP
  extern __shared__ unsigned char shared[];
  __shared__ Gates<columns> gates;
  unsigned char* ring = shared + (1024 - near_address(shared) % 1024) % 1024;
  const int rank = blockIdx.x % team, first = blockIdx.x / team, stride = gridDim.x / team;
  const int turns = call.row_pairs * call.column_tiles;
  if (threadIdx.x == 0) {
    for (int i = 0; i < slots<columns>; ++i) {
      make_gate(gates.full + i, 1);
      make_gate(gates.empty + i, 2 * team);
    }
    show_gates();
  }
  arrive_at_cluster();
  wait_for_cluster();
  wait_for_previous();
  let_next_come();
  if (threadIdx.x < 128) {
    give_registers<40>();
    if (threadIdx.x == 0) ask<end, columns>(call, ring, gates, rank, first, stride, turns);
    __syncwarp();
  } else {
    take_registers<232>();
    take<S, end, columns>(call, ring, gates, rank, first, stride, turns);
  }
  arrive_at_cluster();  // nobody leaves while the other may still write to it
  wait_for_cluster();
#endif
}

int cores() {
  int device = 0, count = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device);
  return count;
}

int divide_up(int a, int b) { return (a + b - 1) / b; }

template <class S, End end, int columns>
int launch(const CudaManyRows& asked, cudaStream_t stream) {
  constexpr int half = columns / 2;
  constexpr bool is_gated = end == End::gated;
  Call call{};
  const int weight_rows = asked.out_width * (is_gated ? 2 : 1);
  if (!map_tiles(&call.x, {asked.x, asked.rows, 1, asked.in, asked.in, asked.scalar}, tile_rows) ||
      !map_tiles(&call.weight, {asked.weight, weight_rows, 1, asked.in, asked.in, asked.scalar},
                 half))
    return cudaErrorInvalidValue;
  call.bias = asked.bias;
  call.cosines = asked.cosines;
  call.sines = asked.sines;
  call.turned_width = asked.turned_width;
  call.out = asked.out;
  call.rows = asked.rows;
  call.in = asked.in;
  call.out_width = asked.out_width;
  call.row_pairs = divide_up(asked.rows, team * tile_rows);
  call.column_tiles = divide_up(asked.out_width, is_gated ? half : columns);
  const auto kernel = many_rows<S, end, columns>;
  if (int error = allow_near_memory<many_rows<S, end, columns>>()) return error;
  const int teams = min(call.row_pairs * call.column_tiles, cores() / team);
  return start(kernel, teams * team, threads, shared_bytes<columns>, Way{stream, 90}, call);
}

// The wider tile moves fewer bytes, the narrower may leave fewer cores idle at the end.
bool suits_narrow(const CudaManyRows& call) {
  const int pairs = divide_up(call.rows, team * tile_rows), teams = cores() / team;
  const int wide = divide_up(pairs * divide_up(call.out_width, 256), teams) * 256;
  return divide_up(pairs * divide_up(call.out_width, 192), teams) * 192 < wide;
}

template <class S>
int launch_for(const CudaManyRows& call, cudaStream_t stream) {
  if (call.turned_width == 0) return launch<S, End::gated, 256>(call, stream);
  if (call.head_dim == 128) return launch<S, End::turned_128, 256>(call, stream);
  if (call.head_dim != 64) return cudaErrorInvalidValue;
  return suits_narrow(call) ? launch<S, End::turned_64, 192>(call, stream)
                            : launch<S, End::turned_64, 256>(call, stream);
}

}  // namespace

int launch_many_rows(const CudaManyRows& call, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  if (!map_maker()) return cudaErrorNotSupported;
  switch (call.scalar) {
    case Scalar::bfloat16:
      return launch_for<__nv_bfloat16>(call, on);
    case Scalar::float16:
      return launch_for<__half>(call, on);
    default:
      return cudaErrorInvalidValue;
  }
}

}  // namespace pensive::kernels
