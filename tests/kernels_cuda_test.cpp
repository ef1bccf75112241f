// Each CUDA operation against its CPU twin, on fresh random inputs.
#include "kernels_as_card.h"
#include "kernels_oracle.h"
#include "pensive/base.h"

namespace pensive::kernels {
namespace {

const at::ScalarType cuda_types[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};

// Wishes of which some cut, mask, bias and list.
DrawRow cutting_wish(int i, int vocab) {
  DrawRow row;
  row.key = mix(17, static_cast<std::uint64_t>(i));
  row.temperature = i % 4 == 0 ? 1.0f : 0.3f * static_cast<float>(i % 7 + 1);
  row.top_k = i % 3 == 0 ? 1 << i % 18 : 0;
  row.top_p = i % 2 ? 0.04f * static_cast<float>(i + 1) : 1.0f;
  row.min_p = i % 5 == 4 ? 0.05f : 0.0f;
  if (i % 6 == 1) row.mask.assign(static_cast<std::size_t>(vocab / 32 + 1), 0x5A5A5A5Au);
  if (i % 6 == 2) {
    row.bias_tokens = {3, vocab - 1};
    row.bias_logits = {9, 11};
  }
  if (i % 8 == 3) row.listed = 5;
  return row;
}

class Cuda : public OnCard {
 protected:
  Cuda() : OnCard(11) {}

  at::Tensor there(const at::Tensor& x) const { return x.to(card_); }

  void expect_same(const at::Tensor& card, const at::Tensor& host, const char* what) const {
    EXPECT_TRUE(card.is_cuda());
    EXPECT_EQ(card.scalar_type(), host.scalar_type());
    ASSERT_EQ(card.sizes(), host.sizes()) << what;
    double limit = host.scalar_type() == at::kBFloat16 ? 4e-3 : tolerance(host.scalar_type()) * 2;
    EXPECT_LT(error(card, host), limit) << what << " " << host.sizes() << " " << host.scalar_type();
  }

  AttentionCase there(const AttentionCase& made) const {
    AttentionCase moved = made;
    for (at::Tensor* x : {&moved.queries, &moved.key_pages, &moved.value_pages, &moved.batch.tables,
                          &moved.batch.starts, &moved.batch.lengths}) {
      *x = x->to(card_);
    }
    return moved;
  }

  void expect_rows(int64_t width, at::ScalarType scalar) const {
    at::Tensor x = random({37, width}, scalar) * 3, weight = random({width}, scalar);
    expect_same(rms_norm(there(x), there(weight), 1e-6), rms_norm(x, weight, 1e-6), "rms_norm");
    at::Tensor many = random({1027, width}, scalar);  // a warp for each row
    expect_same(rms_norm(there(many), there(weight), 1e-6), rms_norm(many, weight, 1e-6),
                "rms_norm of many rows");
    const auto first = [&](std::int64_t rows) {  // of so many that are row-invariant
      return rms_norm(there(many.narrow(0, 0, rows)), there(weight), 1e-6,
                      Arithmetic::row_invariant)
          .narrow(0, 0, 5);
    };
    EXPECT_TRUE(same_bits(first(5), first(1027))) << width << " " << scalar;
    at::Tensor gate_up = random({19, 2 * width}, scalar) * 4;
    expect_same(silu_mul(there(gate_up)), silu_mul(gate_up), "silu_mul");
  }

  void expect_rotation(int64_t dim, at::ScalarType scalar) const {
    at::Tensor whole = random({23, 7 * dim}, scalar);
    at::Tensor angles = at::randn({23, dim / 2}, at::kDouble) * 10;
    at::ScalarType wide = scalar == at::kDouble ? at::kDouble : at::kFloat;
    at::Tensor c = angles.cos().to(wide), s = angles.sin().to(wide);
    auto slice = [&](const at::Tensor& x) { return x.narrow(1, dim, 5 * dim).view({23, 5, dim}); };
    expect_same(rotate(slice(there(whole)), there(c), there(s)), rotate(slice(whole), c, s),
                "rotate");
  }

