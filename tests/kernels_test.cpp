#include <ATen/Parallel.h>
#include <c10/core/GradMode.h>
#include <c10/core/InferenceMode.h>

#include "kernels/loops.h"
#include "kernels_oracle.h"
#include "pensive/base.h"

namespace pensive::kernels {
namespace {

const at::ScalarType all_types[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};

at::Tensor naive_linear(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  at::Tensor y = at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t());
  return bias.defined() ? y + bias.to(at::kDouble) : y;
}

struct Shape {
  int64_t out, in;
};
// The reasoner's and SmolLM2's products, and odd ones.
const Shape shapes[] = {{320, 192},  {1024, 192}, {192, 512}, {33, 192},  {960, 576},
                        {576, 1536}, {7, 5},      {1, 1},     {100, 259}, {65, 1000}};

TEST(Linear, EqualsTheNaiveProductInBothArithmetics) {
  seed(1);
  for (at::ScalarType scalar : all_types) {
    for (Shape shape : shapes) {
      for (int64_t rows : {1, 3, 4, 17, 70}) {
        at::Tensor x = random({rows, shape.in}, scalar);
        at::Tensor weight = random({shape.out, shape.in}, scalar);
        at::Tensor bias = rows % 2 ? random({shape.out}, scalar) : at::Tensor();
        at::Tensor expected = naive_linear(x, weight, bias);
        for (auto arithmetic : {Arithmetic::fast, Arithmetic::row_invariant}) {
          at::Tensor y = linear(x, weight, bias, arithmetic);
          EXPECT_EQ(y.scalar_type(), scalar);
          EXPECT_LT(error(y, expected), tolerance(scalar))
              << rows << " x " << shape.in << " -> " << shape.out << ", " << scalar;
        }
      }
    }
  }
}

TEST(Linear, RowInvariantRowsHaveTheSameBitsInAnyCompany) {
  seed(2);
  int threads = at::get_num_threads();
  for (at::ScalarType scalar : all_types) {
    for (Shape shape : {Shape{320, 192},
                        {1024, 192},
                        {192, 512},
                        {33, 192},
                        {960, 576},
                        {576, 1536},
                        {3000, 576},
                        {100, 259}}) {
      at::Tensor x = random({300, shape.in}, scalar);
      at::Tensor weight = random({shape.out, shape.in}, scalar);
      at::Tensor whole = linear(x, weight, {}, Arithmetic::row_invariant);
      for (auto [first, count] : {std::pair{0, 1},
                                  {1, 1},
                                  {299, 1},
                                  {5, 2},
                                  {16, 16},
                                  {3, 17},
                                  {77, 100},
                                  {130, 64},
                                  {1, 257}}) {
        at::Tensor part = linear(x.narrow(0, first, count), weight, {}, Arithmetic::row_invariant);
        ASSERT_TRUE(same_bits(part, whole.narrow(0, first, count)))
            << shape.out << " x " << shape.in << " rows " << first << " + " << count;
        at::set_num_threads(1);
        part = linear(x.narrow(0, first, count).clone(), weight, {}, Arithmetic::row_invariant);
        at::set_num_threads(threads);
        ASSERT_TRUE(same_bits(part, whole.narrow(0, first, count))) << "one thread";
      }
    }
  }
}

TEST(Linear, WideSumsAreNotRounded) {
  seed(4);
  for (at::ScalarType scalar : all_types)
    for (Shape shape : {Shape{320, 192}, {33, 192}, {100, 259}})
      for (int64_t rows : {0, 1, 3, 70}) {
        at::Tensor x = random({rows, shape.in}, scalar),
                   weight = random({shape.out, shape.in}, scalar);
        at::Tensor expected = at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t());
        at::Tensor wide = linear_wide(x, weight, Arithmetic::row_invariant);
        EXPECT_EQ(wide.scalar_type(), scalar == at::kDouble ? at::kDouble : at::kFloat);
        if (rows > 0) {
          EXPECT_LT(error(wide, expected), tolerance(at::kFloat)) << scalar;
        }
        EXPECT_TRUE(same_bits(wide.to(scalar), linear(x, weight, {}, Arithmetic::row_invariant)));
        // libtorch's own products, which round, are taken where the processor has brief ones.
        at::Tensor fast = linear_wide(x, weight, Arithmetic::fast);
        EXPECT_EQ(fast.scalar_type(), wide.scalar_type());
        if (rows > 0 && (rows <= 3 || scalar == at::kHalf)) {
          EXPECT_LT(error(fast, expected), tolerance(at::kFloat)) << scalar;
        }
      }
  const at::Tensor x = random({2, 5}, at::kHalf);
  for (const at::Tensor& weight :
       {random({4, 6}, at::kHalf), random({4, 5}, at::kHalf).to(at::kMeta)})
    EXPECT_THROW(linear_wide(x, weight, Arithmetic::fast), Error);
}

