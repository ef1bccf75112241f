// Attention of a step that stays: each of some blocks reads a stretch of the row's positions for
// up to eight heads of one key-value head.
#pragma once
#include "kernels/cuda/joint.h"
#include "kernels/cuda/ring.h"
#include "kernels/cuda/walk.h"

namespace pensive::kernels {

constexpr int stretch_bytes = 64;  // that a block knows of its own
constexpr int few_stretches = 8;   // that every block joins for itself
constexpr int brief_rounds = 4;    // of a stretch, rather than more of them

#if defined(__CUDACC__)
__host__ __device__
#endif
    inline int
    head_parts(const DecodeAttention& call) {
  return (call.heads / call.kv_heads + walk_heads - 1) / walk_heads;
}

#if defined(__CUDACC__)

template <class S>
struct AttentionRoom {
  S queries[walk_heads * 128];
  S newest[2 * 128];
  float2 marks[walk_warps][walk_heads];
};

// This block's stretch; empty where it has none.
__device__ inline Mine find_stretch(const DecodeAttention& call) {
  Mine mine;
  const CudaRow step = call.step[0];
  const int group = call.heads / call.kv_heads, parts = head_parts(call);
  const int owner = static_cast<int>(blockIdx.x) / call.splits;
  const int part = owner % parts;
  mine.row = 0;
  mine.kv_head = owner / parts;
  mine.heads = min(walk_heads, group - part * walk_heads);
  mine.first_head = mine.kv_head * group + part * walk_heads;
  mine.length = step.position + 1;
  mine.pages = call.tables + step.first_page;
  mine.split = static_cast<int>(blockIdx.x) % call.splits;
  const int blocks = (mine.length + block_positions - 1) / block_positions;
  const int few = min(few_stretches, call.splits);
  const bool is_brief = blocks <= few * brief_rounds;
  const int rounds = (blocks + (is_brief ? few : call.splits) - 1) / (is_brief ? few : call.splits);
  mine.splits = (blocks + rounds - 1) / rounds;
  const bool is_idle = mine.kv_head >= call.kv_heads || mine.split >= mine.splits;
  mine.begin = mine.split * rounds * block_positions;
  mine.end = is_idle ? mine.begin : min(mine.length, mine.begin + rounds * block_positions);
  return mine;
}

// This block's way over its stretch, if it has one, in the place where `near` points.
template <class S, int sets>
class Stretch {
 public:
  __device__ Stretch(const DecodeAttention& call, const Mine& mine, unsigned char* near)
      : call_(call),
        mine_(mine),
        room_(*reinterpret_cast<AttentionRoom<S>*>(near)),
        chunks_(near + sizeof(AttentionRoom<S>)),
        walker_(static_cast<int>(threadIdx.x / 32) - (step_warps - walk_warps)),
        warp_bytes_(call.stages * stage_bytes(call.head_dim)) {}

  // For the first keys and values, long before queries are known: of the step's positions only the
  // newest is in no page yet.
  __device__ void ask() const {
    for (int i = mine_.heads * call_.head_dim + threadIdx.x; i < walk_heads * call_.head_dim;
         i += step_threads)
      narrow(0.0f, room_.queries + i);
    if (walker_ >= 0)
      const Walk<S, sets> walk(call_, mine_, chunks_ + walker_ * warp_bytes_, walker_);
  }

  // After ask(), and once the projected row is there.
  __device__ void run() const {
    const int dim = call_.head_dim, lane = threadIdx.x % 32;
    turn_heads<S, walk_heads, step_warps>(
        call_, mine_, Angles(call_, 0), room_.newest,
        [&](int g, int d, float value) { narrow(value, room_.queries + g * dim + d); });
    meet_in_block();
    if (walker_ >= 0) {
      unsigned char* own = chunks_ + walker_ * warp_bytes_;
      Walk<S, sets> walk(call_, mine_, own, walker_, Asked::yes);
      walk.run(room_.queries, room_.newest);
      __syncwarp();  // the chunks were read
      put_sums(walk, reinterpret_cast<float*>(own));
    }
    meet_in_block();
    for (int g = threadIdx.x / 32; g < mine_.heads; g += step_warps) {
      const Joint<walk_warps> joint(&room_.marks[0][g], walk_heads, walk_warps);
      if (mine_.splits > 1 && lane == 0) tell(call_, mine_, joint, g);
      if (lane >= dim / 4) continue;
      const float* from = reinterpret_cast<const float*>(chunks_) + g * dim + lane * 4;
      const int stride = warp_bytes_ / static_cast<int>(sizeof(float));
      hand_on<S>(call_, mine_, joint, g, lane * 4, joint.add(from, stride, walk_warps));
    }
  }

