// One team of blocks draws one row: a cluster of them where the card has clusters (from 9.0 on), or
// one block. Where nothing is cut, a row is read once and gone over once.
#include "kernels/cuda/cut.h"
#include "kernels/cuda/decode.h"
#include "kernels/cuda/near.h"
#include "kernels/cuda/search.h"

namespace pensive::kernels {
namespace {

constexpr int threads = 512;
constexpr int least_team_vocab = 8192;

struct Raw {  // of the untouched row
  Best top;
  double mean, log_sum, entropy;
};

__device__ inline Raw raw_of(const Sums& all, Best top) {
  return {top, all.total / all.finite, top.value + log(all.sum),
          fmax(0.0, log(all.sum) - all.weighted / all.sum)};
}

// What one row wishes, near.
struct Wish {
  std::uint64_t key;
  float temperature, p, min_z;
  int k, mask_row, bias_first, bias_end, list_first, list_end, watch_first, watch_end;
  __device__ void load(const CudaDraw& draw, int row) {
    key = draw.keys[row];
    temperature = draw.temperatures[row];
    p = draw.top_ps[row];
    min_z = draw.min_zs[row];
    k = draw.top_ks[row] < draw.vocab ? draw.top_ks[row] : 0;
    mask_row = draw.mask_rows[row];
    bias_first = draw.bias_starts[row];
    bias_end = draw.bias_starts[row + 1];
    list_first = draw.list_starts[row];
    list_end = draw.list_starts[row + 1];
    watch_first = draw.watch_starts[row];
    watch_end = draw.watch_starts[row + 1];
  }
  __device__ bool is_steered() const { return mask_row >= 0 || bias_first < bias_end; }
  __device__ bool is_cut() const { return k > 0 || p < 1 || min_z > -INFINITY; }
};

struct Sampled {
  int token;
  float logprob;  // of the distribution it was drawn from
};

// The mass of exp(z) from `least` on.
template <class T>
__device__ double mass_from(const Slice<T>& slice, std::uint32_t least) {
  float mass = 0;
  auto see = [&](float here) { mass += ordered(here) >= least ? expf(here) : 0; };
  slice.for_each([&](int, float4 four) {
    see(four.x);
    see(four.y);
    see(four.z);
    see(four.w);
  });
  auto add = [](auto a, auto b) { return a + b; };
  return slice.team.join_warps(static_cast<double>(join_lanes(mass, add)), add);
}

// Draws from a slice of z, whose largest is 0 and stands at `likeliest`, what the cuts leave. mass:
// of all of it.
template <class T>
__device__ Sampled sample_cut(const Slice<T>& slice, const Wish& wish, int likeliest, double mass) {
  std::uint32_t least = ordered(-INFINITY), top = ordered(0.0f);
  if (wish.k > 0) least = find_cut(slice, least, top, wish.k, [](float) { return 1.0f; });
  if (wish.p < 1) {
    // What is below -40 weighs less than may be left out.
    if (wish.k > 0) mass = mass_from(slice, least);
    double enough = wish.p * mass * (1 - 1e-6);
    least =
        find_cut(slice, max(least, ordered(-40.0f)), top, enough, [](float z) { return expf(z); });
  }
  if (wish.min_z > -INFINITY) least = max(least, ordered(wish.min_z));
  Search search(wish.key, likeliest);
  slice.for_each([&](int i, float4 four) {
    float values[4] = {four.x, four.y, four.z, four.w}, weights[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) weights[e] = ordered(values[e]) >= least ? __expf(values[e]) : 0;
    search.see(i, values, weights);
  });
  const Sums all = join_all(slice.team, Looked{}, search.mass, search.best, search.z);
  return {all.best.index, static_cast<float>(all.z - log(all.mass))};
}

// Biases and mask.
template <class T>
__device__ void steer(const CudaDraw& draw, const Wish& wish, const Slice<T>& slice,
                      const Raw& raw) {
  if (threadIdx.x == 0) {
    for (int i = wish.bias_first; i < wish.bias_end; ++i) {
      int place = draw.bias_tokens[i] - slice.first;
      if (place < 0 || place >= slice.count) continue;
      double times = draw.bias_times[i];
      double bias = draw.bias_logits[i] + times * (raw.top.value - raw.mean);
      float here = slice.values[place] + static_cast<float>(bias);
      float factor = draw.bias_repetitions[i];
      if (factor != 1) here = here > 0 ? __fdiv_rn(here, factor) : __fmul_rn(here, factor);
      slice.values[place] = __fsub_rn(here, draw.bias_penalties[i]);
    }
  }
  __syncthreads();
  if (wish.mask_row >= 0) {  // last: what it forbids no bias allows
    int words = (draw.vocab + 31) / 32;
    const std::uint32_t* mask = draw.masks + static_cast<std::int64_t>(wish.mask_row) * words;
    slice.change_each([&](int i, float4& four) {
      if (i >= draw.vocab) return;
      std::uint32_t allowed = mask[i / 32] >> (i % 32);
      if (!(allowed & 1)) four.x = -INFINITY;
      if (!(allowed & 2)) four.y = -INFINITY;
      if (!(allowed & 4)) four.z = -INFINITY;
      if (!(allowed & 8)) four.w = -INFINITY;
    });
  }
  __syncthreads();
}

// The likeliest of the untouched row, one pass over it for each.
template <class T>
__device__ void list(const CudaDraw& draw, const Wish& wish, const Slice<T>& slice) {
  Best last{INFINITY, -1};
  for (int at = wish.list_first; at < wish.list_end; ++at) {
    Best mine{-INFINITY, INT32_MAX};
    auto see = [&](int i, float here) {
      bool is_next = here < last.value || (here == last.value && i > last.index);
      if (i < draw.vocab && is_next && (here > mine.value || mine.index == INT32_MAX))
        mine = {here, i};
    };
    slice.for_each([&](int i, float4 four) {
      see(i, four.x);
      see(i + 1, four.y);
      see(i + 2, four.z);
      see(i + 3, four.w);
    });
    last = slice.team.join(mine, better);
    if (slice.team.is_leader()) draw.listed_tokens[at] = last.index;
  }
}

// The z and the weights of four values of a row whose largest is `top`.
__device__ inline void weigh(float (&values)[4], float (&weights)[4], float top, Divisor divisor) {
#pragma unroll
  for (int e = 0; e < 4; ++e) {
    values[e] = divisor.of(values[e] - top);
    weights[e] = __expf(values[e]);
  }
}

// Looks at the untouched row, and samples on the way where nothing is steered or cut.
template <class T>
__device__ Sums look(const Slice<T>& slice, Best top, std::uint64_t key, Divisor divisor,
                     bool samples) {
  Looked looked;
  Search search(key, top.index);
  slice.for_each([&](int i, float4 four) {
    float values[4] = {four.x, four.y, four.z, four.w}, weights[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) looked.see(values[e], top.value);
    weigh(values, weights, top.value, divisor);
    if (samples) search.see(i, values, weights);
  });
  return join_all(slice.team, looked, search.mass, search.best, search.z);
}

// Draws from what the row has become.
template <class T>
__device__ Sampled sample(const Wish& wish, const Slice<T>& slice, Best top, Divisor divisor) {
  float mass = 0;
  slice.change_each([&](int, float4& four) {
    auto scale = [&](float& x) {
      x = divisor.of(x - top.value);
      mass += expf(x);
    };
    scale(four.x);
    scale(four.y);
    scale(four.z);
    scale(four.w);
  });
  auto add = [](auto a, auto b) { return a + b; };
  double all = slice.team.join_warps(static_cast<double>(join_lanes(mass, add)), add);
  return sample_cut(slice, wish, top.index, all);
}

template <int blocks>
__device__ void draw_row(const CudaDraw& draw, const Wish& wish, int row, const float* x,
                         float* near) {
  __shared__ typename Team<blocks>::Shared shared;
  Team<blocks> team(&shared);
  const Slice<Team<blocks>> slice(team, near, draw.vocab, blocks);
  const Scan first_look = slice.take(x);
  Scan steered = first_look;
  bool is_drawn = wish.temperature > 0 && first_look.is_good();
  bool is_plain = is_drawn && !wish.is_steered() && !wish.is_cut();
  const Divisor divisor(is_drawn ? wish.temperature : 1);

  list(draw, wish, slice);
  const Sums all = look(slice, first_look.top, wish.key, divisor, is_plain);
  const Raw raw = raw_of(all, first_look.top);
  if (wish.is_steered()) {
    steer(draw, wish, slice, raw);
    steered = slice.scan();
  }
  bool is_finite = first_look.is_good() && steered.is_good();
  Sampled sampled{steered.top.index, 0};
  if (is_plain) {
    sampled = {all.best.index, static_cast<float>(all.z - log(all.mass))};
  } else if (is_finite && is_drawn) {
    sampled = sample(wish, slice, steered.top, divisor);
  }
  if (team.rank() != 0) return;
  for (int i = wish.watch_first + threadIdx.x; i < wish.watch_end; i += blockDim.x)
    draw.watched[i] = static_cast<float>(x[draw.watch_tokens[i]] - raw.log_sum);
  for (int i = wish.list_first + threadIdx.x; i < wish.list_end; i += blockDim.x) {
    int token = draw.listed_tokens[i];
    bool is_there = token >= 0 && token < draw.vocab;  // else the row was no numbers
    draw.listed_logprobs[i] = is_there ? static_cast<float>(x[token] - raw.log_sum) : NAN;
  }
  if (!team.is_leader()) return;
  draw.is_finite[row] = is_finite;
  draw.tokens[row] = is_finite ? sampled.token : 0;
  draw.top_tokens[row] = is_finite ? raw.top.index : 0;
  float* numbers = draw.logprobs + row * 4;
  numbers[0] = is_finite ? static_cast<float>(x[sampled.token] - raw.log_sum) : NAN;
  numbers[1] = sampled.logprob;
  numbers[2] = static_cast<float>(raw.entropy);
  numbers[3] = static_cast<float>(raw.top.value - raw.log_sum);
}

// Where a block's slice stands: in shared memory where it fits there.
template <int blocks>
__device__ float* place_of(float* scratch, int row, int vocab, bool is_near, float* room) {
  std::int64_t each = slice_values(vocab, blocks);
  return is_near ? room : scratch + row * draw_stride(vocab) + blockIdx.x % blocks * each;
}

template <int blocks>
__global__ void __launch_bounds__(threads, 2) draw_rows(CudaDraw draw, bool is_near) {
  extern __shared__ __align__(16) float near[];
  __shared__ Wish wish;
  int row = blockIdx.x / blocks;
  if (threadIdx.x == 0) wish.load(draw, row);
  __syncthreads();
  draw_row<blocks>(draw, wish, row, draw.logits + static_cast<std::int64_t>(row) * draw.vocab,
                   place_of<blocks>(draw.scratch, row, draw.vocab, is_near, near));
}

template <int blocks>
__global__ void __launch_bounds__(threads, 2)
    draw_step(const CudaDraw* step, const float* logits, float* scratch, int vocab, bool is_near) {
  extern __shared__ __align__(16) float near[];
  __shared__ CudaDraw draw;
  __shared__ Wish wish;
  let_next_come();
  int row = blockIdx.x / blocks;
  // What a step brings was there before its first kernel.
  for (int i = threadIdx.x; i < static_cast<int>(sizeof(CudaDraw) / 4); i += blockDim.x)
    reinterpret_cast<unsigned*>(&draw)[i] = reinterpret_cast<const unsigned*>(step)[i];
  __syncthreads();
  if (row >= draw.rows) return;
  if (threadIdx.x == 0) {
    draw.vocab = vocab;
    wish.load(draw, row);
  }
  __syncthreads();
  wait_for_previous();
  draw_row<blocks>(draw, wish, row, logits + static_cast<std::int64_t>(row) * vocab,
                   place_of<blocks>(scratch, row, vocab, is_near, near));
  if (!takes_results(draw) || blockIdx.x > 0) return;  // the team's first block gives everything
  __syncthreads();
  for (int i = threadIdx.x; i < static_cast<int>(draw.result_bytes / 4); i += blockDim.x)
    static_cast<std::uint32_t*>(draw.host_results)[i] =
        static_cast<const std::uint32_t*>(draw.results)[i];
}

// Calls see(values) as Slice::for_each() does, with four of the row's own values.
template <class See>
__device__ void for_each_of(const float* x, int count, See see) {
  const int all = (count + 3) / 4 * 4;
  for (int begin = threadIdx.x / 32 * 128; begin < all; begin += blockDim.x * 4) {
    const int i = begin + threadIdx.x % 32 * 4;
    float values[4];
#pragma unroll
    for (int e = 0; e < 4; ++e) values[e] = i + e < count ? x[i + e] : -INFINITY;
    see(values);
  }
}

// What look<true>() and the draw make of one token a row, of the row where it stands: sums in the
// same order.
template <int blocks>
__global__ void __launch_bounds__(threads, 2) drawn_logprobs(CudaTokens call) {
  struct Both {
    double mass, weighted;
  };
  __shared__ typename Team<blocks>::Shared shared;
  Team<blocks> team(&shared);
  const int row = blockIdx.x / blocks, each = slice_values(call.vocab, blocks);
  const int first = team.rank() * each, count = max(0, min(each, call.vocab - first));
  const float* x = call.logits + static_cast<std::int64_t>(row) * call.vocab;
  const Divisor divisor(call.temperature);
  float top = -INFINITY, mass = 0, weighted = 0;
  for_each_of(x + first, count, [&](float(&values)[4]) {
    for (const float here : values) top = fmaxf(top, here);
  });
  top = team.join(top, [](float a, float b) { return fmaxf(a, b); });
  for_each_of(x + first, count, [&](float(&values)[4]) {
    float weights[4];
    weigh(values, weights, top, divisor);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      mass += weights[e];
      if (weights[e] > 0) weighted += weights[e] * values[e];
    }
  });
  auto add = [](float a, float b) { return a + b; };
  const Both all =
      team.join_warps(Both{join_lanes(mass, add), join_lanes(weighted, add)}, [](Both a, Both b) {
        return Both{a.mass + b.mass, a.weighted + b.weighted};
      });
  if (!team.is_leader()) return;
  const double log_mass = log(all.mass);
  call.logprobs[row] = static_cast<float>(divisor.of(x[call.tokens[row]] - top) - log_mass);
  call.entropies[row] = static_cast<float>(fmax(0.0, log_mass - all.weighted / all.mass));
  call.sums[row] = static_cast<float>(top / static_cast<double>(call.temperature) + log_mass);
}

int threads_for(int vocab) {
  int rounded = (vocab + 31) / 32 * 32;
  return rounded < threads ? rounded : threads;
}

// A team of several blocks pays for a wide vocabulary only.
bool has_teams(int vocab, int capability) { return capability >= 90 && vocab >= least_team_vocab; }

// Launches kernel(arguments..., is_near).
template <auto kernel, class... Arguments>
int start_rows(int rows, int vocab, int team, Way way, Arguments... arguments) {
  int most = 0;
  if (int error = allow_near_memory<kernel>(&most)) return error;
  const int bytes = slice_values(vocab, team) * 4;
  const bool is_near = bytes <= most;
  return start_teams(kernel, dim3(rows * team), threads_for(vocab), team, is_near ? bytes : 0, way,
                     arguments..., is_near);
}

}  // namespace

