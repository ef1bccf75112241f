// Row-invariant steps on a card: the bits of a row alone, in any company and in a prompt.
#include <gtest/gtest.h>

#include <numeric>

#include "kernels/forward.h"
#include "kernels_as_card.h"
#include "kernels_steps.h"

namespace pensive::kernels {
namespace {

constexpr at::ScalarType scalars[] = {at::kFloat, at::kBFloat16, at::kHalf};

class Invariant : public OnCard {
 protected:
  Invariant() : OnCard(31) {}

  // A model on the card, and rows of it at these positions.
  void make(const Shape& shape, const std::vector<int>& positions, at::ScalarType scalar) {
    const int pages = pages_for(shape, positions);
    host_ = random_model(shape, pages, scalar);
    host_.arithmetic = Arithmetic::row_invariant;
    rows_ = random_rows(shape, positions, pages, scalar);
    embeddings_ = rows_.embeddings.to(card_);
    asked_.clear();
    wishes_.assign(positions.size(), {});
    for (std::size_t i = 0; i < positions.size(); ++i) {
      asked_.push_back({embeddings_[static_cast<std::int64_t>(i)].const_data_ptr(), positions[i],
                        rows_.pages[i]});
      wishes_[i].key = mix(9, i);
      wishes_[i].top_p = i % 3 == 0 ? 0.9f : 1.0f;
      for (int t = 0; t < shape.vocab; t += 1 + shape.vocab / 20) wishes_[i].watched.push_back(t);
    }
  }

  DecodeModel model_here() const { return on(host_, card_); }

  // Some of the rows in one step.
  std::vector<Drawn> run(DecodeSteps& steps, std::size_t first, std::size_t count) const {
    const std::span<const DecodeRow> rows = std::span(asked_).subspan(first, count);
    return steps.run(rows, {wishes_.begin() + static_cast<long>(first),
                            wishes_.begin() + static_cast<long>(first + count)});
  }

  static void expect_same(const Drawn& a, const Drawn& b, std::size_t row) {
    ASSERT_TRUE(a.is_finite && b.is_finite) << row;
    EXPECT_EQ(a.token, b.token) << row;
    EXPECT_EQ(a.logprob, b.logprob) << row;
    EXPECT_EQ(a.drawn_logprob, b.drawn_logprob) << row;
    EXPECT_EQ(a.entropy, b.entropy) << row;
    EXPECT_EQ(a.watched, b.watched) << row;
  }

  // All rows at once, one by one and a few at a time; launched one by one, then as graphs, in
  // between after a step of NaN.
  void expect_same_in_any_company(const Shape& shape, const std::vector<int>& positions,
                                  at::ScalarType scalar) {
    make(shape, positions, scalar);
    DecodeModel model = model_here();
    const auto steps = DecodeSteps::make(model, static_cast<int>(positions.size()) + 3);
    ASSERT_NE(steps, nullptr);
    const std::size_t count = positions.size();
    std::vector<Drawn> whole = run(*steps, 0, count);
    run_nan(*steps, asked_, wishes_, card_);
    for (int again = 0; again < 2; ++again) {
      const std::vector<Drawn> replayed = run(*steps, 0, count);
      for (std::size_t i = 0; i < count; ++i) expect_same(replayed[i], whole[i], i);
    }
    const at::Tensor keys = model.layers[1].key_pages.clone();
    for (const std::size_t few : {1, 2, 3, 8, 9, 17, 33}) {
      for (std::size_t first = 0; first + few <= count; first += few > 3 ? few : 7) {
        const std::vector<Drawn> some = run(*steps, first, few);
        for (std::size_t i = 0; i < few; ++i) expect_same(some[i], whole[first + i], first + i);
      }
      if (HasFailure()) {
        ADD_FAILURE() << few << " of " << count << ", " << scalar << ", " << shape.heads << "/"
                      << shape.kv_heads << " heads, " << shape.head_dim << " wide";
        return;
      }
    }
    EXPECT_TRUE(same_bits(model.layers[1].key_pages, keys));
    expect_near(whole, shape, scalar);
  }

