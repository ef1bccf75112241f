// The wall between pensive-core and libpensive-cuda.so: plain pointers, no ATen, C++17.
//
// libpensive-cuda.so exports one function, pensive_cuda_table(); the core opens the library the
// first time a CUDA device is asked for. All pointers are device memory unless named host_*;
// `stream` is a cudaStream_t; every function but await_decode() launches and returns
// without waiting.
#pragma once
#include <cstdint>

namespace pensive::kernels {

enum class Scalar : std::int32_t { float32, bfloat16, float16, float64 };

struct CudaShape {
  std::int32_t tokens, heads, kv_heads, head_dim, page_tokens, sequences, most_pages, longest_query;
  std::int32_t longest_length;
};

// Values from row to row of a draw's scratch.
#if defined(__CUDACC__)
__host__ __device__
#endif
    inline std::int64_t
    draw_stride(std::int32_t vocab) {
  return (std::int64_t{vocab} + 63) / 64 * 64;
}

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
  float* scratch;                   // [rows, draw_stride(vocab)]
  std::int32_t* tokens;             // out
  float* logprobs;                  // out [rows, 4]: logprob, drawn_logprob, entropy, top_logprob
  std::int32_t* top_tokens;         // out
  float* watched;                   // out, like watch_tokens
  std::int32_t* is_finite;          // out
  std::int32_t* listed_tokens;      // out, by list_starts: the likeliest first
  float* listed_logprobs;           // out, likewise
  // Where a step has one row, its kernel itself takes all that it gives to pinned memory, so many
  // bytes from `results` on, a multiple of 4; null: a copy does.
  const void* results;
  void* host_results;
  std::int64_t result_bytes;
};

// One token a row under softmax(logits / temperature). All but logits [rows].
struct CudaTokens {
  std::int32_t rows, vocab;
  float temperature;
  const float* logits;  // [rows, vocab]
  const std::int64_t* tokens;
  float *logprobs, *entropies, *sums;  // out; for the way back only sums, in
};

// A layer's weights as decode steps read them; what the model has not is null.
struct CudaLayer {
  const void* attention_norm;          // [width]
  const void *qkv, *qkv_bias;          // [(heads + 2 kv_heads) * head_dim, width], […]
  const void *query_norm, *key_norm;   // [head_dim], both or none
  const void *output, *output_bias;    // [width, heads * head_dim], [width]
  const void* mlp_norm;                // [width]
  const void *gate_up, *gate_up_bias;  // [2 * inner, width] = gate | up, [2 * inner]
  const void *down, *down_bias;        // [width, inner], [width]
  void *key_pages, *value_pages;       // [pages, page_tokens, kv_heads, head_dim]
};

// How a step of one row is computed: by the chain of kernels that larger steps take, or by one
// kernel that stays, where the card (9.0) and the model allow it. automatic: by the one that was
// seen to be faster (kernels/cuda/one_row.h). The others are for the benchmark and for tests.
enum class OneRow : std::int32_t { automatic, chain, stays };

// A model and its cache, for decode steps.
struct CudaModel {
  std::int32_t layers, width, inner, heads, kv_heads, head_dim, vocab, page_tokens;
  std::int32_t most_rows;  // of a step
  Scalar scalar;           // any but float64
  bool is_invariant;       // a row's bits depend on its own sequence alone
  double epsilon;
  const float *cosines, *sines;  // [positions, head_dim / 2]
  const void* final_norm;        // [width]
  const void* head;              // [vocab, width]
  const CudaLayer* host_layers;  // [layers], copied
  OneRow one_row;
};

// One row of a step: the newest token of a sequence.
struct CudaRow {
  const void* embedding;    // [width]; where `drawn` is not -1, the table [vocab, width]
  std::int32_t position;    // -1: no row, which reads and writes nothing
  std::int32_t first_page;  // place in `tables` of its sequence's pages, in order
  std::int32_t drawn;       // its token is what this row of the step before has drawn; or -1
  std::int32_t unused;
};

