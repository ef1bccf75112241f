// Packed attention, logprobs of tokens and the ways back, against plain float64 and, on a card,
// against their CPU twins.
#include "kernels/packed.h"

#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/autograd.h>

#include "kernels_oracle.h"

namespace pensive::kernels {
namespace {

struct PackedCase {
  at::Tensor queries, keys, values;
  std::vector<Part> parts;
  PackedBatch batch;
  double scale = 0.1;
};

PackedCase packed_case(const AttentionShape& shape, const std::vector<Part>& parts,
                       at::ScalarType scalar) {
  PackedCase made;
  made.parts = parts;
  std::vector<std::int64_t> queries, keys;
  std::int64_t rows = 0, all = 0;
  for (const Part& part : parts) {
    queries.push_back(part.queries);
    keys.push_back(part.length);
    rows += part.queries;
    all += part.length;
  }
  made.batch = pack(queries, keys, at::kCPU);
  made.queries = random({rows, shape.heads, shape.head_dim}, scalar);
  made.keys = random({all, shape.kv_heads, shape.head_dim}, scalar);
  made.values = random({all, shape.kv_heads, shape.head_dim}, scalar);
  return made;
}

// Row by row and head by head, in float64; differentiable.
at::Tensor naive(const PackedCase& made, const at::Tensor& queries, const at::Tensor& keys,
                 const at::Tensor& values) {
  const std::int64_t group = queries.size(1) / keys.size(1);
  std::vector<at::Tensor> rows;
  std::int64_t first = 0, first_key = 0;
  for (const Part& part : made.parts) {
    for (int r = 0; r < part.queries; ++r) {
      const std::int64_t seen = part.length - part.queries + r + 1;
      std::vector<at::Tensor> heads;
      for (std::int64_t h = 0; h < queries.size(1); ++h) {
        const at::Tensor k = keys.slice(0, first_key, first_key + seen).select(1, h / group);
        const at::Tensor v = values.slice(0, first_key, first_key + seen).select(1, h / group);
        const at::Tensor shares = (k.mv(queries[first + r][h]) * made.scale).softmax(0);
        heads.push_back(v.t().mv(shares));
      }
      rows.push_back(at::stack(heads));
    }
    first += part.queries;
    first_key += part.length;
  }
  return at::stack(rows);
}

const std::vector<Part> uneven = {{7, 7}, {33, 5}, {1, 1}, {70, 69}, {64, 1}, {19, 2}};

TEST(PackedAttention, EqualsTheNaiveOne) {
  seed(3);
  for (const auto& [heads, kv_heads, dim] :
       {std::tuple(6, 2, 64), std::tuple(4, 4, 80), std::tuple(8, 1, 24)}) {
    PackedCase made = packed_case({heads, kv_heads, dim, 16}, uneven, at::kDouble);
    for (at::Tensor* x : {&made.queries, &made.keys, &made.values}) x->requires_grad_(true);
    const at::Tensor out =
        packed_attention(made.queries, made.keys, made.values, made.batch, made.scale);
    const at::Tensor slow = naive(made, made.queries, made.keys, made.values);
    EXPECT_LT(error(out.detach(), slow.detach()), 1e-13);
    const at::Tensor pull = random(out.sizes(), at::kDouble);
    const auto fast_pulls =
        torch::autograd::grad({out}, {made.queries, made.keys, made.values}, {pull});
    const auto slow_pulls =
        torch::autograd::grad({slow}, {made.queries, made.keys, made.values}, {pull});
    for (std::size_t i = 0; i < 3; ++i) EXPECT_LT(error(fast_pulls[i], slow_pulls[i]), 1e-12) << i;
  }
}

TEST(PackedAttention, TakesRowsThatLieApart) {
  seed(4);
  PackedCase made = packed_case({6, 2, 32, 16}, uneven, at::kFloat);
  const std::int64_t rows = made.queries.size(0);
  at::Tensor wide = random({rows, 10, 32}, at::kFloat);
  wide.narrow(1, 2, 6).copy_(made.queries);
  EXPECT_TRUE(same_bits(
      packed_attention(wide.narrow(1, 2, 6), made.keys, made.values, made.batch, made.scale),
      packed_attention(made.queries, made.keys, made.values, made.batch, made.scale)));
}

TEST(PackedAttention, RefusesWhatDoesNotFit) {
  PackedCase made = packed_case({6, 2, 32, 16}, {{7, 7}}, at::kFloat);
  EXPECT_THROW(
      packed_attention(made.queries, made.keys.narrow(2, 0, 16), made.values, made.batch, 1),
      Error);
  EXPECT_THROW(
      packed_attention(made.queries, made.keys, made.values.to(at::kDouble), made.batch, 1), Error);
  PackedBatch other = made.batch;
  other.key_starts = at::tensor({0, 3, 7}, at::kInt);
  EXPECT_THROW(packed_attention(made.queries, made.keys, made.values, other, 1), Error);
}

// Against libtorch's own derivative of log_softmax.
void expect_token_logprobs(std::int64_t vocab, double temperature, at::ScalarType scalar,
                           at::Device device, double within,
                           decltype(token_logprobs)* token_logprobs_of = token_logprobs) {
  const std::int64_t rows = 9;
  at::Tensor logits = (random({rows, vocab}, at::kDouble) * 3).to(scalar);
  if (vocab > 3) logits.select(1, 2).fill_(-INFINITY);
  at::Tensor tokens = at::randint(vocab, {rows}, at::kLong);
  if (vocab > 3) tokens.masked_fill_(tokens == 2, 1);
  const at::Tensor pulls = random({rows}, scalar);
  const at::Tensor leaf = logits.to(at::kDouble, false, /*copy=*/true).requires_grad_(true);
  const at::Tensor all = at::log_softmax(leaf / temperature, -1);
  const at::Tensor expected = all.gather(1, tokens.unsqueeze(1)).squeeze(1);
  const at::Tensor entropy = -(all.exp() * all.masked_fill(all == -INFINITY, 0)).sum(-1);
  (expected * pulls).sum().backward();

  const at::Tensor there = logits.to(device), ids = tokens.to(device);
  const TokenLogprobs found = token_logprobs_of(there, ids, temperature);
  const auto gap = [](const at::Tensor& a, const at::Tensor& b) {
    return (a.cpu().to(at::kDouble) - b.detach()).abs().max().item<double>();
  };
  EXPECT_LT(gap(found.logprobs, expected), within * 10) << vocab;
  EXPECT_LT(gap(found.entropies, entropy), within * 30) << vocab;
  const at::Tensor gradient =
      token_logprobs_back(there, ids, found, pulls.to(device), temperature, scalar);
  EXPECT_EQ(gradient.scalar_type(), scalar);
  if (vocab == 1) {  // nothing to choose from: the gradient is what rounding leaves
    EXPECT_LT(gap(gradient, leaf.grad()), within * 3);
    return;
  }
  EXPECT_LT(error(gradient, leaf.grad()), within * 3) << vocab;
  if (!device.is_cuda()) return;
  for (const at::ScalarType brief : {at::kBFloat16, at::kHalf}) {
    const at::Tensor rounded =
        token_logprobs_back(there, ids, found, pulls.to(device), temperature, brief);
    EXPECT_EQ(rounded.scalar_type(), brief);
    EXPECT_LT(error(rounded, leaf.grad()), tolerance(brief)) << vocab << " " << brief;
  }
}

TEST(TokenLogprobs, EqualLogSoftmaxAndItsGradient) {
  seed(5);
  for (const std::int64_t vocab : {1, 7, 50, 1003})
    for (const double temperature : {1.0, 0.7}) {
      expect_token_logprobs(vocab, temperature, at::kDouble, at::kCPU, 1e-13);
      expect_token_logprobs(vocab, temperature, at::kFloat, at::kCPU, 2e-6);
    }
}

// What draw() says of the tokens it draws, and of all rows no less close to log_softmax.
void expect_drawn_logprobs(std::int64_t vocab, float temperature, at::ScalarType scalar,
                           at::Device device) {
  constexpr std::int64_t rows = 40;
  const at::Tensor logits = (random({rows, vocab}, at::kDouble) * 3).to(scalar).to(device);
  std::vector<DrawRow> wishes(rows);
  for (std::size_t i = 0; i < wishes.size(); ++i) {
    wishes[i].temperature = temperature;
    wishes[i].key = mix(31, i);
  }
  const std::vector<Drawn> drawn = draw(logits, wishes);
  std::vector<std::int64_t> tokens;
  for (const Drawn& one : drawn) tokens.push_back(one.token);
  const at::Tensor found =
      drawn_logprobs(logits, at::tensor(tokens, at::kLong).to(device), temperature)
          .logprobs.to(at::kCPU, at::kDouble);
  for (std::size_t i = 0; i < drawn.size(); ++i)
    EXPECT_EQ(found[static_cast<std::int64_t>(i)].item<double>(), drawn[i].drawn_logprob)
        << i << ", vocabulary " << vocab << " at " << temperature << ", " << scalar;
  expect_token_logprobs(vocab, temperature, scalar, device, 4e-6, drawn_logprobs);
}

TEST(DrawnLogprobs, HaveTheBitsOfTheDraw) {
  seed(9);
  for (const std::int64_t vocab : {1, 7, 50, 1003})
    for (const float temperature : {1.0f, 0.7f, 1.3f})
      for (const at::ScalarType scalar : {at::kFloat, at::kDouble})
        expect_drawn_logprobs(vocab, temperature, scalar, at::kCPU);
}

TEST(AddLinear, IsASumAndAProduct) {
  seed(6);
  const at::Tensor x = random({5, 8}, at::kDouble), y = random({5, 12}, at::kDouble);
  const at::Tensor weight = random({8, 12}, at::kDouble), bias = random({8}, at::kDouble);
  EXPECT_LT(
      error(add_linear(x, y, weight, bias, Arithmetic::fast), x + y.matmul(weight.t()) + bias),
      1e-14);
}

class PackedOnCard : public OnCard {
 protected:
  PackedOnCard() : OnCard(23) {}

