// Whole decode steps on the card against the same steps made of single CPU operations.
#pragma once
#include "kernels_steps.h"

namespace pensive::kernels {

// The slow twin.
inline std::vector<Drawn> step_by_step(DecodeModel& model, const Rows& rows,
                                       const std::vector<DrawRow>& wishes) {
  std::vector<TwinRow> all;
  for (std::size_t i = 0; i < rows.positions.size(); ++i)
    all.push_back({nullptr, rows.positions[i], rows.pages[i]});
  return step_by_step(model, all, rows.embeddings, wishes);
}

class WholeSteps : public OnCard {
 protected:
  explicit WholeSteps(std::uint64_t salt) : OnCard(salt) {}

  // One row alone both ways that there are.
  void expect_equal(const Shape& shape, const std::vector<int>& positions, at::ScalarType scalar) {
    expect_equal(shape, positions, scalar, OneRow::chain);
    if (positions.size() == 1) expect_equal(shape, positions, scalar, OneRow::stays);
  }

  // Greedy draws that tell the logprobs of many tokens: launched one by one, then as a graph. In
  // between the graph sees embeddings of NaN, after which whatever a kernel does not write is NaN,
  // in the workspace, which nobody may touch, too.
  void expect_equal(const Shape& shape, const std::vector<int>& positions, at::ScalarType scalar,
                    OneRow one_row) {
    const int pages = pages_for(shape, positions);
    DecodeModel model = random_model(shape, pages, scalar);
    model.one_row = one_row;
    DecodeModel moved = on(model, card_);
    const Rows rows = random_rows(shape, positions, pages, scalar);
    std::vector<DrawRow> wishes(positions.size());
    for (std::size_t i = 0; i < wishes.size(); ++i) {
      wishes[i].temperature = 0;
      for (int t = 0; t < shape.vocab; t += 1 + shape.vocab / 60) wishes[i].watched.push_back(t);
    }
    const auto steps = DecodeSteps::make(moved, static_cast<int>(positions.size()) + 3);
    ASSERT_NE(steps, nullptr);
    const at::Tensor embeddings = rows.embeddings.to(card_);
    std::vector<DecodeRow> asked;
    for (std::size_t i = 0; i < positions.size(); ++i)
      asked.push_back(
          {embeddings[static_cast<std::int64_t>(i)].const_data_ptr(), positions[i], rows.pages[i]});
    const std::vector<Drawn> slow = step_by_step(model, rows, wishes);
    expect_near(steps->run(asked, wishes), slow, shape, scalar);
    run_nan(*steps, asked, wishes, card_);
    for (int again = 0; again < 2; ++again)
      expect_near(steps->run(asked, wishes), slow, shape, scalar);
    EXPECT_EQ(steps->captures(), 1);
    const double limit = scalar == at::kFloat ? 1e-5 : scalar == at::kHalf ? 4e-3 : 2e-2;
    for (std::size_t i = 0; i < model.layers.size(); ++i) {
      EXPECT_LT(error(moved.layers[i].key_pages, model.layers[i].key_pages), limit);
      EXPECT_LT(error(moved.layers[i].value_pages, model.layers[i].value_pages), limit);
    }
  }

  static void expect_near(const std::vector<Drawn>& fast, const std::vector<Drawn>& slow,
                          const Shape& shape, at::ScalarType scalar) {
    const double limit = scalar == at::kFloat ? 1e-4 : scalar == at::kHalf ? 2e-2 : 1.5e-1;
    ASSERT_EQ(fast.size(), slow.size());
    for (std::size_t i = 0; i < fast.size(); ++i) {
      ASSERT_TRUE(fast[i].is_finite) << "row " << i;
      ASSERT_EQ(fast[i].watched.size(), slow[i].watched.size());
      double worst = 0;
      for (std::size_t t = 0; t < slow[i].watched.size(); ++t)
        worst =
            std::max(worst, std::abs(static_cast<double>(fast[i].watched[t]) - slow[i].watched[t]));
      EXPECT_LT(worst, limit) << "row " << i << " of " << fast.size() << ", " << shape.heads << "/"
                              << shape.kv_heads << " heads, " << shape.head_dim << " wide, "
                              << scalar;
      EXPECT_NEAR(fast[i].entropy, slow[i].entropy, limit);
    }
  }
};

inline std::vector<int> positions_of(int rows) {
  std::vector<int> positions;
  for (int i = 0; i < rows; ++i) positions.push_back((i * 37 + 11) % 150);
  return positions;
}

}  // namespace pensive::kernels