TEST(Linear, TakesNoRowsAndRefusesOtherWidths) {
  at::Tensor weight = at::randn({4, 6});
  for (auto arithmetic : {Arithmetic::fast, Arithmetic::row_invariant}) {
    EXPECT_EQ(linear(at::zeros({0, 6}), weight, {}, arithmetic).size(0), 0);
    EXPECT_THROW(linear(at::zeros({2, 5}), weight, {}, arithmetic), Error);
  }
}

TEST(Linear, RefusesWeightsAndBiasesThatDoNotFit) {
  at::Tensor x = at::randn({2, 6}), weight = at::randn({4, 6});
  for (auto arithmetic : {Arithmetic::fast, Arithmetic::row_invariant}) {
    EXPECT_THROW(linear(x, weight.to(at::kDouble), {}, arithmetic), Error);
    EXPECT_THROW(linear(x, weight.to(at::kBFloat16), {}, arithmetic), Error);
    EXPECT_THROW(linear(x, weight, at::zeros({3}), arithmetic), Error);
    EXPECT_THROW(linear(x, weight, at::zeros({1}), arithmetic), Error);
    EXPECT_THROW(linear(x, weight, at::zeros({1, 4}), arithmetic), Error);
    EXPECT_THROW(linear(x, weight, at::zeros({4}, at::kBFloat16), arithmetic), Error);
    EXPECT_NO_THROW(linear(x, weight, at::zeros({4}), arithmetic));
  }
}

// The fused version and the differentiable one agree, and gradients are those of float64.
template <class F>
void expect_twins(const at::Tensor& x, at::ScalarType scalar, F run) {
  at::Tensor leaf = x.to(scalar).detach().requires_grad_(true);
  at::Tensor differentiable = run(leaf);
  ASSERT_TRUE(differentiable.requires_grad());
  at::Tensor fused = run(leaf.detach());
  EXPECT_FALSE(fused.requires_grad());
  EXPECT_LT(error(fused, differentiable.detach()), tolerance(scalar));
  {
    at::NoGradGuard guard;
    EXPECT_TRUE(same_bits(run(leaf), fused));
  }
  differentiable.backward(at::ones_like(differentiable));
  EXPECT_TRUE(leaf.grad().defined());
  EXPECT_TRUE(leaf.grad().isfinite().all().item<bool>());
}

TEST(RmsNorm, EqualsTheNaiveOne) {
  seed(3);
  for (at::ScalarType scalar : all_types) {
    for (int64_t width : {1, 7, 16, 32, 100, 192, 577}) {
      at::Tensor x = random({9, width}, scalar) * 3, weight = random({width}, scalar);
      at::Tensor wide = x.to(at::kDouble);
      at::Tensor expected =
          wide / (wide.square().mean(-1, true) + 1e-5).sqrt() * weight.to(at::kDouble);
      EXPECT_LT(error(rms_norm(x, weight, 1e-5), expected), tolerance(scalar)) << width;
    }
    at::Tensor x = random({4, 3, 32}, scalar), weight = random({32}, scalar);
    at::Tensor by_rows = rms_norm(x.view({12, 32}), weight, 1e-6);
    EXPECT_TRUE(same_bits(rms_norm(x, weight, 1e-6).view({12, 32}), by_rows));
    at::Tensor slice = random({4, 5, 32}, scalar).narrow(1, 1, 3);
    EXPECT_TRUE(same_bits(rms_norm(slice, weight, 1e-6), rms_norm(slice.clone(), weight, 1e-6)));
    expect_twins(x, scalar, [&](const at::Tensor& leaf) { return rms_norm(leaf, weight, 1e-6); });
  }
}

