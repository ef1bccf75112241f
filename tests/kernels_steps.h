// Random models and rows for decode steps.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

#include "decode_twin.h"
#include "kernels_oracle.h"

namespace pensive::kernels {

struct Shape {
  int width = 64, inner = 96, heads = 6, kv_heads = 2, head_dim = 32, vocab = 70, page_tokens = 16;
  bool has_biases = false, has_norms = false;
  int positions = 4000;
};

// A random model of two layers, with as many pages as the rows need.
inline DecodeModel random_model(const Shape& shape, int pages, at::ScalarType scalar) {
  const auto matrix = [&](std::int64_t out, std::int64_t in) {
    return (random({out, in}, at::kDouble) / std::sqrt(static_cast<double>(in))).to(scalar);
  };
  const auto norm = [&](std::int64_t width) {
    return (1 + 0.1 * random({width}, at::kDouble)).to(scalar);
  };
  const auto bias = [&](std::int64_t width) {
    return shape.has_biases ? (0.3 * random({width}, at::kDouble)).to(scalar) : at::Tensor();
  };
  const std::int64_t own = shape.heads * shape.head_dim;
  const std::int64_t qkv = own + 2 * shape.kv_heads * shape.head_dim;
  DecodeModel model;
  model.heads = shape.heads;
  model.epsilon = 1e-6;
  const at::Tensor angles = at::rand({shape.positions, shape.head_dim / 2}, at::kDouble) * 6;
  model.cosines = angles.cos().to(at::kFloat);
  model.sines = angles.sin().to(at::kFloat);
  for (int i = 0; i < 2; ++i) {
    DecodeLayer layer;
    layer.attention_norm = norm(shape.width);
    layer.qkv = matrix(qkv, shape.width);
    layer.qkv_bias = bias(qkv);
    if (shape.has_norms) {
      layer.query_norm = norm(shape.head_dim);
      layer.key_norm = norm(shape.head_dim);
    }
    layer.output = matrix(shape.width, own);
    layer.output_bias = bias(shape.width);
    layer.mlp_norm = norm(shape.width);
    layer.gate_up = matrix(2 * shape.inner, shape.width);
    layer.gate_up_bias = bias(2 * shape.inner);
    layer.down = matrix(shape.width, shape.inner);
    layer.down_bias = bias(shape.width);
    layer.key_pages = random({pages, shape.page_tokens, shape.kv_heads, shape.head_dim}, scalar);
    layer.value_pages = random({pages, shape.page_tokens, shape.kv_heads, shape.head_dim}, scalar);
    model.layers.push_back(std::move(layer));
  }
  model.final_norm = norm(shape.width);
  model.head = matrix(shape.vocab, shape.width);
  return model;
}

inline DecodeModel on(const DecodeModel& model, at::Device device) {
  const auto move = [&](at::Tensor& x) {
    if (x.defined()) x = x.to(device, x.scalar_type(), false, true);
  };
  DecodeModel moved = model;
  for (at::Tensor* x : {&moved.cosines, &moved.sines, &moved.final_norm, &moved.head}) move(*x);
  for (DecodeLayer& layer : moved.layers)
    for (at::Tensor* x :
         {&layer.attention_norm, &layer.qkv, &layer.qkv_bias, &layer.query_norm, &layer.key_norm,
          &layer.output, &layer.output_bias, &layer.mlp_norm, &layer.gate_up, &layer.gate_up_bias,
          &layer.down, &layer.down_bias, &layer.key_pages, &layer.value_pages})
      move(*x);
  return moved;
}

// As many bytes as any row has, each of which makes a number NaN.
inline at::Tensor nan_row(at::Device card) {
  return at::full({1 << 16}, 255, at::dtype(at::kByte).device(card));
}

// A step of embeddings of NaN: after it every number that kernels wrote is NaN, in the workspace,
// which nobody may touch, too. So are keys and values of its positions, until they are written
// again.
inline void run_nan(DecodeSteps& steps, std::vector<DecodeRow> rows,
                    const std::vector<DrawRow>& wishes, at::Device card) {
  const at::Tensor nan = nan_row(card);
  for (DecodeRow& row : rows) row.embedding = nan.const_data_ptr();
  for (const Drawn& drawn : steps.run(rows, wishes)) EXPECT_FALSE(drawn.is_finite);
}

// Rows at random positions; pages in random order.
struct Rows {
  std::vector<int> positions;
  std::vector<std::vector<int>> pages;
  at::Tensor embeddings;  // [rows, width]
};

inline Rows random_rows(const Shape& shape, const std::vector<int>& positions, int pages,
                        at::ScalarType scalar) {
  Rows rows{positions, {}, random({static_cast<int64_t>(positions.size()), shape.width}, scalar)};
  const at::Tensor order = at::randperm(pages, at::kInt);
  int next = 0;
  for (const int position : positions) {
    std::vector<int>& own = rows.pages.emplace_back();
    for (int i = 0; i <= position / shape.page_tokens; ++i)
      own.push_back(order[next++].item<int>());
  }
  return rows;
}

inline int pages_for(const Shape& shape, const std::vector<int>& positions) {
  int pages = 1;  // one of nobody
  for (const int position : positions) pages += position / shape.page_tokens + 1;
  return pages;
}

}  // namespace pensive::kernels