  struct Prompt {
    int tokens, first, others;  // of one sequence from `first` on, and of another from its start
  };
  std::vector<DecodeRow> prompt_of(const at::Tensor& embeddings, const Prompt& of) const {
    std::vector<DecodeRow> prompt;
    for (int i = 0; i < of.tokens + of.others; ++i) {
      const bool is_first = i < of.tokens;
      prompt.push_back({embeddings[i].const_data_ptr(), is_first ? of.first + i : i - of.tokens,
                        rows_.pages[is_first ? 0 : 1]});
    }
    return prompt;
  }

  // One prompt, after one of NaN, against one decode step a token; then in other pieces.
  void expect_prompts(const Shape& shape, const Prompt& of, at::ScalarType scalar) {
    make(shape, {of.first + of.tokens - 1, of.others - 1}, scalar);
    const at::Tensor embeddings = random({of.tokens + of.others, shape.width}, scalar).to(card_);
    const std::vector<DecodeRow> prompt = prompt_of(embeddings, of);
    DrawRow wish = wishes_[0];
    wish.temperature = 0.8f;

    DecodeModel model = model_here(), slow = model_here();
    const auto forward = RowForward::make(model);
    const auto steps = DecodeSteps::make(slow, 4);
    ASSERT_NE(forward, nullptr);
    const at::Tensor nan = at::full_like(embeddings, NAN);
    EXPECT_TRUE(forward->forward(prompt_of(nan, of)).isnan().all().item<bool>());
    const at::Tensor hidden = forward->forward(prompt);
    const at::Tensor logits = linear_wide(hidden, model.head, Arithmetic::row_invariant);
    const std::vector<Drawn> drawn = draw(logits, std::vector<DrawRow>(prompt.size(), wish));
    for (std::size_t i = 0; i < prompt.size(); ++i) {
      const std::vector<Drawn> one = steps->run(std::span(prompt).subspan(i, 1), {wish});
      expect_same(drawn[i], one[0], i);
      if (HasFailure()) FAIL() << scalar << ", " << shape.head_dim << " wide";
    }
    for (std::size_t i = 0; i < model.layers.size(); ++i) {
      EXPECT_TRUE(same_bits(model.layers[i].key_pages, slow.layers[i].key_pages));
      EXPECT_TRUE(same_bits(model.layers[i].value_pages, slow.layers[i].value_pages));
    }
    expect_pieces(prompt, embeddings, hidden);
  }

  // The same in other pieces, handing out what goes into each layer.
  void expect_pieces(std::span<const DecodeRow> prompt, const at::Tensor& embeddings,
                     const at::Tensor& hidden) const {
    const DecodeModel model = model_here();
    const auto pieces = RowForward::make(model);
    const auto layers = static_cast<std::int64_t>(model.layers.size()), rows = std::ssize(prompt);
    const at::Tensor inputs =
        at::full({layers + 1, rows, embeddings.size(1)}, NAN, at::dtype(at::kFloat).device(card_));
    std::vector<at::Tensor> parts;
    std::int64_t at = 0;
    for (const std::int64_t count :
         {std::int64_t{1}, std::int64_t{16}, std::int64_t{3}, rows - 20}) {
      parts.push_back(pieces->forward(
          prompt.subspan(static_cast<std::size_t>(at), static_cast<std::size_t>(count)),
          inputs.narrow(1, at, count)));
      at += count;
    }
    EXPECT_TRUE(same_bits(at::cat(parts), hidden));
    EXPECT_TRUE(same_bits(inputs[0], embeddings.to(at::kFloat)));
    const at::Tensor whole = at::full_like(inputs, NAN);
    EXPECT_TRUE(same_bits(RowForward::make(model_here())->forward(prompt, whole), hidden));
    EXPECT_TRUE(same_bits(inputs, whole));
    EXPECT_LT(error(rms_norm(inputs[layers], model.final_norm, model.epsilon), hidden),
              tolerance(embeddings.scalar_type()));
  }

