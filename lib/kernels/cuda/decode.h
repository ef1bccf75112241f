// What decode steps are made of: the launching functions that decode.cpp strings together.
#pragma once
#include <cuda_runtime_api.h>

#include <cstdint>

#include "kernels/cuda.h"

namespace pensive::kernels {

constexpr int most_splits = 64;  // of one row's cache, over blocks
constexpr int most_group = 8;    // query heads of a block of attention

// How many positions of a row's cache one block reads, a multiple of 64. By the row's own length,
// and whether the step has so few rows that these alone would leave most of the card idle; so that
// a row's bits do not depend on its neighbours.
constexpr int few_rows = 4;
#if defined(__CUDACC__)
__host__ __device__
#endif
    inline int
    split_positions(int length, int rows) {
  int least = length <= 512 ? 64 : length <= 2048 ? 128 : length <= 8192 ? 256 : 512;
  int even = (length + most_splits * 64 - 1) / (most_splits * 64) * 64;
  if (rows <= few_rows) return even > 64 ? even : 64;
  return even > least ? even : least;
}

// Where launches go, and what the card there can do.
struct Way {
  cudaStream_t stream;
  int capability;  // 90 for 9.0
  // A kernel's blocks may come while those of the one before it still run: they fetch what no
  // kernel writes, then wait.
  bool overlaps() const { return capability >= 90; }
};

// What becomes of a product.
enum class Into : std::int32_t {
  plain,  // out = x W^T + bias
  added,  // out += x W^T + bias
  gated   // out = silu(gate) * up, of W = gate | up
};

struct Product {
  Into into;
  const void* x;     // [rows, in]
  const void* norm;  // [in]: x is normed first (rms_norm); null: as it is
  double epsilon;
  const void* weight;  // [out, in]; gated: [2 * out, in]
  const void* bias;    // [out]; gated: [2 * out]; may be null
  void* out;           // [rows, out]
  std::int32_t rows, in, out_width;
};

// Rows of `in` values are whole packs of 16 bytes. For at most 8 rows; added takes no norm, the
// others need one.
bool takes_product(int rows, int in, Scalar scalar);
int launch_product(const Product& product, Scalar scalar, Way way);
// For at most 16 rows of the two brief types on tensor cores (from 8.0 on); without norm.
bool takes_tiles(int rows, int in, Scalar scalar, Way way);
int launch_tiles(const Product& product, Scalar scalar, Way way);

// x [rows, width] = the rows' embeddings, zeros where there is no row. draw->tokens still holds
// what the step before has drawn. Here and in the next x is of the type `of_x`: `scalar` or
// float32.
int launch_embed(const CudaRow* step, const CudaDraw* draw, void* x, int rows, int width,
                 Scalar scalar, Scalar of_x, Way way);
// x += bias where there is one; out = rms_norm(x). In place for x.
int launch_add_norm(void* x, const void* bias, const void* weight, void* out, int rows, int width,
                    double epsilon, Scalar scalar, Scalar of_x, Way way);
// out = silu(gate) * up of gate_up + bias; bias may be null.
int launch_gate(const void* gate_up, const void* bias, void* out, int rows, int inner,
                Scalar scalar, Way way);

struct DecodeAttention {
  const CudaRow* step;
  const std::int32_t* tables;
  const void* qkv;                    // [rows, (heads + 2 kv_heads) * head_dim], as projected
  const void* qkv_bias;               // added first; may be null
  const void *query_norm, *key_norm;  // [head_dim] or null
  double epsilon;
  const float *cosines, *sines;
  void *key_pages, *value_pages;
  void* out;        // [rows, heads * head_dim]
  float* partials;  // [rows, heads, splits, head_dim]
  float2* marks;    // [rows, heads, splits]: largest score, sum of the weights
  int* arrivals;    // [rows, kv_heads * groups], zero before and after
  std::int32_t rows, heads, kv_heads, head_dim, page_tokens, splits;
  std::int32_t page_shift;  // its logarithm where it is a power of two, else -1
};
// Norms and turns queries and keys, writes the new position to the cache, and attends to all.
int launch_decode_attention(const DecodeAttention& call, Scalar scalar, Way way);

// The same on tensor cores.
bool takes_attention_tiles(int head_dim, Scalar scalar, Way way);
int launch_attention_tiles(const DecodeAttention& call, Scalar scalar, Way way);

// The draw of a step, from logits [rows, vocab].
int launch_step_draw(const CudaDraw* draw, const void* logits, float* scratch, int rows, int vocab,
                     Scalar scalar, Way way);

#if defined(__CUDACC__)

// Blocks of the next kernel may come.
__device__ inline void let_next_come() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}
// All that the kernels before this one wrote is there.
__device__ inline void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

template <class... Parameters, class... Arguments>
int start(void (*kernel)(Parameters...), dim3 grid, int threads, std::size_t shared, Way way,
          Arguments... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(threads);
  config.dynamicSmemBytes = shared;
  config.stream = way.stream;
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attribute.val.programmaticStreamSerializationAllowed = 1;
  config.attrs = &attribute;
  config.numAttrs = way.overlaps() ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...);
}

// V values that are loaded at once, 16 bytes.
template <class S>
struct alignas(16) Pack16 {
  static constexpr int size = 16 / sizeof(S);
  S values[size];
};

#endif

}  // namespace pensive::kernels