  void poison(const at::Tensor& like) const {
    for (int i = 0; i < 4; ++i) {
      std::vector<at::Tensor> filled;
      for (int j = 0; j <= i; ++j)
        filled.push_back(at::full_like(like, NAN, like.options().device(card_)));
    }
  }

  // Values and gradients of flash attention against the slow twin's in float64.
  void expect_flash(const AttentionShape& shape, const std::vector<Part>& parts,
                    at::ScalarType scalar) const {
    PackedCase made = packed_case(shape, parts, scalar);
    std::vector<at::Tensor> exact, brief;
    for (const at::Tensor& x : {made.queries, made.keys, made.values}) {
      exact.push_back(x.to(at::kDouble).requires_grad_(true));
      brief.push_back(x.to(card_).requires_grad_(true));
    }
    const at::Tensor slow =
        packed_attention_slow(exact[0], exact[1], exact[2], made.batch, made.scale);
    PackedBatch there = made.batch;
    there.query_starts = there.query_starts.to(card_);
    there.key_starts = there.key_starts.to(card_);
    ASSERT_TRUE(has_flash(brief[0]));
    poison(made.queries);
    const at::Tensor fast = packed_attention(brief[0], brief[1], brief[2], there, made.scale);
    EXPECT_LT(error(fast.detach(), slow.detach()), 6e-3) << shape.head_dim << " " << scalar;
    const at::Tensor pull = random(slow.sizes(), scalar);
    const auto expected = torch::autograd::grad({slow}, exact, {pull.to(at::kDouble)});
    const auto found = torch::autograd::grad({fast}, brief, {pull.to(card_)});
    for (std::size_t i = 0; i < 3; ++i)
      EXPECT_LT(error(found[i], expected[i]), 1e-2)
          << "gradient " << i << ", " << shape.heads << "/" << shape.kv_heads << " heads, "
          << shape.head_dim << " wide, " << scalar;
  }

