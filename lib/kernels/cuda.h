// The wall between pensive-core and libpensive-cuda.so: plain pointers, no ATen, C++17.
//
// libpensive-cuda.so exports one function, pensive_cuda_table(); the core opens the library the
// first time a CUDA device is asked for. All pointers are device memory unless named host_*;
// `stream` is a cudaStream_t; every function launches and returns without waiting.
#pragma once
#include <cstdint>

namespace pensive::kernels {

enum class Scalar : std::int32_t { float32, bfloat16, float16, float64 };

struct CudaShape {
  std::int32_t tokens, heads, kv_heads, head_dim, page_tokens, sequences, most_pages, longest_query;
  std::int32_t longest_length;
};

struct CudaDraw {  // all arrays have one entry a row unless said otherwise
  std::int32_t rows, vocab;
  const float* logits;  // [rows, vocab]
  const float* temperatures;
  const std::int32_t* top_ks;
  const float* top_ps;
  const float* min_zs;  // what a scaled logit less the largest must reach; -infinity: anything
  const std::uint64_t* keys;
  const std::int32_t* bias_starts;  // [rows + 1] into the five below
  const std::int32_t* bias_tokens;
  const float* bias_logits;
  const float* bias_times;
  const float* bias_repetitions;
  const float* bias_penalties;
  const std::int32_t* mask_rows;     // [rows]: row of `masks`, or -1
  const std::uint32_t* masks;        // [masks, (vocab + 31) / 32]
  const std::int32_t* watch_starts;  // [rows + 1]
  const std::int32_t* watch_tokens;
  const std::int32_t* list_starts;  // [rows + 1]
  float* scratch;                   // [rows, vocab]
  std::int32_t* tokens;             // out
  float* logprobs;                  // out [rows, 4]: logprob, drawn_logprob, entropy, top_logprob
  std::int32_t* top_tokens;         // out
  float* watched;                   // out, like watch_tokens
  std::int32_t* is_finite;          // out
  std::int32_t* listed_tokens;      // out, by list_starts: the likeliest first
  float* listed_logprobs;           // out, likewise
};

struct CudaTable {
  std::uint32_t struct_size;
  const char* built_for;  // "9.0", "8.0 9.0"
  // Every int-returning function: 0, or a cudaError_t; describe() gives its name.
  const char* (*describe)(int error);
  int (*device_count)(int* host_count);
  int (*capability)(int device, int* host_major, int* host_minor);
  int (*can_run)(int device);  // 1 when this build has code for that card
  int (*memory)(int device, std::int64_t* host_free, std::int64_t* host_total);
  void* (*current_stream)(int device);  // libtorch's current stream
  int (*rms_norm)(const void* x, const void* weight, void* out, std::int32_t rows,
                  std::int32_t width, double epsilon, Scalar scalar, void* stream);
  int (*silu_mul)(const void* gate_up, void* out, std::int32_t rows, std::int32_t inner,
                  Scalar scalar, void* stream);
  // Rows of x stand x_stride values apart; out is contiguous. cosines and sines are float, for
  // float64 double.
  int (*rotate)(const void* x, std::int64_t x_stride, const void* cosines, const void* sines,
                void* out, std::int32_t tokens, std::int32_t heads, std::int32_t head_dim,
                Scalar scalar, void* stream);
  // One of keys and values: rows of row_values values, x_stride apart, to their slots.
  int (*write_pages)(const void* x, std::int64_t x_stride, void* pages, const std::int64_t* slots,
                     std::int32_t tokens, std::int32_t row_values, Scalar scalar, void* stream);
  // Rows of queries stand query_stride values apart; out is contiguous.
  int (*paged_attention)(const void* queries, std::int64_t query_stride, const void* key_pages,
                         const void* value_pages, void* out, const std::int32_t* tables,
                         const std::int32_t* starts, const std::int32_t* lengths, CudaShape shape,
                         double scale, Scalar scalar, void* stream);
  int (*draw)(const CudaDraw& draw, void* stream);
};

using CudaTableFunction = const CudaTable* (*)();

}  // namespace pensive::kernels
