// Attention of prompts. A block has 128 query rows of one head; one thread has the copy engine
// bring them, and keys and values 128 positions at a time; two groups of four warps have 64 of the
// rows each. The products of the next keys and of the last values run while the weights between
// them are made. Blocks that see most begin first, so that none is left alone at the end.
#include "kernels/cuda/decode.h"
#include "kernels/cuda/near.h"
#include "kernels/cuda/quad.h"
#include "kernels/cuda/tile_map.h"
#include "kernels/cuda/warpgroup.h"

namespace pensive::kernels {
namespace {

constexpr int block_rows = 128, group_rows = 64;
constexpr int lot = 128;          // positions at a time
constexpr int slots = 2;          // lots of keys, and of values
constexpr int threads = 3 * 128;  // one group asks, two multiply
constexpr int tile_bytes = 128 * tile_depth * 2;

struct Call {
  CUtensorMap queries, keys, values;
  void* out;
  const std::int32_t *query_starts, *key_starts;
  int heads, kv_heads;
  float scale;  // of scores, as exponents of 2
};

struct Gates {
  std::uint64_t queries, keys[slots], values[slots], keys_done[slots], values_done[slots];
};

template <int head_dim>
struct Room {
  static constexpr int tiles = head_dim / tile_depth, bytes = tiles * tile_bytes;
  static constexpr int shared = (1 + 2 * slots) * bytes + 1024;
  unsigned char* begin;
  __device__ unsigned char* queries() const { return begin; }
  __device__ unsigned char* keys(int slot) const { return begin + (1 + slot) * bytes; }
  __device__ unsigned char* values(int slot) const { return begin + (1 + slots + slot) * bytes; }
};

// What a block has to do.
struct Work {
  int head, first_query, queries, first_key, keys;  // of its sequence
  int row;                                          // its first, of the sequence
  int lots;

  __device__ explicit Work(const Call& call) {
    const int sequence = blockIdx.x / call.heads;
    head = blockIdx.x % call.heads;
    first_query = call.query_starts[sequence];
    queries = call.query_starts[sequence + 1] - first_query;
    first_key = call.key_starts[sequence];
    keys = call.key_starts[sequence + 1] - first_key;
    row = static_cast<int>(gridDim.y - 1 - blockIdx.y) * block_rows;
    lots = (seen(min(row + block_rows, queries) - 1) + lot - 1) / lot;
  }
  __device__ int seen(int of_row) const { return keys - queries + of_row + 1; }
};

template <int head_dim>
__device__ void bring(unsigned char* to, const CUtensorMap* map, int head, int row,
                      std::uint64_t* gate) {
  expect_bytes(gate, Room<head_dim>::bytes);
#pragma unroll
  for (int tile = 0; tile < Room<head_dim>::tiles; ++tile)
    bring_tile(to + tile * tile_bytes, map, tile * tile_depth, head, row, gate);
}

// The thread that asks.
template <int head_dim>
__device__ void ask(const Call& call, const Work& work, const Room<head_dim>& room, Gates& gates) {
  const int kv_head = work.head / (call.heads / call.kv_heads);
  bring<head_dim>(room.queries(), &call.queries, work.head, work.first_query + work.row,
                  &gates.queries);
  for (int i = 0; i < work.lots; ++i) {
    const int slot = i % slots, at = work.first_key + i * lot;
    const unsigned before = (i / slots & 1) ^ 1;
    wait_at_gate(gates.keys_done + slot, before);
    bring<head_dim>(room.keys(slot), &call.keys, kv_head, at, gates.keys + slot);
    wait_at_gate(gates.values_done + slot, before);
    bring<head_dim>(room.values(slot), &call.values, kv_head, at, gates.values + slot);
  }
}

__device__ float power_of_2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// A group's 64 rows: a lane has two of them, g and g + 8 of its warp's 16, in each of which four
// lanes have two of eight columns.
template <class S, int head_dim>
class Rows {
 public:
  __device__ Rows(const Call& call, const Work& work, const Room<head_dim>& room, Gates& gates)
      : call_(call), work_(work), room_(room), gates_(gates), group_(threadIdx.x / 128 - 1) {
    row_ = work.row + group_ * group_rows + threadIdx.x % 128 / 32 * 16 + threadIdx.x % 32 / 4;
  }

