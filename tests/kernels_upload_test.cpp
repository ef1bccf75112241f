// Pieces through two buffers against one plain copy: bit for bit, whatever the types, the alignment
// and how pieces fall.
#include <cstring>

#include "kernels/upload.h"
#include "kernels_oracle.h"
#include "pensive/base.h"

namespace pensive::kernels {
namespace {

const at::ScalarType all_types[] = {at::kFloat, at::kBFloat16, at::kHalf, at::kDouble};

class UploadTo : public ::testing::TestWithParam<at::DeviceType> {
 protected:
  void SetUp() override {
    if (GetParam() == at::kCPU) return;
    try {
      device_ = to_torch(resolve({DeviceKind::cuda, 0}));
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
  }
  at::Device device_ = at::kCPU;
};
INSTANTIATE_TEST_SUITE_P(Devices, UploadTo, ::testing::Values(at::kCPU, at::kCUDA),
                         [](const auto& info) {
                           return std::string(info.param == at::kCPU ? "Cpu" : "Cuda");
                         });

std::vector<std::byte> bytes_of(const at::Tensor& values, std::size_t shift) {
  std::vector<std::byte> bytes(shift + values.nbytes());
  std::memcpy(bytes.data() + shift, values.const_data_ptr(), values.nbytes());
  return bytes;
}

TEST_P(UploadTo, EqualsAPlainCopy) {
  seed(4);
  for (const std::int64_t piece : {8, 56, 4096, 1 << 20}) {
    Upload upload(device_, piece);
    for (const at::ScalarType stored : all_types)
      for (const at::ScalarType held : all_types)
        for (const std::int64_t count : {1, 7, 2048, 3001}) {
          const at::Tensor values = at::randn({count}, at::kDouble).to(stored);
          // A part of a larger tensor whose neighbours stay as they are.
          const at::Tensor whole = at::full({count + 6}, 5, at::dtype(held).device(device_));
          std::vector<std::byte> from = bytes_of(values, static_cast<std::size_t>(count % 3));
          upload.send(std::span(from).subspan(static_cast<std::size_t>(count % 3)), stored,
                      whole.narrow(0, 2, count));
          std::fill(from.begin(), from.end(), std::byte{0xff});  // gone when the call returns
          upload.finish();
          const at::Tensor found = whole.cpu();
          EXPECT_TRUE(at::equal(found.narrow(0, 2, count), values.to(held)))
              << count << " of " << stored << " as " << held << " in pieces of " << piece;
          EXPECT_EQ(at::cat({found.narrow(0, 0, 2), found.narrow(0, count + 2, 4)})
                        .eq(5)
                        .sum()
                        .item<std::int64_t>(),
                    6);
        }
  }
}

// What is freed and taken again while pieces travel is written once, in the order of the calls.
TEST_P(UploadTo, KeepsToTheOrderOfTheCaller) {
  constexpr std::int64_t count = 1 << 20;
  const at::Tensor values = at::arange(count, at::kFloat);
  const std::vector<std::byte> from = bytes_of(values, 0);
  Upload upload(device_, 1 << 16);
  for (int round = 0; round < 8; ++round) {
    at::Tensor before = at::zeros({count}, at::dtype(at::kFloat).device(device_));
    for (int i = 0; i < 20; ++i) before.add_(1);
    before.reset();
    const at::Tensor to = at::empty({count}, at::dtype(at::kFloat).device(device_));
    upload.send(from, at::kFloat, to);
    upload.finish();
    EXPECT_TRUE(at::equal(to.cpu(), values)) << round;
  }
}

}  // namespace
}  // namespace pensive::kernels