  // A product alone, with and without a bias: bits for so many rows against those for 300.
  void expect_products(int in, int out, const std::vector<int>& counts,
                       at::ScalarType scalar) const {
    const at::Tensor weight = (random({out, in}, at::kDouble) / std::sqrt(in)).to(scalar);
    const at::Tensor bias = random({out}, scalar), x = random({300, in}, scalar);
    const at::Tensor wide = at::matmul(x.to(at::kDouble), weight.to(at::kDouble).t());
    const at::Tensor there = x.to(card_), weights = weight.to(card_), biases = bias.to(card_);
    const auto plain = [&](const at::Tensor& rows) {
      return linear(rows, weights, biases, Arithmetic::row_invariant);
    };
    const auto in_float = [&](const at::Tensor& rows) {
      return linear_wide(rows, weights, Arithmetic::row_invariant);
    };
    const at::Tensor all = plain(there), all_wide = in_float(there);
    EXPECT_LT(error(all_wide, wide), 1e-5) << in << " x " << out << ", " << scalar;
    EXPECT_LT(error(all, wide + bias.to(at::kDouble)), scalar == at::kHalf ? 1e-3 : 5e-3)
        << in << " x " << out << ", " << scalar;
    for (const int rows : counts) {
      const at::Tensor some = there.narrow(0, 300 - rows, rows).contiguous();
      EXPECT_TRUE(same_bits(plain(some), all.narrow(0, 300 - rows, rows)))
          << rows << " rows, " << in << " x " << out << ", " << scalar;
      EXPECT_TRUE(same_bits(in_float(some), all_wide.narrow(0, 300 - rows, rows)))
          << rows << " rows, " << in << " x " << out << ", " << scalar;
    }
  }

  // The slow twin's.
  void expect_near(const std::vector<Drawn>& fast, const Shape& shape, at::ScalarType scalar) {
    std::vector<TwinRow> all;
    for (std::size_t i = 0; i < asked_.size(); ++i)
      all.push_back({nullptr, rows_.positions[i], rows_.pages[i]});
    const std::vector<Drawn> slow = step_by_step(host_, all, rows_.embeddings, wishes_);
    const double limit = scalar == at::kFloat ? 1e-4 : scalar == at::kHalf ? 2e-2 : 1.5e-1;
    for (std::size_t i = 0; i < fast.size(); ++i) {
      double worst = 0;
      for (std::size_t t = 0; t < slow[i].watched.size(); ++t)
        worst =
            std::max(worst, std::abs(static_cast<double>(fast[i].watched[t]) - slow[i].watched[t]));
      EXPECT_LT(worst, limit) << "row " << i << ", " << shape.head_dim << " wide, " << scalar;
    }
  }

  DecodeModel host_;
  Rows rows_;
  at::Tensor embeddings_;
  std::vector<DecodeRow> asked_;
  std::vector<DrawRow> wishes_;
};

std::vector<int> positions_of(int rows, int most) {
  std::vector<int> positions;
  for (int i = 0; i < rows; ++i) positions.push_back((i * 397 + 11) % most);
  return positions;
}

TEST_F(Invariant, StepsHaveTheSameBitsInAnyCompany) {
  for (const at::ScalarType scalar : scalars) {
    expect_same_in_any_company({.vocab = 300}, positions_of(70, 150), scalar);
    expect_same_in_any_company({.has_biases = true, .has_norms = true}, positions_of(40, 90),
                               scalar);
    expect_same_in_any_company({.width = 200, .inner = 328, .vocab = 9001, .page_tokens = 3},
                               positions_of(35, 60), scalar);
    expect_same_in_any_company({.width = 1544, .inner = 4104, .vocab = 4099}, positions_of(130, 40),
                               scalar);
  }
}

TEST_F(Invariant, StepsHaveTheSameBitsForEveryHead) {
  for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf})
    for (const int head_dim : {64, 80, 96, 128, 256})
      for (const int group : {1, 3, 6, 8, 9})
        expect_same_in_any_company({.heads = 2 * group, .head_dim = head_dim},
                                   {0, 77, 128, 63, 64, 700 + 100 * group, 1023, 1024, 5}, scalar);
}

