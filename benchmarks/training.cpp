// Prefill and backward of random weights of a real shape: goals P3 and P5.
#include <c10/core/Stream.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fmt/core.h>

#include <atomic>
#include <cmath>
#include <thread>

#include "bench.h"
#include "card.h"
#include "engine/access.h"
#include "steps.h"
#include "train/steps.h"

namespace pensive::bench {
namespace {

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
      label(), prompts, length, rate.median / 1e12, rate.low / 1e12, rate.high / 1e12,
      options_.repetitions, rate.median / flops * prompts * length, product_flops_per_second / 1e12,
      rate.median / product_flops_per_second, to_string(info.device), to_string(info.precision)));
}

namespace {

// Samples whose keys and values stand in an engine: their suffixes from the row on, in the middle.
class Samples {
 public:
  Samples(const std::shared_ptr<const Model>& model, std::vector<std::vector<TokenId>> all)
      : model_(model),
        soft_(std::make_shared<SoftVocab>(model)),
        row_(soft_->add("learned", std::span(all.front()).first(1))),
        begins_(static_cast<int>(all.front().size()) / 2),
        engine_(model, {.soft = soft_,
                        .cache_tokens = std::ssize(all) * (std::ssize(all.front()) + 64),
                        .max_live_sequences = static_cast<int>(all.size()),
                        .max_tokens_per_step = 8192}) {
    for (std::vector<TokenId>& tokens : all) {
      Request request;
      request.prompt = tokens;
      request.prompt[static_cast<std::size_t>(begins_)] = row_;
      request.max_new_tokens = 1;
      request.ignore_end_tokens = true;
      sequences_.push_back(engine_.start(request));
      Suffix suffix;
      suffix.tokens = request.prompt;
      suffix.begins = begins_;
      suffix.advantage = suffixes.size() % 2 == 0 ? 1 : -1;
      for (int at = begins_; at + 1 < static_cast<int>(tokens.size()); ++at)
        suffix.targets.push_back({at - begins_, tokens[static_cast<std::size_t>(at) + 1]});
      suffix.tokens.pop_back();
      suffixes.push_back(std::move(suffix));
    }
    engine_.finish(sequences_);
  }

  // The same from the first token on.
  std::vector<Suffix> whole() const {
    std::vector<Suffix> all = suffixes;
    for (Suffix& one : all) {
      one.begins = 0;
      for (Target& target : one.targets) target.position += begins_;
    }
    return all;
  }
  SuffixResult backward(std::span<const Suffix> of) const {
    SuffixSetting setting{
        .decoder = *model_->parts().decoder,
        .rows = soft_->rows()->rounded.clone(),
        .row = row_,
        .loss = {.denominator = static_cast<double>(sequences_.size()) * 2 * begins_}};
    setting.max_logits = most_logits(model_->parts().device.is_cuda());
    setting.pages_of = [&](int s) {
      return prefix_pages(sequences_[static_cast<std::size_t>(s)], begins_);
    };
    return suffix_backward(setting, of, [&](int s) {
      return cached_prefix(sequences_[static_cast<std::size_t>(s)], begins_);
    });
  }

  std::vector<Suffix> suffixes;

 private:
  std::shared_ptr<const Model> model_;
  std::shared_ptr<SoftVocab> soft_;
  TokenId row_;
  int begins_;
  Engine engine_;
  std::vector<Sequence> sequences_;
};

}  // namespace

std::vector<std::vector<TokenId>> Bench::prompts(int count, int length) const {
  std::vector<std::vector<TokenId>> all;
  for (int i = 0; i < count; ++i) all.push_back(prompt(length, i));
  return all;
}

// The same samples twice through our own decoder: from the row on, and whole.
void Bench::suffix_share(int count, int length) {
  const at::Device device = model_->parts().device;
  const Held held(device);
  const Samples samples(model_, prompts(count, length));
  const std::vector<Suffix> ways[2] = {samples.suffixes, samples.whole()};
  SuffixResult results[2];
  std::vector<double> rates[2], ratios;
  double peaks[2];
  for (int repeat = 0; repeat <= options_.repetitions; ++repeat) {
    for (const bool is_whole : {false, true}) {
      held.reset();
      const double before = held.now();
      const double seconds =
          seconds_of(device, [&] { results[is_whole] = samples.backward(ways[is_whole]); });
      peaks[is_whole] = (held.peak() - before) / 1e9;
      if (repeat > 0) rates[is_whole].push_back(count * static_cast<double>(length) / seconds);
    }
    if (repeat > 0) ratios.push_back(rates[0].back() / rates[1].back());
  }
  const Spread ratio = spread_of(ratios);
  print(fmt::format(
      R"({{"case":"backward, suffixes over whole sequences","goal":"P5","shape":"{}, {} x {}, the row at half","unit":"tokens/s","suffixes":{:.0f},"whole":{:.0f},"ratio":{:.3f},"low":{:.3f},"high":{:.3f},"suffixes_GB":{:.2f},"whole_GB":{:.2f},"gradient_gap":{:.2g},"n":{},"device":"{}","precision":"{}"}})",
      label(), count, length, spread_of(rates[0]).median, spread_of(rates[1]).median, ratio.median,
      ratio.low, ratio.high, peaks[0], peaks[1],
      relative_gap(results[0].gradient, results[1].gradient), options_.repetitions,
      to_string(model_->info().device), to_string(model_->info().precision)));
}

// What a card gives when decode steps, on a stream that goes first, and backwards run at once:
// the time both take one after the other, over that together.
void Bench::overlap(const Shape& shape, int batch) {
  constexpr int context = 512, backwards = 8, steps_alone = 50;
  const at::Device device = model_->parts().device;
  const c10::impl::VirtualGuardImpl streams(device.type());
  const Samples samples(model_, prompts(32, 512));
  Steps steps(shape);
  const auto backward = [&] {
    for (int i = 0; i < backwards; ++i) samples.backward(samples.suffixes);
  };
  std::vector<double> gains, slower;
  const c10::Stream before = streams.exchangeStream(streams.getNewStream(device, -1));
  for (int repeat = 0; repeat <= options_.repetitions; ++repeat) {
    const double step = steps.time(batch, context, steps_alone).value().median / 1e6;
    const double alone = seconds_of(device, backward);
    std::atomic<bool> is_over = false;
    double together = 0;
    std::jthread other;
    const auto begin = [&] {
      other = std::jthread([&] {
        streams.exchangeStream(streams.getNewStream(device, 0));
        together = seconds_of(device, backward);
        is_over = true;
      });
    };
    const int done = steps.count(batch, context, begin, is_over);
    other.join();
    if (repeat == 0) continue;
    gains.push_back((alone + done * step) / together);
    slower.push_back(together / alone);
  }
  streams.exchangeStream(before);
  const Spread gain = spread_of(gains);
  print(fmt::format(
      R"({{"case":"decode and backward at once","shape":"{}, steps of {} at context {}, backwards of 8192 tokens","unit":"one after the other over together","median":{:.3f},"low":{:.3f},"high":{:.3f},"backward_takes":{:.3f},"n":{},"device":"{}","precision":"{}"}})",
      label(), batch, context, gain.median, gain.low, gain.high, spread_of(slower).median,
      options_.repetitions, to_string(model_->info().device), to_string(model_->info().precision)));
}

}  // namespace pensive::bench