  // Sums kept in float32 beside brief weights.
  void expect_wide(at::ScalarType scalar) const {
    for (const std::int64_t width : {24, 36, 1536}) {
      const at::Tensor x = random({9, width}, at::kFloat), y = random({9, 40}, scalar);
      const at::Tensor weight = random({width, 40}, scalar), gain = random({width}, scalar);
      const at::Tensor pull = random({9, width}, scalar);
      std::vector<at::Tensor> results[2];
      for (const bool is_there : {false, true}) {
        const auto put = [&](const at::Tensor& one) {
          return is_there ? one.to(card_) : one.to(at::kDouble);
        };
        const at::Tensor a = put(x).requires_grad_(true), b = put(y).requires_grad_(true);
        poison(x);
        const at::Tensor sum = add_linear(a, b, put(weight), {}, Arithmetic::fast);
        const at::Tensor out = rms_norm(sum, put(gain), 1e-6);
        const at::Tensor plain = [&] {
          const c10::NoGradGuard no_gradient;
          return add_linear(a, b, put(weight), {}, Arithmetic::fast);
        }();
        const auto pulls = torch::autograd::grad({out}, {a, b}, {put(pull)});
        results[is_there] = {sum.detach(), plain, out.detach(), pulls[0], pulls[1]};
      }
      EXPECT_EQ(results[1][0].scalar_type(), at::kFloat);
      EXPECT_EQ(results[1][2].scalar_type(), scalar);
      EXPECT_EQ(results[1][3].scalar_type(), at::kFloat);
      for (std::size_t i = 0; i < 5; ++i)
        EXPECT_LT(error(results[1][i], results[0][i]), i < 2 ? 2e-6 : 2 * tolerance(scalar))
            << i << ", " << width << " wide, " << scalar;
    }
  }
};

TEST_F(PackedOnCard, FlashEqualsTheSlowTwin) {
  for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf}) {
    for (const int dim : {8, 64, 80, 96, 128, 256}) expect_flash({6, 2, dim, 16}, uneven, scalar);
    for (const int group : {1, 2, 3, 5, 7, 8})
      expect_flash({2 * group, 2, 64, 16}, {{300, 260}, {17, 17}, {129, 1}}, scalar);
    expect_flash({4, 2, 64, 16}, {{1, 1}, {5, 1}, {77, 1}}, scalar);  // of one query each
  }
}