int launch_draw(const CudaDraw& draw, void* stream) {
  int device = 0, major = 0;
  if (int error = cudaGetDevice(&device)) return error;
  if (int error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device))
    return error;
  Way alone{static_cast<cudaStream_t>(stream), 0};
  return has_teams(draw.vocab, major * 10)
             ? start_rows<draw_rows<most_blocks>>(draw.rows, draw.vocab, most_blocks, alone, draw)
             : start_rows<draw_rows<1>>(draw.rows, draw.vocab, 1, alone, draw);
}

int launch_drawn_logprobs(const CudaTokens& tokens, void* stream) {
  int device = 0, major = 0;
  if (int error = cudaGetDevice(&device)) return error;
  if (int error = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device))
    return error;
  const Way alone{static_cast<cudaStream_t>(stream), 0};
  const int team = has_teams(tokens.vocab, major * 10) ? most_blocks : 1;
  return start_teams(team > 1 ? drawn_logprobs<most_blocks> : drawn_logprobs<1>,
                     dim3(tokens.rows * team), threads_for(tokens.vocab), team, 0, alone, tokens);
}

int launch_step_draw(const CudaDraw* draw, const float* logits, float* scratch, int rows, int vocab,
                     Way way) {
  return has_teams(vocab, way.capability)
             ? start_rows<draw_step<most_blocks>>(rows, vocab, most_blocks, way, draw, logits,
                                                  scratch, vocab)
             : start_rows<draw_step<1>>(rows, vocab, 1, way, draw, logits, scratch, vocab);
}

}  // namespace pensive::kernels