// What changes from step to step stands in device memory, at the same place in every step.
struct CudaDecodeCall {
  std::int32_t rows;     // with padding
  std::int32_t longest;  // the largest position + 1
  void* step;            // a block of bytes that begins with the next three
  // Its first draw->rows rows are drawn from; logits and scratch are not used. Its tokens come to
  // stand where those of the step before do.
  const CudaDraw* draw;
  const CudaRow* card_rows;
  const std::int32_t* tables;
  const void* host_step;  // what goes there; pinned
  std::int64_t step_bytes;
  void* workspace;  // workspace_bytes(), zero at first
  std::int64_t workspace_bytes;
  const void* results;  // what `draw` writes
  void* host_results;   // pinned
  std::int64_t result_bytes;
  std::int32_t flight;  // 0 or 1: by which await_decode() knows the call
};

// A product whose rows' bits do not depend on how many there are; rows of whole packs of 16 bytes.
struct CudaProduct {
  const void *x, *weight, *bias;  // [rows, in], [out, in], [out] or null
  void* out;                      // [rows, out]
  std::int32_t rows, in, out_width;
  Scalar scalar;  // any but float64
  bool is_wide;   // out is float32, and there is no bias
};

// A product of many rows and what follows it. Where turned_width is 0: SiLU(gate) * up, of a weight
// of 2 * out_width rows, those of gate first, without a bias. Else so many of the first columns,
// heads of head_dim 64 or 128, are rotated.
struct CudaManyRows {
  const void *x, *weight, *bias;  // [rows, in], [out, in], [out] or null
  void* out;                      // [rows, out_width]
  std::int32_t rows, in, out_width;
  Scalar scalar;
  std::int32_t turned_width, head_dim;
  const float *cosines, *sines;  // [rows, head_dim / 2]
};

// Causal attention of packed sequences, aligned at the end. Rows of queries, keys and values stand
// so many values apart, a row's heads and dimensions together; out is contiguous.
struct CudaPackedAttention {
  const void *queries, *keys, *values;
  std::int64_t query_stride, key_stride, value_stride;
  void* out;
  const std::int32_t *query_starts, *key_starts;  // [sequences + 1]
  std::int32_t sequences, query_rows, key_rows, heads, kv_heads, head_dim, longest_query;
  double scale;
  Scalar scalar;
};

// One of keys and values: rows `stride` values apart, and the pages they go to.
struct CudaPageRows {
  const void* x;
  std::int64_t stride;
  void* pages;
};

// Rows of prompts through all layers of a row-invariant model, with the bits of decode steps.
struct CudaForward {
  std::int32_t rows;     // at most most_rows; of a sequence in the order of their positions
  std::int32_t longest;  // the largest position + 1
  const CudaRow* card_rows;
  const std::int32_t* tables;
  void* workspace;  // forward_bytes(), zero at first
  std::int64_t workspace_bytes;
  void* hidden;  // out [rows, width], normed
  // Null, or out: what the layers add up, before each of them and after the last [rows, width],
  // inputs_stride values apart.
  float* inputs;
  std::int64_t inputs_stride;
};

// The kinds of kernels in a step.
enum class StepPart : std::int32_t {
  embed,
  norm,
  qkv,
  attention,
  output,
  gate_up,
  gate,  // where a product does not do it
  down,
  head,
  draw
};
constexpr int step_parts = 10;

