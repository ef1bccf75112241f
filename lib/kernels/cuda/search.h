// What passes over a row add up: its sums as it is, and the best of the scores it is drawn by.
#pragma once
#include "kernels/cuda/slice.h"
#include "kernels/noise.h"

namespace pensive::kernels {

#if defined(__CUDACC__)

// What one pass over a row adds up.
struct Sums {
  double sum, weighted, total;  // of exp(x - top), of that times x - top, of x, untouched
  double mass;                  // of what is drawn from
  Best best;                    // the best score, and the z of it
  float z;
  int finite;
};

__device__ inline Sums join_sums(Sums a, Sums b) {
  bool is_first = better(a.best, b.best).index == a.best.index;
  return {a.sum + b.sum,      a.weighted + b.weighted,    a.total + b.total,
          a.mass + b.mass,    is_first ? a.best : b.best, is_first ? a.z : b.z,
          a.finite + b.finite};
}

// Sums of one lane, in float: a few values each.
struct Looked {
  float sum = 0, weighted = 0, total = 0;
  int finite = 0;
  __device__ void see(float x, float top) {
    if (x == -INFINITY) return;
    float z = x - top, e = __expf(z);
    sum += e;
    weighted += e * z;
    total += x;
    ++finite;
  }
};

// x / by, rounded as a division is, from the reciprocal.
struct Divisor {
  float by, reciprocal;
  __device__ explicit Divisor(float by) : by(by), reciprocal(1 / by) {}
  __device__ float of(float x) const {
    if (by == 1) return x + 0.0f;  // no -0, which would be another value to a cut
    if (by < 1e-30f || by > 1e30f) return __fdiv_rn(x, by) + 0.0f;
    float near = x * reciprocal, exact = fmaf(fmaf(-near, by, x), reciprocal, near);
    return (isfinite(exact) ? exact : near) + 0.0f;
  }
};

// The best score of one lane. Noise is -log(E) with E of at least v, its uniform number: so a value
// whose exp(z) / v is less than exp of a score that is known cannot win, and few need the
// logarithms.
struct Search {
  std::uint64_t key;
  float reach;  // what exp(z) / v must be; the same in all lanes
  float mass = 0;
  Best best{-INFINITY, INT32_MAX};
  float z = 0;

  // likeliest: place of the largest value, whose z is 0.
  __device__ Search(std::uint64_t key, int likeliest) : key(key) {
    reach = 0.999f * __expf(gumbel_of(key, static_cast<std::uint32_t>(likeliest)));
  }

  // Four values, from place i on; the exponentials of those past a cut are 0. All lanes go along.
  __device__ void see(int i, const float (&values)[4], const float (&weights)[4]) {
    std::uint32_t bits[4];
    bool may_win = false;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      mass += weights[e];
      bits[e] = noise_bits(key, static_cast<std::uint32_t>(i + e));
      may_win |= is_rival(weights[e], bits[e]);
    }
    if (!__any_sync(~0u, may_win)) return;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      if (!is_rival(weights[e], bits[e])) continue;
      float score = values[e] + gumbel_of_bits(bits[e]);
      if (score > best.value) {
        best = {score, i + e};
        z = values[e];
      }
    }
    float known = best.value > -INFINITY ? 0.999f * __expf(best.value) : 0;
    for (int step = 16; step > 0; step /= 2)
      known = fmaxf(known, __shfl_xor_sync(~0u, known, step));
    reach = fmaxf(reach, known);
  }
  __device__ bool is_rival(float weight, std::uint32_t bits) const {
    return weight > 0 && weight >= uniform_of_bits(bits) * reach;
  }
};

// Adds up the lanes' sums in float, the rest as it comes.
template <class T>
__device__ Sums join_all(T& team, const Looked& looked, float mass, Best best, float z) {
  auto add = [](float a, float b) { return a + b; };
  struct Found {
    Best best;
    float z;
  };
  Found found = join_lanes(Found{best, z}, [](Found a, Found b) {
    return better(a.best, b.best).index == a.best.index ? a : b;
  });
  Sums mine{join_lanes(looked.sum, add),
            join_lanes(looked.weighted, add),
            join_lanes(looked.total, add),
            join_lanes(mass, add),
            found.best,
            found.z,
            join_lanes(looked.finite, [](int a, int b) { return a + b; })};
  return team.join_warps(mine, join_sums);
}

#endif

}  // namespace pensive::kernels