  void expect_pages(int heads, int64_t dim, at::ScalarType scalar) const {
    at::Tensor keys = random({50, heads, dim}, scalar), values = random({50, heads, dim}, scalar);
    at::Tensor key_pages = random({9, 16, heads, dim}, scalar),
               value_pages = random({9, 16, heads, dim}, scalar);
    at::Tensor key_there = there(key_pages), value_there = there(value_pages);
    PagedBatch batch, moved;
    batch.slots = at::randperm(9 * 16, at::kLong).narrow(0, 0, 50).contiguous();
    batch.slots[7] = -1;
    moved.slots = there(batch.slots);
    write_pages(keys, values, key_pages, value_pages, batch);
    write_pages(there(keys), there(values), key_there, value_there, moved);
    EXPECT_TRUE(same_bits(key_there, key_pages)) << dim << " " << scalar;
    EXPECT_TRUE(same_bits(value_there, value_pages)) << dim << " " << scalar;
  }

  // Coarse values, so that many tie.
  void expect_cuts(int vocab, int rows) const {
    const at::Tensor logits = (at::randn({rows, vocab}) * 12).round() / 4;
    std::vector<DrawRow> wishes;
    for (int i = 0; i < rows; ++i) wishes.push_back(cutting_wish(i, vocab));
    std::vector<Drawn> host = draw(logits, wishes), card = draw(there(logits), wishes);
    int differ = 0;
    for (int i = 0; i < rows; ++i) {
      const Drawn &a = card[static_cast<std::size_t>(i)], &b = host[static_cast<std::size_t>(i)];
      ASSERT_TRUE(a.is_finite && b.is_finite);
      EXPECT_EQ(a.listed_tokens, b.listed_tokens);
      EXPECT_EQ(a.top_token, b.top_token);
      EXPECT_NEAR(a.entropy, b.entropy, 1e-4) << vocab << " row " << i;
      if (a.token != b.token) {
        ++differ;  // two scores closer than rounding
        continue;
      }
      EXPECT_NEAR(a.logprob, b.logprob, 2e-5) << vocab << " row " << i;
      EXPECT_NEAR(a.drawn_logprob, b.drawn_logprob, 1e-4) << vocab << " row " << i;
    }
    EXPECT_LE(differ, 1) << vocab;
  }