TEST(SiluMul, EqualsTheNaiveOneAlsoFarOut) {
  seed(4);
  for (at::ScalarType scalar : all_types) {
    for (int64_t inner : {1, 5, 16, 48, 513}) {
      at::Tensor x = random({6, 2 * inner}, scalar) * 5;
      x[0].narrow(0, 0, inner).fill_(-200);
      x[1].narrow(0, 0, inner).fill_(200);
      at::Tensor gate = x.narrow(1, 0, inner).to(at::kDouble);
      at::Tensor up = x.narrow(1, inner, inner).to(at::kDouble);
      at::Tensor y = silu_mul(x);
      EXPECT_LT(error(y, gate * gate.sigmoid() * up), tolerance(scalar)) << inner;
      EXPECT_LT(y[0].abs().max().item<double>(), 1e-30);
    }
    expect_twins(random({3, 64}, at::kDouble), scalar,
                 [](const at::Tensor& leaf) { return silu_mul(leaf); });
  }
}

TEST(Rotate, EqualsComplexMultiplication) {
  seed(5);
  for (at::ScalarType scalar : all_types) {
    at::ScalarType wide = scalar == at::kDouble ? at::kDouble : at::kFloat;
    for (int64_t dim : {2, 16, 20, 64}) {
      at::Tensor whole = random({7, 5 * dim}, scalar);
      at::Tensor x = whole.narrow(1, dim, 3 * dim).view({7, 3, dim});
      at::Tensor angles = at::randn({7, dim / 2}, at::kDouble) * 10;
      at::Tensor c = angles.cos().to(wide), s = angles.sin().to(wide);
      at::Tensor turned = at::complex(x.narrow(2, 0, dim / 2).to(at::kDouble),
                                      x.narrow(2, dim / 2, dim / 2).to(at::kDouble)) *
                          at::complex(c.to(at::kDouble), s.to(at::kDouble)).unsqueeze(1);
      at::Tensor expected = at::cat({at::real(turned), at::imag(turned)}, 2);
      at::Tensor y = rotate(x, c, s);
      EXPECT_TRUE(y.is_contiguous());
      EXPECT_LT(error(y, expected), tolerance(scalar)) << dim;
      expect_twins(x, scalar, [&](const at::Tensor& leaf) { return rotate(leaf, c, s); });
    }
  }
}

// What libtorch differentiates by itself, against the backwards written by hand.
TEST(Twins, GradientsEqualThoseOfThePlainFormulas) {
  const auto compare = [](const at::Tensor& at_x, auto ours, auto plain) {
    at::Tensor x = at_x.clone().requires_grad_(true), y = at_x.clone().requires_grad_(true);
    const at::Tensor found = ours(x), expected = plain(y);
    const at::Tensor pull = at::randn(found.sizes(), found.options());
    found.backward(pull);
    expected.backward(pull);
    EXPECT_LT((found - expected).abs().max().item<double>(), 1e-12);
    EXPECT_LT((x.grad() - y.grad()).abs().max().item<double>(), 1e-12);
  };
  const at::Tensor weight = at::randn({8}, at::kDouble), angles = at::randn({5, 4}, at::kDouble);
  compare(
      at::randn({5, 8}, at::kDouble),
      [&](const at::Tensor& x) { return kernels::rms_norm(x, weight, 1e-5); },
      [&](const at::Tensor& x) { return x / (x.square().mean(-1, true) + 1e-5).sqrt() * weight; });
  compare(
      at::randn({5, 16}, at::kDouble), [](const at::Tensor& x) { return kernels::silu_mul(x); },
      [](const at::Tensor& x) {
        return x.narrow(1, 0, 8) * x.narrow(1, 0, 8).sigmoid() * x.narrow(1, 8, 8);
      });
  compare(
      at::randn({5, 3, 8}, at::kDouble),
      [&](const at::Tensor& x) { return kernels::rotate(x, angles.cos(), angles.sin()); },
      [&](const at::Tensor& x) {
        const at::Tensor a = x.narrow(2, 0, 4), b = x.narrow(2, 4, 4);
        const at::Tensor c = angles.cos().unsqueeze(1), d = angles.sin().unsqueeze(1);
        return at::cat({a * c - b * d, b * c + a * d}, 2);
      });
}

