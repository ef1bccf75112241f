// Checkpoints with random weights of a real shape, where a figure does not depend on their values;
// and what the card can copy, which is what decode is measured by.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "pensive/base.h"

namespace pensive::bench {

struct Shape {
  std::string_view name;
  std::string_view config;  // config.json
  int layers, width, inner, heads, kv_heads, head_dim, vocab;
  bool is_tied, has_qkv_bias;
};

// "r1-1.5b", "llama-1b" or "smollm2" (135M). Throws std::runtime_error for another name, with those
// there are.
const Shape& shape_named(std::string_view name);

// Writes config.json, bfloat16 weights in one safetensors file and the tokenizer of `tokenizer_of`
// to `folder`, which is made. Needs as much disk as the weights.
void write_checkpoint(const Shape& shape, const std::filesystem::path& tokenizer_of,
                      const std::filesystem::path& folder);

// Bytes read and written a second by copies of 1 GiB within the card's memory: the median of ten.
// 0 where there is no card.
double copy_bandwidth();

// What a card or the processor calls itself.
std::string hardware(const Device& device);

}  // namespace pensive::bench
