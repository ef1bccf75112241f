// Whole decode steps on the card against the same steps made of single CPU operations.
#include <gtest/gtest.h>

#include <cstdlib>

#include "kernels_whole_steps.h"
#include "pensive/base.h"

namespace pensive::kernels {
namespace {

class Decode : public WholeSteps {
 protected:
  Decode() : WholeSteps(23) {}
};

constexpr at::ScalarType scalars[] = {at::kFloat, at::kBFloat16, at::kHalf};

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

TEST_F(Decode, RowsEqualInBrief) {
  for (const int rows : {2, 9, 33, 65, 129})
    expect_equal({.has_biases = rows == 9}, positions_of(rows), at::kBFloat16);
  for (const int rows : {1, 9}) expect_equal({}, positions_of(rows), at::kFloat);
  expect_equal({.vocab = 8200, .page_tokens = 3, .has_norms = true}, {2100, 7, 64}, at::kHalf);
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
      for (int group = 1; group <= 9; ++group)
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

TEST_F(Decode, LooksUpWhatTheStepBeforeDraws) {
  // A step launched before the last one's tokens are known, against one that is told them.
  for (const int rows : {1, 3, 20}) {
    const Shape shape{.vocab = 300};
    std::vector<int> positions = positions_of(rows);
    for (int& position : positions) ++position;  // of the second step
    const int pages = pages_for(shape, positions);
    const DecodeModel model = random_model(shape, pages, at::kHalf);
    const Rows own = random_rows(shape, positions, pages, at::kHalf);
    const at::Tensor table = random({shape.vocab, shape.width}, at::kHalf).to(card_);
    const at::Tensor embeddings = own.embeddings.to(card_);
    std::vector<DecodeRow> first, ahead;
    for (int i = 0; i < rows; ++i) {
      const auto at = static_cast<std::size_t>(i);
      first.push_back({embeddings[i].const_data_ptr(), positions[at] - 1, own.pages[at]});
      ahead.push_back({table.const_data_ptr(), positions[at], own.pages[at], rows - 1 - i});
    }
    std::vector<DrawRow> wishes(static_cast<std::size_t>(rows));
    for (std::size_t i = 0; i < wishes.size(); ++i) {
      wishes[i].key = i;
      wishes[i].watched = {0, 7, 299};
    }
    for (const OneRow way : {OneRow::chain, OneRow::stays}) {
      DecodeModel waits = on(model, card_), runs = on(model, card_);
      waits.one_row = runs.one_row = way;
      const auto waiting = DecodeSteps::make(waits, rows), running = DecodeSteps::make(runs, rows);
      const std::vector<Drawn> drawn = waiting->run(first, wishes);
      std::vector<DecodeRow> told = ahead;
      for (DecodeRow& row : told) {
        row.embedding = table[drawn[static_cast<std::size_t>(row.drawn)].token].const_data_ptr();
        row.drawn = -1;
      }
      const std::vector<Drawn> then = waiting->run(told, wishes);
      ASSERT_TRUE(running->launch(first, wishes));
      ASSERT_TRUE(running->launch(ahead, wishes));
      running->wait();
      const std::vector<Drawn> found = running->wait();
      for (std::size_t i = 0; i < found.size(); ++i) {
        EXPECT_EQ(found[i].token, then[i].token) << rows << " rows";
        EXPECT_EQ(found[i].watched, then[i].watched) << rows << " rows";
      }
    }
  }
}

TEST_F(Decode, RefusesWhatItCannotDo) {
  EXPECT_EQ(DecodeSteps::make(random_model({}, 4, at::kFloat), 4), nullptr);  // on the CPU
  EXPECT_EQ(DecodeSteps::make(on(random_model({}, 4, at::kDouble), card_), 4), nullptr);
  EXPECT_EQ(DecodeSteps::make(on(random_model({.inner = 94}, 4, at::kFloat), card_), 4), nullptr);
  EXPECT_EQ(DecodeSteps::make(on(random_model({.head_dim = 20}, 4, at::kHalf), card_), 4), nullptr);
}

}  // namespace
}  // namespace pensive::kernels
