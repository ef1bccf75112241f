// One warp's way over keys and values on tensor cores: 16 positions at a time, whose keys are the
// columns of one product, queries its rows; the weights it gives are the rows of the next, whose
// columns are the values' dimensions. Rows come to shared memory some chunks ahead, and the first
// of them before the queries are known. Every lane takes 16 bytes of a row as the cache has them:
// which dimension or position the hardware takes for which does not matter, as long as both sides
// of a product agree.
#pragma once
#include "kernels/cuda/decode_head.h"
#include "kernels/cuda/tile.h"

namespace pensive::kernels {

constexpr int walk_warps = 4;   // of a block, or twice as many
constexpr int walk_heads = 8;   // of a block: half the rows of a tile, the other half stays zero
constexpr int walk_chunk = 16;  // positions of a warp at a time
constexpr int most_stages = 2;  // chunks that are under way

// Bytes from row to row in shared memory, so that lanes do not meet in a bank.
#if defined(__CUDACC__)
__host__ __device__
#endif
    constexpr int
    key_stride(int head_dim) {
  return (2 * head_dim + 63) / 128 * 128 + 64;
}
#if defined(__CUDACC__)
__host__ __device__
#endif
    constexpr int
    value_stride(int head_dim) {
  return (2 * head_dim + 47) / 64 * 64 + 16;
}
#if defined(__CUDACC__)
__host__ __device__
#endif
    constexpr int
    stage_bytes(int head_dim) {
  return walk_chunk * (key_stride(head_dim) + value_stride(head_dim));
}
// Floats from head to head of a warp's sums, which take the place of its first chunk; likewise.
#if defined(__CUDACC__)
__host__ __device__
#endif
    constexpr int
    sum_stride(int head_dim) {
  return head_dim + 4;
}

#if defined(__CUDACC__)

// 16 bytes to shared memory, or zeros where there is nothing.
__device__ inline void bring(void* to, const void* from, bool is_there) {
#if __CUDA_ARCH__ >= 800
  unsigned at = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(at), "l"(from),
               "r"(is_there ? 16 : 0));
#endif
}
__device__ inline void close_group() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
template <int pending>
__device__ void wait_for_group() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
#endif
}

// Whether a walk's first chunks are under way already.
enum class Asked : bool { no, yes };

// Gives unnormed sums of 8 heads: lane (g, t) holds dimensions set * 64 + {2 t, 2 t + 1} * 8 + j of
// head g in sums[set][j]. sets: of 64 dimensions; warps: of a block. kept: 4 of a tile, or 2 where
// registers are few: the others, of rows that are not there, stay zero.
template <class S, int sets, int warps, int kept = 4>
struct Walk {
  static constexpr int packs = sets * 2;          // of 32 dimensions
  static constexpr int row_lanes = sets * 8;      // that bring one row
  static constexpr int at_once = 32 / row_lanes;  // rows

  const DecodeAttention& call;
  const Mine& mine;
  unsigned char* room;  // [stages, stage_bytes()]
  int first, stride;    // of this warp's chunks
  float scale;
  uint4 queries[packs];
  float sums[sets][8][kept] = {};
  float most = -INFINITY, sum = 0;

  __device__ Walk(const DecodeAttention& call, const Mine& mine, unsigned char* room, int warp,
                  Asked asked = Asked::no)
      : call(call),
        mine(mine),
        room(room),
        first(mine.begin + (mine.rank * warps + warp) * walk_chunk),
        stride(max(call.team, 1) * warps * walk_chunk),
        scale(1 / sqrtf(static_cast<float>(call.head_dim))) {
    if (asked == Asked::yes) return;
#pragma unroll 1
    for (int round = 0; round < call.stages; ++round) fetch(round);
  }

