// What serves on cards before 9.0, told apart by what the runtime says: 8.0, with tensor cores and
// without clusters of blocks; 7.5, with neither.
#include "kernels/cpu.h"
#include "kernels_as_card.h"
#include "kernels_whole_steps.h"

namespace pensive::kernels {
namespace {

class Portable : public WholeSteps {
 protected:
  Portable() : WholeSteps(43) {}

  void expect_chain(const Shape& shape, const std::vector<int>& positions, at::ScalarType scalar) {
    expect_equal(shape, positions, scalar, OneRow::chain);
  }
  void expect_all(at::ScalarType scalar) {
    for (const int rows : {1, 2, 3, 8, 9, 16, 17, 40, 129})
      expect_chain({.has_biases = rows % 2 == 0}, positions_of(rows), scalar);
    for (const int head_dim : {64, 80, 96, 128})
      for (int group = 1; group <= 8; ++group)
        expect_chain({.heads = 2 * group, .head_dim = head_dim, .has_norms = group % 2 == 0},
                     {0, 77, 128, 700 + 100 * group}, scalar);
    for (const int rows : {1, 3, 20}) {
      expect_chain({.width = 200, .inner = 328, .vocab = 9001, .page_tokens = 3},
                   positions_of(rows), scalar);
      expect_chain({.width = 1544, .inner = 2056, .vocab = 513}, positions_of(rows), scalar);
    }
    expect_chain({}, {0, 62, 63, 64, 65, 127, 128, 511, 512, 513, 600, 2047, 2048, 3000}, scalar);
    expect_chain({.heads = 4, .head_dim = 128, .positions = 33001}, {33000}, scalar);
    expect_chain({.heads = 4, .head_dim = 64, .positions = 9001}, {9000, 5, 700, 0, 8191}, scalar);
  }
};

TEST_F(Portable, StepsEqualOnTensorCoresAlone) {
  const AsCard older(8, 0);
  for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf}) expect_all(scalar);
}

TEST_F(Portable, StepsEqualWithoutTensorCores) {
  const AsCard older(7, 5);
  for (const at::ScalarType scalar : {at::kBFloat16, at::kHalf}) expect_all(scalar);
}

TEST_F(Portable, StepsEqualInBrief) {
  for (const auto& [major, minor] : {std::pair{8, 0}, {7, 5}}) {
    const AsCard older(major, minor);
    for (const int rows : {2, 9, 17})
      expect_chain({.has_biases = rows == 9}, positions_of(rows), at::kBFloat16);
    expect_chain({.vocab = 8200, .page_tokens = 3, .has_norms = true}, {2100, 7, 64}, at::kHalf);
  }
}

// Bits tell ways apart, since they add up in other orders: that AsCard does what it says.
TEST_F(Portable, GoesOtherWaysOnOlderCards) {
  constexpr int rows = 9;
  const Shape shape{.width = 512};
  const DecodeModel model = on(random_model(shape, rows, at::kHalf), card_);
  const at::Tensor embeddings = random({rows, shape.width}, at::kHalf).to(card_);
  const auto watched = [&] {
    std::vector<DrawRow> wishes(rows);
    std::vector<std::vector<int>> pages;
    std::vector<DecodeRow> asked;
    for (int i = 0; i < rows; ++i) pages.push_back({i});
    for (int i = 0; i < rows; ++i)
      asked.push_back({embeddings[i].const_data_ptr(), 5, pages[static_cast<std::size_t>(i)]});
    for (int token = 0; token < shape.vocab; ++token) wishes[3].watched.push_back(token);
    return DecodeSteps::make(model, rows)->run(asked, wishes)[3].watched;
  };
  const auto as = [&](int major, int minor) {
    const AsCard older(major, minor);
    return watched();
  };
  EXPECT_NE(as(8, 0), as(7, 5));
  const bool is_newest = cuda::capability(card_.index()) == std::pair(9, 0);
  EXPECT_EQ(as(8, 0) != watched(), is_newest);
}

}  // namespace
}  // namespace pensive::kernels
