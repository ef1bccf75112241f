// Rows of prompts on a card with the bits of row-invariant decode steps: the same kernels, launched
// one by one, so that a position's bits are the same whether it was read in a prompt or drawn.
#pragma once
#include <ATen/ATen.h>

#include <memory>
#include <span>

#include "kernels/decode.h"

namespace pensive::kernels {

// One thread at a time, on libtorch's current stream. The tensors of the model are kept.
class RowForward {
 public:
  static constexpr int most_rows = 256;  // at once; more would need more room and read no less

  // Null where DecodeSteps::make() gives none. model.arithmetic is row_invariant.
  static std::unique_ptr<RowForward> make(DecodeModel model);
  virtual ~RowForward() = default;
  RowForward(const RowForward&) = delete;
  RowForward& operator=(const RowForward&) = delete;

  // Normed hidden states [rows, width]. Rows may be of one sequence, then in the order of their
  // positions; keys and values are written to the cache. Every row has its own embedding.
  at::Tensor forward(std::span<const DecodeRow> rows) { return forward(rows, {}); }
  // Also what the layers add up, before each of them and after the last, where `inputs` is not
  // undefined: float32 [layers + 1, rows, width] on the card, rows together.
  virtual at::Tensor forward(std::span<const DecodeRow> rows, const at::Tensor& inputs) = 0;

 protected:
  RowForward() = default;
};

}  // namespace pensive::kernels
