// Whole training steps on random weights of a real shape: goals P4, P5 and P9.
#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <optional>

#include "bench.h"
#include "card.h"
#include "model/parts.h"
#include "pensive/guides.h"

namespace pensive::bench {
namespace {

constexpr int prompt_tokens = 128;

// Feeds the row once, after so many drawn tokens.
class FeedAt final : public Guide {
 public:
  FeedAt(TokenId row, int after) : row_(row), after_(after) {}
  std::string_view name() const override { return "feed at"; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<FeedAt>(*this); }
  Action on_token(const Moment& moment) override {
    if (moment.new_tokens != after_) return Proceed{};
    return Force{{row_}};
  }

 private:
  TokenId row_;
  int after_;
};

// Ends samples after a number of tokens that follows from the first two drawn: geometric.
class EndAnywhere final : public Guide {
 public:
  explicit EndAnywhere(int mean) : mean_(mean) {}
  std::string_view name() const override { return "end anywhere"; }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<EndAnywhere>(*this); }
  Action on_token(const Moment& moment) override {
    if (moment.new_tokens == 2) {
      std::uint64_t bits = 0;
      for (const TokenId id : moment.tokens.last(2))
        bits = (bits + static_cast<std::uint64_t>(id)) * 0x9E3779B97F4A7C15ull;
      const double chance = (static_cast<double>(bits >> 11) + 0.5) * 0x1p-53;
      last_ = 2 + static_cast<int>(-std::log(chance) * mean_);
    }
    if (moment.new_tokens < last_) return Proceed{};
    return Stop{};
  }

 private:
  int mean_;
  int last_ = 1 << 30;
};

// A number from 0 to 1 that looks random. Called between rollouts and update, it tells of that.
class RandomReward final : public Judge {
 public:
  explicit RandomReward(std::function<void()> called) : called_(std::move(called)) {}
  double score(const Problem& problem, const Response& response) const override {
    called_();
    const std::size_t hash = std::hash<std::string>{}(problem.id + response.text);
    return static_cast<double>(hash % 1000003) / 1000003;
  }

 private:
  std::function<void()> called_;
};

// A trainer that takes so many tokens in one backward, and what its steps gave.
struct Learner {
  int batch_tokens = 0;
  Logprobs logprobs = Logprobs::fast;
  double planned = 0;  // bytes of a backward
  std::unique_ptr<Trainer> trainer{};
  double free = 0, taken = 0;  // bytes of the card, before the first update and by it
  std::vector<double> whole{}, rollouts{}, judges{}, update{}, rates{}, extra{}, gaps{},
      largest_gaps{};

  void add(const TrainReport& report, double seconds, double rate, double extra_GB) {
    whole.push_back(seconds);
    rollouts.push_back(report.rollout_seconds);
    judges.push_back(report.judge_seconds);
    update.push_back(report.update_seconds);
    rates.push_back(rate);
    extra.push_back(extra_GB);
    gaps.push_back(report.mean_logprob_gap);
    largest_gaps.push_back(report.max_logprob_gap);
  }
};

}  // namespace

// Learners that share an engine and take turns.
class Bench::Grpo {
 public:
  Grpo(const Bench& bench, int prompts, int group, int new_tokens)
      : bench_(bench),
        prompts_(prompts),
        group_(group),
        new_tokens_(new_tokens),
        held_(bench.model_->parts().device),
        soft_(std::make_shared<SoftVocab>(bench.model_)),
        row_(soft_->add("learned", bench.prompt(1, 1))),
        engine_options_{
            .soft = soft_,
            .arithmetic =
                bench.options_.exact_logprobs ? Arithmetic::row_invariant : Arithmetic::fast,
            .cache_tokens = std::int64_t{prompts} * group * (prompt_tokens + new_tokens + 64),
            .max_live_sequences = prompts * group,
            .max_tokens_per_step = 8192,
            .graphs = bench.options_.graphs},
        engine_(bench.model_, engine_options_) {
    std::vector<int> sizes = bench.options_.batch_tokens;
    if (sizes.empty()) sizes = {TrainOptions().max_batch_tokens};
    for (const int size : sizes) {
      learners_.push_back({.batch_tokens = size});
      if (bench.options_.exact_logprobs)
        learners_.push_back({.batch_tokens = size, .logprobs = Logprobs::exact});
    }
    for (Learner& one : learners_) prepare(one);
  }

  void run() {
    for (int repeat = 0; repeat <= bench_.options_.repetitions; ++repeat)
      for (Learner& one : learners_) {
        if (std::string line; bench_.options_.waits && !std::getline(std::cin, line)) return;
        step(one, repeat);
      }
    for (const Learner& one : learners_) {
      tell(one);
      if (held_.is_there()) tell_memory(one);
    }
    const EngineCounters counters = engine_.counters();
    bench_.print(fmt::format(
        R"({{"case":"GRPO steps: the engine","shape":"{}","steps":{},"ahead_steps":{},"ahead_dropped":{},"computed_tokens":{},"preemptions":{}}})",
        bench_.label(), counters.steps, counters.ahead_steps, counters.ahead_dropped,
        counters.computed_tokens, counters.preemptions));
  }

 private:
  bool is_even() const { return bench_.options_.mean_tokens == 0; }