TEST_F(PackedOnCard, WithoutFlashTheSlowTwinRuns) {
  PackedCase made = packed_case({6, 2, 32, 16}, uneven, at::kFloat);
  PackedBatch there = made.batch;
  there.query_starts = there.query_starts.to(card_);
  there.key_starts = there.key_starts.to(card_);
  EXPECT_FALSE(has_flash(made.queries.to(card_)));
  EXPECT_LT(error(packed_attention(made.queries.to(card_), made.keys.to(card_),
                                   made.values.to(card_), there, made.scale),
                  packed_attention(made.queries, made.keys, made.values, made.batch, made.scale)),
            2e-6);
}

TEST_F(PackedOnCard, TokenLogprobsEqualLogSoftmax) {
  for (const std::int64_t vocab : {1, 7, 50, 1003, 4096, 151936})
    for (const double temperature : {1.0, 0.7})
      expect_token_logprobs(vocab, temperature, at::kFloat, card_, 4e-6);
  expect_token_logprobs(50, 0.9, at::kDouble, card_, 1e-13);
}

TEST_F(PackedOnCard, DrawnLogprobsHaveTheBitsOfTheDraw) {
  for (const std::int64_t vocab : {1, 7, 50, 1003, 4096, 8192, 8197, 49152, 128256, 151936})
    for (const float temperature : {1.0f, 0.7f, 1.3f})
      expect_drawn_logprobs(vocab, temperature, at::kFloat, card_);
  expect_drawn_logprobs(50, 0.9f, at::kDouble, card_);
}

