// Products of many rows with a weight, which streams through shared memory once. A block takes a
// tile of the weight's rows: one thread asks for it and for x, 64 values of `in` at a time, as long
// as the ring has room; every group of four warps multiplies 64 rows of the weight with all rows of
// x on the tensor cores. Where there are too few tiles for the card, the blocks of a cluster share
// the sum over `in` and read each other's sums, which are added in order.
//
// The weight is asked for before the kernel before has ended. Bits of a row do not depend on how
// many there are: its sums see neither the others nor how many the tensor cores take at once.
#include "kernels/cuda/near.h"
#include "kernels/cuda/wide_end.h"

namespace pensive::kernels {
namespace {

constexpr int lot = 64;  // values of `in` in a slot, 128 bytes
constexpr int row_bytes = 128;
constexpr int most_threads = most_groups * 128 + 32;
constexpr int most_ring = 200 * 1024;  // with sums, of a block's shared memory
constexpr int atom_bytes = 1024;       // of eight rows in shared memory
constexpr int gate_bytes = 16;         // of a slot's two

template <int N>
constexpr int at_once = N < 64 ? N : 64;  // rows of x in one product
constexpr int sums_bytes(int rows, int stride) { return rows * stride * 4; }

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Where things stand in a block's shared memory.
template <int N>
struct Near {
  unsigned char* slots;
  std::uint64_t *full, *empty;
  float* sums;  // [rows of x, stride]: of a tile
  int weight_bytes, slot_bytes;

  __device__ Near(unsigned char* raw, const WideCall& call) {
    full = reinterpret_cast<std::uint64_t*>(raw);
    empty = full + call.slots;
    raw += call.slots * gate_bytes;
    slots = raw + (-near_address(raw) & (atom_bytes - 1));
    weight_bytes = call.height * row_bytes;
    slot_bytes = weight_bytes + N * row_bytes;
    sums = reinterpret_cast<float*>(call.is_single ? slots : slots + call.slots * slot_bytes);
  }
  __device__ unsigned char* slot(int i) const { return slots + i * slot_bytes; }
};

// A block's part of the product: its lots of one tile after the other.
struct Part {
  int first, end, tile, step;
  __device__ explicit Part(const WideCall& call) {
    const int rank = static_cast<int>(blockIdx.x) % call.splits;
    tile = static_cast<int>(blockIdx.x) / call.splits;
    step = static_cast<int>(gridDim.x) / call.splits;
    first = rank * call.lots / call.splits;
    end = (rank + 1) * call.lots / call.splits;
  }
};

__device__ inline void ask_for_weight(void* to, const CUtensorMap& map, int in, int tile_row,
                                      int tile_group, std::uint64_t* gate, std::uint64_t policy) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint"
      " [%0], [%1, {%2, %3, %4, %5}], [%6], %7;" ::"r"(near_address(to)),
      "l"(&map), "r"(in), "r"(tile_row), "r"(0), "r"(tile_group), "r"(near_address(gate)),
      "l"(policy)
      : "memory");
}
__device__ inline void ask_for_x(void* to, const CUtensorMap& map, int in, std::uint64_t* gate) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%2, %3}], [%4];" ::"r"(near_address(to)),
      "l"(&map), "r"(in), "r"(0), "r"(near_address(gate))
      : "memory");
}

// One thread: asks for all lots of the block, as far ahead as there are slots.
template <int N>
__device__ void ask(const WideCall& call, const Near<N>& near, const CUtensorMap& weight_map,
                    const CUtensorMap& x_map) {
  const std::uint64_t policy = used_once();
  const bool is_gated = call.into == Into::gated;
  const Part part(call);
  if (part.first == part.end) return;
  const auto weight = [&](int slot, int tile, int at) {
    expect_bytes(near.full + slot, near.slot_bytes);
    ask_for_weight(near.slot(slot), weight_map, at * lot, is_gated ? 0 : tile * call.height,
                   is_gated ? tile * call.height / 16 : 0, near.full + slot, policy);
  };
  const auto x = [&](int slot, int at) {
    ask_for_x(near.slot(slot) + near.weight_bytes, x_map, at * lot, near.full + slot);
  };
  int tile = part.tile, at = part.first;
  const auto next = [&] {
    if (++at < part.end) return;
    at = part.first;
    tile += part.step;
  };
  int ahead = 0;
  for (; ahead < call.slots && tile < call.tiles; ++ahead, next()) weight(ahead, tile, at);
  wait_for_previous();
  for (int slot = 0, then = part.first; slot < ahead; ++slot) {
    x(slot, then);
    if (++then == part.end) then = part.first;
  }
  unsigned round = 0;
  for (int slot = 0; tile < call.tiles; next()) {
    wait_at_gate(near.empty + slot, round & 1);
    weight(slot, tile, at);
    x(slot, at);
    if (++slot < call.slots) continue;
    slot = 0;
    ++round;
  }
}

