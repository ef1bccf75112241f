// What both kernels of decode attention share: how a block finds its positions, and turns, writes
// and joins what it has.
#pragma once
#include "kernels/cuda/decode.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/tile.h"

namespace pensive::kernels {

#if defined(__CUDACC__)

// How a block sees the call.
struct Mine {
  int row, kv_head, first_head, heads, length, begin, end, split, splits;
  int rank = 0;  // in its team, which shares the positions from begin to end
  const std::int32_t* pages;

  // most: query heads of a block. False where there is nothing to read.
  __device__ bool find(const DecodeAttention& call, int most) {
    find_heads(call, most);
    split = blockIdx.x;
    return find_split(split_positions(length, call.is_invariant ? few_rows + 1 : call.rows));
  }
  __device__ bool find_in_team(const DecodeAttention& call, int most) {
    find_heads(call, most);
    split = blockIdx.x / call.team;
    rank = blockIdx.x % call.team;
    return find_split(call.is_invariant
                          ? own_positions(length, call.team)
                          : team_positions(length, call.longest, call.rows * gridDim.y,
                                           call.is_large ? 2 * call.team : call.team));
  }
  // One key-value head of a row, of which only the newest position matters.
  __device__ void find_newest(const DecodeAttention& call, int of_row, int of_kv_head) {
    row = of_row;
    kv_head = of_kv_head;
    first_head = heads = split = begin = 0;
    splits = 1;
    find_row(call);
    end = length;
  }
  __device__ bool has_newest() const { return end == length; }
  __device__ std::int64_t place(const DecodeAttention& call, int position) const {
    int shift = call.page_shift, size = call.page_tokens;
    int page = shift >= 0 ? position >> shift : position / size;
    std::int64_t slot = static_cast<std::int64_t>(pages[page]) * size + (position - page * size);
    return (slot * call.kv_heads + kv_head) * call.head_dim;
  }

 private:
  __device__ void find_heads(const DecodeAttention& call, int most) {
    row = blockIdx.z;
    int group = call.heads / call.kv_heads, parts = (group + most - 1) / most;
    kv_head = blockIdx.y / parts;
    int part = blockIdx.y % parts;
    heads = min(most, group - part * most);
    first_head = kv_head * group + part * most;
    find_row(call);
  }
  __device__ void find_row(const DecodeAttention& call) {
    const CudaRow step = call.step[row];
    length = step.position + 1;
    pages = call.tables + step.first_page;
  }
  __device__ bool find_split(int each) {
    splits = (length + each - 1) / each;
    begin = split * each;
    end = min(length, begin + each);
    return begin < end;
  }
};

// Cosines and sines of this lane's pairs at the row's position. pairs: of dimensions that turn
// together, a lane; head_dim is at most 64 times as many.
template <int pairs>
struct Angles {
  float cosines[pairs], sines[pairs];
  __device__ Angles(const DecodeAttention& call, int position) {
    int half = call.head_dim / 2;
    std::int64_t at = static_cast<std::int64_t>(position) * half;
#pragma unroll
    for (int i = 0; i < pairs; ++i) {
      int d = threadIdx.x % 32 + i * 32;
      cosines[i] = d < half ? call.cosines[at + d] : 0;
      sines[i] = d < half ? call.sines[at + d] : 0;
    }
  }
};

// One head of a projected row, as one warp holds it: the lane's pairs of dimensions that turn
// together.
template <int pairs>
struct Head {
  float a[pairs], b[pairs];
};

template <class S, int pairs>
__device__ Head<pairs> load_head(const DecodeAttention& call, int row, int head) {
  int dim = call.head_dim, half = dim / 2;
  std::int64_t heads = call.heads + 2 * call.kv_heads;
  const S* from = static_cast<const S*>(call.qkv) + (row * heads + head) * dim;
  const S* bias = call.qkv_bias ? static_cast<const S*>(call.qkv_bias) + head * dim : nullptr;
  Head<pairs> loaded;
#pragma unroll
  for (int i = 0; i < pairs; ++i) {
    int d = threadIdx.x % 32 + i * 32;
    loaded.a[i] = d < half ? widen(from[d]) : 0;
    loaded.b[i] = d < half ? widen(from[half + d]) : 0;
    if (bias && d < half) {
      loaded.a[i] = rounded<S>(loaded.a[i] + widen(bias[d]));
      loaded.b[i] = rounded<S>(loaded.b[i] + widen(bias[half + d]));
    }
  }
  return loaded;
}

enum class HeadKind { query, key, value };

// Norms and turns a query or a key; takes each value to `put(d, value)`, rounded. Sums of products
// are spelled out, so that every kernel gets the same bits.
template <class S, int pairs, class Put>
__device__ void turn_head(const DecodeAttention& call, Head<pairs> head, HeadKind kind,
                          const Angles<pairs>& angles, Put put) {
  int dim = call.head_dim, half = dim / 2, lane = threadIdx.x % 32;
  const void* norm = kind == HeadKind::query ? call.query_norm
                     : kind == HeadKind::key ? call.key_norm
                                             : nullptr;
  float scale = 1;
  if (norm) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < pairs; ++i) {
      squares = fmaf(head.a[i], head.a[i], squares);
      squares = fmaf(head.b[i], head.b[i], squares);
    }
    for (int step = 16; step > 0; step /= 2) squares += __shfl_xor_sync(~0u, squares, step);
    scale = 1 / sqrtf(squares / static_cast<float>(dim) + static_cast<float>(call.epsilon));
  }
