// What prompts and training ask of a device beside kernels.h: attention of sequences of unequal
// length that lie behind one another without padding, and the probability of one token a row.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "kernels/kernels.h"

namespace pensive::kernels {

// Where the sequences of packed queries and keys begin. Both tensors on the queries' device.
struct PackedBatch {
  at::Tensor
      query_starts;       // int32 [sequences + 1]: each one's first row of queries, then their end
  at::Tensor key_starts;  // int32 [sequences + 1]: likewise of keys and values
  int longest_query = 1;
  int longest_key = 1;
};
// Of so many query and key rows a sequence.
PackedBatch pack(const std::vector<std::int64_t>& queries, const std::vector<std::int64_t>& keys,
                 at::Device device);

// Whether packed_attention() of such queries is libtorch's flash attention: bfloat16 or float16 on
// a card from 8.0 on, and a head_dim that suits it.
bool has_flash(const at::Tensor& queries);
constexpr bool suits_flash(std::int64_t head_dim) { return head_dim % 8 == 0 && head_dim <= 256; }

// Causal attention, aligned at the end: row r of a sequence's n query rows sees the first
// m - n + r + 1 of its m >= n keys. queries [query rows, heads, head_dim], keys, values
// [key rows, kv_heads, head_dim]; rows may lie apart, a row's heads and dimensions lie together.
// Differentiable in all three. -> [query rows, heads, head_dim]. With flash it is a kernel of ours
// where no gradient is recorded, on 9.0, for head_dim 64 and 128. Anything without flash goes
// sequence by sequence through plain products in float32 (float64 for float64): the slow twin.
at::Tensor packed_attention(const at::Tensor& queries, const at::Tensor& keys,
                            const at::Tensor& values, const PackedBatch& batch, double scale);
at::Tensor packed_attention_slow(const at::Tensor& queries, const at::Tensor& keys,
                                 const at::Tensor& values, const PackedBatch& batch, double scale);

// Of one token a row, and of the distribution it stands in: softmax(logits / temperature). In nats,
// all [rows] of the logits' type.
struct TokenLogprobs {
  at::Tensor logprobs;  // of the tokens
  at::Tensor entropies;
  at::Tensor sums;  // log of the sum of exp(logits / temperature)
};
// logits float32 or float64 [rows, vocab], contiguous; tokens int64 [rows]. Not differentiable.
TokenLogprobs token_logprobs(const at::Tensor& logits, const at::Tensor& tokens,
                             double temperature);
// The same with the bits of the draw, where nothing cuts or steers it: logprobs are what
// Drawn::drawn_logprob would be of that token, whatever the logits' type.
TokenLogprobs drawn_logprobs(const at::Tensor& logits, const at::Tensor& tokens,
                             double temperature);
// The gradient of sum(pulls * logprobs) in the logits, pulls [rows], given as `scalar`.
at::Tensor token_logprobs_back(const at::Tensor& logits, const at::Tensor& tokens,
                               const TokenLogprobs& found, const at::Tensor& pulls,
                               double temperature, at::ScalarType scalar);

// x + y W^T + bias. Shapes as of linear(), x [rows, out]. On CUDA the product adds to x, with one
// rounding, and x may be float32 where y and the weight are brief: then so is the result.
// Differentiable in x and y.
at::Tensor add_linear(const at::Tensor& x, const at::Tensor& y, const at::Tensor& weight,
                      const at::Tensor& bias, Arithmetic arithmetic);

}  // namespace pensive::kernels