  void prepare(Learner& one) {
    TrainOptions options;
    options.rollout.guides = {std::make_shared<FeedAt>(row_, is_even() ? new_tokens_ / 2 : 16)};
    if (!is_even())
      options.rollout.guides.push_back(std::make_shared<EndAnywhere>(bench_.options_.mean_tokens));
    options.rollout.sampling.temperature = 1.0f;
    options.rollout.max_new_tokens = new_tokens_;
    options.rollout.ignore_end_tokens = true;
    options.prompt_of = [&](const Problem& problem) {
      return bench_.prompt(prompt_tokens, std::stoi(problem.id));
    };
    options.group_size = group_;
    options.learning_rate = 1e-3;
    options.stop_errors = 0;
    options.max_batch_tokens = one.batch_tokens;
    options.logprobs = one.logprobs;
    const ModelOptions how{.device = Device::parse(bench_.options_.device),
                           .precision = bench_.options_.precision};
    one.planned = static_cast<double>(
        plan_memory(bench_.options_.model, how, engine_options_, options).training_bytes);
    const auto reward = std::make_shared<RandomReward>([this, &one] {
      if (one.free == 0) {
        held_.clear();
        one.free = held_.free();
      }
      held_.reset();
      before_ = held_.now();
    });
    one.trainer = std::make_unique<Trainer>(engine_, soft_, row_, reward, options);
  }

  void step(Learner& one, int repeat) {
    std::vector<Problem> problems;
    for (int p = 0; p < prompts_; ++p)
      problems.push_back({std::to_string(repeat * prompts_ + p), "", ""});
    TrainReport report;
    const double seconds =
        seconds_of(bench_.model_->parts().device, [&] { report = one.trainer->step(problems); });
    const double rate = report.mean_tokens * prompts_ * group_ / report.update_seconds;
    const double extra = (held_.peak() - before_) / 1e9;
    if (bench_.options_.waits)
      bench_.print(fmt::format(
          R"({{"case":"turn","batch_tokens":{},"repeat":{},"rate":{:.6g},"extra_GB":{:.4g},"held_GB":{:.4g}}})",
          one.batch_tokens, repeat, rate, extra, held_.peak() / 1e9));
    if (repeat > 0)
      one.add(report, seconds, rate, extra);
    else
      one.taken = one.free - held_.free();  // it also warms up
  }

  void tell(const Learner& one) const {
    const std::string lengths =
        is_even()
            ? fmt::format("{} tokens, prompts of {}, the row at half", new_tokens_, prompt_tokens)
            : fmt::format("{} tokens in the mean and {} at most, prompts of {}, the row at 16",
                          bench_.options_.mean_tokens, new_tokens_, prompt_tokens);
    const std::string shape =
        fmt::format("{}, {} prompts x {} samples x {}, batches of {}", bench_.label(), prompts_,
                    group_, lengths, one.batch_tokens);
    const ModelInfo& info = bench_.model_->info();
    // What the names of cases end with.
    const std::string_view ends = !bench_.options_.exact_logprobs   ? ""
                                  : one.logprobs == Logprobs::exact ? ", exact logprobs"
                                                                    : ", row-invariant rollouts";
    const auto line = [&](std::string_view name, std::string_view goal, std::string_view unit,
                          const std::vector<double>& values) {
      const Spread spread = spread_of(values);
      bench_.print(fmt::format(
          R"({{"case":"{}{}"{},"shape":"{}","unit":"{}","median":{:.4g},"low":{:.4g},"high":{:.4g},"n":{},"batch_tokens":{},"device":"{}","precision":"{}"}})",
          name, ends, is_even() ? fmt::format(R"(,"goal":"{}")", goal) : "", shape, unit,
          spread.median, spread.low, spread.high, values.size(), one.batch_tokens,
          to_string(info.device), to_string(info.precision)));
    };
    line("GRPO step", "P4", "s", one.whole);
    line("GRPO step: rollouts", "P4", "s", one.rollouts);
    line("GRPO step: judges", "P4", "s", one.judges);
    line("GRPO step: update", "P4", "s", one.update);
    line("backward", "P5", "rollout tokens/s", one.rates);
    line("backward: memory beside weights and cache", "P5", "GB", one.extra);
    line("engine/trainer gap: mean", "P9", "nats", one.gaps);
    line("engine/trainer gap: largest", "P9", "nats", one.largest_gaps);
  }

  void tell_memory(const Learner& one) const {
    const auto line = [&](std::string_view of, double taken) {
      bench_.print(fmt::format(
          R"({{"case":"memory","shape":"{}: a backward of {} tokens{}, {}","planned_MB":{:.1f},"taken_MB":{:.1f},"device":"{}"}})",
          bench_.label(), one.batch_tokens,
          one.logprobs == Logprobs::exact ? " with exact logprobs" : "", of, one.planned / 1e6,
          taken / 1e6, to_string(bench_.model_->info().device)));
    };
    line("its tensors", 1e9 * spread_of(one.extra).high);
    line("of the card's free memory", one.taken);
  }

  const Bench& bench_;
  int prompts_, group_, new_tokens_;
  Held held_;
  std::shared_ptr<SoftVocab> soft_;
  TokenId row_;
  EngineOptions engine_options_;
  Engine engine_;
  std::vector<Learner> learners_;
  double before_ = 0;  // bytes that tensors hold when the update begins
};

void Bench::grpo(int prompts, int group, int new_tokens) {
  Grpo(*this, prompts, group, new_tokens).run();
}

}  // namespace pensive::bench
