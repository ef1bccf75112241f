// What the tests of the engine share: a tiny random model with room to run, and plain requests.
#pragma once
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "base/inside.h"
#include "engine/parts.h"
#include "kernels/kernels.h"
#include "pensive/engine.h"
#include "pensive/guides.h"
#include "testing.h"

namespace pensive::testing {

constexpr TokenId tiny_vocab = 64;
constexpr int tiny_positions = 512;

// tests/data/models/plain (random weights, 64 tokens) with more positions.
inline void write_tiny(const std::filesystem::path& folder) {
  for (const auto& file : std::filesystem::directory_iterator(data("models/plain")))
    std::filesystem::copy_file(file.path(), folder / file.path().filename());
  std::string config = read_file(folder / "config.json");
  const std::string key = "\"max_position_embeddings\": 64";
  config.replace(config.find(key), key.size(), "\"max_position_embeddings\": 512");
  write_file(folder / "config.json", config);
}

// It, loaded once a device.
inline std::shared_ptr<const Model> tiny_model(DeviceKind kind = DeviceKind::cpu) {
  static std::map<DeviceKind, std::shared_ptr<const Model>> loaded;
  std::shared_ptr<const Model>& model = loaded[kind];
  if (model) return model;
  const TempDir folder;
  write_tiny(folder.path());
  model = Model::load(folder.path(), {.device = {kind}, .precision = Precision::float32});
  return model;
}

// Whether a CUDA card can be used here; tests for one are left out where none can.
inline bool has_cuda() {
  try {
    kernels::resolve({DeviceKind::cuda});
    return true;
  } catch (const Error&) {
    return false;
  }
}

// In tests, 10 opens thinking, 11 closes it; a random model emits them often enough.
inline Markers tiny_markers() {
  return {.think_open = {10}, .think_close = {11}, .answer_open = {}, .answer_close = {}};
}

inline std::vector<TokenId> ids(TokenId first, int count) {
  std::vector<TokenId> all(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i)
    all[static_cast<std::size_t>(i)] = 4 + (first * 7 + i * i * 5 + i) % (tiny_vocab - 4);
  return all;
}

inline Request plain_request(std::vector<TokenId> prompt, std::uint64_t seed = 1,
                             int max_new_tokens = 24) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling = {.temperature = 1.0f, .top_p = 1.0f, .top_k = 0, .seed = seed};
  request.max_new_tokens = max_new_tokens;
  request.ignore_end_tokens = true;
  return request;
}

inline EngineOptions exact() {
  EngineOptions options;
  options.arithmetic = Arithmetic::row_invariant;
  options.cache_tokens = 4096;
  return options;
}

// A guide made of functions; what is not given does nothing. State lives in what they capture, so
// only guides that keep none of their own may be forked with it.
struct Scripted : Guide {
  std::function<Action(const Moment&)> token;
  std::function<Action(const Moment&)> begin;
  std::function<Action(const ProbeReply&)> reply;
  std::function<void(const Done&)> done;
  std::vector<TokenId> wants;
  std::string_view name() const override { return "scripted"; }
  std::vector<TokenId> watches() const override { return wants; }
  Action on_start(const Moment& moment) override { return begin ? begin(moment) : Proceed{}; }
  Action on_token(const Moment& moment) override { return token ? token(moment) : Proceed{}; }
  Action on_probe(const ProbeReply& answer) override { return reply ? reply(answer) : Proceed{}; }
  void on_done(const Done& what) override {
    if (done) done(what);
  }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<Scripted>(*this); }
};

inline std::shared_ptr<Scripted> scripted(std::function<Action(const Moment&)> token) {
  auto guide = std::make_shared<Scripted>();
  guide->token = std::move(token);
  return guide;
}

// All columns and actions, so that two runs can be compared bit for bit in one expectation.
inline std::string print(const Trace& trace) {
  std::string text =
      fmt::format("{} {} prompt {}\n", to_string(trace.stopped), trace.error, trace.prompt_tokens);
  for (std::size_t i = 0; i < trace.tokens.size(); ++i)
    text +=
        fmt::format("{}:{} {:a} {:a} {:a} {}{}{}{}\n", i, trace.tokens[i], trace.logprobs[i],
                    trace.drawn_logprobs[i], trace.entropies_nats[i], to_string(trace.segments[i]),
                    static_cast<int>(trace.origins[i]), trace.is_marker[i], trace.is_taken_back[i]);
  for (const TraceAction& action : trace.actions)
    text += fmt::format("{} {} {} {} {} {}\n", action.position, action.guide, action.kind,
                        action.reason, action.tokens, action.taken_back);
  return text + fmt::format("probes {}\n", trace.probe_tokens);
}

// What a request gives, alone in this engine: its prompt and all that is kept.
inline std::vector<TokenId> finish(Engine& engine, const Request& request) {
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  return sequence.trace().kept();
}

// Every page is free once all sequences of an engine are gone.
inline void expect_no_leak(Engine& engine) {
  engine.step();
  const EngineCounters counters = engine.counters();
  EXPECT_EQ(counters.free_pages, counters.pages);
  EXPECT_EQ(counters.live, 0);
  EXPECT_EQ(counters.waiting, 0);
}

}  // namespace pensive::testing
