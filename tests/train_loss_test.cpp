// Advantages and losses against an independent computation in float64 (make_loss.py), which is
// compared with TRL's own code.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/inside.h"
#include "testing.h"
#include "train/steps.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

struct Record {
  Json json;
  std::vector<double> sample_of;  // each suffix token's sample
  at::Tensor now, old, drawn, start;

  Record() {
    const std::string file = testing::data("train/loss.json").string();
    json = parse_json(read_text(file), file);
    std::vector<double> columns[4];
    const char* const names[] = {"now", "old", "drawn", "start"};
    for (std::size_t s = 0; s < json.at("samples").size(); ++s)
      for (const Json& token : json.at("samples")[s]) {
        if (!token.at("is_suffix").get<bool>()) continue;
        sample_of.push_back(static_cast<double>(s));
        for (int c = 0; c < 4; ++c) columns[c].push_back(token.at(names[c]));
      }
    const auto column = [&](int c) { return at::tensor(columns[c], at::kDouble); };
    now = column(0), old = column(1), drawn = column(2), start = column(3);
  }
};

AdvantageScale scale_of(const std::string& name) {
  if (name == "none") return AdvantageScale::none;
  return name == "batch" ? AdvantageScale::batch : AdvantageScale::group;
}

void expect_near(const at::Tensor& found, const std::vector<double>& expected) {
  ASSERT_EQ(found.numel(), std::ssize(expected));
  EXPECT_LT((found.flatten() - at::tensor(expected, at::kDouble)).abs().max().item<double>(),
            1e-14);
}

void expect_case(const Record& record, const Json& one) {
  SCOPED_TRACE(one.at("name").get<std::string>());
  const Json& setting = one.at("setting");
  std::vector<double> rewards, gains;
  for (const Json& group : record.json.at("rewards"))
    for (const Json& reward : group) rewards.push_back(reward);
  for (const Json& group : one.at("advantages"))
    for (const Json& gain : group) gains.push_back(gain);
  const at::Tensor found_gains =
      advantages(at::tensor(rewards, at::kDouble).view({3, 4}), scale_of(setting.at("scale")));
  expect_near(found_gains, gains);

  const at::Tensor logprobs = record.now.clone().requires_grad_(true);
  const at::Tensor sample = at::tensor(record.sample_of, at::kDouble).to(at::kLong);
  const Loss loss =
      grpo_loss({.logprobs = logprobs,
                 .old_logprobs = setting.at("is_first").get<bool>() ? record.now : record.old,
                 .advantages = found_gains.flatten().index_select(0, sample),
                 .drawn_logprobs = record.drawn,
                 .start_logprobs = record.start},
                {.clip_low = setting.at("clip_low"),
                 .clip_high = setting.at("clip_high"),
                 .max_weight = setting.at("max_weight"),
                 .kl = setting.at("kl"),
                 .denominator = one.at("denominator_tokens")});
  loss.loss.backward();
  EXPECT_NEAR(loss.loss.item<double>(), one.at("loss").get<double>(), 1e-14);
  expect_near(logprobs.grad(), one.at("gradient").get<std::vector<double>>());
  EXPECT_EQ(loss.clipped.item<std::int64_t>(), one.at("clipped").get<std::int64_t>());
  EXPECT_NEAR(loss.kl.item<double>(), one.at("kl_sum").get<double>(), 1e-12);
  EXPECT_NEAR(loss.weight.item<double>(), one.at("weight_sum").get<double>(), 1e-12);
}

TEST(GrpoLoss, EqualsAnIndependentComputation) {
  const Record record;
  ASSERT_GE(record.json.at("cases").size(), 12u);
  int clipped = 0;
  for (const Json& one : record.json.at("cases")) {
    expect_case(record, one);
    clipped += one.at("clipped").get<int>() > 0;
  }
  EXPECT_GT(clipped, 8) << "the record holds clipped tokens";
}

// Halves of a batch add up, whatever the options: no mean over parts hides in the loss.
TEST(GrpoLoss, AddsUpOverParts) {
  const Record record;
  const at::Tensor gains = at::linspace(-1, 1.5, record.now.numel(), at::kDouble);
  const LossSetting setting{.max_weight = 1.5, .kl = 0.1, .denominator = 40};
  const auto loss_of = [&](std::int64_t from, std::int64_t to) {
    const auto part = [&](const at::Tensor& x) { return x.slice(0, from, to); };
    return grpo_loss(
        {part(record.now), part(record.old), part(gains), part(record.drawn), part(record.start)},
        setting);
  };
  const Loss whole = loss_of(0, record.now.numel());
  const Loss first = loss_of(0, 5), second = loss_of(5, record.now.numel());
  EXPECT_NEAR(whole.loss.item<double>(), (first.loss + second.loss).item<double>(), 1e-14);
  EXPECT_EQ(whole.clipped.item<std::int64_t>(),
            (first.clipped + second.clipped).item<std::int64_t>());
}

}  // namespace
}  // namespace pensive
