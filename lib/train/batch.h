// Suffixes as they go through the model together: padded to one length, or packed one behind the
// other.
#pragma once
#include <memory>
#include <optional>
#include <vector>

#include "train/steps.h"

namespace pensive {

// int64, there.
inline at::Tensor to_device(const std::vector<std::int64_t>& values, at::Device device) {
  return at::tensor(values, at::kLong).to(device);
}

// float64; undefined where there are none.
inline at::Tensor to_device(const std::vector<double>& values, at::Device device) {
  return values.empty() ? at::Tensor() : at::tensor(values, at::kDouble).to(device);
}

struct Batch {
  std::vector<int> suffixes;
  at::Tensor embeddings;                 // [rows, width], made here: a leaf may be made of it
  at::Tensor positions;                  // int64 [rows]
  std::unique_ptr<Attention> attention;  // of these rows over their prefixes and themselves
  at::Tensor soft_rows;                  // int64: rows that hold the trained row's id
  at::Tensor target_rows;                // int64 [targets]
  at::Tensor target_tokens;              // int64 [targets]
  // float64 [targets]; undefined where the suffixes have none
  at::Tensor advantages, drawn_logprobs, old_logprobs, start_logprobs;
};

// How all suffixes go through: at most so many tokens at a time.
struct Way {
  bool is_packed = false;
  bool recomputes = false;  // each layer again on the way back, of which only the input is kept
  int batch_tokens = 0;
  std::int64_t room = INT64_MAX;  // bytes that a batch may take
};
// `free_bytes`: what batches may take; nothing: as much as they like.
Way choose_way(const SuffixSetting& setting, std::span<const Suffix> suffixes,
               std::optional<std::int64_t> free_bytes);

// Packs of that way, each within its room.
std::vector<std::vector<int>> plan_packs(const SuffixSetting& setting,
                                         std::span<const Suffix> suffixes, const Way& way);

Batch make_batch(const SuffixSetting& setting, std::span<const Suffix> suffixes,
                 const std::vector<int>& members, const PrefixOf& prefix_of, const Way& way);

// Embeddings of ids that may be soft; -> [tokens, width], made here: a leaf may be made of it.
at::Tensor embed(const SuffixSetting& setting, std::vector<std::int64_t> ids);
// Asides that stood behind one another: [first, last) of them, each run behind the one before.
std::vector<std::pair<int, int>> runs_of(const Suffix& suffix);

// Of padded suffixes, all [suffixes, …].
std::unique_ptr<Attention> padded_attention(
    at::Tensor prefix_keys,    // [layers, suffixes, prefix, kv_heads, head_dim]
    at::Tensor prefix_values,  // likewise
    at::Tensor mask);          // [suffixes, 1, group * suffix, prefix + suffix]

// Keys and values before packed suffixes: in the engine's pages, or as tensors of their own.
struct PackedPrefix {
  std::vector<at::Tensor> keys, values;  // a layer: pages, or [prefix rows, kv_heads, head_dim]
  at::Tensor slots;  // int64 [prefix rows] in the flattened pages; undefined: not pages
};
// A branch of a sample's contexts: rows that stood behind one another, and what they see.
struct Strand {
  int suffix = 0;
  std::int64_t prefix = 0;         // rows before the suffix
  std::int64_t queries = 0;        // its own rows, each in one strand only, in the batch's order
  std::vector<std::int64_t> rows;  // of the batch that it sees behind the prefix; ends with its own
};
// `prefix` holds the rows before each strand.
std::unique_ptr<Attention> packed_attention_of(const std::vector<Strand>& strands,
                                               PackedPrefix prefix, at::Device device);

}  // namespace pensive
