// What guides cost while they have nothing to do. A small model shows it at its largest: its steps
// are the shortest.
#include "pensive/guides.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <numeric>

#include "bench.h"

namespace pensive::bench {
namespace {

using Clock = std::chrono::steady_clock;

enum class Does : std::uint8_t { watch, steer, ask };

struct Armed {
  const char* spec;
  Does does = Does::watch;
};

// One of each of the catalogue, set so that it never closes, feeds or takes back. Those that steer
// bias or mask at every step: that is their work. `convergence` asks at every sentence end.
constexpr Armed armed[] = {{"budget:max=1000000"},
                           {"prompt_budget:factor=100000"},
                           {"budget_forcing:max=1000000,times=0"},
                           {"continue:with=Wait"},
                           {"switch_penalty:words=Wait", Does::steer},
                           {"ban:words=wait", Does::steer},
                           {"closer_pressure:alpha=0.001", Does::steer},
                           {"margin:tau=0.000001"},
                           {"cold_stop:tokens=1000000"},
                           {"loops:times=1024,lines=1024,paragraphs=1024"},
                           {"overthink:max=1"},
                           {"random_stop:p=0"},
                           {"trial:at=never"},
                           {"convergence:k=1000000", Does::ask}};

Markers thinking_markers(const Tokenizer& tokenizer) {
  return find_markers(tokenizer).value_or(markers_of(tokenizer, "<think>", "</think>"));
}

struct Run {
  double tokens_per_second = 0;
  int acted = 0;  // actions but biases, masks and probes
  int probe_tokens = 0;
};

Run run(Engine& engine, const std::vector<Request>& requests) {
  std::vector<Sequence> sequences;
  for (const Request& request : requests) sequences.push_back(engine.start(request));
  const auto drawn = [&] {  // without probes
    return std::accumulate(sequences.begin(), sequences.end(), std::int64_t{0},
                           [](std::int64_t sum, const Sequence& one) {
                             return sum + one.trace().decoded_tokens() - one.trace().probe_tokens;
                           });
  };
  do engine.step();
  while (engine.counters().waiting > 0 ||
         std::any_of(sequences.begin(), sequences.end(),
                     [](auto& s) { return s.trace().decoded_tokens() == 0; }));
  const auto before = drawn();
  const auto start = Clock::now();
  engine.finish(sequences);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  Run result{static_cast<double>(drawn() - before) / seconds};
  for (const Sequence& sequence : sequences) {
    result.probe_tokens += sequence.trace().probe_tokens;
    for (const TraceAction& action : sequence.trace().actions) {
      result.acted += action.kind == "force" || action.kind == "close" || action.kind == "stop";
    }
  }
  return result;
}

}  // namespace

std::vector<Request> Bench::guided_requests(
    int batch, int salt, const std::vector<std::shared_ptr<const Guide>>& guides) const {
  const Markers markers = thinking_markers(*model_->tokenizer());
  std::vector<Request> all(static_cast<std::size_t>(batch));
  for (int i = 0; i < batch; ++i) {
    Request& request = all[static_cast<std::size_t>(i)];
    request.prompt = prompt(64, salt * batch + i);
    request.max_new_tokens = 512;
    request.ignore_end_tokens = true;
    request.markers = markers;
    request.begins_in = Segment::think;
    request.sampling.banned_tokens = {markers.think_close.back()};
    request.sampling.seed = 1;
    request.guides = guides;
  }
  return all;
}

// Tokens a second with these guides over those without any, taken in turns.
void Bench::compare_guides(Engine& engine, std::string_view name,
                           const std::vector<std::shared_ptr<const Guide>>& guides) {
  const int batch = engine.options().max_live_sequences;
  run(engine, guided_requests(batch, 0, {}));  // warms up
  std::vector<double> ratios;
  Run with;
  for (int repeat = 1; repeat <= options_.repetitions; ++repeat) {
    const double without = run(engine, guided_requests(batch, repeat, {})).tokens_per_second;
    with = run(engine, guided_requests(batch, repeat, guides));
    ratios.push_back(with.tokens_per_second / without);
  }
  report(name, "tokens/s over none", spread_of(ratios),
         fmt::format("batch {}; acted {} times, {} probe tokens", batch, with.acted,
                     with.probe_tokens));
}

void Bench::guides(int batch) {
  const auto tokenizer = model_->tokenizer();
  const GuideContext context{tokenizer, thinking_markers(*tokenizer)};
  Engine engine(model_, {.max_live_sequences = batch,
                         .reuse_prefixes = false,
                         .graphs = options_.graphs,
                         .run_ahead = options_.run_ahead});
  for (const Armed& one : armed)
    compare_guides(engine, fmt::format("guide: {}", one.spec), {make_guide(one.spec, context)});
  all_guides(batch);
}

std::vector<std::shared_ptr<const Guide>> Bench::armed_guides(bool may_steer) const {
  const auto tokenizer = model_->tokenizer();
  const GuideContext context{tokenizer, thinking_markers(*tokenizer)};
  std::vector<std::shared_ptr<const Guide>> guides;
  for (const Armed& one : armed)
    if (one.does == Does::watch || (may_steer && one.does == Does::steer))
      guides.push_back(make_guide(one.spec, context));
  return guides;
}

void Bench::all_guides(int batch) {
  Engine engine(model_, {.max_live_sequences = batch,
                         .reuse_prefixes = false,
                         .graphs = options_.graphs,
                         .run_ahead = options_.run_ahead});
  for (const bool may_steer : {false, true}) {
    const auto guides = armed_guides(may_steer);
    compare_guides(engine,
                   fmt::format("{} guides{}", guides.size(),
                               may_steer ? ", some of which steer" : " that only watch"),
                   guides);
  }
}

}  // namespace pensive::bench
