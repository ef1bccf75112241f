// Attention of a step that stays: each of some blocks reads a stretch of the row's positions for
// up to eight heads of one key-value head.
#pragma once
#include "kernels/cuda/joint.h"
#include "kernels/cuda/ring.h"
#include "kernels/cuda/walk.h"

namespace pensive::kernels {

constexpr int stretch_bytes = 64;      // that a block knows of its own
constexpr int pairs_bytes = 64;        // likewise
constexpr int patient_stretches = 32;  // that are not many for every lane to wait for

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
  const int rounds = (blocks + call.splits - 1) / call.splits;
  mine.splits = (blocks + rounds - 1) / rounds;
  const bool is_idle = mine.kv_head >= call.kv_heads || mine.split >= mine.splits;
  mine.begin = mine.split * rounds * block_positions;
  mine.end = is_idle ? mine.begin : min(mine.length, mine.begin + rounds * block_positions);
  return mine;
}

// A head as blocks told it.
template <class S, int pairs>
__device__ Head<pairs> hear_head(const DecodeAttention& call, const std::uint32_t* qkv, int head,
                                 unsigned turn) {
  const int dim = call.head_dim, half = dim / 2;
  const std::uint32_t* from = qkv + head * dim + threadIdx.x % 32;
  std::uint32_t a[pairs], b[pairs];
  bool is_there = false;
  while (!is_there) {
    is_there = true;
#pragma unroll
    for (int i = 0; i < pairs; ++i) {
      if (static_cast<int>(threadIdx.x % 32) + i * 32 >= half) continue;
      a[i] = look(from + i * 32);
      b[i] = look(from + half + i * 32);
    }
#pragma unroll
    for (int i = 0; i < pairs; ++i) {
      if (static_cast<int>(threadIdx.x % 32) + i * 32 >= half) continue;
      is_there = is_there && fits_brief(a[i], turn) && fits_brief(b[i], turn);
    }
  }
  Head<pairs> heard;
#pragma unroll
  for (int i = 0; i < pairs; ++i) {
    const bool is_own = static_cast<int>(threadIdx.x % 32) + i * 32 < half;
    heard.a[i] = is_own ? widen(brief_value<S>(a[i])) : 0;
    heard.b[i] = is_own ? widen(brief_value<S>(b[i])) : 0;
  }
  return heard;
}

