// A toy to train on: a tiny random model whose row is fed early, and a judge that wants one of some
// words right behind it.
#pragma once
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine_helpers.h"
#include "pensive/train.h"

namespace pensive::testing {

// Feeds the row after the second token that was drawn, and again after the seventh.
class FeedRow final : public Guide {
 public:
  explicit FeedRow(TokenId row, int times = 1) : row_(row), times_(times) {}
  std::string_view name() const override { return "feed row"; }
  Action on_token(const Moment& moment) override {
    if (moment.origin != Origin::sampled) return Proceed{};
    ++seen_;
    if (seen_ == 2 || (seen_ == 7 && times_ > 1)) return Force{{row_}, 1};
    return Proceed{};
  }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<FeedRow>(*this); }

 private:
  TokenId row_;
  int times_;
  int seen_ = 0;
};

// 1 when a wanted word comes right after the row, whose name is ROW.
class WantsWord : public Judge {
 public:
  double score(const Problem&, const Response& response) const override {
    const std::size_t at = response.text.find("ROW w");
    if (at == std::string::npos) return 0;
    const int word = std::atoi(response.text.c_str() + at + 5);
    return word >= 20 && word < 40 ? 1 : 0;
  }
};

inline std::vector<Problem> problems(int count) {
  std::vector<Problem> all;
  for (int i = 0; i < count; ++i) all.push_back({std::to_string(i), std::to_string(i), "x"});
  return all;
}

// A model, a row, an engine and options that fit together.
struct Toy {
  std::shared_ptr<const Model> model;
  std::shared_ptr<SoftVocab> soft = std::make_shared<SoftVocab>(model);
  TokenId row = soft->add("ROW", std::vector<TokenId>{5, 6});
  std::unique_ptr<Engine> engine;
  TrainOptions options;

  explicit Toy(EngineOptions with = exact(), int times = 1,
               std::shared_ptr<const Model> of = tiny_model())
      : model(std::move(of)) {
    with.soft = soft;
    engine = std::make_unique<Engine>(model, with);
    options.rollout = plain_request({}, 0, 12);
    options.rollout.sampling.seed.reset();
    options.rollout.guides = {std::make_shared<FeedRow>(row, times)};
    options.prompt_of = [](const Problem& problem) {
      return ids(std::stoi(problem.question), 20 + std::stoi(problem.question));
    };
    options.group_size = 8;
    options.learning_rate = 0.1;
  }
  Trainer trainer(std::shared_ptr<const Judge> judge = std::make_shared<WantsWord>()) {
    return Trainer(*engine, soft, row, std::move(judge), options);
  }
};

template <class Call>
void expect_error(ErrorCode code, const std::string& says, Call call) {
  try {
    call();
    FAIL() << "nothing thrown; expected " << says;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_THAT(error.what(), ::testing::HasSubstr(says));
  }
}

}  // namespace pensive::testing
