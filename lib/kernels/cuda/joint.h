// How softened sums over parts of a row's positions become one, and where they go.
#pragma once
#include "kernels/cuda/decode_head.h"

namespace pensive::kernels {

#if defined(__CUDACC__)

// What several softened sums become: each weighs by its largest score.
template <int most_count>
struct Joint {
  float weights[most_count];
  float most = -INFINITY, sum = 0;

  // marks: where they stand, `stride` apart.
  __device__ Joint(const float2* marks, int stride, int count) {
    float2 seen[most_count];
#pragma unroll
    for (int i = 0; i < most_count; ++i) {
      seen[i] = i < count ? marks[i * stride] : make_float2(-INFINITY, 0);
      most = seen[i].x > most || isnan(seen[i].x) ? seen[i].x : most;
    }
#pragma unroll
    for (int i = 0; i < most_count; ++i) {
      // Who saw nothing weighs nothing, also where nobody saw anything.
      weights[i] = seen[i].x == -INFINITY ? 0 : expf(seen[i].x - most);
      sum += weights[i] * seen[i].y;
    }
  }
  // The values likewise.
  __device__ float4 add(const float* from, int stride, int count) const {
    float4 all = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < most_count; ++i) {
      if (i >= count) break;
      float4 here = *reinterpret_cast<const float4*>(from + i * stride);
      all.x += weights[i] * here.x;
      all.y += weights[i] * here.y;
      all.z += weights[i] * here.z;
      all.w += weights[i] * here.w;
    }
    return all;
  }
};

// Four values of a split to the output, or to where the splits meet.
template <class S, int count>
__device__ void hand_on(const DecodeAttention& call, const Mine& mine, const Joint<count>& joint,
                        int g, int d, float4 all) {
  std::int64_t head = static_cast<std::int64_t>(mine.row) * call.heads + mine.first_head + g;
  if (mine.splits == 1) {
    float part = 1 / joint.sum;
    all = make_float4(all.x * part, all.y * part, all.z * part, all.w * part);
    return give_four<S>(call, head * call.head_dim + d, all);
  }
  std::int64_t split = head * call.splits + mine.split;
  *reinterpret_cast<float4*>(call.partials + split * call.head_dim + d) = all;
}

template <int count>
__device__ void tell(const DecodeAttention& call, const Mine& mine, const Joint<count>& joint,
                     int g) {
  std::int64_t head = static_cast<std::int64_t>(mine.row) * call.heads + mine.first_head + g;
  call.marks[head * call.splits + mine.split] = make_float2(joint.most, joint.sum);
}

#endif

}  // namespace pensive::kernels