  void expect_attention(const AttentionShape& shape, const std::vector<Part>& parts,
                        at::ScalarType scalar) const {
    AttentionCase made = attention_case(shape, parts, scalar), moved = there(made);
    at::Tensor out = attend(moved);
    EXPECT_LT(error(out, naive_attention(made)), 2 * tolerance(scalar))
        << shape.heads << "/" << shape.kv_heads << " heads, " << shape.head_dim << " wide, "
        << shape.page_tokens << " a page, " << scalar;
  }
};

TEST_F(Cuda, PoisonIsThere) {
  // What other tests rely on to see what was not written.
  const Poison poison(true);
  for (const int64_t size : {3, 5000, 3000000})
    EXPECT_TRUE(
        at::empty({size}, at::dtype(at::kBFloat16).device(card_)).isnan().all().item<bool>())
        << size;
}

TEST_F(Cuda, RowOperationsEqualTheCpu) {
  for (at::ScalarType scalar : cuda_types) {
    for (int64_t width : {1, 31, 192, 576, 1536, 5000}) expect_rows(width, scalar);
    for (int64_t dim : {2, 32, 64, 80, 96, 128}) expect_rotation(dim, scalar);
  }
  at::Tensor many = random({70000, 2 * 3}, at::kFloat);
  expect_same(silu_mul(there(many)), silu_mul(many), "silu_mul of many rows");
}

TEST_F(Cuda, RowOperationsInBrief) {
  for (at::ScalarType scalar : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (int64_t width : {31, 192}) expect_rows(width, scalar);
    for (int64_t dim : {2, 80}) expect_rotation(dim, scalar);
    for (int64_t dim : {1, 3, 32}) expect_pages(1, dim, scalar);
  }
}

TEST_F(Cuda, WritePagesEqualsTheCpu) {
  for (at::ScalarType scalar : cuda_types)
    for (int heads : {1, 2})  // units of 2, 4 and 16 bytes
      for (int64_t dim : {1, 3, 32, 64, 96, 1025}) expect_pages(heads, dim, scalar);
}

TEST_F(Cuda, AttentionEqualsTheNaiveOne) {
  for (at::ScalarType scalar : cuda_types) {
    for (int group : {1, 2, 3, 4, 5, 6, 7, 8, 9, 20}) {
      expect_attention({2 * group, 2, 32, 16}, {{17, 1}, {140, 5}, {1, 1}}, scalar);
      expect_attention({2 * group, 2, 64, 16}, {{64, 1}, {65, 1}, {700, 1}}, scalar);
    }
    for (int dim : {16, 20, 48, 80, 96, 128, 256}) {
      expect_attention({6, 2, dim, 16}, {{33, 1}, {120, 70}, {3, 3}}, scalar);
    }
    for (int page_tokens : {1, 3, 64}) {
      expect_attention({6, 2, 64, page_tokens}, {{300, 11}, {9, 9}, {128, 1}}, scalar);
    }
  }
}

TEST_F(Cuda, AttentionEqualsOverTheLongestRows) {
  for (at::ScalarType scalar : {at::kBFloat16, at::kHalf})
    expect_attention({6, 2, 64, 16}, {{33000, 1}, {1, 1}, {32999, 3}}, scalar);
}

TEST_F(Cuda, AttentionInBrief) {
  for (at::ScalarType scalar : {at::kFloat, at::kBFloat16}) {
    expect_attention({6, 2, 80, 16}, {{33, 1}, {70, 20}, {3, 3}}, scalar);
    expect_attention({18, 2, 64, 3}, {{65, 1}, {9, 9}}, scalar);
  }
}

TEST_F(Cuda, AttentionBitsDependOnTheSequenceOnly) {
  std::vector<Part> parts{{150, 1}, {90, 90}, {333, 40}, {64, 1}, {65, 2}};
  for (AttentionShape shape : {AttentionShape{6, 2, 32, 16}, AttentionShape{12, 2, 128, 16}}) {
    for (at::ScalarType scalar : cuda_types) {
      AttentionCase moved = there(attention_case(shape, parts, scalar));
      at::Tensor whole = attend(moved);
      int before = 0;
      for (std::size_t s = 0; s < parts.size(); ++s) {
        for (int row = 0; row < parts[s].queries; row += 13) {
          AttentionCase one = moved;
          one.queries = moved.queries.narrow(0, before + row, 1);
          one.batch.tables = moved.batch.tables.narrow(0, static_cast<int64_t>(s), 1);
          one.batch.starts = at::tensor({0, 1}, at::kInt).to(card_);
          int length = parts[s].length - parts[s].queries + row + 1;
          one.batch.lengths = at::tensor({length}, at::kInt).to(card_);
          one.batch.longest_query = 1;
          ASSERT_TRUE(same_bits(attend(one), whole.narrow(0, before + row, 1)))
              << "sequence " << s << ", row " << row << ", " << scalar;
        }
        before += parts[s].queries;
      }
    }
  }
}

TEST_F(Cuda, RowInvariantProductsHaveTheSameBitsInAnyCompany) {
  for (at::ScalarType scalar : {at::kFloat, at::kBFloat16, at::kHalf}) {
    // The last in a width that our kernel does not take.
    for (auto [out, in] : {std::pair<int64_t, int64_t>{320, 192},
                           {33, 192},
                           {1536, 576},
                           {4097, 1544},
                           {9000, 264},
                           {33, 190}}) {
      at::Tensor x = random({210, in}, scalar), weight = random({out, in}, scalar);
      at::Tensor bias = random({out}, scalar);
      at::Tensor exact = at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t());
      auto product = [&](const at::Tensor& rows, bool has_bias) {
        return linear(there(rows), there(weight), has_bias ? there(bias) : at::Tensor(),
                      Arithmetic::row_invariant);
      };
      at::Tensor whole = product(x, true), plain = product(x, false);
      at::Tensor wide = linear_wide(there(x), there(weight), Arithmetic::row_invariant);
      EXPECT_LT(error(whole, exact + bias), scalar == at::kFloat ? 2e-3 : 8e-3);
      EXPECT_LT(error(plain, exact), scalar == at::kFloat ? 2e-3 : 8e-3);
      EXPECT_EQ(wide.scalar_type(), at::kFloat);
      if (in % 8 == 0) {
        EXPECT_LT(error(wide, exact), 1e-6);
        EXPECT_TRUE(same_bits(wide.to(scalar), plain));
      }
      for (auto [first, count] :
           {std::pair{0, 1}, {69, 1}, {3, 8}, {3, 17}, {1, 40}, {100, 64}, {9, 65}, {7, 150}}) {
        at::Tensor rows = x.narrow(0, first, count);
        EXPECT_TRUE(same_bits(product(rows, true), whole.narrow(0, first, count)))
            << first << " + " << count << " of " << out << " x " << in << " " << scalar;
        EXPECT_TRUE(same_bits(linear_wide(there(rows), there(weight), Arithmetic::row_invariant),
                              wide.narrow(0, first, count)));
      }
    }
  }
}

TEST_F(Cuda, FusedAndDifferentiableVersionsAgree) {
  at::Tensor weight = there(random({64}, at::kFloat));
  at::Tensor x = there(random({20, 64}, at::kFloat)).requires_grad_(true);
  at::Tensor y = rms_norm(x, weight, 1e-6);
  ASSERT_TRUE(y.requires_grad());
  EXPECT_LT(error(rms_norm(x.detach(), weight, 1e-6), y.detach()), 2e-6);
  EXPECT_LT(error(silu_mul(x.detach()), silu_mul(x).detach()), 2e-6);
  y.sum().backward();
  EXPECT_TRUE(x.grad().isfinite().all().item<bool>());
}

std::vector<DrawRow> random_wishes(int rows, int vocab) {
  std::vector<DrawRow> wishes(rows);
  for (int i = 0; i < rows; ++i) {
    DrawRow& row = wishes[i];
    row.key = mix(3, i);
    row.temperature = i % 5 == 0 ? 0.0f : 0.4f + 0.1f * static_cast<float>(i % 9);
    row.top_k = i % 3 == 0 ? 1 + i % 20 : 0;
    row.top_p = i % 2 ? 0.85f : 1.0f;
    if (i % 4 == 0) {
      row.bias_tokens = {i % vocab, (7 * i) % vocab};
      row.bias_logits = {2, -1};
      row.bias_times_max_minus_mean = {0, 0.3f};
      if (i % 8 == 0) row.bias_repetitions = {1.2f, 0.8f};
      if (i % 12 == 0) row.bias_penalties = {0.5f, -0.5f};
    }
    if (i % 6 == 1) row.mask.assign(vocab / 32 + 1, 0x7F7F7F7Fu);
    if (i % 5 == 3) row.min_p = 0.1f;
    if (i % 9 == 4) row.listed = 1 + i % 20;
    if (i % 7 == 2) row.watched = {0, vocab - 1, i % vocab};
  }
  return wishes;
}

TEST_F(Cuda, DrawsWhatTheCpuDraws) {
  for (int vocab : {1, 33, 500, 4096, 49152, 151936}) {
    int rows = vocab > 10000 ? 40 : 400;
    at::Tensor logits = at::randn({rows, vocab}) * 3;
    if (vocab > 1) logits.select(1, vocab / 2) = -INFINITY;
    std::vector<DrawRow> wishes = random_wishes(rows, vocab);
    std::vector<Drawn> host = draw(logits, wishes), card = draw(there(logits), wishes);
    int differ = 0;
    for (int i = 0; i < rows; ++i) {
      ASSERT_EQ(card[i].is_finite, host[i].is_finite) << vocab << " row " << i;
      if (!host[i].is_finite) continue;
      EXPECT_EQ(card[i].top_token, host[i].top_token);
      EXPECT_NEAR(card[i].top_logprob, host[i].top_logprob, 1e-5);
      EXPECT_NEAR(card[i].entropy, host[i].entropy, 1e-4);
      ASSERT_EQ(card[i].watched.size(), host[i].watched.size());
      for (std::size_t w = 0; w < host[i].watched.size(); ++w) {
        // Of equal infinities the difference is no number.
        if (card[i].watched[w] == host[i].watched[w]) continue;
        EXPECT_NEAR(card[i].watched[w], host[i].watched[w], 1e-5);
      }
      EXPECT_EQ(card[i].listed_tokens, host[i].listed_tokens);
      for (std::size_t l = 0; l < host[i].listed_logprobs.size(); ++l) {
        if (card[i].listed_logprobs[l] == host[i].listed_logprobs[l]) continue;
        EXPECT_NEAR(card[i].listed_logprobs[l], host[i].listed_logprobs[l], 1e-5);
      }
      if (card[i].token != host[i].token) {
        ++differ;  // two scores closer than rounding
        continue;
      }
      EXPECT_NEAR(card[i].logprob, host[i].logprob, 1e-5);
      EXPECT_NEAR(card[i].drawn_logprob, host[i].drawn_logprob, 1e-4) << vocab << " row " << i;
    }
    EXPECT_LE(differ, rows / 200 + 1) << vocab;
  }
}

TEST_F(Cuda, DrawSeesNanAndNothingAllowed) {
  at::Tensor logits = at::randn({5, 300});
  logits[0][299] = NAN;
  logits[1][17] = INFINITY;
  logits[2].fill_(-INFINITY);
  std::vector<DrawRow> wishes(5);
  wishes[3].mask = {0};
  std::vector<Drawn> card = draw(there(logits), wishes);
  for (int row = 0; row < 4; ++row) EXPECT_FALSE(card[row].is_finite) << row;
  EXPECT_TRUE(card[4].is_finite);
  EXPECT_EQ(card[4].token, draw(logits, wishes)[4].token);
}

TEST_F(Cuda, DrawForbidsWhatAMaskForbidsWhateverItsBias) {
  const at::Tensor logits = at::randn({1, 300});
  DrawRow row;
  row.mask.assign(10, ~std::uint32_t{2});  // not 1, 33, 65 …
  row.bias_tokens = {33, 40};
  row.bias_logits = {INFINITY, 1};
  const Drawn host = draw(logits, {row})[0], card = draw(there(logits), {row})[0];
  EXPECT_TRUE(card.is_finite);
  EXPECT_EQ(card.token, host.token);
}

TEST_F(Cuda, CutsTiesAsTheCpuDoes) {
  for (int trial = 0; trial < 100; ++trial) {
    int vocab = 2 + trial % 90;
    at::Tensor logits = at::randint(-4, 4, {1, vocab}, at::kFloat) * 0.7;
    DrawRow row;
    row.top_k = trial % 7;
    row.top_p = 0.05f + 0.95f * static_cast<float>(trial % 11) / 10;
    row.min_p = trial % 4 == 0 ? 0.1f : 0.0f;
    row.key = trial;
    Drawn host = draw(logits, {row})[0], card = draw(there(logits), {row})[0];
    EXPECT_EQ(card.token, host.token) << trial;
    EXPECT_NEAR(card.drawn_logprob, host.drawn_logprob, 1e-5) << trial;
  }
}

TEST_F(Cuda, CutsWideRowsAsTheCpuDoes) {
  for (const int vocab : {8192, 20001, 50002, 151936}) expect_cuts(vocab, 24);
  expect_cuts(500000, 6);  // more than a team's blocks hold
}

TEST_F(Cuda, CutsWideRowsOnOlderCards) {
  const AsCard older(8, 0);  // a block alone, which holds up to some 55,000 values
  for (const int vocab : {8192, 20001, 50002, 151936}) expect_cuts(vocab, 24);
}

TEST_F(Cuda, DrawsInBrief) {
  expect_cuts(9001, 8);
  const AsCard older(8, 0);
  expect_cuts(9001, 8);
}

TEST_F(Cuda, ThreadsMayDrawFromOtherVocabulariesAtOnce) {
  std::vector<std::function<void()>> calls;
  for (const int vocab : {9001, 150000}) {
    const at::Tensor logits = at::randn({3, vocab}).to(card_);
    calls.push_back([logits] {
      for (const Drawn& one : draw(logits, std::vector<DrawRow>(3))) EXPECT_TRUE(one.is_finite);
    });
  }
  call_at_once(calls, 300);
}

TEST_F(Cuda, KnowsItsMemory) {
  Memory card = memory({DeviceKind::cuda, 0});
  EXPECT_GT(card.total_bytes, int64_t{1} << 30);
  EXPECT_GT(card.free_bytes, 0);
  EXPECT_LE(card.free_bytes, card.total_bytes);
  EXPECT_EQ(resolve({}).kind, DeviceKind::cuda);
}

}  // namespace
}  // namespace pensive::kernels
