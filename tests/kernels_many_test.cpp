// What prompts ask of a card, products of many rows with what follows them and attention without
// gradients, against plain float64; on 9.0 these are kernels of ours, elsewhere libtorch's.
#include "kernels/cpu.h"
#include "kernels/packed.h"
#include "kernels_as_card.h"
#include "kernels_oracle.h"

namespace pensive::kernels {
namespace {

constexpr at::ScalarType brief_types[] = {at::kBFloat16, at::kHalf};

struct Packed {
  at::Tensor queries, keys, values;  // views of wider rows
  PackedBatch batch;
};

Packed packed(const AttentionShape& shape, const std::vector<Part>& parts, at::ScalarType scalar) {
  std::vector<std::int64_t> queries, keys;
  std::int64_t rows = 0, all = 0;
  for (const Part& part : parts) {
    queries.push_back(part.queries);
    keys.push_back(part.length);
    rows += part.queries;
    all += part.length;
  }
  Packed made;
  made.batch = pack(queries, keys, at::kCPU);
  made.queries =
      random({rows, shape.heads + 2, shape.head_dim}, scalar).narrow(1, 1, shape.heads) * 2;
  const at::Tensor both = random({all, 2 * shape.kv_heads, shape.head_dim}, scalar);
  made.keys = both.narrow(1, 0, shape.kv_heads);
  made.values = both.narrow(1, shape.kv_heads, shape.kv_heads);
  return made;
}

PackedBatch moved(const PackedBatch& batch, at::Device card) {
  PackedBatch there = batch;
  there.query_starts = there.query_starts.to(card);
  there.key_starts = there.key_starts.to(card);
  return there;
}

class ManyOnCard : public OnCard {
 protected:
  ManyOnCard() : OnCard(31) {}

  bool is_ours() const { return cuda::capability(card_.index()) == std::pair(9, 0); }
  at::Tensor there(const at::Tensor& x) const { return x.to(card_); }

  void expect_silu(std::int64_t rows, std::int64_t inner, std::int64_t in,
                   at::ScalarType scalar) const {
    const at::Tensor x = random({rows, in}, scalar);
    const at::Tensor weight = random({2 * inner, in}, scalar) / std::sqrt(static_cast<double>(in));
    const at::Tensor both = x.to(at::kDouble).matmul(weight.to(at::kDouble).t());
    const at::Tensor gate = both.narrow(1, 0, inner), up = both.narrow(1, inner, inner);
    EXPECT_EQ(cuda::takes_many_rows(there(x), there(weight), inner), is_ours());
    const at::Tensor made = silu_linear(there(x), there(weight), {}, Arithmetic::fast);
    EXPECT_EQ(made.scalar_type(), scalar);
    EXPECT_LT(error(made, at::silu(gate) * up), tolerance(scalar) * (is_ours() ? 1 : 2))
        << rows << " x " << inner << " x " << in << " " << scalar;
  }

  // Of so many heads, all but two are turned.
  void expect_turned(std::int64_t rows, std::int64_t head_dim, std::int64_t in, bool has_bias,
                     at::ScalarType scalar, std::int64_t heads = 7) const {
    const std::int64_t turned = heads - 2;
    const at::Tensor x = random({rows, in}, scalar);
    const at::Tensor weight =
        random({heads * head_dim, in}, scalar) / std::sqrt(static_cast<double>(in));
    const at::Tensor bias = has_bias ? random({heads * head_dim}, scalar) : at::Tensor();
    const at::Tensor angles = at::randn({rows, head_dim / 2}, at::kDouble) * 10;
    const at::Tensor c = angles.cos().to(at::kFloat), s = angles.sin().to(at::kFloat);
    at::Tensor qkv = x.to(at::kDouble).matmul(weight.to(at::kDouble).t());
    if (has_bias) qkv = qkv + bias.to(at::kDouble);
    qkv = qkv.view({rows, heads, head_dim});
    const at::Tensor expected =
        rotate(qkv.narrow(1, 0, turned), c.to(at::kDouble), s.to(at::kDouble));
    const Turned made =
        linear_rotated(there(x), there(weight), has_bias ? there(bias) : at::Tensor(), there(c),
                       there(s), turned, Arithmetic::fast);
    EXPECT_LT(error(made.turned, expected), 1.5 * tolerance(scalar))
        << rows << " x " << head_dim << " x " << in << " " << scalar;
    EXPECT_LT(error(made.rest, qkv.narrow(1, turned, heads - turned)), tolerance(scalar));
  }

