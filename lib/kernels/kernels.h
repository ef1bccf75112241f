// Every operation that the model, the engine and the trainer need, once, device-neutral.
//
// Each takes tensors on one device and dispatches by it: our own loops on the CPU, which are
// also the oracle for CUDA; CUDA through cuda.h. Where gradients are recorded (GradMode on and an
// input that requires one), the differentiable libtorch twin runs instead; kernels_test holds the
// two together.
//
// Dimension names: rows or tokens, width, heads, kv_heads, head_dim, pages, page_tokens, vocab.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "pensive/base.h"

namespace pensive::kernels {

// x W^T + bias. x [rows, in], weight [out, in], bias [out] or undefined; -> [rows, out].
// row_invariant: a row's bits do not depend on its neighbours, its place or the threads, with and
// without gradients. On the CPU every output is one chain of multiply-adds; on CUDA a kernel of our
// own adds in one order whatever the number of rows; float64, and rows that are no whole packs of
// 16 bytes, go through cuBLAS in tiles of 16 rows.
at::Tensor linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                  Arithmetic arithmetic);
// The same without a bias in float32 (float64 for float64), as the product sums up, without
// rounding to x's type between; but for libtorch's products on the CPU, for row-invariant ones that
// go through cuBLAS, and where gradients are recorded.
at::Tensor linear_wide(const at::Tensor& x, const at::Tensor& weight, Arithmetic arithmetic);

// x / sqrt(mean(x^2) + epsilon) * weight over the last dimension, computed in float32 (float64
// for float64). x [rows, width] or [tokens, heads, head_dim], weight [width] or [head_dim]. On CUDA
// x may be float32 where the weight is brief: -> x's shape, the weight's type. On the CPU a row's
// bits are its own in both kinds of arithmetic.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& weight, double epsilon,
                    Arithmetic arithmetic = Arithmetic::fast);

// silu(gate) * up, from gate_up [rows, 2 * inner] = gate | up; -> [rows, inner].
at::Tensor silu_mul(const at::Tensor& gate_up);

// silu_mul(linear()) of a weight [2 * inner, in] = gate | up: -> [rows, inner]. On a card of
// capability 9.0 products of many rows round nothing between.
at::Tensor silu_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                       Arithmetic arithmetic);

// Rotary embedding, Hugging Face's half-split layout. x [tokens, heads, head_dim];
// cosines, sines [tokens, head_dim / 2] in float32 (float64 for float64); -> x's shape.
at::Tensor rotate(const at::Tensor& x, const at::Tensor& cosines, const at::Tensor& sines);

// linear() of heads of 2 * cosines' width each, of which the first turned_heads are then rotated:
// on a card of capability 9.0 products of many rows round nothing between.
struct Turned {
  at::Tensor turned, rest;  // [rows, heads, head_dim]; the rows of either may lie apart
};
Turned linear_rotated(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                      const at::Tensor& cosines, const at::Tensor& sines, std::int64_t turned_heads,
                      Arithmetic arithmetic);

// Where the rows of one step stand in the paged cache. All tensors on the model's device.
struct PagedBatch {
  at::Tensor slots;    // int64 [tokens]: page * page_tokens + offset, where each row's key goes
  at::Tensor tables;   // int32 [sequences, most_pages]: pages of each sequence, in order
  at::Tensor starts;   // int32 [sequences + 1]: the first query row of each sequence
  at::Tensor lengths;  // int32 [sequences]: positions in the cache after this step's writes
  int longest_query = 1;
  int longest_length = 1;
};

// Copies keys, values [tokens, kv_heads, head_dim] to their slots of
// key_pages, value_pages [pages, page_tokens, kv_heads, head_dim]. A row whose slot is negative
// goes nowhere.
void write_pages(const at::Tensor& keys, const at::Tensor& values, at::Tensor& key_pages,
                 at::Tensor& value_pages, const PagedBatch& batch);

// What paged_attention takes on CUDA.
constexpr int most_cuda_head_dim = 256;

