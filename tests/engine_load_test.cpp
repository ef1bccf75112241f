// Random requests at full load for as long as one likes: no leak, no wrong row, no stall.
// PENSIVE_LONG=1: eight minutes on each device; PENSIVE_SECONDS and PENSIVE_SEED say otherwise.
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <thread>

#include "engine_world.h"

namespace pensive::testing {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Ends the whole program where nobody has said "still here" for so long: a stall has no other end.
class Watchdog {
 public:
  explicit Watchdog(int seconds) : thread_([this, seconds] { watch(seconds); }) {}
  ~Watchdog() {
    is_over_ = true;
    thread_.join();
  }
  void still_here() { ++signs_; }

 private:
  void watch(int seconds) {
    long last = -1;
    for (int still = 0; !is_over_; ++still) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      if (signs_ != last) still = 0;
      last = signs_;
      if (still < seconds * 10) continue;
      std::cerr << "no step has ended for " << seconds << " s\n";
      std::abort();
    }
  }
  std::atomic<long> signs_ = 0;
  std::atomic<bool> is_over_ = false;
  std::thread thread_;
};

double resident_megabytes() {
  std::ifstream file("/proc/self/statm");
  double pages = 0;
  file >> pages >> pages;
  return pages * 4096 / 1e6;
}

const char* given(const char* name) { return std::getenv(name); }

struct Kind {
  std::string_view name;
  DeviceKind device;
  Arithmetic arithmetic;
  Precision precision;
};

class Load : public ::testing::TestWithParam<Kind> {
 protected:
  void SetUp() override {
    if (is_on_card() && !has_cuda()) GTEST_SKIP() << "no CUDA card here";
    model_ = Model::load(PENSIVE_REASONER,
                         {.device = {GetParam().device}, .precision = GetParam().precision});
    seconds_ = given("PENSIVE_LONG") != nullptr ? 480 : 6;
    if (const char* seconds = given("PENSIVE_SECONDS")) seconds_ = std::atof(seconds);
    if (const char* seed = given("PENSIVE_SEED")) seed_ = std::strtoull(seed, nullptr, 10);
  }

  bool is_on_card() const { return GetParam().device == DeviceKind::cuda; }

  // Fewer places and pages than are asked for.
  EngineOptions crowded() const {
    EngineOptions options;
    options.arithmetic = GetParam().arithmetic;
    options.cache_tokens = 1100;
    options.max_live_sequences = 8;
    options.max_tokens_per_step = 200;
    return options;
  }

  Story story(StoryTeller& teller) const {
    Story story = teller.story();
    Request& request = story.request;
    const int vocab = model_->vocab_size();
    for (TokenId& id : request.prompt) id %= vocab;
    request.markers.reset();
    request.max_new_tokens = 10 + teller.draw(150);
    if (teller.is_calm()) {
      request.ignore_end_tokens = true;
      request.max_new_tokens += 100;
      return story;
    }
    for (LogitBias& bias : request.sampling.logit_bias) bias.token %= vocab;
    for (TokenId& id : request.sampling.banned_tokens) id %= vocab;
    std::ranges::sort(request.sampling.banned_tokens);
    if (teller.draw(3) == 0) request.prompt = question(teller.draw(10000));
    if (teller.draw(8) > 0) return story;
    request.timeout_seconds = 0.001 * (1 + teller.draw(400));
    story.deeds.clear();
    return story;
  }

  std::vector<TokenId> question(int number) const {
    const std::string text =
        std::to_string(10 + number % 90) + " + " + std::to_string(10 + number / 90 % 90);
    return chat_prompt(model_->tokenizer(), "thorough")({"", text, ""});
  }

  static bool has_seen_all(const EngineCounters& counters) {
    return counters.preemptions > 0 && counters.ahead_steps > 0 && counters.ahead_dropped > 0;
  }
  void check(Engine& judge, const Telling& telling);
  void check_bits(Engine& judge, const Telling& telling);
  void check_near(Engine& judge, const Trace& trace);

  std::shared_ptr<const Model> model_;
  double seconds_ = 0, worst_ = 0;
  std::uint64_t seed_ = 1;
  std::int64_t requests_ = 0, tokens_ = 0;
};

constexpr Kind kinds[] = {
    {"Cpu", DeviceKind::cpu, Arithmetic::row_invariant, Precision::float32},
    {"Cuda", DeviceKind::cuda, Arithmetic::fast, Precision::float32},
    {"CudaInvariant", DeviceKind::cuda, Arithmetic::row_invariant, Precision::bfloat16}};
INSTANTIATE_TEST_SUITE_P(Devices, Load, ::testing::ValuesIn(kinds),
                         [](const auto& info) { return std::string(info.param.name); });

