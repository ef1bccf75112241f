// Prefill and training of random weights of a real shape: goals P3, P4, P5 and P9.
#include <ATen/ATen.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>

#include "bench.h"
#include "engine/access.h"
#include "pensive/guides.h"
#include "train/steps.h"

namespace pensive::bench {
namespace {

using Clock = std::chrono::steady_clock;

void wait_for(at::Device device) {
  if (device.is_cuda()) at::detail::getCUDAHooks().deviceSynchronize(device.index());
}

double seconds_of(at::Device device, const std::function<void()>& work) {
  wait_for(device);
  const auto start = Clock::now();
  work();
  wait_for(device);
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Bytes that libtorch's tensors hold on a card: now, and at most since the last reset. 0 on a CPU.
struct Held {
  explicit Held(at::Device device) : device_(device) {}
  void reset() const {
    if (device_.is_cuda()) allocator()->resetPeakStats(index());
  }
  double now() const { return device_.is_cuda() ? static_cast<double>(bytes().current) : 0; }
  double peak() const { return device_.is_cuda() ? static_cast<double>(bytes().peak) : 0; }

 private:
  c10::DeviceIndex index() const { return std::max<c10::DeviceIndex>(0, device_.index()); }
  c10::DeviceAllocator* allocator() const { return at::getDeviceAllocator(at::kCUDA); }
  c10::CachingAllocator::Stat bytes() const {
    return allocator()->getDeviceStats(index()).allocated_bytes[0];  // of all pools
  }
  at::Device device_;
};

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

double multiplied_weights(const ModelInfo& info) {
  const double tables = (info.is_tied ? 1.0 : 2.0) * info.vocab_size * info.width;
  return static_cast<double>(info.parameters) - tables;
}

double relative_gap(const std::vector<double>& a, const std::vector<double>& b) {
  double gap = 0, size = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    gap += (a[i] - b[i]) * (a[i] - b[i]);
    size += b[i] * b[i];
  }
  return std::sqrt(gap / size);
}

}  // namespace

double Bench::product_rate() const {
  const at::Device device = model_->parts().device;
  const std::int64_t size = device.is_cuda() ? 8192 : 1024;
  const auto options = at::dtype(model_->parts().scalar).device(device);
  const at::Tensor a = at::randn({size, size}, options), b = at::randn({size, size}, options);
  at::Tensor out = at::empty({size, size}, options);
  std::vector<double> rates;
  for (int repeat = 0; repeat < 7; ++repeat) {
    const double seconds = seconds_of(device, [&] {
      for (int i = 0; i < 10; ++i) at::matmul_out(out, a, b.t());
    });
    if (repeat > 1) rates.push_back(20.0 * std::pow(static_cast<double>(size), 3) / seconds);
  }
  return spread_of(rates).median;
}

void Bench::prefill_share(int prompts, int length, double product_flops_per_second) {
  Engine engine(model_, {.cache_tokens = std::int64_t{prompts} * (length + 64),
                         .max_live_sequences = prompts,
                         .max_tokens_per_step = prompts * length,
                         .reuse_prefixes = false});
  const ModelInfo& info = model_->info();
  const double attention = 2.0 * info.layers * info.heads * info.head_dim * length * (length + 1.0);
  const double flops = prompts * (2 * multiplied_weights(info) * length + attention +
                                  2.0 * info.vocab_size * info.width);
  std::vector<double> rates;
  for (int repeat = 0; repeat <= options_.repetitions + 1; ++repeat) {
    std::vector<Request> requests(static_cast<std::size_t>(prompts));
    for (int i = 0; i < prompts; ++i) {
      Request& request = requests[static_cast<std::size_t>(i)];
      request.prompt = prompt(length, repeat * prompts + i);
      request.max_new_tokens = 1;
      request.ignore_end_tokens = true;
      request.sampling.seed = 1;
    }
    const double seconds = seconds_of(model_->parts().device, [&] {
      std::vector<Sequence> sequences;
      for (const Request& request : requests) sequences.push_back(engine.start(request));
      engine.finish(sequences);
    });
    if (repeat > 1) rates.push_back(flops / seconds);
  }
  const Spread rate = spread_of(rates);
  print(fmt::format(
      R"({{"case":"prefill share","goal":"P3","shape":"{}, {} x {}","unit":"TFLOP/s","median":{:.4g},"low":{:.4g},"high":{:.4g},"n":{},"tokens_per_s":{:.0f},"limit":{:.4g},"share":{:.3f},"device":"{}","precision":"{}"}})",
      options_.shape, prompts, length, rate.median / 1e12, rate.low / 1e12, rate.high / 1e12,
      options_.repetitions, rate.median / flops * prompts * length, product_flops_per_second / 1e12,
      rate.median / product_flops_per_second, to_string(info.device), to_string(info.precision)));
}

void Bench::grpo(int prompts, int group, int new_tokens) {
  constexpr int prompt_tokens = 128;
  const at::Device device = model_->parts().device;
  const Held held(device);
  const int samples = prompts * group;
  auto soft = std::make_shared<SoftVocab>(model_);
  const TokenId row = soft->add("learned", prompt(1, 1));
  Engine engine(model_, {.soft = soft,
                         .cache_tokens = std::int64_t{samples} * (prompt_tokens + new_tokens + 64),
                         .max_live_sequences = samples,
                         .max_tokens_per_step = 8192,
                         .graphs = options_.graphs});
  TrainOptions options;
  options.rollout.guides = {std::make_shared<FeedAt>(row, new_tokens / 2)};
  options.rollout.sampling.temperature = 1.0f;
  options.rollout.max_new_tokens = new_tokens;
  options.rollout.ignore_end_tokens = true;
  options.prompt_of = [&](const Problem& problem) {
    return prompt(prompt_tokens, std::stoi(problem.id));
  };
  options.group_size = group;
  options.learning_rate = 1e-3;
  options.stop_errors = 0;
  if (options_.batch_tokens > 0) options.max_batch_tokens = options_.batch_tokens;
  double before = 0;
  const auto reward = std::make_shared<RandomReward>([&] {
    held.reset();
    before = held.now();
  });
  Trainer trainer(engine, soft, row, reward, options);
  std::vector<double> rollout, judge, update, whole, rates, extra, gaps, largest_gaps;
  for (int repeat = 0; repeat <= options_.repetitions; ++repeat) {
    std::vector<Problem> problems;
    for (int p = 0; p < prompts; ++p)
      problems.push_back({std::to_string(repeat * prompts + p), "", ""});
    const double seconds = seconds_of(device, [&] {
      const TrainReport report = trainer.step(problems);
      rollout.push_back(report.rollout_seconds);
      judge.push_back(report.judge_seconds);
      update.push_back(report.update_seconds);
      rates.push_back(report.mean_tokens * samples / report.update_seconds);
      gaps.push_back(report.mean_logprob_gap);
      largest_gaps.push_back(report.max_logprob_gap);
    });
    whole.push_back(seconds);
    extra.push_back((held.peak() - before) / 1e9);
  }
  const std::string shape =
      fmt::format("{}, {} prompts x {} samples x {} tokens, prompts of {}, the row at half",
                  options_.shape, prompts, group, new_tokens, prompt_tokens);
  const auto line = [&](std::string_view name, std::string_view goal, std::string_view unit,
                        std::vector<double>& values) {
    values.erase(values.begin());  // the first warms up
    const Spread spread = spread_of(values);
    print(fmt::format(
        R"({{"case":"{}","goal":"{}","shape":"{}","unit":"{}","median":{:.4g},"low":{:.4g},"high":{:.4g},"n":{},"device":"{}","precision":"{}"}})",
        name, goal, shape, unit, spread.median, spread.low, spread.high, options_.repetitions,
        to_string(model_->info().device), to_string(model_->info().precision)));
  };
  line("GRPO step", "P4", "s", whole);
  line("GRPO step: rollouts", "P4", "s", rollout);
  line("GRPO step: judges", "P4", "s", judge);
  line("GRPO step: update", "P4", "s", update);
  line("backward", "P5", "rollout tokens/s", rates);
  line("backward: memory beside weights and cache", "P5", "GB", extra);
  line("engine/trainer gap: mean", "P9", "nats", gaps);
  line("engine/trainer gap: largest", "P9", "nats", largest_gaps);
}

// The same samples twice through our own decoder: from the row on, and whole.
void Bench::suffix_share(int samples, int length) {
  const at::Device device = model_->parts().device;
  const Held held(device);
  auto soft = std::make_shared<SoftVocab>(model_);
  const TokenId row = soft->add("learned", prompt(1, 1));
  Engine engine(model_, {.soft = soft,
                         .cache_tokens = std::int64_t{samples} * (length + 64),
                         .max_live_sequences = samples,
                         .max_tokens_per_step = 8192});
  const int begins = length / 2;
  std::vector<Sequence> sequences;
  std::vector<Suffix> suffixes, wholes;
  for (int i = 0; i < samples; ++i) {
    Request request;
    request.prompt = prompt(length, i);
    request.prompt[static_cast<std::size_t>(begins)] = row;
    request.max_new_tokens = 1;
    request.ignore_end_tokens = true;
    sequences.push_back(engine.start(request));
    Suffix suffix;
    suffix.tokens = request.prompt;
    suffix.begins = begins;
    suffix.advantage = i % 2 == 0 ? 1 : -1;
    for (int at = begins; at + 1 < length; ++at)
      suffix.targets.push_back({at - begins, request.prompt[static_cast<std::size_t>(at) + 1]});
    suffix.tokens.pop_back();
    Suffix whole = suffix;
    whole.begins = 0;
    for (Target& target : whole.targets) target.position += begins;
    suffixes.push_back(std::move(suffix));
    wholes.push_back(std::move(whole));
  }
  engine.finish(sequences);
  SuffixSetting setting{.decoder = *model_->parts().decoder,
                        .rows = soft->rows()->rounded.clone(),
                        .row = row,
                        .loss = {.denominator = static_cast<double>(samples) * length}};
  const auto prefix_of = [&](int s) {
    return cached_prefix(sequences[static_cast<std::size_t>(s)], begins);
  };
  setting.max_logits = std::int64_t{1} << (device.is_cuda() ? 28 : 24);
  setting.pages_of = [&](int s) {
    return prefix_pages(sequences[static_cast<std::size_t>(s)], begins);
  };
  SuffixResult results[2];
  double rates[2], peaks[2];
  for (const bool is_whole : {false, true}) {
    std::vector<double> found;
    for (int repeat = 0; repeat <= options_.repetitions; ++repeat) {
      held.reset();
      const double before = held.now();
      const double seconds = seconds_of(device, [&] {
        results[is_whole] = suffix_backward(setting, is_whole ? wholes : suffixes, prefix_of);
      });
      peaks[is_whole] = (held.peak() - before) / 1e9;
      if (repeat > 0) found.push_back(samples * static_cast<double>(length) / seconds);
    }
    rates[is_whole] = spread_of(found).median;
  }
  print(fmt::format(
      R"({{"case":"backward, suffixes over whole sequences","goal":"P5","shape":"{}, {} x {}, the row at half","unit":"tokens/s","suffixes":{:.0f},"whole":{:.0f},"ratio":{:.3f},"suffixes_GB":{:.2f},"whole_GB":{:.2f},"gradient_gap":{:.2g},"n":{},"device":"{}","precision":"{}"}})",
      options_.shape, samples, length, rates[0], rates[1], rates[0] / rates[1], peaks[0], peaks[1],
      relative_gap(results[0].gradient, results[1].gradient), options_.repetitions,
      to_string(model_->info().device), to_string(model_->info().precision)));
}

}  // namespace pensive::bench