// Causal attention of queries [tokens, heads, head_dim] over the paged cache; query row r of a
// sequence with n query rows stands at position lengths - n + r. Scores are scaled by `scale`, sums
// run in float32 (float64 for float64), position by position in a fixed order, so that a row's bits
// depend on nothing but its own sequence. -> [tokens, heads, head_dim].
at::Tensor paged_attention(const at::Tensor& queries, const at::Tensor& key_pages,
                           const at::Tensor& value_pages, const PagedBatch& batch, double scale);

// One row's wishes for its draw.
struct DrawRow {
  float temperature = 1;  // 0 is greedy: the largest logit, ties to the lower id
  int top_k = 0;          // 0: all; ties with the k-th are kept
  float top_p = 1;        // 1: all; keeps the likeliest until their sum first reaches it, ties kept
  float min_p = 0;        // 0: all; keeps what is at least so likely, measured by the likeliest
  std::uint64_t key = 0;  // all of the draw's randomness
  std::vector<std::int32_t> bias_tokens;
  std::vector<float> bias_logits;                // added before temperature
  std::vector<float> bias_times_max_minus_mean;  // times (max - mean of this row's raw logits)
  std::vector<float> bias_repetitions;  // then a logit above 0 is divided by it, another multiplied
  std::vector<float> bias_penalties;    // then subtracted; all three may be empty
  std::vector<std::uint32_t> mask;      // empty: all; else bit t % 32 of word t / 32 allows t
  std::vector<std::int32_t> watched;
  int listed = 0;  // how many of the likeliest to tell
  bool operator==(const DrawRow&) const = default;
};

// What one row's draw gives. Logprobs and entropy in nats.
struct Drawn {
  std::int32_t token = 0;
  float logprob = 0;        // of token: raw logits, temperature 1, no cut, no bias, no mask
  float drawn_logprob = 0;  // of token: the distribution it was drawn from; 0 when greedy
  float entropy = 0;        // of the raw distribution at temperature 1
  std::int32_t top_token = 0;
  float top_logprob = 0;  // raw
  std::vector<float> watched;
  std::vector<std::int32_t> listed_tokens;  // raw, the likeliest first, of equals the lower id
  std::vector<float> listed_logprobs;
  bool is_finite = true;  // false: a raw logit was NaN or +infinity, or nothing was left
                          // to draw from; the rest means nothing
};

// Draws one token a row from logits [rows, vocab] (float32 or float64), by the Gumbel-max rule
// over noise(key, token): argmax of logit / temperature + gumbel. CPU and CUDA use the same noise.
// In this order: biases, mask, temperature, top-k, then top-p over what top-k left, then min-p.
// Mean and maximum of a bias leave logits of -infinity out. On CUDA float64 logits are drawn in
// float32.
std::vector<Drawn> draw(const at::Tensor& logits, const std::vector<DrawRow>& rows);

// Standard Gumbel noise of one token under one key: counter-based, no state.
float gumbel(std::uint64_t key, std::uint32_t token);

// A well-mixed key of several numbers (splitmix64 chained): seeds, paths, positions.
std::uint64_t mix(std::uint64_t key, std::uint64_t value);

// The device a Device names, on this build and machine: throws unsupported or device with what was
// built and what was found. automatic picks CUDA when it would work.
Device resolve(const Device& device);
at::Device to_torch(const Device& resolved);
// Throws unsupported, naming the card's capability, where the device cannot compute in this type.
void require_dtype(const Device& resolved, at::ScalarType dtype);
// Why a card of this capability cannot; empty where it can.
std::string dtype_obstacle(int major, int minor, at::ScalarType dtype);
// Whether a device's memory can still be given back. False while the process ends and the driver
// has gone already: whoever holds tensors there then lets go of them unfreed, since freeing would
// abort.
bool can_free(const at::Device& device);
// Bytes free now, and in all: of the card, or of the host within its container's limit.
struct Memory {
  std::int64_t free_bytes = 0;
  std::int64_t total_bytes = 0;
};
Memory memory(const Device& resolved);

}  // namespace pensive::kernels