  __device__ void run() {
    wait_at_gate(&gates_.queries, 0);
    score(0);
    wait_for_products<0>();
    hold(scores_);
    done(gates_.keys_done, 0);
    float shrink[2];
    soften(0, shrink);
    pack();
    for (int i = 1; i < work_.lots; ++i) {
      score(i);
      weigh(i - 1);
      wait_for_products<1>();
      hold(scores_);
      done(gates_.keys_done, i);
      soften(i, shrink);
      wait_for_products<0>();
      hold(sums_);
      done(gates_.values_done, i - 1);
#pragma unroll
      for (int j = 0; j < head_dim / 2; ++j) sums_[j] *= shrink[j / 2 % 2];
      pack();
    }
    weigh(work_.lots - 1);
    wait_for_products<0>();
    hold(sums_);
    write();
  }

 private:
  static constexpr int chunks = lot / 16;

  // One thread of the group; the gate waits for one of each.
  __device__ void done(std::uint64_t* gates, int i) const {
    if (threadIdx.x % 128 == 0) arrive_at_gate(gates + i % slots);
  }

  __device__ void score(int i) {
    wait_at_gate(gates_.keys + i % slots, i / slots & 1);
    const unsigned char* rows = room_.queries() + group_ * group_rows * tile_depth * 2;
    const unsigned char* keys = room_.keys(i % slots);
    open_products();
#pragma unroll
    for (int part = 0; part < head_dim / 16; ++part) {
      const int tile = part / 4 * tile_bytes, deep = part % 4 * 2;
      multiply_tiles<S, lot>(scores_, tile_at(rows + tile) + deep, tile_at(keys + tile) + deep,
                             part > 0);
    }
    close_products();
  }

  __device__ void weigh(int i) {
    wait_at_gate(gates_.values + i % slots, i / slots & 1);
    unsigned char* values = room_.values(i % slots);
    if (i * lot + lot > work_.keys) clear(values, work_.keys - i * lot);
    open_products();
#pragma unroll
    for (int chunk = 0; chunk < chunks; ++chunk)
      weigh_tiles<S, head_dim>(sums_, weights_[chunk],
                               weighted_tile_at(values + chunk * 16 * tile_depth * 2, tile_bytes),
                               i + chunk > 0);
    close_products();
  }

  // Behind a sequence's last position others stand, whose values may be anything: 0 times that is
  // not always 0.
  __device__ void clear(unsigned char* values, int from) const {
    const int packs = (lot - from) * 8;
#pragma unroll
    for (int tile = 0; tile < Room<head_dim>::tiles; ++tile)
      for (int p = threadIdx.x - 128; p < packs; p += 256)
        reinterpret_cast<uint4*>(values + tile * tile_bytes + from * tile_depth * 2)[p] = {};
    show_to_products();
    asm volatile("bar.sync 1, 256;" ::: "memory");
  }

  // Scores to weights, with the sums of these; what was there before is to shrink.
  __device__ void soften(int i, float (&shrink)[2]) {
    if (i * lot + lot > work_.seen(work_.row + group_ * group_rows)) hide(i);
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float most = most_[r];
#pragma unroll
      for (int j = 0; j < lot / 2; ++j)
        if (j / 2 % 2 == r) most = fmaxf(most, scores_[j]);
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
      most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
      shrink[r] = power_of_2((most_[r] - most) * call_.scale);
      most_[r] = most;
      const float base = most * call_.scale;
      float total = 0;
#pragma unroll
      for (int j = 0; j < lot / 2; ++j)
        if (j / 2 % 2 == r) {
          scores_[j] = power_of_2(scores_[j] * call_.scale - base);
          total += scores_[j];
        }
      total_[r] = total_[r] * shrink[r] + total;
    }
  }

  __device__ void hide(int i) {
#pragma unroll
    for (int j = 0; j < lot / 2; ++j) {
      const int position = i * lot + j / 4 * 8 + threadIdx.x % 4 * 2 + j % 2;
      if (position >= work_.seen(row_ + j / 2 % 2 * 8)) scores_[j] = -INFINITY;
    }
  }

  __device__ void pack() {
#pragma unroll
    for (int chunk = 0; chunk < chunks; ++chunk)
#pragma unroll
      for (int w = 0; w < 4; ++w)
        weights_[chunk][w] = word_of<S>(scores_[chunk * 8 + w * 2], scores_[chunk * 8 + w * 2 + 1]);
  }