void Load::check(Engine& judge, const Telling& telling) {
  const bool is_exact = GetParam().arithmetic == Arithmetic::row_invariant;
  for (const auto& member : telling.members()) {
    if (!member) continue;
    const Trace& trace = member->trace();
    ++requests_;
    tokens_ += trace.decoded_tokens();
    ASSERT_NE(trace.stopped, StopReason::error) << trace.error;
    ASSERT_NE(trace.stopped, StopReason::running);
    if (!is_exact) check_near(judge, trace);
  }
  if (is_exact) check_bits(judge, telling);
}

// What a deadline cut short is the beginning of what would have come.
void Load::check_bits(Engine& judge, const Telling& telling) {
  Story story = telling.story();
  const bool has_deadline = std::exchange(story.request.timeout_seconds, 0) > 0;
  Telling alone(story);
  alone.begin(judge);
  while (!alone.is_finished()) {
    judge.step();
    alone.act();
  }
  for (std::size_t i = 0; i < telling.members().size(); ++i) {
    const auto &here = telling.members()[i], &there = alone.members()[i];
    if (!has_deadline) {
      ASSERT_EQ(here ? print(here->trace()) : "", there ? print(there->trace()) : "");
    } else {
      const auto &some = here->trace().tokens, &all = there->trace().tokens;
      ASSERT_LE(some.size(), all.size());
      ASSERT_TRUE(std::equal(some.begin(), some.end(), all.begin()));
    }
  }
}

// The logprobs of what is kept, once more, as one prompt.
void Load::check_near(Engine& judge, const Trace& trace) {
  const std::vector<TokenId> kept = trace.kept();
  const auto prompt = static_cast<std::size_t>(trace.prompt_tokens);
  if (kept.size() == prompt) return;
  const std::vector<float> scores =
      judge.score(std::span(kept).first(prompt), std::span(kept).subspan(prompt));
  std::size_t at = 0;
  for (std::size_t row = prompt; row < trace.tokens.size(); ++row) {
    if (trace.is_taken_back[row] != 0) continue;
    const float score = scores[at++];
    if (trace.origins[row] != Origin::sampled) continue;
    worst_ = std::max(worst_, static_cast<double>(std::abs(score - trace.logprobs[row])));
  }
  ASSERT_LT(worst_, 2e-3);
}

TEST_P(Load, NothingLeaksNothingIsWrongNothingStalls) {
  Watchdog watchdog(60);
  // Where pages are scarce, probes may be refused, and alone they are not.
  StoryTeller teller(seed_, false, GetParam().arithmetic == Arithmetic::fast);
  EngineOptions calm = crowded();
  calm.cache_tokens = 8192;
  calm.reuse_prefixes = false;
  calm.run_ahead = false;
  Engine engine(model_, crowded()), judge(model_, calm);
  if (!is_on_card()) give_card(engine, kernels::TwinSteps::Card::slow);
  std::vector<Telling> tellings;
  const auto start = Clock::now();
  double early_megabytes = 0;
  do {
    teller.be_calm(engine.counters().steps / 400 % 2 == 0);
    while (tellings.size() < 12) {
      tellings.emplace_back(story(teller));
      tellings.back().begin(engine);
    }
    engine.step();
    watchdog.still_here();
    for (Telling& telling : tellings) telling.act();
    for (const Telling& telling : tellings) {
      if (!telling.is_finished()) continue;
      ASSERT_NO_FATAL_FAILURE(check(judge, telling));
    }
    std::erase_if(tellings, [](const Telling& telling) { return telling.is_finished(); });
    if (early_megabytes == 0 && seconds_since(start) > seconds_ / 3)
      early_megabytes = resident_megabytes();
    // A busy machine may need longer to see everything.
  } while (seconds_since(start) < seconds_ ||
           (!has_seen_all(engine.counters()) && seconds_since(start) < seconds_ + 100));
  const double late_megabytes = resident_megabytes();
  tellings.clear();
  expect_no_leak(engine);
  expect_no_leak(judge);
  EXPECT_LT(late_megabytes, early_megabytes * 1.1 + 32);
  const EngineCounters counters = engine.counters();
  EXPECT_TRUE(has_seen_all(counters));
  std::cout << fmt::format(
      "{:.0f} s: {} sequences, {} tokens, {} steps ({} ahead, {} rows dropped), {} preemptions, "
      "{} positions reused, memory {:.0f} then {:.0f} MB, worst logprob {:.1e} away\n",
      seconds_since(start), requests_, tokens_, counters.steps, counters.ahead_steps,
      counters.ahead_dropped, counters.preemptions, counters.reused_tokens, early_megabytes,
      late_megabytes, worst_);
}

}  // namespace
}  // namespace pensive::testing
