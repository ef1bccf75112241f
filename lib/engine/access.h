// What the trainer may see of a finished Sequence and of an Engine's cache.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "model/parts.h"
#include "pensive/engine.h"

namespace pensive {

// Keys and values of the first `length` kept positions, copied out of the pages: constants.
struct CachedPrefix {
  at::Tensor keys;    // [layers, length, kv_heads, head_dim]
  at::Tensor values;  // likewise
};

// Nothing when the scheduler took the pages back, or fewer positions were computed.
std::optional<CachedPrefix> cached_prefix(const Sequence& sequence, int length);

// Where the first `length` kept positions stand in the engine's own pages: nothing is copied. Good
// until the engine steps.
struct PrefixPages {
  const std::vector<at::Tensor>* keys =
      nullptr;  // a layer: [pages, page_tokens, kv_heads, head_dim]
  const std::vector<at::Tensor>* values = nullptr;  // likewise
  std::vector<std::int64_t> slots;  // of the positions, in order: page * page_tokens + place in it
};

// Nothing where cached_prefix() gives nothing.
std::optional<PrefixPages> prefix_pages(const Sequence& sequence, int length);

// The name of the first guide whose bias or mask a token of it was drawn under; nothing where every
// draw was the model's own.
std::optional<std::string> steered_by(const Sequence& sequence);

// Of each token of the trace, how many stood before it when it came.
std::span<const int> depths_of(const Sequence& sequence);

}  // namespace pensive