// A group of warps: its 64 rows of every tile, with all rows of x.
template <class S, int N>
__device__ void multiply(const WideCall& call, const Near<N>& near) {
  constexpr int each = at_once<N>, pieces = N / each;
  const Part part(call);
  const int group = static_cast<int>(threadIdx.x) / 128;
  const bool is_first = threadIdx.x % 32 == 0;
  int slot = 0;
  unsigned round = 0;
  for (int tile = part.tile; tile < call.tiles; tile += part.step) {
    float sums[pieces][each / 2] = {};
    int before = -1;
    for (int at = part.first; at < part.end; ++at) {
      wait_at_gate(near.full + slot, round & 1);
      const unsigned char* here = near.slot(slot);
      const std::uint64_t a = tile_at(here + group * group_rows * row_bytes);
      const std::uint64_t b = tile_at(here + near.weight_bytes);
      open_products();
#pragma unroll
      for (int k = 0; k < lot / 16; ++k)
#pragma unroll
        for (int p = 0; p < pieces; ++p)
          multiply_tiles<S, each>(sums[p], a + 2 * k, b + 2 * k + p * (each * row_bytes / 16), 1);
      close_products();
      wait_for_products<1>();
      if (before >= 0 && is_first) arrive_at_gate(near.empty + before);
      before = slot;
      if (++slot == call.slots) {
        slot = 0;
        ++round;
      }
    }
    wait_for_products<0>();
    // Nobody else tells the compiler that the sums have come.
#pragma unroll
    for (int p = 0; p < pieces; ++p)
#pragma unroll
      for (int i = 0; i < each / 2; ++i) asm volatile("" : "+f"(sums[p][i]));
    if (before >= 0 && is_first) arrive_at_gate(near.empty + before);
    if (call.splits > 1)
      join_tile_sums<S, each, pieces>(call, near.sums, tile, sums);
    else
      give_tile<S, each, pieces>(call, near.sums, tile, sums);
  }
}

#endif

template <class S, int N>
__global__ void __launch_bounds__(most_threads, 1)
    multiply_wide(const __grid_constant__ CUtensorMap weight_map,
                  const __grid_constant__ CUtensorMap x_map, WideCall call) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ unsigned char raw[];
  let_next_come();
  const Near<N> near(raw, call);
  if (threadIdx.x == 0) {
    for (int i = 0; i < call.slots; ++i) {
      make_gate(near.full + i, 1);  // and bytes
      make_gate(near.empty + i, call.groups * 4);
    }
    show_gates();
  }
  __syncthreads();
  if (static_cast<int>(threadIdx.x) >= call.groups * 128) {
    if (threadIdx.x % 32 == 0) ask<N>(call, near, weight_map, x_map);
    __syncwarp();
    if (call.splits == 1) return;
    for (int i = 0; i < 2; ++i) {  // as join_tile_sums() does
      arrive_at_cluster();
      wait_for_cluster();
    }
    return;
  }
  wait_for_previous();  // what is added to
  multiply<S, N>(call, near);
#endif
}

template <class S, int N>
int start_rows(const CUtensorMap& weight_map, const CUtensorMap& x_map, WideCall call, int blocks,
               Way way) {
  const int clusters = call.splits > 1 ? call.tiles : min(blocks, call.tiles);
  call.is_single = call.tiles <= clusters;
  const int slot = (call.height + N) * row_bytes;
  const int sums = sums_bytes(call.is_single ? N : at_once<N>, call.stride);
  const int room = (most_ring - (call.is_single ? 0 : sums)) / (slot + gate_bytes);
  const int all_lots = (call.lots + call.splits - 1) / call.splits;
  call.slots = call.is_single ? min(room, all_lots) : room;
  if (call.slots < min(2, all_lots)) return cudaErrorInvalidValue;
  // Groups read whole 64 rows, those that are not there too.
  const int beyond = (call.slots - 1) * slot + call.groups * group_rows * row_bytes;
  const int lots = call.slots * slot;
  const int all = max(call.is_single ? max(lots, sums) : lots + sums, beyond);
  const int shared = atom_bytes + all + call.slots * gate_bytes;
  if (int error = allow_near_memory<multiply_wide<S, N>>()) return error;
  return start_teams(multiply_wide<S, N>, dim3(clusters * call.splits), call.groups * 128 + 32,
                     call.splits, static_cast<std::size_t>(shared), way, weight_map, x_map, call);
}

template <class S>
int start_for(const CUtensorMap& weight_map, const CUtensorMap& x_map, const WideCall& call,
              int blocks, Way way) {
  if (call.rows <= 16) return start_rows<S, 16>(weight_map, x_map, call, blocks, way);
  if (call.rows <= 32) return start_rows<S, 32>(weight_map, x_map, call, blocks, way);
  if (call.rows <= 64) return start_rows<S, 64>(weight_map, x_map, call, blocks, way);
  return start_rows<S, 128>(weight_map, x_map, call, blocks, way);
}

}  // namespace

bool find_wide_room(int cores, WideRoom& room) {
  constexpr auto kernel = multiply_wide<__half, 64>;
  cudaLaunchConfig_t config{};
  config.blockDim = dim3(most_threads);
  config.dynamicSmemBytes = most_ring;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeClusterDimension;
  config.attrs = &attribute;
  config.numAttrs = 1;
  int error = allow_near_memory<kernel>();
  int counts[2] = {};
  for (int i = 0; i < 2 && error == cudaSuccess; ++i) {
    const unsigned size = 2u << i;
    config.gridDim = dim3(size);
    attribute.val.clusterDim = {size, 1, 1};
    error = cudaOccupancyMaxActiveClusters(counts + i, kernel, &config);
  }
  cudaGetLastError();  // leaves no error behind for the host's next check
  room = {cores, counts[0], counts[1]};
  return error == cudaSuccess && counts[0] > 0 && counts[1] > 0;
}

int start_wide(const CUtensorMap& weight_map, const CUtensorMap& x_map, const WideCall& call,
               Scalar scalar, int blocks, Way way) {
  return scalar == Scalar::bfloat16 ? start_for<__nv_bfloat16>(weight_map, x_map, call, blocks, way)
                                    : start_for<__half>(weight_map, x_map, call, blocks, way);
}

}  // namespace pensive::kernels