struct CudaTable {
  std::uint32_t struct_size;
  const char* built_for;  // "9.0", "8.0 9.0"
  // Every int-returning function: 0, or a cudaError_t; describe() gives its name, and
  // takes it off the runtime, so that nobody's next check meets it again.
  const char* (*describe)(int error);
  int (*device_count)(int* host_count);
  int (*capability)(int device, int* host_major, int* host_minor);
  int (*can_run)(int device);  // 1 when this build has code for that card
  int (*memory)(int device, std::int64_t* host_free, std::int64_t* host_total);
  void* (*current_stream)(int device);  // libtorch's current stream
  // x of the type `of_x`, which is that of weight and out, or float32.
  int (*rms_norm)(const void* x, const void* weight, void* out, std::int32_t rows,
                  std::int32_t width, double epsilon, bool is_invariant, Scalar scalar, Scalar of_x,
                  void* stream);
  int (*silu_mul)(const void* gate_up, void* out, std::int32_t rows, std::int32_t inner,
                  Scalar scalar, void* stream);
  // Rows of x stand x_stride values apart; out is contiguous. cosines and sines are float, for
  // float64 double.
  int (*rotate)(const void* x, std::int64_t x_stride, const void* cosines, const void* sines,
                void* out, std::int32_t tokens, std::int32_t heads, std::int32_t head_dim,
                Scalar scalar, void* stream);
  // Rows of row_values values to their slots.
  int (*write_pages)(const CudaPageRows& keys, const CudaPageRows& values,
                     const std::int64_t* slots, std::int32_t tokens, std::int32_t row_values,
                     Scalar scalar, void* stream);
  // Rows of queries stand query_stride values apart; out is contiguous.
  int (*paged_attention)(const void* queries, std::int64_t query_stride, const void* key_pages,
                         const void* value_pages, void* out, const std::int32_t* tables,
                         const std::int32_t* starts, const std::int32_t* lengths, CudaShape shape,
                         double scale, Scalar scalar, void* stream);
  int (*draw)(const CudaDraw& draw, void* stream);
  // The ways back of rms_norm, whose out is of the type of x, and of silu_mul; then one token's
  // logprob a row and its way back.
  int (*rms_norm_back)(const void* x, const void* weight, const void* pull, void* out,
                       std::int32_t rows, std::int32_t width, double epsilon, Scalar scalar,
                       Scalar of_x, void* stream);
  int (*silu_mul_back)(const void* gate_up, const void* pull, void* out, std::int32_t rows,
                       std::int32_t inner, Scalar scalar, void* stream);
  int (*token_logprobs)(const CudaTokens& tokens, void* stream);
  int (*token_logprobs_back)(const CudaTokens& tokens, const float* pulls, void* out, Scalar scalar,
                             void* stream);
  // Decode steps, whole: embedding, layers, head and draw of rows that each bring one token. Every
  // size of step is launched one by one at first, then captured and replayed, for as long as step
  // and workspace stay where they are; nothing may be in flight when they move.
  int (*make_decoder)(const CudaModel& model, int device, void** host_decoder);
  void (*free_decoder)(void* decoder);
  std::int64_t (*workspace_bytes)(const void* decoder, std::int32_t rows, std::int32_t longest);
  // host_captured: 1 when this call captured a graph.
  int (*decode)(void* decoder, const CudaDecodeCall& call, void* stream,
                std::int32_t* host_captured);
  // Waits until the results of the last call of this flight are there.
  int (*await_decode)(void* decoder, std::int32_t flight);
  // What a step like the last one spends on each part: all kernels of the part, one after the other
  // in a graph of their own, the median of several replays. Fills host_us[step_parts]; 0 where
  // there is no such kernel.
  int (*profile)(void* decoder, const CudaDecodeCall& call, void* stream, float* host_us);
  int (*multiply)(const CudaProduct& product, int capability, void* stream);
  std::int64_t (*forward_bytes)(const void* decoder, std::int32_t rows, std::int32_t longest);
  int (*forward)(void* decoder, const CudaForward& call, void* stream);
  // Both for capability 9.0 alone; bfloat16 or float16. The first: `in` and `out_width` multiples
  // of 8; the second: head_dim 64 or 128, strides multiples of 8. All places multiples of 16.
  int (*many_rows)(const CudaManyRows& call, void* stream);
  int (*packed_attention)(const CudaPackedAttention& call, void* stream);
  // token_logprobs with the bits of a draw that nothing cuts or steers.
  int (*drawn_logprobs)(const CudaTokens& tokens, void* stream);
};

using CudaTableFunction = const CudaTable* (*)();

}  // namespace pensive::kernels
