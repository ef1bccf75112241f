// Every guide on the embedded reasoner: that it acts, that forks and rewinds carry its state, and
// the ids of a golden run. A guide of the catalogue without a row here fails.
#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <set>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

using Json = nlohmann::ordered_json;

struct Row {
  const char* spec;
  const char* habit = "thorough";
};
// Settings at which each acts on traces this short; the papers' defaults are for long ones.
const std::vector<Row>& rows() {
  static const std::vector<Row> all = {
      {"budget:max=60,window=8"},
      {"continue:with=\"Wait, \",times=2", "brief"},
      {"budget_forcing:max=60,with=\"Wait, \",count=total"},
      {"switch_penalty:words=Wait|Alternatively,beta=40"},
      {"ban:words=alternatively|wait"},
      {"closer_pressure:alpha=0.4,at=sentence"},
      {"margin:tau=1.2,at=line"},
      {"overthink:cues=\"So \",max=0.2"},
      {"loops:lines=2,bytes=12"},
      {"cold_stop:entropy=0.1,tokens=12"},
      {"trial:text=\"So \",tokens=2,confidence=0.95"},
      {"convergence:cue=\"<answer>\",tokens=2,k=3"},
      {"random_stop:p=0.3"},
      {"prompt_budget:factor=4"},
  };
  return all;
}

class Guided : public ::testing::TestWithParam<Row> {
 protected:
  static std::shared_ptr<const Model> model() {
    static const auto loaded = Model::load(
        PENSIVE_REASONER, {.device = {DeviceKind::cpu}, .precision = Precision::float32});
    return loaded;
  }
  static EngineOptions options() {
    EngineOptions options = exact();
    options.cache_tokens = 16384;
    return options;
  }
  static Request request(int number, float temperature) {
    Request request;
    const std::string question =
        fmt::format("{} + {} * {} - {}", 10 + number * 7 % 90, 10 + number * 13 % 90,
                    10 + number * 29 % 90, 10 + number * 31 % 90);
    request.prompt = chat_prompt(model()->tokenizer(), GetParam().habit)({"", question, ""});
    request.sampling.seed = 3;
    request.sampling.temperature = temperature;
    request.sample = static_cast<std::uint32_t>(number);
    request.max_new_tokens = 200;
    request.top_logprobs = 2;
    return request;
  }
  static Request guided(int number, float temperature) {
    Request one = request(number, temperature);
    one.guides = {
        make_guide(GetParam().spec, {model()->tokenizer(), find_markers(*model()->tokenizer())})};
    return one;
  }
  static Trace run(const Request& request) {
    Engine engine(model(), options());
    Sequence sequence = engine.start(request);
    engine.finish(sequence);
    return sequence.trace();
  }
};

// Tokens and the bits of their logprobs, as they would be had nothing been taken back by rewind().
std::string kept(const Trace& trace) {
  std::string text(to_string(trace.stopped));
  for (std::size_t i = 0; i < trace.tokens.size(); ++i)
    if (trace.is_taken_back[i] == 0)
      text += fmt::format(" {}:{:a}", trace.tokens[i], trace.logprobs[i]);
  return text;
}

TEST_P(Guided, ActsOnTheReasoner) {
  int changed = 0;
  for (int number = 0; number < 12 && changed < 2; ++number) {
    const Trace free = run(request(number, 1.0f)), steered = run(guided(number, 1.0f));
    EXPECT_NE(steered.stopped, StopReason::error) << steered.error;
    if (kept(free) != kept(steered)) ++changed;
  }
  EXPECT_GE(changed, 2);
}

TEST_P(Guided, AForkThatDrawsTheSameIsTheReplay) {
  for (int number : {0, 3}) {
    const std::string whole = kept(run(guided(number, 1.0f)));
    Engine engine(model(), options());
    Sequence sequence = engine.start(guided(number, 1.0f));
    std::vector<Sequence> forks;
    for (int step = 0; !sequence.finished(); ++step) {
      engine.step();
      if (step % 40 == 12) forks.push_back(sequence.fork(Draws::same));
    }
    engine.finish(forks);
    EXPECT_EQ(kept(sequence.trace()), whole);
    for (const Sequence& fork : forks) EXPECT_EQ(kept(fork.trace()), whole) << number;
  }
}

TEST_P(Guided, RewindingIsNeverHavingGoneThere) {
  for (int number : {1}) {
    const std::string whole = kept(run(guided(number, 1.0f)));
    for (const int back : {1, 30, 1000}) {
      Engine engine(model(), options());
      Sequence sequence = engine.start(guided(number, 1.0f));
      engine.finish(sequence);
      const Trace& trace = sequence.trace();
      const int most = static_cast<int>(trace.kept().size()) - trace.prompt_tokens;
      sequence.rewind(std::min(back, most), Draws::same);
      engine.finish(sequence);
      EXPECT_EQ(kept(sequence.trace()), whole) << number << ", back " << back;
    }
  }
}

// The smallest lead of a drawn token over the next one: below it another machine may differ.
double least_lead(const Trace& trace) {
  double least = 1e9;
  for (std::size_t i = static_cast<std::size_t>(trace.prompt_tokens); i < trace.tokens.size(); ++i)
    if (trace.origins[i] == Origin::sampled)
      least = std::min<double>(least, trace.top_logprobs[2 * i] - trace.top_logprobs[2 * i + 1]);
  return least;
}

// PENSIVE_RECORD=1 writes the file anew, with prompts whose choices are safe.
TEST_P(Guided, GoldenRun) {
  const auto file = data("engine") / "guides.json";
  const bool is_recording = std::getenv("PENSIVE_RECORD") != nullptr;
  Json golden = std::filesystem::exists(file) ? parse_json(read_text(file), "guides.json") : Json();
  if (is_recording) {
    golden[GetParam().spec] = Json::array();
    for (int number = 0; number < 24 && golden[GetParam().spec].size() < 2; ++number) {
      const Trace trace = run(guided(number, 0.0f));
      if (least_lead(trace) < 2e-3 || kept(trace) == kept(run(request(number, 0.0f)))) continue;
      golden[GetParam().spec].push_back({{"number", number}, {"tokens", trace.tokens}});
    }
    write_file(file, golden.dump() + "\n");
  }
  ASSERT_TRUE(golden.contains(GetParam().spec)) << "run once with PENSIVE_RECORD=1";
  const Json& runs = golden[GetParam().spec];
  EXPECT_GE(runs.size(), 1u);
  for (const Json& one : runs)
    EXPECT_EQ(run(guided(one["number"], 0.0f)).tokens, one["tokens"].get<std::vector<TokenId>>());
}

INSTANTIATE_TEST_SUITE_P(Catalogue, Guided, ::testing::ValuesIn(rows()), [](const auto& info) {
  const std::string spec = info.param.spec;
  return spec.substr(0, spec.find(':'));
});

TEST(GuidedCatalogue, HasARowHereForEveryGuide) {
  std::set<std::string> tested;
  for (const Row& row : rows())
    tested.insert(std::string(row.spec).substr(0, std::string(row.spec).find(':')));
  for (const GuideInfo& info : guides())
    EXPECT_TRUE(tested.contains(std::string(info.name))) << info.name;
}

}  // namespace
}  // namespace pensive::testing
