// Steps of one row: which of the two ways they go, and those of two engines at once.
#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <gtest/gtest.h>

#include <thread>

#include "kernels/cpu.h"
#include "kernels_steps.h"

namespace pensive::kernels {
namespace {

class OneRowSteps : public OnCard {
 protected:
  OneRowSteps() : OnCard(31) {}

  void SetUp() override {
    OnCard::SetUp();
    if (!IsSkipped() && cuda::capability(card_.index()).first != 9)
      GTEST_SKIP() << "the kernel that stays needs a card of capability 9.0";
  }

  // Rows whose positions have all been computed but the newest, of which each step takes one.
  struct Case {
    DecodeModel model;
    Rows rows;
    at::Tensor embeddings;
  };
  Case random_case(const Shape& shape, const std::vector<int>& positions) {
    const int pages = pages_for(shape, positions);
    Rows rows = random_rows(shape, positions, pages, at::kBFloat16);
    const at::Tensor embeddings = rows.embeddings.to(card_);
    return {on(random_model(shape, pages, at::kBFloat16), card_), std::move(rows), embeddings};
  }

  static std::vector<float> logprobs(DecodeSteps& steps, const Case& of, std::size_t row = 0) {
    std::vector<DrawRow> wishes(1);
    const auto vocab = static_cast<int>(of.model.head.size(0));
    for (int token = 0; token < vocab; ++token) wishes[0].watched.push_back(token);
    const at::Tensor embedding = of.embeddings[static_cast<std::int64_t>(row)];
    const std::vector<DecodeRow> rows = {
        {embedding.const_data_ptr(), of.rows.positions[row], of.rows.pages[row]}};
    return steps.run(rows, wishes)[0].watched;
  }
  static std::vector<float> logprobs(Case of, OneRow way) {
    of.model.one_row = way;
    return logprobs(*DecodeSteps::make(of.model, 2), of);
  }
};

// A layer's keys and values take 32 MiB at so many positions, 16,384 or 8,192.
Shape longest_by_one_kernel(int positions) {
  return {.width = 1024,
          .inner = 8192,
          .heads = 16,
          .kv_heads = (32 << 20) / (4 * 64 * positions),
          .head_dim = 64,
          .positions = positions + 100};
}

TEST_F(OneRowSteps, GoTheWayThatIsFaster) {
  // The ways add up in other orders, so bits tell them apart.
  struct Expected {
    Shape shape;
    int position;
    OneRow way;
  };
  const Shape large = longest_by_one_kernel(16384), wide = longest_by_one_kernel(8192),
              small{.width = 512, .inner = 1024, .heads = 16, .head_dim = 64};
  for (const auto& [shape, position, way] : {Expected{large, 100, OneRow::stays},
                                             {large, 16383, OneRow::stays},
                                             {large, 16384, OneRow::chain},
                                             {wide, 8191, OneRow::stays},
                                             {wide, 8192, OneRow::chain},
                                             {small, 100, OneRow::chain}}) {
    const Case here = random_case(shape, {position});
    const OneRow other = way == OneRow::stays ? OneRow::chain : OneRow::stays;
    EXPECT_EQ(logprobs(here, OneRow::automatic), logprobs(here, way)) << position;
    EXPECT_NE(logprobs(here, OneRow::automatic), logprobs(here, other)) << position;
  }
}

TEST_F(OneRowSteps, ChangeWaysAsARowGrows) {
  // Back and forth over the length from which on the chain is faster: what one way leaves behind
  // in the workspace does not disturb the other, nor is a graph captured anew.
  const Case both = random_case(longest_by_one_kernel(8192), {8191, 8192});
  const auto steps = DecodeSteps::make(both.model, 2);
  const std::vector<float> below = logprobs(*steps, both, 0), above = logprobs(*steps, both, 1);
  for (int again = 0; again < 3; ++again) {
    EXPECT_EQ(logprobs(*steps, both, 0), below);
    EXPECT_EQ(logprobs(*steps, both, 1), above);
  }
  EXPECT_EQ(steps->captures(), 2);
}

TEST_F(OneRowSteps, OfTwoEnginesDoNotWaitForEachOther) {
  // Each kernel wants every core, and its blocks wait for one another: were some blocks of both
  // there at once, neither could ever end.
  constexpr int engines = 2, rounds = 300;
  const Shape shape{.width = 256, .inner = 512, .heads = 8, .head_dim = 64, .vocab = 500};
  std::vector<Case> cases;
  std::vector<std::vector<float>> expected;
  for (int i = 0; i < engines; ++i) {
    cases.push_back(random_case(shape, {700 + 900 * i}));
    cases.back().model.one_row = OneRow::stays;
    expected.push_back(logprobs(cases.back(), OneRow::stays));
  }
  std::vector<int> wrong(engines, rounds);
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < engines; ++i)
    threads.emplace_back([&, i] {
      const c10::impl::VirtualGuardImpl guard(card_.type());
      const c10::StreamGuard own(guard.getStreamFromGlobalPool(card_));
      const auto steps = DecodeSteps::make(cases[i].model, 2);
      for (int round = 0; round < rounds; ++round)
        if (logprobs(*steps, cases[i]) == expected[i]) --wrong[i];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(engines, 0));
}

}  // namespace
}  // namespace pensive::kernels