// Four values of what attention gives.
template <class S>
__device__ void tell_mixed(std::uint32_t* mixed, int at, float4 all, unsigned turn) {
  std::uint32_t packets[4];
  const float values[4] = {all.x, all.y, all.z, all.w};
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    S value;
    narrow(values[e], &value);
    packets[e] = brief_packet(value, turn);
  }
  Packets16 made;
  memcpy(&made, packets, 16);
  tell(static_cast<void*>(mixed + at), made);
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
    if (walker_ >= 0) const Walker walk(call_, mine_, chunks_ + walker_ * warp_bytes_, walker_);
  }

  // After ask().
  __device__ void run(const Packets& packets, unsigned turn) const {
    const int dim = call_.head_dim, lane = threadIdx.x % 32;
    constexpr int pairs = sets;  // of 64 dimensions
    turn_heads<S, step_warps>(
        call_, mine_, Angles<pairs>(call_, 0), room_.newest,
        [&](int head) { return hear_head<S, pairs>(call_, packets.qkv, head, turn); },
        [&](int g, int d, float value) { narrow(value, room_.queries + g * dim + d); });
    meet_in_block();
    if (walker_ >= 0) {
      Walker walk(call_, mine_, chunks_ + walker_ * warp_bytes_, walker_, Asked::yes);
      walk.run(room_.queries, room_.newest);
      walk.put(room_.marks[walker_]);
    }
    meet_in_block();
    for (int g = threadIdx.x / 32; g < mine_.heads; g += step_warps) {
      const Joint<walk_warps> joint(&room_.marks[0][g], walk_heads, walk_warps);
      const int head = mine_.first_head + g, at = head * call_.splits + mine_.split;
      if (mine_.splits > 1 && lane == 0)
        tell(static_cast<void*>(packets.marks + 2 * at),
             {wide_packet(joint.most, turn), wide_packet(joint.sum, turn)});
      if (lane >= dim / 4) continue;
      const float* from = reinterpret_cast<const float*>(chunks_) + g * sum_stride(dim) + lane * 4;
      const int stride = warp_bytes_ / static_cast<int>(sizeof(float));
      float4 all = joint.add(from, stride, walk_warps);
      if (mine_.splits > 1) {
        std::uint64_t* to = packets.partials + static_cast<std::int64_t>(at) * dim + lane * 4;
        tell(static_cast<void*>(to), {wide_packet(all.x, turn), wide_packet(all.y, turn)});
        tell(static_cast<void*>(to + 2), {wide_packet(all.z, turn), wide_packet(all.w, turn)});
      } else {
        const float part = 1 / joint.sum;
        all = make_float4(all.x * part, all.y * part, all.z * part, all.w * part);
        tell_mixed<S>(packets.mixed, head * dim + lane * 4, all, turn);
      }
    }
    if (mine_.splits > patient_stretches) await_marks(packets, turn);
    if (mine_.splits > 1) join(packets, turn);
    meet_in_block();  // x may come to stand here
  }

 private:
  using Walker = Walk<S, sets, walk_warps, 2>;

  // One warp looks until all stretches have told, so that not every lane does again and again.
  __device__ void await_marks(const Packets& packets, unsigned turn) const {
    if (threadIdx.x < 32)
      for (int s = threadIdx.x; s < mine_.splits; s += 32) {
        const std::uint64_t* mark = packets.marks + 2 * (mine_.first_head * call_.splits + s);
        while (!look(static_cast<const void*>(mark)).fit_wide(turn)) {
        }
      }
    meet_in_block();
  }

  // What all stretches of these heads become: each block joins a share of the values. Lanes that
  // have one four of values between them have its stretches.
  __device__ void join(const Packets& packets, unsigned turn) const {
    const int splits = mine_.splits, quarter = call_.head_dim / 4, fours = mine_.heads * quarter;
    const int first = mine_.split * fours / splits, end = (mine_.split + 1) * fours / splits;
    int lanes = 1;  // that have one between them
    while (lanes < 32 && lanes < splits) lanes *= 2;
    const int lane = threadIdx.x % 32, at_once = 32 / lanes;
    for (int f = first + static_cast<int>(threadIdx.x) / 32 * at_once; f < end;
         f += step_warps * at_once) {
      const int own = f + lane / lanes, four = min(own, end - 1);
      const int head = mine_.first_head + four / quarter, d = four % quarter * 4;
      Share share;
      for (int s = lane % lanes; s < splits; s += 2 * lanes)
        share.add(packets, head * call_.splits, s, s + lanes < splits ? s + lanes : s,
                  call_.head_dim, d, turn);
      share.join(lanes);
      if (own >= end || lane % lanes != 0) continue;
      const float part = 1 / share.sum;
      tell_mixed<S>(packets.mixed, head * call_.head_dim + d,
                    make_float4(share.all[0] * part, share.all[1] * part, share.all[2] * part,
                                share.all[3] * part),
                    turn);
    }
  }

  // Softened sums of four values over some stretches.
  struct Share {
    float most = -INFINITY, sum = 0, all[4] = {};

    // Of two stretches, whose loads are under way together, or of one.
    __device__ void add(const Packets& packets, int head, int a, int b, int dim, int d,
                        unsigned turn) {
      const int at[2] = {head + a, head + b};
      Packets16 mark[2], low[2], high[2];
      bool are_there = false;
      while (!are_there) {
        are_there = true;
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const std::uint64_t* values =
              packets.partials + static_cast<std::int64_t>(at[i]) * dim + d;
          mark[i] = look(static_cast<const void*>(packets.marks + 2 * at[i]));
          low[i] = look(static_cast<const void*>(values));
          high[i] = look(static_cast<const void*>(values + 2));
        }
#pragma unroll
        for (int i = 0; i < 2; ++i)
          are_there = are_there && mark[i].fit_wide(turn) && low[i].fit_wide(turn) &&
                      high[i].fit_wide(turn);
      }
      add(mark[0], low[0], high[0]);
      if (b != a) add(mark[1], low[1], high[1]);
    }
    __device__ void add(Packets16 mark, Packets16 low, Packets16 high) {
      const float here = wide_value(mark.a);
      const float before = weigh(here), weight = expf_or_0(here);
      sum = sum * before + wide_value(mark.b) * weight;
      all[0] = all[0] * before + wide_value(low.a) * weight;
      all[1] = all[1] * before + wide_value(low.b) * weight;
      all[2] = all[2] * before + wide_value(high.a) * weight;
      all[3] = all[3] * before + wide_value(high.b) * weight;
    }
    __device__ void join(int lanes) {
      const float own = most;
      for (int step = lanes / 2; step > 0; step /= 2) {
        const float other = __shfl_xor_sync(~0u, most, step);
        most = other > most || isnan(other) ? other : most;
      }
      const float weight = expf_or_0(own);
      sum *= weight;
#pragma unroll
      for (float& one : all) one *= weight;
      for (int step = lanes / 2; step > 0; step /= 2) {
        sum += __shfl_xor_sync(~0u, sum, step);
#pragma unroll
        for (float& one : all) one += __shfl_xor_sync(~0u, one, step);
      }
    }

   private:
    // Moves the largest along; what was added before weighs so much from now on.
    __device__ float weigh(float here) {
      const float before = most;
      most = here > most || isnan(here) ? here : most;
      return expf_or_0(before);
    }
    // Who saw nothing weighs nothing, also where nobody saw anything.
    __device__ float expf_or_0(float score) const {
      return score == -INFINITY ? 0 : expf(score - most);
    }
  };

  const DecodeAttention& call_;  // cosines and sines: of the row's position alone
  const Mine& mine_;
  AttentionRoom<S>& room_;
  unsigned char* chunks_;
  int walker_, warp_bytes_;  // walkers: the last warps
};

#endif

}  // namespace pensive::kernels