#pragma unroll
  for (int i = 0; i < pairs; ++i) {
    int d = lane + i * 32;
    if (d >= half) continue;
    float a = head.a[i], b = head.b[i];
    if (norm) {
      const S* weights = static_cast<const S*>(norm);
      a = rounded<S>(a * scale * widen(weights[d]));
      b = rounded<S>(b * scale * widen(weights[half + d]));
    }
    float c = angles.cosines[i], s = angles.sines[i];
    const bool is_turned = kind != HeadKind::value;
    put(d, is_turned ? rounded<S>(fmaf(a, c, -(b * s))) : a);
    put(half + d, is_turned ? rounded<S>(fmaf(b, c, a * s)) : b);
  }
}

// The block's heads, turned: queries to put(g, d, value); where the block's split has the newest
// position, its key and value to `newest` [2, head_dim], if there is one, and from one block of the
// team to their page. A warp's next is loaded before the one at hand is done. All go through one
// piece of code, since what is long comes from afar.
// load(head): a head as it was projected.
template <class S, int warps, int pairs, class Load, class Put>
__device__ void turn_heads(const DecodeAttention& call, const Mine& mine,
                           const Angles<pairs>& angles, S* newest, Load load, Put put) {
  int tasks = mine.heads + (mine.has_newest() ? 2 : 0);
  const auto head_of = [&](int task) {
    return task < mine.heads    ? mine.first_head + task
           : task == mine.heads ? call.heads + mine.kv_head
                                : call.heads + call.kv_heads + mine.kv_head;
  };
  int task = threadIdx.x / 32;
  Head<pairs> next{};
  if (task < tasks) next = load(head_of(task));
#pragma unroll 1
  for (; task < tasks; task += warps) {
    const Head<pairs> here = next;
    if (task + warps < tasks) next = load(head_of(task + warps));
    const HeadKind kind = task < mine.heads    ? HeadKind::query
                          : task == mine.heads ? HeadKind::key
                                               : HeadKind::value;
    const bool is_query = kind == HeadKind::query, is_key = kind == HeadKind::key;
    S* to = static_cast<S*>(is_key ? call.key_pages : call.value_pages);
    if (!is_query) to += mine.place(call, mine.length - 1);
    S* near = newest ? newest + (is_key ? 0 : call.head_dim) : nullptr;
    const bool is_kept = mine.rank == 0 && !call.is_written;
    turn_head<S>(call, here, kind, angles, [&](int d, float value) {
      if (is_query) return put(task, d, value);
      if (near) narrow(value, near + d);
      if (is_kept) narrow(value, to + d);
    });
  }
}

template <class S, int warps, int pairs, class Put>
__device__ void turn_heads(const DecodeAttention& call, const Mine& mine,
                           const Angles<pairs>& angles, S* newest, Put put) {
  turn_heads<S, warps>(
      call, mine, angles, newest,
      [&](int head) { return load_head<S, pairs>(call, mine.row, head); }, put);
}

// Asks for the keys and values of a block, as far as the second cache is the place for them. No
// kernel of this step writes them but for the newest.
template <class S, int threads>
__device__ void ask_for_cache(const DecodeAttention& call, const Mine& mine) {
  constexpr int line = 128 / static_cast<int>(sizeof(S)), most_positions = 256;
  int lines = (call.head_dim + line - 1) / line;
  int positions = min(mine.end - mine.begin, most_positions);
#pragma unroll 1
  for (int i = threadIdx.x; i < positions * lines; i += threads) {
    std::int64_t at = mine.place(call, mine.begin + i / lines) + i % lines * line;
    asm volatile("prefetch.global.L2 [%0];" ::"l"(static_cast<const S*>(call.key_pages) + at));
    asm volatile("prefetch.global.L2 [%0];" ::"l"(static_cast<const S*>(call.value_pages) + at));
  }
}

