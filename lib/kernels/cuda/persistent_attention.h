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

// The sums of a warp that walked, to shared memory.
template <class S, int sets>
__device__ void put_sums(const Walk<S, sets>& walk, int dim, float* sums, float2* marks) {
  const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
#pragma unroll
  for (int set = 0; set < sets; ++set)
#pragma unroll
    for (int j = 0; j < 8; ++j)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int d = set * 64 + (2 * t + i) * 8 + j;
        if (d < dim) sums[g * dim + d] = walk.sums[set][j][i];
      }
  if (t == 0) marks[g] = make_float2(walk.most, walk.sum);
}

// Asks for keys and values, long before the projected row is there, which `project` gives: of the
// step's positions only the newest is in no page yet.
template <class S, int sets, class Project>
__device__ void attend_stretch(const DecodeAttention& call, const Mine& mine, const Angles& angles,
                               unsigned char* near, Project project) {
  const int dim = call.head_dim, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  auto& room = *reinterpret_cast<AttentionRoom<S>*>(near);
  unsigned char* chunks = near + sizeof(AttentionRoom<S>);
  const int warp_bytes = call.stages * stage_bytes(dim);
  unsigned char* own = chunks + warp * warp_bytes;
  Mine walker = mine;
  if (warp >= walk_warps) walker.end = walker.begin;
  Walk<S, sets> walk(call, walker, own, warp);
  for (int i = mine.heads * dim + threadIdx.x; i < walk_heads * dim; i += step_threads)
    narrow(0.0f, room.queries + i);
  project();
  if (mine.begin >= mine.end) return;
  turn_heads<S, walk_heads, step_warps>(
      call, mine, angles, room.newest,
      [&](int g, int d, float value) { narrow(value, room.queries + g * dim + d); });
  meet_in_block();
  if (warp < walk_warps) {
    walk.run(room.queries, room.newest);
    __syncwarp();  // the chunks were read
    put_sums(walk, dim, reinterpret_cast<float*>(own), room.marks[warp]);
  }
  meet_in_block();
  for (int g = warp; g < mine.heads; g += step_warps) {
    const Joint<walk_warps> joint(&room.marks[0][g], walk_heads, walk_warps);
    if (mine.splits > 1 && lane == 0) tell(call, mine, joint, g);
    if (lane >= dim / 4) continue;
    const float* from = reinterpret_cast<const float*>(chunks) + g * dim + lane * 4;
    const int stride = warp_bytes / static_cast<int>(sizeof(float));
    hand_on<S>(call, mine, joint, g, lane * 4, joint.add(from, stride, walk_warps));
  }
}

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
