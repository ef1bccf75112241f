// Decode steps made of single operations on the CPU: the slow twin of those on a card, and a card
// as fast or as slow as a test likes.
#pragma once
#include <ATen/ATen.h>

#include <cmath>
#include <cstdint>
#include <deque>
#include <span>
#include <stdexcept>
#include <utility>
#include <vector>

#include "base/inside.h"
#include "kernels/decode.h"

namespace pensive::kernels {

// A DecodeRow that owns its pages.
struct TwinRow {
  const void* embedding = nullptr;
  int position = 0;
  std::vector<int> pages;
  int drawn = -1;
};

inline PagedBatch batch_of(std::span<const TwinRow> rows, std::int64_t page_tokens) {
  const auto count = static_cast<std::int64_t>(rows.size());
  std::int64_t most = 0;
  std::vector<int> positions;
  for (const TwinRow& row : rows) {
    most = std::max(most, row.position / page_tokens + 1);
    positions.push_back(row.position);
  }
  PagedBatch batch;
  batch.slots = at::zeros({count}, at::kLong);
  batch.tables = at::zeros({count, most}, at::kInt);
  batch.starts = at::arange(count + 1, at::kInt);
  batch.lengths = at::tensor(positions, at::kInt) + 1;
  for (std::int64_t i = 0; i < count; ++i) {
    const TwinRow& row = rows[static_cast<std::size_t>(i)];
    const std::int64_t last = row.position / page_tokens;
    for (std::int64_t p = 0; p <= last; ++p)
      batch.tables[i][p] = row.pages[static_cast<std::size_t>(p)];
    batch.slots[i] =
        row.pages[static_cast<std::size_t>(last)] * page_tokens + row.position % page_tokens;
    batch.longest_length = std::max(batch.longest_length, row.position + 1);
  }
  return batch;
}

// embeddings [rows, width], of the rows' tokens.
inline std::vector<Drawn> step_by_step(DecodeModel& model, std::span<const TwinRow> rows,
                                       const at::Tensor& embeddings,
                                       const std::vector<DrawRow>& wishes,
                                       Arithmetic arithmetic = Arithmetic::fast) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const DecodeLayer& first = model.layers.front();
  const std::int64_t kv_heads = first.key_pages.size(2), head_dim = first.key_pages.size(3);
  const std::int64_t heads = model.heads;
  const PagedBatch batch = batch_of(rows, first.key_pages.size(1));
  const at::Tensor places = batch.lengths.to(at::kLong) - 1;
  const at::Tensor c = model.cosines.index_select(0, places),
                   s = model.sines.index_select(0, places);
  const auto product = [&](const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
    return linear(x, weight, bias, arithmetic);
  };
  at::Tensor x = embeddings;
  for (DecodeLayer& layer : model.layers) {
    const auto parts =
        product(rms_norm(x, layer.attention_norm, model.epsilon), layer.qkv, layer.qkv_bias)
            .view({count, heads + 2 * kv_heads, head_dim})
            .split_with_sizes({heads, kv_heads, kv_heads}, 1);
    at::Tensor queries = parts[0].contiguous(), keys = parts[1].contiguous();
    if (layer.query_norm.defined()) {
      queries = rms_norm(queries, layer.query_norm, model.epsilon);
      keys = rms_norm(keys, layer.key_norm, model.epsilon);
    }
    write_pages(rotate(keys, c, s), parts[2].contiguous(), layer.key_pages, layer.value_pages,
                batch);
    const at::Tensor mixed =
        paged_attention(rotate(queries, c, s), layer.key_pages, layer.value_pages, batch,
                        1 / std::sqrt(static_cast<double>(head_dim)));
    x = x + product(mixed.reshape({count, heads * head_dim}), layer.output, layer.output_bias);
    const at::Tensor normed = rms_norm(x, layer.mlp_norm, model.epsilon);
    x = x + product(silu_mul(product(normed, layer.gate_up, layer.gate_up_bias)), layer.down,
                    layer.down_bias);
  }
  const at::Tensor hidden = rms_norm(x, model.final_norm, model.epsilon);
  return draw(linear_wide(hidden, model.head, arithmetic), wishes);
}

