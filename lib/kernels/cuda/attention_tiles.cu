// The same as decode_attention.cu on tensor cores, for the two brief types from capability 8.0 on.
// A warp takes 16 positions at a time. Their keys are the columns of one product, queries its rows;
// the weights it gives are the rows of the next, whose columns are the values' dimensions. Every
// lane loads 16 bytes of a row, as the cache has them: which dimension or position the hardware
// takes for which does not matter, as long as both sides of a product agree.
#include "kernels/cuda/decode_head.h"
#include "kernels/cuda/tile.h"

namespace pensive::kernels {
namespace {

constexpr int warps = 4;
constexpr int threads = warps * 32;
constexpr int chunk = 16;      // positions of a warp at a time
constexpr int most_heads = 8;  // of a block: half the rows of a tile, the other half stays zero

struct Shared {
  float2 marks[warps][most_heads];  // largest score, sum of the weights
  float weights[most_heads][most_splits];
  int is_last;
};

// Both products of one warp, over its chunks of the block's positions. queries [8, dim] in shared
// memory. Gives unnormed sums of 8 heads: lane (g, t) holds dimensions set * 64 + {2 t, 2 t + 1} *
// 8
// + j of head g in sums[set][j].
template <class S, int sets>
struct Walk {
  static constexpr int packs = sets * 2;  // of 32 dimensions

  const DecodeAttention& call;
  const Mine& mine;
  float scale;
  uint4 queries[packs];
  float sums[sets][8][4] = {};
  float most = -INFINITY, sum = 0;

  __device__ Walk(const DecodeAttention& call, const Mine& mine, const S* shared_queries)
      : call(call), mine(mine), scale(1 / sqrtf(static_cast<float>(call.head_dim))) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
#pragma unroll
    for (int p = 0; p < packs; ++p) {
      int d = p * 32 + t * 8;
      queries[p] = d < call.head_dim
                       ? *reinterpret_cast<const uint4*>(shared_queries + g * call.head_dim + d)
                       : uint4{0, 0, 0, 0};
    }
  }

  // Keys and values at positions that are not there are not read, and weigh nothing.
  __device__ const S* row_of(const void* pages, int position) const {
    if (position >= mine.end) return nullptr;
    return static_cast<const S*>(pages) + mine.place(call, position);
  }
  __device__ uint4 load(const S* row, int d) const {
    bool is_there = row && d < call.head_dim;
    return is_there ? *reinterpret_cast<const uint4*>(row + d) : uint4{0, 0, 0, 0};
  }

  __device__ void take(int first) {
    int g = threadIdx.x % 32 / 4, t = threadIdx.x % 4;
    uint4 keys[2][packs], values[sets][4];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const S* row = row_of(call.key_pages, first + half * 8 + g);
#pragma unroll
      for (int p = 0; p < packs; ++p) keys[half][p] = load(row, p * 32 + t * 8);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const S* row = row_of(call.value_pages, first + i / 2 * 8 + 2 * t + i % 2);
#pragma unroll
      for (int set = 0; set < sets; ++set) values[set][i] = load(row, set * 64 + g * 8);
    }

    float scores[2][4] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int p = 0; p < packs; ++p) {
        const uint4 &q = queries[p], &k = keys[half][p];
        join_tile<S>(scores[half], q.x, 0, q.y, 0, k.x, k.y);
        join_tile<S>(scores[half], q.z, 0, q.w, 0, k.z, k.w);
      }
    unsigned weights[2];
    soften(first, scores, weights);
#pragma unroll
    for (int set = 0; set < sets; ++set) {
      const uint4* v = values[set];
      weigh(set, 0, weights, v[0].x, v[1].x, v[2].x, v[3].x);
      weigh(set, 2, weights, v[0].y, v[1].y, v[2].y, v[3].y);
      weigh(set, 4, weights, v[0].z, v[1].z, v[2].z, v[3].z);
      weigh(set, 6, weights, v[0].w, v[1].w, v[2].w, v[3].w);
    }
  }

 private:
  // Scores of head g at four positions to weights; moves the largest and the sums along.
  __device__ void soften(int first, float (&scores)[2][4], unsigned (&weights)[2]) {
    int t = threadIdx.x % 4;
    float here = -INFINITY;
#pragma unroll
    for (int half = 0; half < 2; ++half)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        bool is_there = first + half * 8 + 2 * t + i < mine.end;
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
    join_tile<S>(sums[set][j], weights[0], 0, weights[1], 0, __byte_perm(a, b, 0x5410),
                 __byte_perm(c, d, 0x5410));
    join_tile<S>(sums[set][j + 1], weights[0], 0, weights[1], 0, __byte_perm(a, b, 0x7632),
                 __byte_perm(c, d, 0x7632));
  }
};