TEST_F(Invariant, ALongNeighbourChangesNothing) {
  // Beyond 2,048 positions, and where rows are split.
  for (const at::ScalarType scalar : scalars) {
    std::vector<int> positions = positions_of(40, 700);
    for (const int longer : {2047, 2048, 3000, 9000}) positions.push_back(longer);
    expect_same_in_any_company({.heads = 4, .head_dim = 64, .positions = 9001}, positions, scalar);
  }
}

TEST_F(Invariant, TheLongestRowChangesNothing) {
  for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf})
    expect_same_in_any_company({.heads = 4, .head_dim = 64, .positions = 33001}, {33000, 5, 1023},
                               scalar);
}

TEST_F(Invariant, PromptsHaveTheBitsOfDecodeSteps) {
  for (const at::ScalarType scalar : scalars)
    for (const Shape& shape :
         {Shape{.vocab = 300}, Shape{.heads = 12, .head_dim = 128, .has_biases = true},
          Shape{.head_dim = 80, .page_tokens = 5, .has_norms = true},
          Shape{.heads = 4, .head_dim = 256}})
      expect_prompts(shape, {.tokens = 290, .first = 900, .others = 30}, scalar);
}

TEST_F(Invariant, ProductsHaveTheSameBitsForEveryNumberOfRows) {
  const std::vector<int> rows = {1, 2, 8, 15, 16, 17, 32, 33, 64, 65, 127, 128, 129, 257};
  for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf})
    for (const auto& [in, out] : {std::pair{8, 1},
                                  {64, 64},
                                  {72, 3},
                                  {200, 331},
                                  {264, 2050},
                                  {1544, 4099},
                                  {4104, 520},
                                  {8960, 1536},
                                  {520, 20000}})
      expect_products(in, out, rows, scalar);
}

// What serves where 9.0's own products and clusters of blocks are not: tensor cores alone, then
// neither.
TEST_F(Invariant, HoldsOnOlderCards) {
  for (const auto& [major, minor] : {std::pair{8, 0}, {7, 5}}) {
    const AsCard older(major, minor);
    for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf}) {
      expect_same_in_any_company({.vocab = 300}, positions_of(70, 150), scalar);
      expect_same_in_any_company(
          {.width = 200, .inner = 328, .vocab = 9001, .page_tokens = 3, .has_biases = true},
          positions_of(35, 60), scalar);
      for (const int head_dim : {64, 80, 96, 128})
        expect_same_in_any_company({.heads = 6, .head_dim = head_dim, .has_norms = true},
                                   {0, 77, 128, 63, 64, 1300, 1023, 2048, 5}, scalar);
      expect_prompts({.heads = 12, .head_dim = 128, .has_biases = true},
                     {.tokens = 290, .first = 900, .others = 30}, scalar);
      for (const auto& [in, out] : {std::pair{8, 1}, {200, 331}, {1544, 4099}, {520, 9000}})
        expect_products(in, out, {1, 8, 9, 17, 33, 64, 65, 257}, scalar);
    }
  }
}

// A kernel that each shape asks for another amount of a block's memory.
TEST_F(Invariant, ThreadsMayReadPromptsOfOtherShapesAtOnce) {
  std::vector<std::function<void()>> calls;
  for (const auto& [head_dim, position] : {std::pair{80, 30}, {128, 30}, {128, 3000}}) {
    make({.head_dim = head_dim}, {position}, at::kHalf);
    const at::Tensor embeddings = embeddings_;
    const std::vector<int> pages = rows_.pages[0];
    const std::shared_ptr<RowForward> forward = RowForward::make(model_here());
    const auto read = [embeddings, pages, forward, position = position] {
      const DecodeRow row{embeddings.const_data_ptr(), position, pages};
      return forward->forward({&row, 1});
    };
    calls.push_back([read, expected = read(), round = 0]() mutable {
      const at::Tensor found = read();
      if (++round % 50 == 0) EXPECT_TRUE(same_bits(found, expected));
    });
  }
  call_at_once(calls, 1000);
}