// Gradients by our own kernels against libtorch's on the CPU in float64.
TEST_F(PackedOnCard, RowGradientsEqualTheCpu) {
  const auto gradient = [](const at::Tensor& leaf, const at::Tensor& out, const at::Tensor& pull) {
    return torch::autograd::grad({out}, {leaf}, {pull.to(out.device(), out.scalar_type())})[0];
  };
  for (const at::ScalarType scalar : {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble}) {
    for (const std::int64_t width : {1, 31, 192, 1536, 5000}) {
      const at::Tensor x = random({37, width}, scalar) * 3, weight = random({width}, scalar);
      const at::Tensor gate_up = random({19, 2 * width}, scalar) * 4;
      const at::Tensor pull = random({37, width}, scalar), other = random({19, width}, scalar);
      const auto exact = [](const at::Tensor& one) {
        return one.to(at::kDouble).requires_grad_(true);
      };
      const auto there = [&](const at::Tensor& one) { return one.to(card_).requires_grad_(true); };
      const at::Tensor a = exact(x), b = there(x), c = exact(gate_up), d = there(gate_up);
      poison(gate_up);
      EXPECT_LT(error(gradient(b, rms_norm(b, weight.to(card_), 1e-6), pull),
                      gradient(a, rms_norm(a, weight.to(at::kDouble), 1e-6), pull)),
                // Of one number a row the norm is its sign: the gradient is what cancels.
                width == 1 ? 1e6 : 3 * tolerance(scalar))
          << width << " " << scalar;
      EXPECT_LT(error(gradient(d, silu_mul(d), other), gradient(c, silu_mul(c), other)),
                3 * tolerance(scalar))
          << width << " " << scalar;
    }
    const at::Tensor heads = random({23, 5, 64}, scalar), pull = random({23, 5, 64}, scalar);
    const at::Tensor angles = at::randn({23, 32}, at::kDouble) * 10;
    const at::ScalarType wide = scalar == at::kDouble ? at::kDouble : at::kFloat;
    const at::Tensor a = heads.to(at::kDouble).requires_grad_(true);
    const at::Tensor b = heads.to(card_).requires_grad_(true);
    EXPECT_LT(
        error(gradient(b, rotate(b, angles.cos().to(card_, wide), angles.sin().to(card_, wide)),
                       pull),
              gradient(a, rotate(a, angles.cos(), angles.sin()), pull)),
        3 * tolerance(scalar));
    const at::Tensor x = random({9, 24}, scalar), y = random({9, 40}, scalar);
    const at::Tensor weight = random({24, 40}, scalar);
    const at::Tensor c = y.to(at::kDouble).requires_grad_(true);
    const at::Tensor d = y.to(card_).requires_grad_(true);
    const at::Tensor sum = add_linear(x.to(card_), d, weight.to(card_), {}, Arithmetic::fast);
    const at::Tensor same =
        add_linear(x.to(at::kDouble), c, weight.to(at::kDouble), {}, Arithmetic::fast);
    EXPECT_LT(error(sum.detach(), same.detach()), 2 * tolerance(scalar) + 1e-12);
    if (sum.element_size() == 2) expect_wide(scalar);
    const at::Tensor push = random({9, 24}, scalar);
    EXPECT_LT(error(gradient(d, sum, push), gradient(c, same, push)),
              2 * tolerance(scalar) + 1e-12);
  }
}

}  // namespace
}  // namespace pensive::kernels