TEST(Twins, LinearHasGradientsInBothArithmetics) {
  seed(6);
  at::Tensor weight = random({33, 20}, at::kDouble), bias = random({33}, at::kDouble);
  for (auto arithmetic : {Arithmetic::fast, Arithmetic::row_invariant}) {
    at::Tensor x = random({19, 20}, at::kDouble).requires_grad_(true);
    at::Tensor y = linear(x, weight, bias, arithmetic);
    at::Tensor pull = random({19, 33}, at::kDouble);
    y.backward(pull);
    EXPECT_LT(error(x.grad(), at::matmul(pull, weight)), 1e-13);
    at::Tensor fused = linear(x.detach(), weight, bias, arithmetic);
    EXPECT_TRUE(arithmetic == Arithmetic::fast || same_bits(y.detach(), fused));
    EXPECT_LT(error(y.detach(), fused), 1e-13);
  }
}

TEST(Kernels, WorkInInferenceMode) {
  c10::InferenceMode guard;
  at::Tensor x = at::randn({5, 32});
  EXPECT_EQ(rms_norm(x, at::ones({32}), 1e-6).size(1), 32);
  EXPECT_EQ(silu_mul(x).size(1), 16);
  EXPECT_EQ(linear(x, at::randn({8, 32}), {}, Arithmetic::row_invariant).size(1), 8);
}

TEST(Kernels, RefuseOtherTypesAndShapes) {
  at::Tensor ints = at::ones({2, 4}, at::kInt);
  EXPECT_THROW(silu_mul(ints), Error);
  EXPECT_THROW(silu_mul(at::ones({2, 3})), Error);
  EXPECT_THROW(rms_norm(at::ones({2, 4}), at::ones({5}), 1e-6), Error);
  EXPECT_THROW(rms_norm(at::ones({2, 4}), at::ones({4}, at::kDouble), 1e-6), Error);
  EXPECT_THROW(rotate(at::ones({2, 1, 4}), at::ones({2, 2}, at::kDouble), at::ones({2, 2})), Error);
  EXPECT_THROW(rotate(at::ones({2, 1, 4}), at::ones({3, 2}), at::ones({3, 2})), Error);
}

// The copies of the loops that this processor runs.
std::vector<const Loops*> all_copies() {
  std::vector<const Loops*> copies{&loops_any(), &loops()};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    copies.push_back(&loops_avx2());
  }
#endif
  return copies;
}

// Every half there is, times numbers that make subnormal, normal, infinite and halfway ones: whole
// vectors and single values round as libtorch does. A rotation by no angle is such a product.
TEST(Loops, HalvesRoundAsLibtorchRoundsThem) {
  seed(8);
  const at::Tensor bits = at::arange(1 << 16, at::kInt).to(at::kShort);
  const at::Tensor halves = bits.view(at::kHalf);
  for (const int64_t half_dim : {64, 3}) {
    const int64_t tokens = (1 << 16) / half_dim, used = tokens * half_dim;
    const at::Tensor x = at::zeros({tokens, 2 * half_dim}, at::kHalf);
    x.narrow(1, 0, half_dim).copy_(halves.narrow(0, 0, used).view({tokens, half_dim}));
    const at::Tensor size = at::exp2(at::randint(-26, 18, {tokens, half_dim}).to(at::kFloat));
    const at::Tensor odd = 1 + at::randint(0, 4096, {tokens, half_dim}).to(at::kFloat) / 4096;
    for (const at::Tensor& factor : {at::ones({tokens, half_dim}), size, at::Tensor(size * odd)}) {
      const at::Tensor none = at::zeros({tokens, half_dim});
      const at::Tensor expected =
          (x.narrow(1, 0, half_dim).to(at::kFloat) * factor).to(at::kHalf).to(at::kFloat);
      for (const Loops* copy : all_copies()) {
        at::Tensor out = at::empty_like(x);
        copy->rotate(x.const_data_ptr(), 2 * half_dim, factor.const_data_ptr(),
                     none.const_data_ptr(), out.mutable_data_ptr(), tokens, 1, 2 * half_dim,
                     Scalar::float16);
        const at::Tensor found = out.narrow(1, 0, half_dim).to(at::kFloat);
        const at::Tensor same = (found == expected) | (found.isnan() & expected.isnan());
        EXPECT_TRUE(same.all().item<bool>()) << half_dim;
      }
    }
  }
}

