// Whole decode steps on the card against the same steps made of single CPU operations.
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels_steps.h"
#include "pensive/base.h"

namespace pensive::kernels {
namespace {

// The slow twin.
std::vector<Drawn> step_by_step(DecodeModel& model, const Rows& rows,
                                const std::vector<DrawRow>& wishes) {
  std::vector<TwinRow> all;
  for (std::size_t i = 0; i < rows.positions.size(); ++i)
    all.push_back({nullptr, rows.positions[i], rows.pages[i]});
  return step_by_step(model, all, rows.embeddings, wishes);
}

class Decode : public OnCard {
 protected:
  Decode() : OnCard(23) {}

  // One row alone both ways that there are.
  void expect_equal(const Shape& shape, const std::vector<int>& positions, at::ScalarType scalar) {
    expect_equal(shape, positions, scalar, OneRow::chain);
    if (positions.size() == 1) expect_equal(shape, positions, scalar, OneRow::stays);
  }

  // Greedy draws that tell the logprobs of many tokens; three times, so that the third is a graph.
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
    poison();
    const auto steps = DecodeSteps::make(moved, static_cast<int>(positions.size()) + 3);
    ASSERT_NE(steps, nullptr);
    const at::Tensor embeddings = rows.embeddings.to(card_);
    std::vector<DecodeRow> asked;
    for (std::size_t i = 0; i < positions.size(); ++i)
      asked.push_back(
          {embeddings[static_cast<std::int64_t>(i)].const_data_ptr(), positions[i], rows.pages[i]});
    const std::vector<Drawn> slow = step_by_step(model, rows, wishes);
    for (int again = 0; again < 3; ++again) {
      const std::vector<Drawn> fast = steps->run(asked, wishes);
      expect_near(fast, slow, shape, scalar);
    }
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

constexpr at::ScalarType scalars[] = {at::kFloat, at::kBFloat16, at::kHalf};

std::vector<int> positions_of(int rows) {
  std::vector<int> positions;
  for (int i = 0; i < rows; ++i) positions.push_back((i * 37 + 11) % 150);
  return positions;
}

TEST_F(Decode, EqualsSingleOperationsForEveryNumberOfRows) {
  for (const at::ScalarType scalar : scalars)
    for (const int rows : {1, 2, 3, 5, 8, 9, 16, 17, 40, 64, 65, 128, 129, 256})
      expect_equal({}, positions_of(rows), scalar);
}

TEST_F(Decode, EqualsForOddShapes) {
  for (const at::ScalarType scalar : scalars) {
    for (const int rows : {1, 3, 20}) {
      for (const int head_dim : {64, 80, 96, 128, 256})
        expect_equal({.heads = 4, .head_dim = head_dim}, positions_of(rows), scalar);
      for (const int group : {1, 2, 3, 5, 7, 8, 9, 20})
        expect_equal({.heads = 2 * group}, positions_of(rows), scalar);
      expect_equal({.width = 200, .inner = 328, .vocab = 9001, .page_tokens = 3},
                   positions_of(rows), scalar);
      expect_equal({.width = 1544, .inner = 2056, .vocab = 513}, positions_of(rows), scalar);
    }
  }
}

TEST_F(Decode, EqualsWithBiasesAndNorms) {
  for (const at::ScalarType scalar : scalars)
    for (const int rows : {1, 2, 7, 33}) {
      expect_equal({.has_biases = true}, positions_of(rows), scalar);
      expect_equal({.has_norms = true}, positions_of(rows), scalar);
      expect_equal({.has_biases = true, .has_norms = true}, positions_of(rows), scalar);
    }
}

TEST_F(Decode, EqualsAtEveryKindOfLength) {
  for (const at::ScalarType scalar : scalars) {
    expect_equal({}, {0, 62, 63, 64, 65, 127, 128, 511, 512, 513, 600, 2047, 2048, 3000}, scalar);
    expect_equal({.heads = 16, .head_dim = 64}, {3900}, scalar);
    expect_equal({.page_tokens = 1}, {300, 1}, scalar);
  }
}

TEST_F(Decode, EqualsForEveryHeadAndGroup) {
  for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf})
    for (const int head_dim : {64, 80, 96, 128})
      for (int group = 1; group <= 8; ++group)
        expect_equal({.heads = 2 * group, .head_dim = head_dim, .has_biases = group % 2 == 0},
                     {0, 77, 128, 700 + 100 * group}, scalar);
}

TEST_F(Decode, OneRowEqualsInBrief) {
  // Few cases, for tools under which each takes long: a stretch alone, few, and many.
  expect_equal({.heads = 2, .head_dim = 64}, {30}, at::kBFloat16);
  expect_equal({.heads = 12, .head_dim = 128, .has_biases = true}, {300}, at::kBFloat16);
  expect_equal({.heads = 4, .head_dim = 64, .has_norms = true}, {2100}, at::kHalf);
}

TEST_F(Decode, OneRowEqualsForEveryHeadGroupAndLength) {
  // A stretch alone, a few that every block joins, and many.
  for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf}) {
    for (const int head_dim : {64, 80, 96, 128})
      for (const int group : {1, 3, 6, 8, 9})
        expect_equal({.heads = 2 * group, .head_dim = head_dim, .has_biases = group % 2 == 0},
                     {70 * group + head_dim}, scalar);
    for (const int position : {0, 63, 64, 511, 512, 2047, 2048, 3999})
      expect_equal({.heads = 6, .head_dim = 64, .has_norms = true}, {position}, scalar);
  }
}