// Computes a step when it is launched, as an endlessly fast card would, or when it is waited for
// or something else wants the cache, as an endlessly slow one.
class TwinSteps final : public DecodeSteps {
 public:
  enum class Card : std::uint8_t { fast, slow };
  TwinSteps(DecodeModel model, int most_rows, Card card, Arithmetic arithmetic)
      : model_(std::move(model)), most_rows_(most_rows), card_(card), arithmetic_(arithmetic) {}

  bool launch(std::span<const DecodeRow> rows, const std::vector<DrawRow>& wishes) override {
    require(flying_ < 2 && std::ssize(rows) <= most_rows_ && rows.size() == wishes.size(),
            ErrorCode::internal, "at most two steps, a wish a row", "others", "TwinSteps");
    if (std::exchange(fails_, false)) throw std::runtime_error("the card is gone");
    if (refused_every_ > 0 && flying_ > 0 && ++launches_ % refused_every_ == 0) return false;
    std::vector<TwinRow> own;
    for (const DecodeRow& row : rows)
      own.push_back({row.embedding, row.position, {row.pages.begin(), row.pages.end()}, row.drawn});
    launched_.push_back({std::move(own), wishes});
    ++flying_;
    if (card_ == Card::fast) compute();
    return true;
  }
  std::vector<Drawn> wait() override {
    require(flying_ > 0, ErrorCode::internal, "a step in flight", "none", "TwinSteps");
    while (computed_.empty()) compute();
    std::vector<Drawn> first = std::move(computed_.front());
    computed_.pop_front();
    --flying_;
    return first;
  }
  void forget() override {
    unwanted_ = launched_.size();
    computed_.clear();
    flying_ = 0;
  }
  void settle() override {
    while (!launched_.empty()) compute();
  }
  // As if a step needed more room than the one in flight left.
  void refuse_every(int launches) { refused_every_ = launches; }
  // As if the device failed.
  void fail_next(bool fails) { fails_ = fails; }
  int most_rows() const noexcept override { return most_rows_; }
  int captures() const noexcept override { return 0; }

 private:
  struct Launched {
    std::vector<TwinRow> rows;
    std::vector<DrawRow> wishes;
  };

  void compute() {
    const Launched step = std::move(launched_.front());
    launched_.pop_front();
    const std::int64_t width = model_.head.size(1);
    std::vector<at::Tensor> embeddings;
    for (const TwinRow& row : step.rows) {
      const auto size = static_cast<std::int64_t>(model_.head.element_size());
      const TokenId token = row.drawn < 0 ? 0 : last_drawn_[static_cast<std::size_t>(row.drawn)];
      const void* from = static_cast<const char*>(row.embedding) + token * width * size;
      embeddings.push_back(
          at::from_blob(const_cast<void*>(from), {width}, model_.head.options()).clone());
    }
    std::vector<Drawn> drawn =
        step_by_step(model_, step.rows, at::stack(embeddings), step.wishes, arithmetic_);
    last_drawn_.clear();
    for (const Drawn& one : drawn) last_drawn_.push_back(one.is_finite ? one.token : 0);
    if (unwanted_ == 0) return computed_.push_back(std::move(drawn));
    --unwanted_;
  }

  DecodeModel model_;
  int most_rows_;
  Card card_;
  Arithmetic arithmetic_;
  std::deque<Launched> launched_;
  std::deque<std::vector<Drawn>> computed_;
  std::vector<TokenId> last_drawn_;
  std::size_t unwanted_ = 0;  // of those launched, from the first
  int flying_ = 0;
  int refused_every_ = 0, launches_ = 0;
  bool fails_ = false;
};

}  // namespace pensive::kernels
