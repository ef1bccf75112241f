// One block draws one row. Cuts are found by bisection over the bit patterns of the values, so that
// nothing is sorted and every sum has a fixed order.
#include "kernels/cuda/launch.h"
#include "kernels/noise.h"

namespace pensive::kernels {
namespace {

constexpr int threads = 1024;

struct Best {  // the largest value; of equals the lowest index
  float value;
  int index;
};

struct Shared {
  double doubles[33];
  float floats[33];
  int ints[33];
};

__device__ Best join_best(Best mine, Shared* shared) {
  struct Larger {
    __device__ float operator()(float a, float b) const { return a > b ? a : b; }
  };
  struct Smaller {
    __device__ int operator()(int a, int b) const { return a < b ? a : b; }
  };
  float value = join_block(mine.value, shared->floats, Larger{});
  int index = mine.value == value ? mine.index : INT32_MAX;
  return {value, join_block(index, shared->ints, Smaller{})};
}

struct Scan {
  Best top;
  bool is_good;  // no NaN, no +infinity, not all -infinity
};

__device__ Scan scan(const float* x, int count, Shared* shared) {
  Best mine{-INFINITY, INT32_MAX};
  int bad = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    float here = x[i];
    bad |= isnan(here) || here == INFINITY;
    if (here > mine.value) mine = {here, i};
  }
  Best top = join_best(mine, shared);
  bad = join_block(bad, shared->ints, Sum{});
  return {top, bad == 0 && top.value > -INFINITY};
}

// Unsigned numbers in the order of the floats.
__device__ std::uint32_t ordered(float x) {
  std::uint32_t bits = __float_as_uint(x);
  return bits ^ (bits >> 31 ? 0xFFFFFFFFu : 0x80000000u);
}

// The sum of exp(z) over the z from `least` (as ordered) on.
__device__ double mass_from(const float* z, int count, std::uint32_t least, Shared* shared) {
  double mass = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    if (ordered(z[i]) >= least) mass += exp(z[i]);
  }
  return join_block(mass, shared->doubles, Sum{});
}

__device__ std::uint32_t kth_largest(const float* z, int count, int k, Shared* shared) {
  std::uint32_t least = 0;
  for (std::uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
    int above = 0;
    for (int i = threadIdx.x; i < count; i += blockDim.x) above += ordered(z[i]) >= (least | bit);
    if (join_block(above, shared->ints, Sum{}) >= k) least |= bit;
  }
  return least;
}

// The largest value from which on the mass reaches `enough`; not below `floor`.
__device__ std::uint32_t nucleus(const float* z, int count, std::uint32_t floor, double enough,
                                 Shared* shared) {
  std::uint32_t least = 0;
  for (std::uint32_t bit = 1u << 31; bit != 0; bit >>= 1) {
    std::uint32_t tried = least | bit;
    if (tried <= floor || mass_from(z, count, tried, shared) >= enough) least = tried;
  }
  return least > floor ? least : floor;
}

struct Raw {  // of the untouched row
  Best top;
  double mean, log_sum, entropy;
};

__device__ Raw look(const float* x, int count, Best top, Shared* shared) {
  Raw raw;
  raw.top = top;
  double sum = 0, weighted = 0, total = 0;
  int finite = 0;
  for (int i = threadIdx.x; i < count; i += blockDim.x) {
    if (x[i] == -INFINITY) continue;
    float z = x[i] - raw.top.value, e = exp(z);
    sum += e;
    weighted += static_cast<double>(e) * z;
    total += x[i];
    ++finite;
  }
  sum = join_block(sum, shared->doubles, Sum{});
  weighted = join_block(weighted, shared->doubles, Sum{});
  total = join_block(total, shared->doubles, Sum{});
  raw.mean = total / join_block(finite, shared->ints, Sum{});
  raw.log_sum = raw.top.value + log(sum);
  raw.entropy = fmax(0.0, log(sum) - weighted / sum);
  return raw;
}

// Biases and mask, from x into z.
__device__ void steer(const CudaDraw& draw, int row, const float* x, float* z, const Raw& raw) {
  const std::uint32_t* mask = nullptr;
  int words = (draw.vocab + 31) / 32;
  if (draw.mask_rows[row] >= 0) {
    mask = draw.masks + static_cast<std::int64_t>(draw.mask_rows[row]) * words;
  }
  for (int i = threadIdx.x; i < draw.vocab; i += blockDim.x) {
    bool is_allowed = !mask || (mask[i / 32] >> (i % 32) & 1);
    z[i] = is_allowed ? x[i] : -INFINITY;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    for (int i = draw.bias_starts[row]; i < draw.bias_starts[row + 1]; ++i) {
      double times = draw.bias_times[i];
      double bias = draw.bias_logits[i] + times * (raw.top.value - raw.mean);
      float here = z[draw.bias_tokens[i]] + static_cast<float>(bias);
      float factor = draw.bias_repetitions[i];
      if (factor != 1) here = here > 0 ? __fdiv_rn(here, factor) : __fmul_rn(here, factor);
      z[draw.bias_tokens[i]] = __fsub_rn(here, draw.bias_penalties[i]);
    }
  }
  __syncthreads();
}