TEST_F(Decode, EqualsInLongRowsAndCompany) {
  // Splits of one block, of teams, and several splits a team's worth each.
  for (const at::ScalarType scalar : scalars) {
    expect_equal({.heads = 4, .head_dim = 128, .positions = 33001}, {33000}, scalar);
    expect_equal({.heads = 4, .head_dim = 64, .positions = 9001}, {9000, 5, 700, 0, 8191}, scalar);
    std::vector<int> positions;
    for (int row = 0; row < 70; ++row) positions.push_back(row * 61 % 3000);
    expect_equal({.heads = 12, .head_dim = 80}, positions, scalar);
    positions.assign(150, 40);
    positions[3] = 3900;
    expect_equal({}, positions, scalar);
  }
}

TEST_F(Decode, RowsDoNotSeeTheirNeighbours) {
  // Of one size of step: the bits of a row are the same whoever else is there.
  const Shape shape{.vocab = 300};
  const std::vector<int> positions = positions_of(8);
  const int pages = pages_for(shape, positions);
  DecodeModel model = on(random_model(shape, pages, at::kBFloat16), card_);
  const Rows rows = random_rows(shape, positions, pages, at::kBFloat16);
  const at::Tensor embeddings = rows.embeddings.to(card_);
  const auto steps = DecodeSteps::make(model, 8);
  std::vector<DecodeRow> asked;
  std::vector<DrawRow> wishes(8);
  for (std::size_t i = 0; i < 8; ++i) {
    asked.push_back(
        {embeddings[static_cast<std::int64_t>(i)].const_data_ptr(), positions[i], rows.pages[i]});
    wishes[i].key = i;
    wishes[i].watched = {1, 2, 3, static_cast<int>(i)};
  }
  const std::vector<Drawn> all = steps->run(asked, wishes);
  for (int round = 0; round < 3; ++round) {
    for (std::size_t first = 0; first < 3; ++first) {
      const std::vector<DecodeRow> some(asked.begin() + static_cast<long>(first),
                                        asked.begin() + static_cast<long>(first) + 5);
      const std::vector<DrawRow> own(wishes.begin() + static_cast<long>(first),
                                     wishes.begin() + static_cast<long>(first) + 5);
      const std::vector<Drawn> fewer = steps->run(some, own);
      for (std::size_t i = 0; i < fewer.size(); ++i) {
        EXPECT_EQ(fewer[i].token, all[first + i].token);
        EXPECT_EQ(fewer[i].logprob, all[first + i].logprob);
        EXPECT_EQ(fewer[i].watched, all[first + i].watched);
      }
    }
  }
}

TEST_F(Decode, DrawsWhatASingleDrawDraws) {
  // Temperature, cuts, biases, masks and lists go through the step as through draw().
  const Shape shape{.vocab = 9000};
  const std::vector<int> positions = positions_of(12);
  const int pages = pages_for(shape, positions);
  DecodeModel model = random_model(shape, pages, at::kFloat), moved = on(model, card_);
  const Rows rows = random_rows(shape, positions, pages, at::kFloat);
  const at::Tensor embeddings = rows.embeddings.to(card_);
  const auto steps = DecodeSteps::make(moved, 16);
  std::vector<DecodeRow> asked;
  std::vector<DrawRow> wishes(positions.size());
  for (std::size_t i = 0; i < positions.size(); ++i) {
    asked.push_back(
        {embeddings[static_cast<std::int64_t>(i)].const_data_ptr(), positions[i], rows.pages[i]});
    DrawRow& row = wishes[i];
    row.key = mix(5, i);
    row.temperature = i % 4 == 0 ? 0.0f : 0.7f;
    row.top_k = i % 3 == 0 ? 40 : 0;
    row.top_p = i % 2 ? 0.9f : 1.0f;
    row.min_p = i % 5 == 3 ? 0.02f : 0.0f;
    if (i % 3 == 1) {
      row.bias_tokens = {static_cast<int>(i), 8999};
      row.bias_logits = {1, 3};
    }
    if (i % 6 == 2) row.mask.assign(9000 / 32 + 1, 0x77777777u);
    row.listed = static_cast<int>(i);
  }
  const std::vector<Drawn> slow = step_by_step(model, rows, wishes);
  int differ = 0;
  for (int again = 0; again < 3; ++again) {
    const std::vector<Drawn> fast = steps->run(asked, wishes);
    for (std::size_t i = 0; i < fast.size(); ++i) {
      EXPECT_EQ(fast[i].listed_tokens.size(), i);
      if (fast[i].token != slow[i].token) {
        ++differ;  // two scores closer than rounding
        continue;
      }
      EXPECT_NEAR(fast[i].logprob, slow[i].logprob, 1e-4);
      EXPECT_NEAR(fast[i].drawn_logprob, slow[i].drawn_logprob, 1e-3) << i;
    }
  }
  EXPECT_LE(differ, 3);
}

TEST_F(Decode, RefusesWhatItCannotDo) {
  EXPECT_EQ(DecodeSteps::make(random_model({}, 4, at::kFloat), 4), nullptr);  // on the CPU
  EXPECT_EQ(DecodeSteps::make(on(random_model({}, 4, at::kDouble), card_), 4), nullptr);
  EXPECT_EQ(DecodeSteps::make(on(random_model({.inner = 94}, 4, at::kFloat), card_), 4), nullptr);
  EXPECT_EQ(DecodeSteps::make(on(random_model({.head_dim = 20}, 4, at::kHalf), card_), 4), nullptr);
}

}  // namespace
}  // namespace pensive::kernels
