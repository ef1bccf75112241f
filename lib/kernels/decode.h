// Decode steps on a card, whole: what the engine's fast path is made of. Rows that each bring one
// token go through embedding, layers, head and draw in one graph, with one copy in and one out.
#pragma once
#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda.h"
#include "kernels/kernels.h"

namespace pensive::kernels {

// A layer's weights, and its part of the cache. What the model has not is undefined.
struct DecodeLayer {
  at::Tensor attention_norm;            // [width]
  at::Tensor qkv, qkv_bias{};           // [(heads + 2 kv_heads) * head_dim, width], […]
  at::Tensor query_norm{}, key_norm{};  // [head_dim]
  at::Tensor output, output_bias{};     // [width, heads * head_dim], [width]
  at::Tensor mlp_norm;                  // [width]
  at::Tensor gate_up, gate_up_bias{};   // [2 * inner, width] = gate | up, [2 * inner]
  at::Tensor down, down_bias{};         // [width, inner], [width]
  at::Tensor key_pages, value_pages;    // [pages, page_tokens, kv_heads, head_dim]
};

struct DecodeModel {
  // row_invariant: a row's bits depend on its own sequence alone, here and in RowForward.
  Arithmetic arithmetic = Arithmetic::fast;
  int heads = 0;
  double epsilon = 0;
  at::Tensor cosines, sines;  // [positions, head_dim / 2], float32
  at::Tensor final_norm;      // [width]
  at::Tensor head;            // [vocab, width]
  std::vector<DecodeLayer> layers;
  OneRow one_row = OneRow::automatic;
};

// One row of a step: the newest token of a sequence whose pages reach at least as far.
struct DecodeRow {
  const void* embedding = nullptr;  // where the model is: [width]
  int position = 0;
  std::span<const int> pages;
  // The token that this row of the step launched before draws: then `embedding` is the table's
  // first row. -1: `embedding` is the token's own.
  int drawn = -1;
};

// Steps are launched and waited for in order, at most two at once. One thread at a time. The
// tensors of the model are kept.
class DecodeSteps {
 public:
  // On a card. Null where a step of this model cannot be done so: on a CPU, in float64, with rows
  // that are no whole packs of 16 bytes.
  static std::unique_ptr<DecodeSteps> make(DecodeModel model, int most_rows);
  virtual ~DecodeSteps() = default;
  DecodeSteps(const DecodeSteps&) = delete;
  DecodeSteps& operator=(const DecodeSteps&) = delete;

  // A token for each of 1 to most_rows rows, each with its wish. Keys and values of the rows'
  // positions are written to the cache. False, and nothing has happened, where this step needs
  // more room than the one in flight left: wait() for that one first.
  virtual bool launch(std::span<const DecodeRow> rows, const std::vector<DrawRow>& wishes) = 0;
  // What the step gives that was launched first.
  virtual std::vector<Drawn> wait() = 0;
  // Nobody waits for what is in flight any more; it still writes to the cache.
  virtual void forget() = 0;
  // Whatever is done with the cache from now on, on this thread's stream, comes after what is in
  // flight.
  virtual void settle() = 0;
  std::vector<Drawn> run(std::span<const DecodeRow> rows, const std::vector<DrawRow>& wishes) {
    launch(rows, wishes);
    return wait();
  }
  virtual int most_rows() const noexcept = 0;
  // How many graphs were captured so far, one for each size of step.
  virtual int captures() const noexcept = 0;

 protected:
  DecodeSteps() = default;
};

}  // namespace pensive::kernels
