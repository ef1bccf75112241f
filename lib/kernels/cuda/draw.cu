// One team of blocks draws one row: a cluster of them where the card has clusters (from 9.0 on), or
// one block. Cuts are found by bisection over the bit patterns of the values, so that nothing is
// sorted and every sum has a fixed order.
#include "kernels/cuda/decode.h"
#include "kernels/cuda/team.h"
#include "kernels/noise.h"

namespace pensive::kernels {
namespace {

constexpr int threads = 1024;

struct Best {  // the largest value; of equals the lowest index
  float value;
  int index;
};

__device__ inline Best better(Best a, Best b) {
  bool is_second = b.value > a.value || (b.value == a.value && b.index < a.index);
  return is_second ? b : a;
}

struct Scan {
  Best top;
  int bad;
  // No NaN, no +infinity, not all -infinity.
  __device__ bool is_good() const { return bad == 0 && top.value > -INFINITY; }
};

template <class X, class T>
__device__ Scan scan(const X* x, int count, T& team) {
  Scan mine{{-INFINITY, INT32_MAX}, 0};
  for_each(x, count, team, [&](int i, float here) {
    mine.bad |= isnan(here) || here == INFINITY;
    if (here > mine.top.value) mine.top = {here, i};
  });
  return team.join(mine, [](Scan a, Scan b) { return Scan{better(a.top, b.top), a.bad | b.bad}; });
}

// Unsigned numbers in the order of the floats.
__device__ std::uint32_t ordered(float x) {
  std::uint32_t bits = __float_as_uint(x);
  return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}

// The sum of exp(z) over the z from `least` (as ordered) on.
template <class T>
__device__ double mass_from(const float* z, int count, std::uint32_t least, T& team) {
  double mass = 0;
  for_each(z, count, team, [&](int, float here) {
    if (ordered(here) >= least) mass += exp(here);
  });
  return team.join(mass, Sum{});
}

template <class T>
__device__ std::uint32_t kth_largest(const float* z, int count, int k, T& team) {
  std::uint32_t least = 0;
  for (std::uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
    int above = 0;
    std::uint32_t tried = least | bit;
    for_each(z, count, team, [&](int, float here) { above += ordered(here) >= tried; });
    if (team.join(above, Sum{}) >= k) least |= bit;
  }
  return least;
}

// The largest value from which on the mass reaches `enough`; not below `floor`.
template <class T>
__device__ std::uint32_t nucleus(const float* z, int count, std::uint32_t floor, double enough,
                                 T& team) {
  std::uint32_t least = 0;
  for (std::uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
    std::uint32_t tried = least | bit;
    if (tried <= floor || mass_from(z, count, tried, team) >= enough) least = tried;
  }
  return least > floor ? least : floor;
}

struct Raw {  // of the untouched row
  Best top;
  double mean, log_sum, entropy;
};

struct Totals {
  double sum, weighted, total;
  int finite, unused;
};

template <class X, class T>
__device__ Raw look(const X* x, int count, Best top, T& team) {
  Totals mine{};
  for_each(x, count, team, [&](int, float here) {
    if (here == -INFINITY) return;
    float z = here - top.value, e = exp(z);
    mine.sum += e;
    mine.weighted += static_cast<double>(e) * z;
    mine.total += here;
    ++mine.finite;
  });
  mine = team.join(mine, [](Totals a, Totals b) {
    return Totals{a.sum + b.sum, a.weighted + b.weighted, a.total + b.total, a.finite + b.finite,
                  0};
  });
  Raw raw;
  raw.top = top;
  raw.mean = mine.total / mine.finite;
  raw.log_sum = top.value + log(mine.sum);
  raw.entropy = fmax(0.0, log(mine.sum) - mine.weighted / mine.sum);
  return raw;
}

// Biases and mask, from x into z.
template <class X, class T>
__device__ void steer(const CudaDraw& draw, int row, const X* x, float* z, const Raw& raw,
                      T& team) {
  const std::uint32_t* mask = nullptr;
  int words = (draw.vocab + 31) / 32;
  if (draw.mask_rows[row] >= 0) {
    mask = draw.masks + static_cast<std::int64_t>(draw.mask_rows[row]) * words;
  }
  for (int i = team.first(); i < draw.vocab; i += team.stride()) {
    bool is_allowed = !mask || (mask[i / 32] >> (i % 32) & 1);
    z[i] = is_allowed ? widen(x[i]) : -INFINITY;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = draw.bias_starts[row]; i < draw.bias_starts[row + 1]; ++i) {
      int token = draw.bias_tokens[i];
      if (!team.owns(token)) continue;
      double times = draw.bias_times[i];
      double bias = draw.bias_logits[i] + times * (raw.top.value - raw.mean);
      float here = z[token] + static_cast<float>(bias);
      float factor = draw.bias_repetitions[i];
      if (factor != 1) here = here > 0 ? __fdiv_rn(here, factor) : __fmul_rn(here, factor);
      z[token] = __fsub_rn(here, draw.bias_penalties[i]);
    }
  }
  __syncthreads();
}

// The likeliest of the untouched row, one pass over it for each.
template <class X, class T>
__device__ void list(const CudaDraw& draw, int row, const X* x, const Raw& raw, T& team) {
  Best last{INFINITY, -1};
  for (int at = draw.list_starts[row]; at < draw.list_starts[row + 1]; ++at) {
    Best mine{-INFINITY, INT32_MAX};
    for_each(x, draw.vocab, team, [&](int i, float here) {
      bool is_next = here < last.value || (here == last.value && i > last.index);
      if (is_next && (here > mine.value || mine.index == INT32_MAX)) mine = {here, i};
    });
    last = team.join(mine, better);
    if (!team.is_leader()) continue;
    draw.listed_tokens[at] = last.index;
    draw.listed_logprobs[at] = static_cast<float>(last.value - raw.log_sum);
  }
}

struct Sampled {
  int token;
  float logprob;  // of the distribution it was drawn from
};

// What one pass over the row finds for a draw: the best score, its z, and the mass of all.
struct Find {
  double mass;
  Best best;
  float z;
  int unused;
};

__device__ inline Find join_finds(Find a, Find b) {
  bool is_first = better(a.best, b.best).index == a.best.index;
  return {a.mass + b.mass, is_first ? a.best : b.best, is_first ? a.z : b.z, 0};
}

// Draws from x, whose largest is `greedy`, by way of z, which may be x.
template <class X, class T>
__device__ Sampled sample(const CudaDraw& draw, int row, const X* x, float* z, Best greedy,
                          T& team) {
  int vocab = draw.vocab, k = draw.top_ks[row];
  float temperature = draw.temperatures[row], p = draw.top_ps[row];
  const std::uint64_t key = draw.keys[row];
  Find mine{0, {-INFINITY, INT32_MAX}, 0, 0};
  auto consider = [&](int i, float here) {
    float score = here + gumbel_of(key, static_cast<std::uint32_t>(i));
    if (score > mine.best.value) {
      mine.best = {score, i};
      mine.z = here;
    }
  };
  if ((k <= 0 || k >= vocab) && p >= 1 && draw.min_zs[row] == -INFINITY) {  // nothing is cut
    for_each(x, vocab, team, [&](int i, float raw) {
      float here = __fdiv_rn(raw - greedy.value, temperature);
      mine.mass += exp(here);
      consider(i, here);
    });
    mine = team.join(mine, join_finds);
    return {mine.best.index, static_cast<float>(mine.z - log(mine.mass))};
  }
  for_each(x, vocab, team,
           [&](int i, float here) { z[i] = __fdiv_rn(here - greedy.value, temperature); });
  std::uint32_t least = 0;
  if (k > 0 && k < vocab) least = kth_largest(z, vocab, k, team);
  double kept = mass_from(z, vocab, least, team);
  if (p < 1) {
    least = nucleus(z, vocab, least, p * kept * (1 - 1e-6), team);
    kept = mass_from(z, vocab, least, team);
  }
  if (draw.min_zs[row] > -INFINITY && ordered(draw.min_zs[row]) > least) {
    least = ordered(draw.min_zs[row]);
    kept = mass_from(z, vocab, least, team);
  }
  for_each(z, vocab, team, [&](int i, float here) {
    if (ordered(here) >= least) consider(i, here);
  });
  mine = team.join(mine, join_finds);
  return {mine.best.index, static_cast<float>(mine.z - log(kept))};
}

template <int blocks, class X>
__device__ void draw_row(const CudaDraw& draw, int row, const X* x, float* z) {
  __shared__ typename Team<blocks>::Shared shared;
  Team<blocks> team(&shared);
  Scan first_look = scan(x, draw.vocab, team), steered = first_look;
  Raw raw = look(x, draw.vocab, first_look.top, team);
  bool is_steered = draw.mask_rows[row] >= 0 || draw.bias_starts[row] < draw.bias_starts[row + 1];
  if (is_steered) {
    steer(draw, row, x, z, raw, team);
    steered = scan(z, draw.vocab, team);
  }
  bool is_finite = first_look.is_good() && steered.is_good();
  Sampled sampled{steered.top.index, 0};
  if (is_finite && draw.temperatures[row] > 0) {
    sampled = is_steered ? sample(draw, row, z, z, steered.top, team)
                         : sample(draw, row, x, z, steered.top, team);
  }
  list(draw, row, x, raw, team);
  int first = draw.watch_starts[row], watched = draw.watch_starts[row + 1] - first;
  for (int i = team.first(); i < watched; i += team.stride()) {
    float here = widen(x[draw.watch_tokens[first + i]]);
    draw.watched[first + i] = static_cast<float>(here - raw.log_sum);
  }
  if (!team.is_leader()) return;
  draw.is_finite[row] = is_finite;
  draw.tokens[row] = is_finite ? sampled.token : 0;
  draw.top_tokens[row] = is_finite ? raw.top.index : 0;
  float* numbers = draw.logprobs + row * 4;
  numbers[0] = is_finite ? static_cast<float>(widen(x[sampled.token]) - raw.log_sum) : NAN;
  numbers[1] = sampled.logprob;
  numbers[2] = static_cast<float>(raw.entropy);
  numbers[3] = static_cast<float>(raw.top.value - raw.log_sum);
}

template <int blocks, class X>
__global__ void __launch_bounds__(threads) draw_rows(CudaDraw draw) {
  int row = blockIdx.x / blocks;
  std::int64_t at = static_cast<std::int64_t>(row) * draw.vocab;
  draw_row<blocks>(draw, row, static_cast<const X*>(draw.logits) + at, draw.scratch + at);
}

template <int blocks, class X>
__global__ void __launch_bounds__(threads)
    draw_step(const CudaDraw* step, const X* logits, float* scratch, int vocab) {
  let_next_come();
  wait_for_previous();
  int row = blockIdx.x / blocks;
  CudaDraw draw = *step;
  if (row >= draw.rows) return;
  draw.vocab = vocab;
  std::int64_t at = static_cast<std::int64_t>(row) * vocab;
  draw_row<blocks>(draw, row, logits + at, scratch + at);
}

int threads_for(int vocab) {
  int rounded = (vocab + 31) / 32 * 32;
  return rounded < threads ? rounded : threads;
}

// A team of several blocks pays for a wide vocabulary only.
bool has_teams(int vocab, int capability) {
  return capability >= 90 && vocab >= threads * most_blocks;
}

template <class... Parameters, class... Arguments>
int start_teams(void (*kernel)(Parameters...), int rows, int blocks, int size, Way way,
                Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(rows * blocks);
  config.blockDim = dim3(size);
  config.stream = way.stream;
  cudaLaunchAttribute attributes[2]{};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(blocks), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  config.attrs = blocks > 1 ? attributes : attributes + 1;
  config.numAttrs = (blocks > 1 ? 1 : 0) + (way.overlaps() ? 1 : 0);
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

}  // namespace

int launch_draw(const CudaDraw& draw, void* stream) {
  int device = 0, major = 0;
  if (int error = cudaGetDevice(&device)) return error;
  if (int error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device))
    return error;
  bool is_wide = has_teams(draw.vocab, major * 10);
  Way alone{static_cast<cudaStream_t>(stream), 0};
  return by_brief_scalar(draw.scalar, [&](auto type) -> int {
    using X = decltype(type);
    int size = threads_for(draw.vocab);
    return is_wide
               ? start_teams(draw_rows<most_blocks, X>, draw.rows, most_blocks, size, alone, draw)
               : start_teams(draw_rows<1, X>, draw.rows, 1, size, alone, draw);
  });
}

int launch_step_draw(const CudaDraw* draw, const void* logits, float* scratch, int rows, int vocab,
                     Scalar scalar, Way way) {
  return by_brief_scalar(scalar, [&](auto type) -> int {
    using X = decltype(type);
    int size = threads_for(vocab);
    auto* x = static_cast<const X*>(logits);
    return has_teams(vocab, way.capability)
               ? start_teams(draw_step<most_blocks, X>, rows, most_blocks, size, way, draw, x,
                             scratch, vocab)
               : start_teams(draw_step<1, X>, rows, 1, size, way, draw, x, scratch, vocab);
  });
}

}  // namespace pensive::kernels
