#include <ATen/Parallel.h>

#include "kernels_oracle.h"
#include "pensive/base.h"

namespace pensive::kernels {
namespace {

void expect_naive(const AttentionShape& shape, const std::vector<Part>& parts,
                  at::ScalarType scalar) {
  AttentionCase made = attention_case(shape, parts, scalar);
  at::Tensor out = attend(made);
  EXPECT_EQ(out.scalar_type(), scalar);
  EXPECT_LT(error(out, naive_attention(made)), tolerance(scalar))
      << shape.heads << " heads, " << shape.kv_heads << " kv heads, " << shape.head_dim << " wide";
}

TEST(PagedAttention, EqualsTheNaiveOneForEveryGroupAndWidth) {
  seed(1);
  for (at::ScalarType scalar : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf}) {
    for (int group = 1; group <= 8; ++group) {
      expect_naive({2 * group, 2, 32, 16}, {{17, 1}, {40, 5}, {1, 1}}, scalar);
    }
    for (int head_dim : {4, 16, 20, 48, 64, 80, 128, 200}) {
      expect_naive({3, 1, head_dim, 16}, {{33, 1}, {20, 20}}, scalar);
    }
  }
}

TEST(PagedAttention, EqualsTheNaiveOneForOddLengthsAndPages) {
  seed(2);
  for (int page_tokens : {1, 3, 16, 64}) {
    expect_naive({3, 3, 16, page_tokens}, {{1, 1}, {700, 3}, {31, 31}, {32, 1}, {65, 2}},
                 at::kFloat);
  }
  expect_naive({2, 1, 64, 16}, {{1023, 700}}, at::kFloat);
}

// Rows [first, first + count) of sequence s alone, as a later or smaller step would ask for them.
AttentionCase piece(const AttentionCase& made, std::size_t s, int first, int count) {
  AttentionCase one = made;
  int before = made.batch.starts[static_cast<int64_t>(s)].item<int>();
  int length = made.parts[s].length - made.parts[s].queries + first + count;
  one.queries = made.queries.narrow(0, before + first, count);
  one.parts = {{length, count}};
  one.batch.tables = made.batch.tables.narrow(0, static_cast<int64_t>(s), 1);
  one.batch.starts = at::tensor({0, count}, at::kInt);
  one.batch.lengths = at::tensor({length}, at::kInt);
  return one;
}

TEST(PagedAttention, GivesTheSameBitsAloneBatchedChunkedAndDecoded) {
  seed(3);
  std::vector<Part> parts{{150, 1}, {90, 90}, {333, 40}, {16, 1}, {17, 17}, {600, 2}};
  for (AttentionShape shape : {AttentionShape{6, 2, 32, 16}, AttentionShape{9, 3, 64, 16}}) {
    for (at::ScalarType scalar : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
      AttentionCase made = attention_case(shape, parts, scalar);
      at::Tensor whole = attend(made);
      int before = 0;
      for (std::size_t s = 0; s < parts.size(); ++s) {
        int n = parts[s].queries;
        for (int step : {1, 7, n}) {
          for (int first = 0; first < n; first += step) {
            int count = std::min(step, n - first);
            at::Tensor part = attend(piece(made, s, first, count));
            ASSERT_TRUE(same_bits(part, whole.narrow(0, before + first, count)))
                << "sequence " << s << ", rows from " << first << ", " << count;
          }
        }
        before += n;
      }
    }
  }
}

TEST(PagedAttention, GivesTheSameBitsOnAnyNumberOfThreads) {
  seed(4);
  AttentionCase made = attention_case({6, 2, 32, 16}, {{150, 1}, {500, 300}, {90, 1}}, at::kFloat);
  int threads = at::get_num_threads();
  at::Tensor many = attend(made);
  at::set_num_threads(1);
  at::Tensor one = attend(made);
  at::set_num_threads(threads);
  EXPECT_TRUE(same_bits(many, one));
}

TEST(PagedAttention, TakesQueriesThatAreASliceOfAWiderProduct) {
  seed(5);
  AttentionCase made = attention_case({6, 2, 32, 16}, {{40, 10}}, at::kFloat);
  at::Tensor whole = attend(made);
  at::Tensor wide = at::zeros({10, 10 * 32});
  at::Tensor slice = wide.narrow(1, 32, 6 * 32).view({10, 6, 32});
  slice.copy_(made.queries);
  made.queries = slice;
  EXPECT_FALSE(slice.is_contiguous());
  EXPECT_TRUE(same_bits(attend(made), whole));
}

TEST(PagedAttention, LargeScoresDoNotOverflow) {
  seed(6);
  AttentionCase made = attention_case({2, 2, 32, 16}, {{50, 3}}, at::kFloat);
  made.scale = 300;
  EXPECT_LT(error(attend(made), naive_attention(made)), 1e-3);
}

TEST(PagedAttention, RefusesWhatDoesNotFit) {
  AttentionCase made = attention_case({6, 2, 32, 16}, {{40, 10}}, at::kFloat);
  AttentionCase wrong = made;
  wrong.queries = made.queries.to(at::kDouble);
  EXPECT_THROW(attend(wrong), Error);
  wrong = made;
  wrong.queries = made.queries.narrow(1, 0, 5);
  EXPECT_THROW(attend(wrong), Error);
  wrong = made;
  wrong.batch.tables = made.batch.tables.to(at::kLong);
  EXPECT_THROW(attend(wrong), Error);
  wrong = made;
  wrong.batch.lengths = at::tensor({9}, at::kInt);
  EXPECT_THROW(attend(wrong), Error);
  wrong.batch.lengths = at::tensor({4000}, at::kInt);
  EXPECT_THROW(attend(wrong), Error);
}

TEST(WritePages, PutsEveryRowInItsSlotAndNothingElse) {
  seed(7);
  for (at::ScalarType scalar : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    at::Tensor wide = random({5, 4 * 12}, scalar);
    at::Tensor keys = wide.narrow(1, 0, 24).view({5, 2, 12});
    at::Tensor values = wide.narrow(1, 24, 24).view({5, 2, 12});
    at::Tensor key_pages = random({7, 4, 2, 12}, scalar), value_pages = key_pages.clone();
    at::Tensor expected_keys = key_pages.clone().view({28, 2, 12});
    at::Tensor expected_values = expected_keys.clone();
    PagedBatch batch;
    batch.slots = at::tensor(std::vector<int64_t>{27, 0, -1, 4, 13}, at::kLong);
    for (int64_t row = 0; row < 5; ++row) {
      if (row == 2) continue;  // a negative slot
      expected_keys[batch.slots[row].item<int64_t>()] = keys[row];
      expected_values[batch.slots[row].item<int64_t>()] = values[row];
    }
    write_pages(keys, values, key_pages, value_pages, batch);
    EXPECT_TRUE(same_bits(key_pages.view({28, 2, 12}), expected_keys));
    EXPECT_TRUE(same_bits(value_pages.view({28, 2, 12}), expected_values));
    batch.slots[0] = 28;
    EXPECT_THROW(write_pages(keys, values, key_pages, value_pages, batch), Error);
  }
}

}  // namespace
}  // namespace pensive::kernels
