// Suffixes of different lengths as one padded batch.
#pragma once
#include <ATen/ATen.h>

#include <vector>

#include "train/steps.h"

namespace pensive {

// Padded suffixes as the decoder takes them; row r of suffix b is b * length + r.
struct SuffixBatch {
  std::vector<int> suffixes;
  std::int64_t length = 0;                // of the longest suffix
  std::int64_t prefix_length = 0;         // of the longest prefix
  at::Tensor embeddings;                  // [suffixes * length, width]
  at::Tensor positions;                   // int64 [suffixes * length]
  at::Tensor keys, values;                // [layers, suffixes, prefix, kv_heads, head_dim]
  at::Tensor mask;                        // [suffixes, 1, group * length, prefix + length]
  at::Tensor soft_rows;                   // int64: rows that hold the trained token
  at::Tensor target_rows, target_tokens;  // int64 [targets]
  // float64 [targets]; undefined where the suffixes have none
  at::Tensor advantages, drawn_logprobs, old_logprobs, start_logprobs;
};

// Of the suffixes `members`. Prefixes that `prefix_of` does not know are computed.
SuffixBatch make_batch(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                       const std::vector<int>& members, const PrefixOf& prefix_of);

}  // namespace pensive