// Asks for the little weights that heads are turned with.
template <class S, int threads>
__device__ void ask_for_weights(const DecodeAttention& call, const Mine& mine) {
  constexpr int line = 128 / static_cast<int>(sizeof(S));
  int lines = (call.head_dim + line - 1) / line;
  auto ask = [](const void* from, int i) {
    const S* at = static_cast<const S*>(from) + i;
    if (from) asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
  };
#pragma unroll 1
  for (int i = threadIdx.x; i < (mine.heads + 2) * lines; i += threads) {
    int task = i / lines, d = i % lines * line;
    int head = task < mine.heads ? mine.first_head + task
                                 : call.heads + (task - mine.heads) * call.kv_heads + mine.kv_head;
    ask(call.qkv_bias, head * call.head_dim + d);
    if (task == 0) ask(call.query_norm, d);
    if (task == 1) ask(call.key_norm, d);
  }
}

// For a block without positions: a row that is not there gives zeros, not what memory held.
template <class S, int threads>
__device__ void give_zeros(const DecodeAttention& call, const Mine& mine) {
  if (mine.length > 0 || blockIdx.x > 0) return;
  wait_for_previous();  // which may still read what is there
  S* to = static_cast<S*>(call.out) +
          (static_cast<std::int64_t>(mine.row) * call.heads + mine.first_head) * call.head_dim;
  for (int i = threadIdx.x; i < mine.heads * call.head_dim; i += threads) narrow(0.0f, to + i);
}

// Whether this block is the last of its row, heads and rank to have written its share.
__device__ inline bool comes_last(const DecodeAttention& call, const Mine& mine, int* shared) {
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) {
    int* arrivals =
        call.arrivals + (mine.row * gridDim.y + blockIdx.y) * max(call.team, 1) + mine.rank;
    *shared = atomicAdd(arrivals, 1) == mine.splits - 1;
    if (*shared) *arrivals = 0;  // as the next step wants it
    __threadfence();
  }
  __syncthreads();
  return *shared;
}

// Four neighbouring values of the output.
template <class S>
__device__ void give_four(const DecodeAttention& call, std::int64_t at, float4 four) {
  S rounded[4];
  narrow(four.x, rounded);
  narrow(four.y, rounded + 1);
  narrow(four.z, rounded + 2);
  narrow(four.w, rounded + 3);
  S* to = static_cast<S*>(call.out) + at;
  if constexpr (sizeof(S) == 2) {
    *reinterpret_cast<uint2*>(to) = *reinterpret_cast<uint2*>(rounded);
  } else {
    *reinterpret_cast<float4*>(to) = four;
  }
}

// The splits of a block's heads, joined in their order: of every head the fours from first to end.
template <class S, int threads>
__device__ void join_splits(const DecodeAttention& call, const Mine& mine, int first, int end,
                            float (*weights)[most_splits]) {
  static_assert(most_splits == 64, "two splits a lane");
  int dim = call.head_dim, lane = threadIdx.x % 32;
  std::int64_t head = static_cast<std::int64_t>(mine.row) * call.heads + mine.first_head;
  for (int g = threadIdx.x / 32; g < mine.heads; g += threads / 32) {
    const float2* marks = call.marks + (head + g) * call.splits;
    float2 none = make_float2(-INFINITY, 0);
    float2 a = lane < mine.splits ? __ldcg(marks + lane) : none;
    float2 b = lane + 32 < mine.splits ? __ldcg(marks + lane + 32) : none;
    float most = b.x > a.x || isnan(b.x) ? b.x : a.x;
    for (int step = 16; step > 0; step /= 2) {
      float other = __shfl_xor_sync(~0u, most, step);
      most = other > most || isnan(other) ? other : most;
    }
    a.x = expf(a.x - most);
    b.x = expf(b.x - most);
    float sum = a.x * a.y + b.x * b.y;
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    weights[g][lane] = a.x / sum;
    weights[g][lane + 32] = b.x / sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < mine.heads * (end - first); i += threads) {
    int g = i / (end - first), d = (first + i % (end - first)) * 4;
    const float* from = call.partials + (head + g) * call.splits * dim + d;
    float4 all = make_float4(0, 0, 0, 0);
#pragma unroll 8
    for (int s = 0; s < mine.splits; ++s) {
      float4 here = __ldcg(reinterpret_cast<const float4*>(from + s * dim));
      float weight = weights[g][s];
      all.x += weight * here.x;
      all.y += weight * here.y;
      all.z += weight * here.z;
      all.w += weight * here.w;
    }
    give_four<S>(call, (head + g) * dim + d, all);
  }
}

#endif

}  // namespace pensive::kernels
