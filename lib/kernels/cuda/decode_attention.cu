// One token a row: queries and keys are normed and turned, the new position goes to the cache, and
// the row attends to all of its positions, which are split over blocks. The block that comes last
// joins what the others found, in the order of the positions.
#include "kernels/cuda/decode_head.h"

namespace pensive::kernels {
namespace {

constexpr int warps = 8;
constexpr int threads = warps * 32;
constexpr int tile = 64;          // positions between two updates of the running maximum
constexpr int score_lanes = 8;    // threads that share the score of one position
constexpr int most_pairs = 4;     // of dimensions that turn together, a lane: 256 of a head
constexpr int heads_at_once = 4;  // added up in shared memory

template <int G>
struct Shared {
  float scores[G][tile], mosts[G], sums[G], shrinks[G];
  std::int64_t places[tile];
  int is_last;
};

// Turns a tile's scores into weights and moves the running maximum and sum along; a warp a head.
template <int G>
__device__ void soften(Shared<G>& shared, int heads) {
  int lane = threadIdx.x % 32;
  for (int m = threadIdx.x / 32; m < heads; m += warps) {
    float a = shared.scores[m][lane], b = shared.scores[m][32 + lane];
    float most = a > b || isnan(a) ? a : b;
    for (int step = 16; step > 0; step /= 2) {
      float other = __shfl_xor_sync(~0u, most, step);
      most = other > most || isnan(other) ? other : most;
    }
    float before = shared.mosts[m];
    most = most > before || isnan(most) ? most : before;
    a = expf(a - most);
    b = expf(b - most);
    shared.scores[m][lane] = a;
    shared.scores[m][32 + lane] = b;
    float sum = a + b;
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    __syncwarp();  // all have read mosts
    if (lane == 0) {
      float shrink = expf(before - most);
      shared.mosts[m] = most;
      shared.shrinks[m] = shrink;
      shared.sums[m] = shared.sums[m] * shrink + sum;
    }
  }
}

// The scores of one tile, which begins at position `at`. queries [G, head_dim], scaled.
template <class S, int G>
__device__ void score(const DecodeAttention& call, Shared<G>& shared, const float* queries,
                      int here, int heads) {
  constexpr int V = Pack16<S>::size;
  int dim = call.head_dim, lane = threadIdx.x % score_lanes;
#pragma unroll
  for (int i = threadIdx.x / score_lanes; i < tile; i += threads / score_lanes) {
    float sums[G] = {};
    if (i < here) {
      const S* key = static_cast<const S*>(call.key_pages) + shared.places[i];
#pragma unroll 2
      for (int d = lane * V; d < dim; d += score_lanes * V) {
        auto pack = *reinterpret_cast<const Pack16<S>*>(key + d);
        float keys[V];
#pragma unroll
        for (int e = 0; e < V; ++e) keys[e] = widen(pack.values[e]);
#pragma unroll
        for (int g = 0; g < G; ++g) {
#pragma unroll
          for (int e = 0; e < V; e += 4) {
            auto four = *reinterpret_cast<const float4*>(queries + g * dim + d + e);
            sums[g] += keys[e] * four.x + keys[e + 1] * four.y + keys[e + 2] * four.z +
                       keys[e + 3] * four.w;
          }
        }
      }
    }
#pragma unroll
    for (int g = 0; g < G; ++g) {
      for (int step = score_lanes / 2; step > 0; step /= 2)
        sums[g] += __shfl_xor_sync(~0u, sums[g], step);
      if (lane == 0 && g < heads) shared.scores[g][i] = i < here ? sums[g] : -INFINITY;
    }
  }
}

// Adds one tile's values to this thread's V columns of all heads.
template <class S, int G, int V>
__device__ void weigh(const DecodeAttention& call, const Shared<G>& shared, int here, int column,
                      int part, int parts, float (&sums)[G][V]) {
#pragma unroll
  for (int g = 0; g < G; ++g) {
    float shrink = shared.shrinks[g];
#pragma unroll
    for (int e = 0; e < V; ++e) sums[g][e] *= shrink;
  }
#pragma unroll 4
  for (int i = part; i < here; i += parts) {
    auto pack = *reinterpret_cast<const Pack16<S>*>(static_cast<const S*>(call.value_pages) +
                                                    shared.places[i] + column);
#pragma unroll
    for (int g = 0; g < G; ++g) {
      float weight = shared.scores[g][i];
#pragma unroll
      for (int e = 0; e < V; ++e) sums[g][e] += weight * widen(pack.values[e]);
    }
  }
}

// Adds up the columns of all parts of the block, a few heads at a time, then writes the result, or
// this split's share of it.
template <class S, int G, int V>
__device__ void give(const DecodeAttention& call, const Mine& mine, Shared<G>& shared, float* room,
                     int column, int part, int parts, const float (&sums)[G][V]) {
  int dim = call.head_dim;
#pragma unroll
  for (int first = 0; first < G; first += heads_at_once) {
    if (first >= mine.heads) break;
    __syncthreads();  // the room held the queries, or the heads before
#pragma unroll
    for (int g = 0; g < heads_at_once && first + g < G; ++g) {
      if (part >= parts) break;
#pragma unroll
      for (int e = 0; e < V; ++e)
        room[(part * heads_at_once + g) * dim + column + e] = sums[first + g][e];
    }
    __syncthreads();
    int here = min(heads_at_once, mine.heads - first);
    for (int i = threadIdx.x; i < here * dim; i += threads) {
      float sum = 0;
      for (int p = 0; p < parts; ++p) sum += room[p * heads_at_once * dim + i];
      int g = first + i / dim, d = i % dim;
      std::int64_t head = static_cast<std::int64_t>(mine.row) * call.heads + mine.first_head + g;
      if (mine.splits == 1) {
        narrow(sum / shared.sums[g], static_cast<S*>(call.out) + head * dim + d);
        continue;
      }
      std::int64_t split = head * call.splits + mine.split;
      call.partials[split * dim + d] = sum;
      if (d == 0) call.marks[split] = make_float2(shared.mosts[g], shared.sums[g]);
    }
  }
  if (mine.splits == 1) return;
  if (comes_last(call, mine, &shared.is_last))
    join_splits<S, threads>(call, mine, 0, dim / 4, shared.scores);
}

// G: at least the query heads of a block.
template <class S, int G>
__global__ void __launch_bounds__(threads) attend_new(DecodeAttention call) {
  constexpr int V = Pack16<S>::size;
  extern __shared__ __align__(16) float room[];  // queries [G, head_dim]; then sums of the parts
  __shared__ Shared<G> shared;
  let_next_come();
  Mine mine;
  if (!mine.find(call, most_group)) return give_zeros<S, threads>(call, mine);
  int dim = call.head_dim;
  const Angles<most_pairs> angles(call, mine.length - 1);
  auto find_places = [&](int at) {
    int here = min(tile, mine.end - at);
    if (threadIdx.x < here) shared.places[threadIdx.x] = mine.place(call, at + threadIdx.x);
    __syncthreads();
    return here;
  };
  int here = find_places(mine.begin);
  ask_for_cache<S, threads>(call, mine);
  wait_for_previous();
  float scale = 1 / sqrtf(static_cast<float>(dim));
  turn_heads<S, warps>(call, mine, angles, static_cast<S*>(nullptr),
                       [&](int g, int d, float value) { room[g * dim + d] = value * scale; });
  for (int i = mine.heads * dim + threadIdx.x; i < G * dim; i += threads) room[i] = 0;
  if (threadIdx.x < G) {
    shared.mosts[threadIdx.x] = -INFINITY;
    shared.sums[threadIdx.x] = shared.shrinks[threadIdx.x] = 0;
  }

  // A thread owns V columns of the output, at every `parts`-th position.
  int packs = dim / V, parts = min(threads / packs, tile);
  int column = threadIdx.x % packs * V, part = threadIdx.x / packs;
  float sums[G][V] = {};
  __syncthreads();
  for (int at = mine.begin; at < mine.end; at += tile) {
    if (at > mine.begin) here = find_places(at);
    score<S, G>(call, shared, room, here, mine.heads);
    __syncthreads();
    soften<G>(shared, mine.heads);
    __syncthreads();
    if (part < parts) weigh<S, G, V>(call, shared, here, column, part, parts, sums);
    __syncthreads();
  }
  give<S, G, V>(call, mine, shared, room, column, part, parts, sums);
}

// A warp a key or a value.
template <class S>
__global__ void __launch_bounds__(threads) write_own_positions(DecodeAttention call) {
  let_next_come();
  wait_for_previous();
  int task = blockIdx.y * warps + threadIdx.x / 32;
  if (task >= 2 * call.kv_heads || call.step[blockIdx.x].position < 0) return;
  const auto kind = task < call.kv_heads ? HeadKind::key : HeadKind::value;
  Mine mine;
  mine.find_newest(call, blockIdx.x, task % call.kv_heads);
  const auto head = load_head<S, most_pairs>(call, mine.row, call.heads + task);
  std::int64_t at = mine.place(call, mine.length - 1);
  S* to = static_cast<S*>(kind == HeadKind::key ? call.key_pages : call.value_pages) + at;
  turn_head<S>(call, head, kind, Angles<most_pairs>(call, mine.length - 1),
               [&](int d, float value) { narrow(value, to + d); });
}

template <class S, int G>
int launch(const DecodeAttention& call, Way way) {
  int dim = call.head_dim, group = call.heads / call.kv_heads;
  int packs = dim / Pack16<S>::size, parts = threads / packs < tile ? threads / packs : tile;
  std::size_t queries = sizeof(float) * G * dim;
  std::size_t all = sizeof(float) * parts * heads_at_once * dim;
  dim3 grid(call.splits, call.kv_heads * ((group + most_group - 1) / most_group), call.rows);
  std::size_t shared = queries > all ? queries : all;
  return start(attend_new<S, G>, grid, threads, shared, way, call);
}

}  // namespace

int launch_own_positions(const DecodeAttention& call, Scalar scalar, Way way) {
  return by_brief_scalar(scalar, [&](auto type) -> int {
    dim3 grid(call.rows, (2 * call.kv_heads + warps - 1) / warps);
    return start(write_own_positions<decltype(type)>, grid, threads, 0, way, call);
  });
}

int launch_decode_attention(const DecodeAttention& call, Scalar scalar, Way way) {
  int group = call.heads / call.kv_heads;
  return by_brief_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    if (group == 1) return launch<S, 1>(call, way);
    if (group == 2) return launch<S, 2>(call, way);
    if (group <= 4) return launch<S, 4>(call, way);
    if (group <= 6) return launch<S, 6>(call, way);
    return launch<S, most_group>(call, way);
  });
}

}  // namespace pensive::kernels