// Each copy of the loops, against the widest.
TEST(Loops, EveryWidthComputesTheSame) {
  seed(7);
  const std::vector<const Loops*> copies = all_copies();
  AttentionCase made = attention_case({6, 2, 40, 16}, {{150, 70}}, at::kFloat);
  at::Tensor expected = naive_attention(made);
  at::Tensor x = at::randn({50, 259}), weight = at::randn({100, 259});
  at::Tensor logits = at::randn({1, 1001});
  for (const Loops* copy : copies) {
    at::Tensor out = at::full_like(made.queries, NAN);
    Attend a{made.queries.const_data_ptr(),
             6 * 40,
             made.key_pages.const_data_ptr(),
             made.value_pages.const_data_ptr(),
             out.mutable_data_ptr(),
             made.batch.tables.const_data_ptr<int>(),
             made.batch.starts.const_data_ptr<int>(),
             made.batch.lengths.const_data_ptr<int>(),
             made.batch.tables.size(1),
             6,
             2,
             40,
             16,
             made.scale,
             Scalar::float32};
    at::Tensor scratch = at::full({copy->attend_scratch(a, 70 * 3, 150)}, NAN);
    for (int head = 0; head < 2; ++head)
      copy->attend(a, {0, head, 0, 70}, scratch.mutable_data_ptr());
    EXPECT_LT(error(out, expected), 2e-6);

    at::Tensor y = at::full({50, 100}, NAN);
    Product p{x.const_data_ptr(),
              weight.const_data_ptr(),
              nullptr,
              y.mutable_data_ptr(),
              50,
              259,
              100,
              32,
              Scalar::float32};
    int64_t panels = (100 + copy->panel_outputs(p.scalar) - 1) / copy->panel_outputs(p.scalar);
    scratch = at::full({copy->product_scratch(p)}, NAN);
    copy->product(p, 0, 2 * panels, scratch.mutable_data_ptr());
    EXPECT_LT(error(y, naive_linear(x, weight, {})), 2e-6);

    RowFacts facts = copy->row_facts(logits.const_data_ptr(), 1001, Scalar::float32);
    EXPECT_EQ(facts.most, logits.max().item<double>());
    EXPECT_EQ(facts.finite, 1001);
    EXPECT_NEAR(facts.sum, logits.to(at::kDouble).sum().item<double>(), 1e-4);
    double sum = 0, weighted = 0;
    copy->exp_sums(logits.const_data_ptr(), 1001, facts.most, 0.25, Scalar::float32, &sum,
                   &weighted);
    at::Tensor z = logits.to(at::kDouble) - facts.most;
    at::Tensor kept = z.exp() * (logits >= 0.25);
    EXPECT_NEAR(sum, kept.sum().item<double>(), 1e-4);
    EXPECT_NEAR(weighted, (kept * z).sum().item<double>(), 1e-4);
  }
}

TEST(Devices, TheHostResolvesAndHasMemory) {
  EXPECT_EQ(resolve({DeviceKind::cpu, 0}), (Device{DeviceKind::cpu, 0}));
  EXPECT_THROW(resolve({DeviceKind::cpu, 1}), Error);
  Memory host = memory({DeviceKind::cpu, 0});
  EXPECT_GT(host.total_bytes, 1 << 20);
  EXPECT_GT(host.free_bytes, 0);
  EXPECT_LE(host.free_bytes, host.total_bytes);
  EXPECT_EQ(to_torch({DeviceKind::cuda, 3}), at::Device(at::kCUDA, 3));
  Device automatic = resolve({});
  EXPECT_NE(automatic.kind, DeviceKind::automatic);
  if (automatic.kind == DeviceKind::cpu) {
    try {
      resolve({DeviceKind::cuda, 0});
      ADD_FAILURE() << "a card that automatic did not take";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::unsupported);
    }
  }
  EXPECT_THROW(resolve({DeviceKind::cuda, 999}), Error);
}

TEST(Devices, NameTheCapabilityThatLacksAType) {
  EXPECT_EQ(dtype_obstacle(8, 0, at::kBFloat16), "");
  EXPECT_EQ(dtype_obstacle(12, 0, at::kBFloat16), "");
  EXPECT_EQ(dtype_obstacle(7, 5, at::kFloat), "");
  EXPECT_EQ(dtype_obstacle(7, 5, at::kHalf), "");
  EXPECT_NE(dtype_obstacle(7, 5, at::kBFloat16).find("7.5"), std::string::npos);
  EXPECT_NO_THROW(require_dtype({DeviceKind::cpu, 0}, at::kBFloat16));
}

}  // namespace
}  // namespace pensive::kernels
