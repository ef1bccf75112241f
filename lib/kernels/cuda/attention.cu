// Attention of query rows over the paged cache. One block takes the heads that share a key-value
// head, for one query row or a few neighbouring ones of the same sequence. Keys are scored in
// chunks that begin at position 0, so a row's bits depend on its own positions only; what a chunk
// holds beyond a row's last position weighs exactly 0.
#include "kernels/cuda/launch.h"

namespace pensive::kernels {
namespace {

constexpr int threads = 256;
constexpr int chunk = 64;         // positions scored between two updates of the running maximum
constexpr int score_lanes = 8;    // threads that share the score of one position
constexpr int most_vectors = 16;  // query vectors (rows times heads) a block takes

template <int N>
struct Number {
  static constexpr int value = N;
};

template <class S>
struct Call {
  const S* queries;
  std::int64_t query_stride;
  const S* keys;
  const S* values;
  S* out;
  const std::int32_t* tables;
  const std::int32_t* starts;
  const std::int32_t* lengths;
  CudaShape shape;
  Compute<S> scale;
  int rows;   // query rows a block
  int heads;  // query heads a block
};

// Which rows and heads this block takes.
struct Mine {
  int sequence, first_row, rows, before, kv_head, first_head, heads;
  // Vector v is row v / heads, head v % heads.
  __device__ int vectors() const { return rows * heads; }
  __device__ int limit(int v) const { return before + v / heads + 1; }
};

template <class S>
__device__ bool find_mine(const Call<S>& call, Mine* mine) {
  int row = blockIdx.x, low = 0, high = call.shape.sequences;
  while (high - low > 1) {  // the last sequence that starts at or before the row
    int middle = (low + high) / 2;
    (call.starts[middle] <= row ? low : high) = middle;
  }
  int first = call.starts[low], count = call.starts[low + 1] - first;
  int group = call.shape.heads / call.shape.kv_heads;
  if (row - first >= count || (row - first) % call.rows != 0) return false;
  mine->sequence = low;
  mine->first_row = row;
  mine->rows = min(call.rows, first + count - row);
  mine->before = call.lengths[low] - count + (row - first);
  mine->kv_head = blockIdx.y;
  mine->first_head = blockIdx.z * call.heads;
  mine->heads = min(call.heads, group - mine->first_head);
  mine->first_head += blockIdx.y * group;
  return true;
}

// V values that are loaded at once.
template <class S, int V>
struct alignas(V * sizeof(S)) Pack {
  S values[V];
};

template <class S>
__device__ std::int64_t place(const Call<S>& call, const Mine& mine, int position) {
  const CudaShape& shape = call.shape;
  std::int64_t page = call.tables[static_cast<std::int64_t>(mine.sequence) * shape.most_pages +
                                  position / shape.page_tokens];
  std::int64_t slot = page * shape.page_tokens + position % shape.page_tokens;
  return (slot * shape.kv_heads + mine.kv_head) * shape.head_dim;
}

// Scores of this thread's positions of one chunk, for M vectors.
template <class S, int V, int M, class T = Compute<S>>
__device__ void score(const Call<S>& call, const Mine& mine, int at, const T* queries, T* scores) {
  int dim = call.shape.head_dim, lane = threadIdx.x % score_lanes;
  int last = mine.limit(mine.vectors() - 1);
  for (int i = threadIdx.x / score_lanes; i < chunk; i += threads / score_lanes) {
    T sums[M] = {};
    if (at + i < last) {
      const S* key = call.keys + place(call, mine, at + i);
      for (int d = lane * V; d < dim; d += score_lanes * V) {
        auto pack = *reinterpret_cast<const Pack<S, V>*>(key + d);
#pragma unroll
        for (int m = 0; m < M; ++m) {
#pragma unroll
          for (int e = 0; e < V; ++e) sums[m] += widen(pack.values[e]) * queries[m * dim + d + e];
        }
      }
    }
#pragma unroll
    for (int m = 0; m < M; ++m) {
      for (int step = score_lanes / 2; step > 0; step /= 2) {
        sums[m] += __shfl_xor_sync(~0u, sums[m], step);
      }
      if (lane == 0) {
        bool sees = m < mine.vectors() && at + i < mine.limit(m);
        scores[m * chunk + i] = sees ? sums[m] : -INFINITY;
      }
    }
  }
}

// Turns a chunk's scores into weights and moves the running maximum and sum along. One warp a
// vector.
template <class T>
__device__ void soften(int vectors, T* scores, T* mosts, T* sums, T* shrinks) {
  int lane = threadIdx.x % 32;
  for (int m = threadIdx.x / 32; m < vectors; m += threads / 32) {
    T a = scores[m * chunk + lane], b = scores[m * chunk + 32 + lane];
    T most = a > b || isnan(a) ? a : b;
    for (int step = 16; step > 0; step /= 2) {
      T other = __shfl_xor_sync(~0u, most, step);
      most = other > most || isnan(other) ? other : most;
    }
    T before = mosts[m];
    most = most > before || isnan(most) ? most : before;
    a = exp(a - most);
    b = exp(b - most);
    scores[m * chunk + lane] = a;
    scores[m * chunk + 32 + lane] = b;
    T sum = a + b;
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    __syncwarp();  // all have read mosts
    if (lane == 0) {
      T shrink = exp(before - most);
      mosts[m] = most;
      shrinks[m] = shrink;
      sums[m] = sums[m] * shrink + sum;
    }
  }
}

// Adds a chunk to the sums of this thread's column: vectors part, part + parts, …, K at most.
template <int K, class S, class T, int M>
__device__ void weigh(const S* values, const std::int64_t* places, int here, const T* scores,
                      const T* shrinks, int part, int parts, int vectors, T (&sums)[M]) {
  if constexpr (K <= M) {
    const T* weights[K];
#pragma unroll
    for (int k = 0; k < K; ++k) {
      int m = min(part + k * parts, vectors - 1);  // a sum that nobody asks for does no harm
      sums[k] *= shrinks[m];
      weights[k] = scores + m * chunk;
    }
#pragma unroll 4
    for (int i = 0; i < here; ++i) {
      T value = widen(values[places[i]]);
#pragma unroll
      for (int k = 0; k < K; ++k) sums[k] += weights[k][i] * value;
    }
  }
}

// queries [M, head_dim], scaled; zeros where the block has no more.
template <class S, int M, class T = Compute<S>>
__device__ void load_queries(const Call<S>& call, const Mine& mine, T* queries) {
  int dim = call.shape.head_dim, vectors = mine.vectors();
  for (int i = threadIdx.x; i < M * dim; i += threads) {
    int m = i / dim, d = i % dim;
    std::int64_t row = mine.first_row + m / mine.heads, head = mine.first_head + m % mine.heads;
    queries[i] = m < vectors
                     ? widen(call.queries[row * call.query_stride + head * dim + d]) * call.scale
                     : static_cast<T>(0);
  }
}

// M: at least the block's query vectors.
template <class S, int V, int M, class T = Compute<S>>
__global__ void __launch_bounds__(threads) attend(Call<S> call) {
  extern __shared__ __align__(16) unsigned char room[];
  __shared__ T scores[M * chunk], mosts[M], sums[M], shrinks[M];
  __shared__ std::int64_t places[chunk];
  T* queries = reinterpret_cast<T*>(room);
  Mine mine;
  if (!find_mine(call, &mine)) return;
  int dim = call.shape.head_dim, vectors = mine.vectors();
  std::int64_t out_row = static_cast<std::int64_t>(call.shape.heads) * dim;
  load_queries<S, M>(call, mine, queries);
  for (int m = threadIdx.x; m < M; m += threads) {
    mosts[m] = -INFINITY;
    sums[m] = 0;
  }
  __syncthreads();

  // A thread owns one column of the output, for every `parts`-th vector.
  int parts = threads / dim, column = threadIdx.x % dim, part = threadIdx.x / dim;
  int each = (vectors + parts - 1) / parts;
  T sum_of[M] = {};
  int last = mine.limit(vectors - 1);
  for (int at = 0; at < last; at += chunk) {
    score<S, V, M>(call, mine, at, queries, scores);
    int here = min(chunk, last - at);
    if (threadIdx.x < here) places[threadIdx.x] = place(call, mine, at + threadIdx.x);
    __syncthreads();
    soften(vectors, scores, mosts, sums, shrinks);
    __syncthreads();
    if (part < parts) {
      const S* values = call.values + column;
      auto add = [&](auto most) {
        weigh<decltype(most)::value>(values, places, here, scores, shrinks, part, parts, vectors,
                                     sum_of);
      };
      if (each <= 1) {
        add(Number<1>{});
      } else if (each <= 2) {
        add(Number<2>{});
      } else if (each <= 4) {
        add(Number<4>{});
      } else if (each <= 8) {
        add(Number<8>{});
      } else {
        add(Number<most_vectors>{});
      }
    }
    __syncthreads();
  }
  if (part >= parts) return;
#pragma unroll
  for (int k = 0; k < M; ++k) {
    int m = part + k * parts;
    if (m >= vectors) break;
    std::int64_t row = mine.first_row + m / mine.heads, head = mine.first_head + m % mine.heads;
    narrow(sum_of[k] / sums[m], call.out + row * out_row + head * dim + column);
  }
}

template <class S, int V, int M>
int launch(const Call<S>& call, cudaStream_t stream) {
  const CudaShape& shape = call.shape;
  int group = shape.heads / shape.kv_heads;
  dim3 grid(shape.tokens, shape.kv_heads, (group + call.heads - 1) / call.heads);
  std::size_t shared = sizeof(Compute<S>) * M * shape.head_dim;
  attend<S, V, M><<<grid, threads, shared, stream>>>(call);
  return cudaGetLastError();
}

template <class S, int V>
int launch_for(const Call<S>& call, cudaStream_t stream) {
  int vectors = call.rows * call.heads;
  if (vectors <= 1) return launch<S, V, 1>(call, stream);
  if (vectors <= 4) return launch<S, V, 4>(call, stream);
  if (vectors <= 8) return launch<S, V, 8>(call, stream);
  return launch<S, V, most_vectors>(call, stream);
}

bool is_aligned(const void* a, const void* b, std::int64_t row_bytes) {
  auto common = reinterpret_cast<std::uintptr_t>(a) | reinterpret_cast<std::uintptr_t>(b) |
                static_cast<std::uintptr_t>(row_bytes);
  return common % 16 == 0;
}

}  // namespace

int launch_paged_attention(const void* queries, std::int64_t query_stride, const void* key_pages,
                           const void* value_pages, void* out, const std::int32_t* tables,
                           const std::int32_t* starts, const std::int32_t* lengths, CudaShape shape,
                           double scale, Scalar scalar, void* stream) {
  if (shape.head_dim < 1 || shape.head_dim > threads) return cudaErrorInvalidValue;
  return by_scalar(scalar, [&](auto type) -> int {
    using S = decltype(type);
    // float64 is for tests: half the vectors, so that its wider sums fit.
    int most = sizeof(S) == 8 ? most_vectors / 4 : most_vectors;
    int group = shape.heads / shape.kv_heads, heads = group < most ? group : most;
    int rows = shape.longest_query > 1 ? most / heads : 1;
    Call<S> call{static_cast<const S*>(queries),
                 query_stride,
                 static_cast<const S*>(key_pages),
                 static_cast<const S*>(value_pages),
                 static_cast<S*>(out),
                 tables,
                 starts,
                 lengths,
                 shape,
                 static_cast<Compute<S>>(scale),
                 rows,
                 heads};
    auto* on = static_cast<cudaStream_t>(stream);
    bool packs = is_aligned(key_pages, value_pages, shape.head_dim * sizeof(S));
    return packs ? launch_for<S, 16 / sizeof(S)>(call, on) : launch_for<S, 1>(call, on);
  });
}

}  // namespace pensive::kernels
