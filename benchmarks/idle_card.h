// A card that needs no time: what is left of a step is the host's.
#pragma once
#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "kernels/decode.h"

namespace pensive::bench {

inline TokenId any_allowed(const kernels::DrawRow& wish) {
  auto token = static_cast<TokenId>(4 + wish.key % 24);
  while (!wish.mask.empty() && (wish.mask[0] >> token & 1u) == 0) token = 4 + (token - 3) % 24;
  return token;
}

// Draws whatever may come next.
class IdleCard final : public kernels::DecodeSteps {
 public:
  explicit IdleCard(int most_rows) : most_rows_(most_rows) {}

  bool launch(std::span<const kernels::DecodeRow> rows,
              const std::vector<kernels::DrawRow>& wishes) override {
    std::vector<kernels::Drawn>& drawn = flying_.emplace_back(rows.size());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      drawn[i].token = any_allowed(wishes[i]);
      drawn[i].logprob = drawn[i].drawn_logprob = -1.5f;
      drawn[i].entropy = 2.0f;
      drawn[i].top_logprob = -0.5f;
      drawn[i].watched.resize(wishes[i].watched.size(), -4.0f);
    }
    return true;
  }
  std::vector<kernels::Drawn> wait() override {
    std::vector<kernels::Drawn> first = std::move(flying_.front());
    flying_.pop_front();
    return first;
  }
  void forget() override { flying_.clear(); }
  void settle() override {}
  int most_rows() const noexcept override { return most_rows_; }
  int captures() const noexcept override { return 0; }

 private:
  int most_rows_;
  std::deque<std::vector<kernels::Drawn>> flying_;
};

}  // namespace pensive::bench