  __device__ void write() const {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      float total = total_[r];
      total += __shfl_xor_sync(~0u, total, 1);
      total += __shfl_xor_sync(~0u, total, 2);
      const float scale = 1 / total;
      const int row = row_ + 8 * r;
      S* to = static_cast<S*>(call_.out) +
              (static_cast<std::int64_t>(work_.first_query + row) * call_.heads + work_.head) *
                  head_dim;
#pragma unroll
      for (int first = 0; first < head_dim / 8; first += 4) {
        unsigned words[4];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
          const int s = (first + j) * 4 + 2 * r;
          words[j] = word_of<S>(sums_[s] * scale, sums_[s + 1] * scale);
        }
        turn_words(words);
        if (row < work_.queries) store_words(words, to + (first + threadIdx.x % 4) * 8);
      }
    }
  }

  const Call& call_;
  const Work& work_;
  const Room<head_dim>& room_;
  Gates& gates_;
  int group_, row_;
  float scores_[lot / 2] = {}, sums_[head_dim / 2] = {};
  unsigned weights_[chunks][4];
  float most_[2] = {-INFINITY, -INFINITY}, total_[2] = {};
};

template <class S, int head_dim>
__global__ void __launch_bounds__(threads, 1) attend_prompts(const __grid_constant__ Call call) {
#ifdef PENSIVE_WARPGROUP
  extern __shared__ unsigned char shared[];
  __shared__ Gates gates;
  wait_for_previous();
  let_next_come();
  const Work work(call);
  if (work.row >= work.queries) return;
  const Room<head_dim> room{shared + (1024 - near_address(shared) % 1024) % 1024};
  if (threadIdx.x == 0) {
    make_gate(&gates.queries, 1);
    for (int i = 0; i < slots; ++i) {
      make_gate(gates.keys + i, 1);
      make_gate(gates.values + i, 1);
      make_gate(gates.keys_done + i, 2);
      make_gate(gates.values_done + i, 2);
    }
    show_gates();
  }
  __syncthreads();
  if (threadIdx.x < 128) {
    give_registers<24>();
    if (threadIdx.x == 0) ask<head_dim>(call, work, room, gates);
  } else {
    take_registers<240>();
    Rows<S, head_dim>(call, work, room, gates).run();
  }
#endif
}

template <class S, int head_dim>
int launch(const CudaPackedAttention& asked, cudaStream_t stream) {
  Call call{};
  const auto map = [&](CUtensorMap* to, const void* values, int rows, int heads,
                       std::int64_t stride) {
    return map_tiles(to, {values, rows, heads, head_dim, stride, asked.scalar}, 128);
  };
  if (!map(&call.queries, asked.queries, asked.query_rows, asked.heads, asked.query_stride) ||
      !map(&call.keys, asked.keys, asked.key_rows, asked.kv_heads, asked.key_stride) ||
      !map(&call.values, asked.values, asked.key_rows, asked.kv_heads, asked.value_stride))
    return cudaErrorInvalidValue;
  constexpr double log2_of_e = 1.4426950408889634;
  call.out = asked.out;
  call.query_starts = asked.query_starts;
  call.key_starts = asked.key_starts;
  call.heads = asked.heads;
  call.kv_heads = asked.kv_heads;
  call.scale = static_cast<float>(asked.scale * log2_of_e);
  const auto kernel = attend_prompts<S, head_dim>;
  constexpr int bytes = Room<head_dim>::shared;
  if (int error = allow_near_memory<attend_prompts<S, head_dim>>()) return error;
  const int blocks = (asked.longest_query + block_rows - 1) / block_rows;
  return start(kernel, dim3(asked.sequences * asked.heads, blocks), threads, bytes, Way{stream, 90},
               call);
}

template <class S>
int launch_for(const CudaPackedAttention& call, cudaStream_t stream) {
  if (call.head_dim == 64) return launch<S, 64>(call, stream);
  if (call.head_dim == 128) return launch<S, 128>(call, stream);
  return cudaErrorInvalidValue;
}

}  // namespace

int launch_packed_attention(const CudaPackedAttention& call, void* stream) {
  const auto on = static_cast<cudaStream_t>(stream);
  if (!map_maker()) return cudaErrorNotSupported;
  if (call.scalar == Scalar::bfloat16) return launch_for<__nv_bfloat16>(call, on);
  if (call.scalar == Scalar::float16) return launch_for<__half>(call, on);
  return cudaErrorInvalidValue;
}

}  // namespace pensive::kernels