 private:
  __device__ void put_sums(const Walk<S, sets>& walk, float* sums) const {
    const int dim = call_.head_dim, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int set = 0; set < sets; ++set)
#pragma unroll
      for (int j = 0; j < 8; ++j)
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int d = set * 64 + (2 * t + i) * 8 + j;
          if (d < dim) sums[g * dim + d] = walk.sums[set][j][i];
        }
    if (t == 0) room_.marks[walker_][g] = make_float2(walk.most, walk.sum);
  }

  const DecodeAttention& call_;  // cosines and sines: of the row's position alone
  const Mine& mine_;
  AttentionRoom<S>& room_;
  unsigned char* chunks_;
  int walker_, warp_bytes_;  // walkers: the last warps, so that the first has time to wait
};

// What few stretches become, in every block for itself. All of a thread's loads are under way
// together.
template <class S>
__device__ void join_few(const DecodeAttention& call, int splits, S* x) {
  constexpr int at_once = 2;
  const int dim = call.head_dim, fours = call.heads * dim / 4;
  for (int first = threadIdx.x; first < fours; first += at_once * step_threads) {
    float2 marks[at_once][few_stretches];
    float4 parts[at_once][few_stretches];
#pragma unroll
    for (int u = 0; u < at_once; ++u) {
      const int i = min(first + u * step_threads, fours - 1);
      const int at = i / (dim / 4) * call.splits, d = i % (dim / 4) * 4;
#pragma unroll
      for (int s = 0; s < few_stretches; ++s) {
        const int from = at + min(s, splits - 1);
        marks[u][s] = call.marks[from];
        parts[u][s] = *reinterpret_cast<const float4*>(call.partials +
                                                       static_cast<std::int64_t>(from) * dim + d);
      }
    }
#pragma unroll
    for (int u = 0; u < at_once; ++u) {
      const int i = first + u * step_threads;
      float most = -INFINITY, sum = 0, all[4] = {};
#pragma unroll
      for (int s = 0; s < few_stretches; ++s)
        most = marks[u][s].x > most || isnan(marks[u][s].x) ? marks[u][s].x : most;
#pragma unroll
      for (int s = 0; s < few_stretches; ++s) {
        const float weight = s < splits ? expf(marks[u][s].x - most) : 0;
        sum += weight * marks[u][s].y;
        all[0] += weight * parts[u][s].x;
        all[1] += weight * parts[u][s].y;
        all[2] += weight * parts[u][s].z;
        all[3] += weight * parts[u][s].w;
      }
      if (i >= fours) continue;
      const float part = 1 / sum;
#pragma unroll
      for (int e = 0; e < 4; ++e) narrow(all[e] * part, x + i * 4 + e);
    }
  }
}

// What many become, each four in one warp of the card.
template <class S>
__device__ void join_many(const DecodeAttention& call, int splits) {
  const int dim = call.head_dim, fours = call.heads * dim / 4, lane = threadIdx.x % 32;
  const int warps = static_cast<int>(gridDim.x) * step_warps;
  for (int i = static_cast<int>(threadIdx.x / 32 * gridDim.x + blockIdx.x); i < fours; i += warps) {
    const int head = i / (dim / 4), d = i % (dim / 4) * 4;
    const float2* marks = call.marks + head * call.splits;
    float most = -INFINITY, sum = 0;
    for (int s = lane; s < splits; s += 32) {
      const float here = marks[s].x;
      most = here > most || isnan(here) ? here : most;
    }
    for (int step = 16; step > 0; step /= 2) {
      const float other = __shfl_xor_sync(~0u, most, step);
      most = other > most || isnan(other) ? other : most;
    }
    float all[4] = {};
    for (int s = lane; s < splits; s += 32) {
      const float weight = expf(marks[s].x - most);
      const float4 here = *reinterpret_cast<const float4*>(
          call.partials + (static_cast<std::int64_t>(head) * call.splits + s) * dim + d);
      sum += weight * marks[s].y;
      all[0] += weight * here.x;
      all[1] += weight * here.y;
      all[2] += weight * here.z;
      all[3] += weight * here.w;
    }
    for (int step = 16; step > 0; step /= 2) {
      sum += __shfl_xor_sync(~0u, sum, step);
#pragma unroll
      for (int e = 0; e < 4; ++e) all[e] += __shfl_xor_sync(~0u, all[e], step);
    }
    const float part = 1 / sum;
    if (lane == 0)
      give_four<S>(call, static_cast<std::int64_t>(i) * 4,
                   make_float4(all[0] * part, all[1] * part, all[2] * part, all[3] * part));
  }
}

#endif

}  // namespace pensive::kernels