  void expect_attention(const AttentionShape& shape, const std::vector<Part>& parts,
                        at::ScalarType scalar) const {
    const Packed made = packed(shape, parts, scalar);
    const double scale = 1 / std::sqrt(shape.head_dim);
    const at::Tensor q = there(made.queries), k = there(made.keys), v = there(made.values);
    EXPECT_EQ(cuda::takes_packed_attention(q, k, v),
              is_ours() && (shape.head_dim == 64 || shape.head_dim == 128));
    const at::Tensor found = packed_attention(q, k, v, moved(made.batch, card_), scale);
    const at::Tensor slow =
        packed_attention_slow(made.queries.to(at::kDouble), made.keys.to(at::kDouble),
                              made.values.to(at::kDouble), made.batch, scale);
    EXPECT_LT(error(found, slow), 6e-3)
        << shape.heads << "/" << shape.kv_heads << " of " << shape.head_dim << " " << scalar;
  }
};

TEST_F(ManyOnCard, GatedProductsEqualThePlainOnes) {
  for (const at::ScalarType scalar : brief_types) {
    expect_silu(1024, 1024, 64, scalar);
    expect_silu(1100, 1000, 200, scalar);  // neither rows, columns nor depth of whole tiles
    expect_silu(1300, 520, 1544, scalar);
    expect_silu(2049, 264, 8, scalar);
    expect_silu(2100, 2056, 200, scalar);  // more tiles than find room at once
  }
}

TEST_F(ManyOnCard, WhatOursDoesNotTakeIsComputedAsBefore) {
  const at::Tensor x = random({1200, 24}, at::kBFloat16), weight = random({36, 24}, at::kBFloat16);
  EXPECT_FALSE(cuda::takes_many_rows(there(x), there(weight), 18));  // no whole packs
  EXPECT_FALSE(cuda::takes_many_rows(there(x.narrow(0, 0, 100)), there(weight), 36));
  for (const std::int64_t rows : {100, 1200}) {
    const at::Tensor some = x.narrow(0, 0, rows);
    EXPECT_LT(error(silu_linear(there(some), there(weight), {}, Arithmetic::fast),
                    silu_mul(some.to(at::kDouble).matmul(weight.to(at::kDouble).t()))),
              1e-2);
  }
}

TEST_F(ManyOnCard, RotatedProductsEqualThePlainOnes) {
  for (const at::ScalarType scalar : brief_types)
    for (const std::int64_t head_dim : {64, 80, 96, 128})
      for (const bool has_bias : {false, true}) {
        expect_turned(1024, head_dim, 128, has_bias, scalar);
        expect_turned(1111, head_dim, 264, has_bias, scalar);
      }
}

TEST_F(ManyOnCard, RotatedProductsOfMoreTilesThanFindRoomEqualThePlainOnes) {
  for (const at::ScalarType scalar : brief_types) {
    expect_turned(4100, 64, 72, true, scalar, 12);   // tiles of 192 columns
    expect_turned(4200, 64, 200, true, scalar, 22);  // of 256
    expect_turned(4200, 128, 72, true, scalar, 22);
  }
}

TEST_F(ManyOnCard, OlderCardsComputeThemThroughLibtorch) {
  for (const auto& [major, minor] : {std::pair{8, 0}, {7, 5}}) {
    const AsCard older(major, minor);
    for (const at::ScalarType scalar : brief_types) {
      expect_silu(1100, 1000, 200, scalar);
      for (const std::int64_t head_dim : {64, 80, 96, 128})
        expect_turned(1111, head_dim, 264, true, scalar);
      for (const int head_dim : {64, 96, 128})
        expect_attention({6, 2, head_dim, 16}, {{300, 260}, {1, 1}, {129, 1}}, scalar);
    }
  }
}

TEST_F(ManyOnCard, EqualInBrief) {
  expect_silu(1100, 264, 72, at::kBFloat16);
  expect_silu(1024, 9000, 8, at::kHalf);  // more tiles than find room at once
  expect_turned(1030, 64, 72, true, at::kHalf);
  expect_turned(1030, 128, 72, false, at::kBFloat16);
  expect_attention({3, 1, 64, 16}, {{300, 260}, {17, 17}, {129, 1}}, at::kHalf);
  expect_attention({2, 2, 128, 16}, {{140, 130}, {300, 1}}, at::kBFloat16);
}

TEST_F(ManyOnCard, AttentionWithoutGradientsEqualsTheSlowTwin) {
  const std::vector<Part> parts = {{300, 260}, {17, 17}, {129, 1}, {700, 700}, {1, 1}, {1000, 129}};
  for (const at::ScalarType scalar : brief_types)
    for (const int head_dim : {64, 80, 96, 128})
      for (int group = 1; group <= 8; ++group)
        expect_attention({(group % 3 + 1) * group, group % 3 + 1, head_dim, 16}, parts, scalar);
}

TEST_F(ManyOnCard, AttentionOverTheLongestRowsEqualsTheSlowTwin) {
  for (const at::ScalarType scalar : brief_types)
    for (const int head_dim : {64, 128})
      expect_attention({2, 1, head_dim, 16}, {{33000, 130}, {1, 1}, {32999, 1}}, scalar);
}

TEST_F(ManyOnCard, AttentionSeesNothingOfTheNextSequence) {
  const Packed made = packed({6, 2, 128, 16}, {{200, 200}, {90, 90}}, at::kBFloat16);
  const at::Tensor q = there(made.queries), k = there(made.keys), v = there(made.values);
  if (!has_flash(q)) GTEST_SKIP() << "no flash attention on this card";
  for (const at::Tensor& x : {k, v}) x.slice(0, 200).fill_(NAN);
  const at::Tensor both = packed_attention(q, k, v, moved(made.batch, card_), 0.1);
  const at::Tensor alone = packed_attention(q.slice(0, 0, 200), k.slice(0, 0, 200),
                                            v.slice(0, 0, 200), pack({200}, {200}, card_), 0.1);
  EXPECT_TRUE(alone.isfinite().all().item<bool>());
  EXPECT_TRUE(same_bits(both.slice(0, 0, 200), alone));
  EXPECT_TRUE(both.slice(0, 200).isnan().all().item<bool>());
}

}  // namespace
}  // namespace pensive::kernels
