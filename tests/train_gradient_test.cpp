// The suffix gradient against PyTorch's through Transformers' model (make_gradient.py).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "engine_helpers.h"
#include "train/steps.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

Suffix read_sample(const Json& json) {
  Suffix suffix;
  suffix.tokens = json.at("tokens").get<std::vector<TokenId>>();
  suffix.begins = json.at("begins");
  suffix.advantage = json.at("advantage");
  const auto add = [&](const Json& target, int row) {
    suffix.targets.push_back({row, target.at("token").get<TokenId>()});
    suffix.old_logprobs.push_back(target.at("old_logprob"));
  };
  for (const Json& target : json.at("targets"))
    add(target, target.at("context").get<int>() - suffix.begins);
  for (const Json& closer : json.at("closers")) {
    int row = closer.at("context").get<int>() - suffix.begins;
    for (const Json& target : closer.at("targets")) {
      add(target, row);
      if (&target == &closer.at("targets").back()) break;  // no token was drawn behind it
      suffix.asides.push_back(
          {target.at("token").get<TokenId>(), row, target.at("context").get<int>() + 1});
      row = suffix.length() - 1;
    }
  }
  return suffix;
}

void expect_recorded(DeviceKind device) {
  const std::string file = testing::data("train/gradient.json").string();
  const Json record = parse_json(read_text(file), file);
  ASSERT_EQ(record.at("cases").size(), 8u);
  for (const Json& one : record.at("cases")) {
    const auto model = Model::load(testing::data("models") / one.at("model").get<std::string>(),
                                   {.device = {device}, .precision = Precision::float32});
    std::vector<Suffix> suffixes;
    for (const Json& sample : one.at("samples")) suffixes.push_back(read_sample(sample));
    const auto row = one.at("row").get<std::vector<double>>();
    EXPECT_TRUE(std::ranges::all_of(
        suffixes, [](const Suffix& suffix) { return suffix.asides.size() == 3; }));
    const SuffixResult found =
        suffix_backward({.decoder = *model->parts().decoder,
                         .rows = at::tensor(row).to(model->parts().device, at::kFloat).unsqueeze(0),
                         .row = model->vocab_size(),
                         .temperature = record.at("temperature"),
                         .loss = {.clip_low = record.at("clip"),
                                  .clip_high = record.at("clip"),
                                  .denominator = record.at("denominator")}},
                        suffixes, [](int) { return std::nullopt; });
    EXPECT_NEAR(found.loss, one.at("loss").get<double>(), 1e-5);
    const auto expected = one.at("gradient").get<std::vector<double>>();
    double gap = 0, size = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      gap += std::pow(found.gradient[i] - expected[i], 2);
      size += std::pow(expected[i], 2);
    }
    EXPECT_GT(size, 0);
    EXPECT_LT(std::sqrt(gap / size), 1e-4) << one.at("model");
    EXPECT_GT(found.clipped, 0) << "the record holds clipped ratios too";
  }
}

TEST(Gradient, EqualsTransformers) { expect_recorded(DeviceKind::cpu); }

TEST(Gradient, EqualsTransformersOnCuda) {
  if (!testing::has_cuda()) GTEST_SKIP() << "no CUDA device";
  expect_recorded(DeviceKind::cuda);
}

}  // namespace
}  // namespace pensive