TEST_F(Invariant, ThreadsMayMultiplyOtherShapesAtOnce) {
  std::vector<std::function<void()>> calls;
  for (const int in : {64, 4096, 512}) {
    const at::Tensor weight = random({72, in}, at::kHalf).to(card_);
    const at::Tensor x = random({9, in}, at::kHalf).to(card_);
    const at::Tensor expected = linear(x, weight, {}, Arithmetic::row_invariant);
    calls.push_back([weight, x, expected, round = 0]() mutable {
      const at::Tensor found = linear(x, weight, {}, Arithmetic::row_invariant);
      if (++round % 200 == 0) EXPECT_TRUE(same_bits(found, expected));
    });
  }
  call_at_once(calls, 5000);
}

// Few cases, for tools under which each takes long.
TEST_F(Invariant, HoldsInBrief) {
  expect_same_in_any_company({.has_biases = true, .has_norms = true}, {5, 70, 1100}, at::kBFloat16);
  expect_same_in_any_company({.vocab = 8200, .page_tokens = 3}, positions_of(9, 40), at::kHalf);
  expect_prompts({}, {.tokens = 20, .first = 30, .others = 3}, at::kBFloat16);
  expect_products(264, 330, {1, 33, 129}, at::kHalf);
  expect_products(4104, 72, {8, 65}, at::kBFloat16);
  const AsCard older(8, 0);
  expect_same_in_any_company({}, {5, 70, 1100}, at::kHalf);
  expect_products(264, 330, {9, 33}, at::kBFloat16);
}

TEST_F(Invariant, ForwardRefusesOtherModels) {
  DecodeModel model = random_model({}, 4, at::kFloat);
  EXPECT_THROW(RowForward::make(model), Error);  // fast
  model.arithmetic = Arithmetic::row_invariant;
  EXPECT_EQ(RowForward::make(model), nullptr);  // on the CPU
  model = on(random_model({}, 4, at::kDouble), card_);
  model.arithmetic = Arithmetic::row_invariant;
  EXPECT_EQ(RowForward::make(model), nullptr);
}

// Layers that add nothing leave the embeddings, so that logits can be told exactly.
TEST_F(Invariant, LogitsAreFloat32) {
  const Shape shape{.vocab = 9000};
  for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf})
    for (const Arithmetic arithmetic : {Arithmetic::fast, Arithmetic::row_invariant})
      for (const int rows : {1, 2, 5, 8, 9, 40}) {
        make(shape, positions_of(rows, 100), scalar);
        rows_.embeddings.sign_();  // squares add up to the same in any order
        embeddings_.copy_(rows_.embeddings);
        host_.arithmetic = arithmetic;
        host_.head = (host_.head.to(at::kDouble) * 6).to(scalar);  // up to 26
        for (DecodeLayer& layer : host_.layers) {
          layer.output.zero_();
          layer.down.zero_();
        }
        const auto steps = DecodeSteps::make(model_here(), rows);
        const std::vector<Drawn> found = run(*steps, 0, static_cast<std::size_t>(rows));
        const at::Tensor hidden = rms_norm(rows_.embeddings, host_.final_norm, host_.epsilon);
        const at::Tensor expected =
            at::matmul(hidden.to(at::kDouble), host_.head.to(at::kDouble).t()).log_softmax(1);
        for (int i = 0; i < rows; ++i)
          for (std::size_t t = 0; t < wishes_[0].watched.size(); ++t)
            ASSERT_NEAR(found[static_cast<std::size_t>(i)].watched[t],
                        expected[i][wishes_[0].watched[t]].item<double>(), 1e-4)
                << "row " << i << " of " << rows << ", " << scalar;
        const at::Tensor there = hidden.to(card_), head = host_.head.to(card_);
        EXPECT_LT(error(linear_wide(there, head, arithmetic).log_softmax(1), expected), 1e-6);
      }
}

}  // namespace
}  // namespace pensive::kernels