// The likeliest of the untouched row, one pass over it for each.
__device__ void list(const CudaDraw& draw, int row, const float* x, const Raw& raw,
                     Shared* shared) {
  Best last{INFINITY, -1};
  for (int at = draw.list_starts[row]; at < draw.list_starts[row + 1]; ++at) {
    Best mine{-INFINITY, INT32_MAX};
    for (int i = threadIdx.x; i < draw.vocab; i += blockDim.x) {
      bool is_next = x[i] < last.value || (x[i] == last.value && i > last.index);
      if (is_next && (x[i] > mine.value || mine.index == INT32_MAX)) mine = {x[i], i};
    }
    last = join_best(mine, shared);
    if (threadIdx.x != 0) continue;
    draw.listed_tokens[at] = last.index;
    draw.listed_logprobs[at] = static_cast<float>(last.value - raw.log_sum);
  }
}

// Draws from x, whose largest is `greedy`, by way of z, which may be x; the logprob of the
// distribution it was drawn from.
__device__ float sample(const CudaDraw& draw, int row, const float* x, float* z, Best greedy,
                        int* token, Shared* shared) {
  int vocab = draw.vocab, k = draw.top_ks[row];
  float temperature = draw.temperatures[row], p = draw.top_ps[row];
  for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
    z[i] = __fdiv_rn(x[i] - greedy.value, temperature);
  }
  __syncthreads();
  std::uint32_t least = 0;
  if (k > 0 && k < vocab) least = kth_largest(z, vocab, k, shared);
  double kept = mass_from(z, vocab, least, shared);
  if (p < 1) {
    least = nucleus(z, vocab, least, p * kept * (1 - 1e-6), shared);
    kept = mass_from(z, vocab, least, shared);
  }
  if (draw.min_zs[row] > -INFINITY && ordered(draw.min_zs[row]) > least) {
    least = ordered(draw.min_zs[row]);
    kept = mass_from(z, vocab, least, shared);
  }
  Best mine{-INFINITY, INT32_MAX};
  for (int i = threadIdx.x; i < vocab; i += blockDim.x) {
    if (ordered(z[i]) < least) continue;
    float score = z[i] + gumbel_of(draw.keys[row], static_cast<std::uint32_t>(i));
    if (score > mine.value) mine = {score, i};
  }
  *token = join_best(mine, shared).index;
  return static_cast<float>(z[*token] - log(kept));
}

__global__ void __launch_bounds__(threads) draw_rows(CudaDraw draw) {
  __shared__ Shared shared;
  int row = blockIdx.x;
  const float* x = draw.logits + static_cast<std::int64_t>(row) * draw.vocab;
  float* z = draw.scratch + static_cast<std::int64_t>(row) * draw.vocab;
  Scan first_look = scan(x, draw.vocab, &shared), steered = first_look;
  Raw raw = look(x, draw.vocab, first_look.top, &shared);
  const float* from = x;
  if (draw.mask_rows[row] >= 0 || draw.bias_starts[row] < draw.bias_starts[row + 1]) {
    steer(draw, row, x, z, raw);
    steered = scan(z, draw.vocab, &shared);
    from = z;
  }
  bool is_finite = first_look.is_good && steered.is_good;
  int token = steered.top.index;
  float drawn_logprob = 0;
  if (is_finite && draw.temperatures[row] > 0) {
    drawn_logprob = sample(draw, row, from, z, steered.top, &token, &shared);
  }
  int first = draw.watch_starts[row], watched = draw.watch_starts[row + 1] - first;
  for (int i = threadIdx.x; i < watched; i += blockDim.x) {
    draw.watched[first + i] = static_cast<float>(x[draw.watch_tokens[first + i]] - raw.log_sum);
  }
  list(draw, row, x, raw, &shared);
  if (threadIdx.x != 0) return;
  draw.is_finite[row] = is_finite;
  draw.tokens[row] = is_finite ? token : 0;
  draw.top_tokens[row] = is_finite ? raw.top.index : 0;
  float* numbers = draw.logprobs + row * 4;
  numbers[0] = is_finite ? static_cast<float>(x[token] - raw.log_sum) : NAN;
  numbers[1] = drawn_logprob;
  numbers[2] = static_cast<float>(raw.entropy);
  numbers[3] = static_cast<float>(raw.top.value - raw.log_sum);
}

}  // namespace

int launch_draw(const CudaDraw& draw, void* stream) {
  int rounded = (draw.vocab + 31) / 32 * 32;
  int size = rounded < threads ? rounded : threads;
  draw_rows<<<draw.rows, size, 0, static_cast<cudaStream_t>(stream)>>>(draw);
  return cudaGetLastError();
}

}  // namespace pensive::kernels