  // queries [8, head_dim], newest [2, head_dim] in shared memory.
  __device__ void run(const S* shared_queries, const S* newest) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int p = 0; p < packs; ++p)
      queries[p] = load(shared_queries + g * call.head_dim, p * 32 + t * 8);
    for (int round = 0, at = first; at < mine.end; ++round, at += stride) {
      if (call.stages == 1) {
        wait_for_group<0>();
      } else {
        wait_for_group<most_stages - 1>();
      }
      int row = mine.length - 1 - at;
      if (row >= 0 && row < walk_chunk) put_newest(round, row, newest);
      __syncwarp();
      take(round, at);
      __syncwarp();
      fetch(round + call.stages);
    }
    wait_for_group<0>();
  }

  // After run(): the sums [8, sum_stride()] to where this warp's chunks were, and marks[g], the
  // largest score and the sum of the weights of head g.
  __device__ void put(float2* marks) const {
    __syncwarp();  // the chunks were read
    const int dim = call.head_dim, g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    auto* to = reinterpret_cast<float*>(room) + g * sum_stride(dim);
#pragma unroll
    for (int set = 0; set < sets; ++set)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int d = set * 64 + (2 * t + i) * 8;
        if (d >= dim) continue;
#pragma unroll
        for (int j = 0; j < 8; j += 4)
          *reinterpret_cast<float4*>(to + d + j) = make_float4(
              sums[set][j][i], sums[set][j + 1][i], sums[set][j + 2][i], sums[set][j + 3][i]);
      }
    if (t == 0) marks[g] = make_float2(most, sum);
  }

 private:
  __device__ unsigned char* keys(int round) const {
    return room + (call.stages == 1 ? 0 : round % most_stages) * stage_bytes(call.head_dim);
  }
  __device__ unsigned char* values(int round) const {
    return keys(round) + walk_chunk * key_stride(call.head_dim);
  }
  __device__ uint4 load(const void* row, int d) const {
    return d < call.head_dim ? *reinterpret_cast<const uint4*>(static_cast<const S*>(row) + d)
                             : uint4{0, 0, 0, 0};
  }

  // A chunk's rows. The newest is not in the cache yet; positions that are not there give zeros.
  __device__ void fetch(int round) {
    int at = first + round * stride, lane = threadIdx.x % 32;
    if (at < mine.end) {
      int position = at + lane % walk_chunk;
      bool is_there = position < mine.end && position != mine.length - 1;
      std::int64_t place = is_there ? mine.place(call, position) : -1;
      int d = lane % row_lanes * 8;
#pragma unroll 2
      for (int i = 0; i < walk_chunk / at_once; ++i) {
        int row = i * at_once + lane / row_lanes;
        std::int64_t from = __shfl_sync(~0u, place, row);
        if (d >= call.head_dim) continue;
        std::int64_t safe = (from < 0 ? 0 : from) + d;
        bring(keys(round) + row * key_stride(call.head_dim) + d * 2,
              static_cast<const S*>(call.key_pages) + safe, from >= 0);
        bring(values(round) + row * value_stride(call.head_dim) + d * 2,
              static_cast<const S*>(call.value_pages) + safe, from >= 0);
      }
    }
    close_group();
  }

  __device__ void put_newest(int round, int row, const S* newest) {
    __syncwarp();  // the zeros are there
    int d = threadIdx.x % 32 * 8;
    if (d >= call.head_dim) return;
    *reinterpret_cast<uint4*>(keys(round) + row * key_stride(call.head_dim) + d * 2) =
        *reinterpret_cast<const uint4*>(newest + d);
    *reinterpret_cast<uint4*>(values(round) + row * value_stride(call.head_dim) + d * 2) =
        *reinterpret_cast<const uint4*>(newest + call.head_dim + d);
  }

  __device__ void take(int round, int at) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    float scores[2][4] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const unsigned char* row = keys(round) + (half * 8 + g) * key_stride(call.head_dim);
#pragma unroll
      for (int p = 0; p < packs; ++p) {
        uint4 q = queries[p], k = load(row, p * 32 + t * 8);
        join_tile<S>(scores[half], q.x, 0, q.y, 0, k.x, k.y);
        join_tile<S>(scores[half], q.z, 0, q.w, 0, k.z, k.w);
      }
    }
    unsigned weights[2];
    soften(at, scores, weights);
#pragma unroll
    for (int set = 0; set < sets; ++set) {
      uint4 v[4];
#pragma unroll
      for (int i = 0; i < 4; ++i)
        v[i] = load(values(round) + (i / 2 * 8 + 2 * t + i % 2) * value_stride(call.head_dim),
                    set * 64 + g * 8);
      weigh(set, 0, weights, v[0].x, v[1].x, v[2].x, v[3].x);
      weigh(set, 2, weights, v[0].y, v[1].y, v[2].y, v[3].y);
      weigh(set, 4, weights, v[0].z, v[1].z, v[2].z, v[3].z);
      weigh(set, 6, weights, v[0].w, v[1].w, v[2].w, v[3].w);
    }
  }

  // Scores of head g at four positions to weights; moves the largest and the sums along.
  __device__ void soften(int at, float (&scores)[2][4], unsigned (&weights)[2]) {
    int t = threadIdx.x % 4;
    float here = -INFINITY;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        bool is_there = at + half * 8 + 2 * t + i < mine.end;
        float& score = scores[half][i];
        score = is_there ? score * scale : -INFINITY;
        here = score > here || isnan(score) ? score : here;
      }
#pragma unroll
    for (int step = 2; step > 0; step /= 2) {
      float other = __shfl_xor_sync(~0u, here, step);
      here = other > here || isnan(other) ? other : here;
    }
    here = most > here || isnan(most) ? most : here;
    float shrink = expf(most - here), total = 0;
    most = here;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      S two[2];
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        float weight = expf(scores[half][i] - most);
        total += weight;
        narrow(weight, &two[i]);
      }
      memcpy(&weights[half], two, sizeof(unsigned));
    }
#pragma unroll
    for (int step = 2; step > 0; step /= 2) total += __shfl_xor_sync(~0u, total, step);
    sum = sum * shrink + total;
#pragma unroll
    for (int set = 0; set < sets; ++set)
#pragma unroll
      for (int j = 0; j < 8; ++j) {
        sums[set][j][0] *= shrink;
        sums[set][j][1] *= shrink;
      }
  }

  // Two neighbouring dimensions of each lane's eight; a, b, c, d: of four positions.
  __device__ void weigh(int set, int j, const unsigned (&weights)[2], unsigned a, unsigned b,
                        unsigned c, unsigned d) {
    add(sums[set][j], weights, __byte_perm(a, b, 0x5410), __byte_perm(c, d, 0x5410));
    add(sums[set][j + 1], weights, __byte_perm(a, b, 0x7632), __byte_perm(c, d, 0x7632));
  }
  __device__ static void add(float (&to)[kept], const unsigned (&weights)[2], unsigned low,
                             unsigned high) {
    float tile[4] = {to[0], to[1]};
    if constexpr (kept == 4) memcpy(tile, to, sizeof(to));
    join_tile<S>(tile, weights[0], 0, weights[1], 0, low, high);
#pragma unroll
    for (int i = 0; i < kept; ++i) to[i] = tile[i];
  }
};

#endif

}  // namespace pensive::kernels