// The warps' sums, in their order, then the splits' where there are several: the block that comes
// last joins what the others found.
template <class S, int sets>
__device__ void give(const DecodeAttention& call, const Mine& mine, Shared& shared, float* room,
                     const Walk<S, sets>& walk) {
  int dim = call.head_dim, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int g = lane / 4, t = lane % 4;
#pragma unroll
  for (int set = 0; set < sets; ++set)
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        int d = set * 64 + (2 * t + i) * 8 + j;
        if (d < dim) room[(warp * most_heads + g) * dim + d] = walk.sums[set][j][i];
      }
  if (t == 0) shared.marks[warp][g] = make_float2(walk.most, walk.sum);
  __syncthreads();
  std::int64_t first = static_cast<std::int64_t>(mine.row) * call.heads + mine.first_head;
  for (int i = threadIdx.x; i < mine.heads * dim; i += threads) {
    int head = i / dim, d = i % dim;
    float most = -INFINITY, sum = 0, all = 0;
#pragma unroll
    for (int w = 0; w < warps; ++w) {
      float here = shared.marks[w][head].x;
      most = here > most || isnan(here) ? here : most;
    }
#pragma unroll
    for (int w = 0; w < warps; ++w) {
      float weight = expf(shared.marks[w][head].x - most);
      sum += weight * shared.marks[w][head].y;
      all += weight * room[(w * most_heads + head) * dim + d];
    }
    if (mine.splits == 1) {
      narrow(all / sum, static_cast<S*>(call.out) + (first + head) * dim + d);
      continue;
    }
    std::int64_t split = (first + head) * call.splits + blockIdx.x;
    call.partials[split * dim + d] = all;
    if (d == 0) call.marks[split] = make_float2(most, sum);
  }
  if (mine.splits == 1) return;
  if (comes_last(call, mine, &shared.is_last)) join_splits<S, threads>(call, mine, shared.weights);
}

template <class S, int sets>
__global__ void __launch_bounds__(threads) attend_tiles(DecodeAttention call) {
  extern __shared__ __align__(16) float room[];  // [warps, 8, head_dim]
  __shared__ Shared shared;
  __shared__ __align__(16) S queries[most_heads * sets * 64];
  let_next_come();
  Mine mine;
  if (!mine.find(call, most_heads)) return give_zeros<S, threads>(call, mine);
  const Angles angles(call, mine.length - 1);
  ask_for_cache<S, threads>(call, mine);
  int dim = call.head_dim, warp = threadIdx.x / 32;
  for (int i = mine.heads * dim + threadIdx.x; i < most_heads * dim; i += threads)
    narrow(0.0f, queries + i);
  wait_for_previous();
  turn_heads<S, most_heads, warps>(
      call, mine, angles, [&](int g, int d, float value) { narrow(value, queries + g * dim + d); });
  __syncthreads();
  Walk<S, sets> walk(call, mine, queries);
  for (int at = mine.begin + warp * chunk; at < mine.end; at += warps * chunk) walk.take(at);
  give<S, sets>(call, mine, shared, room, walk);
}

template <class S, int sets>
int launch(const DecodeAttention& call, Way way) {
  int group = call.heads / call.kv_heads, parts = (group + most_heads - 1) / most_heads;
  std::size_t shared = sizeof(float) * warps * most_heads * call.head_dim;
  return start(attend_tiles<S, sets>, dim3(call.splits, call.kv_heads * parts, call.rows), threads,
               shared, way, call);
}

template <class S>
int launch_for(const DecodeAttention& call, Way way) {
  return call.head_dim <= 64 ? launch<S, 1>(call, way) : launch<S, 2>(call, way);
}

}  // namespace

bool takes_attention_tiles(int head_dim, Scalar scalar, Way way) {
  return way.capability >= 80 && head_dim <= 128 && head_dim % 8 == 0 &&
         (scalar == Scalar::bfloat16 || scalar == Scalar::float16);
}

int launch_attention_tiles(const DecodeAttention& call, Scalar scalar, Way way) {
  if (!takes_attention_tiles(call.head_dim, scalar, way)) return cudaErrorInvalidValue;
  return scalar == Scalar::bfloat16 ? launch_for<__nv_bfloat16>(call, way)
                                    : launch_for<__half>(call, way);
}

}  // namespace pensive::kernels
