#include <gmock/gmock.h>

#include <bit>
#include <cfloat>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "trace_helpers.h"

namespace pensive {
namespace {

using ::testing::HasSubstr;
using namespace pensive::testing;

std::vector<std::uint32_t> bits(const std::vector<float>& values) {
  std::vector<std::uint32_t> all;
  for (const float value : values) all.push_back(std::bit_cast<std::uint32_t>(value));
  return all;
}

void expect_equal(const Trace& a, const Trace& b) {
  EXPECT_EQ(a.prompt_tokens, b.prompt_tokens);
  EXPECT_EQ(a.tokens, b.tokens);
  EXPECT_EQ(bits(a.logprobs), bits(b.logprobs));
  EXPECT_EQ(bits(a.drawn_logprobs), bits(b.drawn_logprobs));
  EXPECT_EQ(bits(a.entropies_nats), bits(b.entropies_nats));
  EXPECT_EQ(a.segments, b.segments);
  EXPECT_EQ(a.origins, b.origins);
  EXPECT_EQ(a.is_marker, b.is_marker);
  EXPECT_EQ(a.is_taken_back, b.is_taken_back);
  EXPECT_EQ(a.probe_tokens, b.probe_tokens);
  EXPECT_EQ(a.stopped, b.stopped);
  EXPECT_EQ(a.error, b.error);
  EXPECT_EQ(a.stop_text, b.stop_text);
  EXPECT_EQ(a.top_count, b.top_count);
  EXPECT_EQ(a.top_tokens, b.top_tokens);
  EXPECT_EQ(bits(a.top_logprobs), bits(b.top_logprobs));
  EXPECT_EQ(a.seed, b.seed);
  EXPECT_EQ(a.sample, b.sample);
  EXPECT_EQ(a.path, b.path);
  EXPECT_EQ(a.is_steered, b.is_steered);
  EXPECT_EQ(bits(a.seconds), bits(b.seconds));
  EXPECT_EQ(a.more_json, b.more_json);
  ASSERT_EQ(a.actions.size(), b.actions.size());
  for (std::size_t i = 0; i < a.actions.size(); ++i) {
    EXPECT_EQ(a.actions[i].position, b.actions[i].position);
    EXPECT_EQ(a.actions[i].guide, b.actions[i].guide);
    EXPECT_EQ(a.actions[i].kind, b.actions[i].kind);
    EXPECT_EQ(a.actions[i].reason, b.actions[i].reason);
    EXPECT_EQ(a.actions[i].tokens, b.actions[i].tokens);
    EXPECT_EQ(a.actions[i].taken_back, b.actions[i].taken_back);
    EXPECT_EQ(a.actions[i].draws, b.actions[i].draws);
    EXPECT_EQ(a.actions[i].text, b.actions[i].text);
    EXPECT_EQ(bits({a.actions[i].seconds}), bits({b.actions[i].seconds}));
    EXPECT_EQ(a.actions[i].more_json, b.actions[i].more_json);
  }
}

TEST(SaveAndLoad, GiveBackEveryField) {
  const auto file = fresh("fields") / "traces.jsonl";
  Trace failed = example();
  failed.stopped = StopReason::error;
  failed.error = "a \"guide\"\nthrew é";
  failed.stop_text = "né";
  failed.top_count = 2;
  failed.top_tokens.assign(2 * failed.tokens.size(), -1);
  failed.top_logprobs.assign(2 * failed.tokens.size(), none);
  failed.top_tokens[3] = 7;
  failed.top_logprobs[3] = -0.3f;
  failed.is_steered.assign(failed.tokens.size(), 0);
  failed.is_steered[4] = 1;
  failed.seconds.assign(failed.tokens.size(), 0.25f);
  failed.seconds[0] = none;
  TraceAction& bias = failed.actions.emplace_back();
  bias.kind = "bias";
  bias.draws = 3;
  TraceAction& probe = failed.actions.emplace_back();
  probe.kind = "probe";
  probe.text = "42}\n";
  probe.seconds = 0.1f;
  const std::vector<Trace> traces = {example(), Trace{}, failed};
  save(traces, file);
  const std::vector<Trace> loaded = load_traces(file);
  ASSERT_EQ(loaded.size(), 3U);
  for (int i = 0; i < 3; ++i) expect_equal(loaded[i], traces[i]);
}

TEST(SaveAndLoad, GiveBackEveryFloatWithItsBits) {
  const auto file = fresh("floats") / "traces.jsonl";
  Trace trace;
  std::uint32_t pattern = 1;
  for (int i = 0; i < 20000; ++i) {
    add(trace, 1, Segment::answer, Origin::forced);
    pattern = pattern * 1664525U + 1013904223U;
    const auto value = std::bit_cast<float>(pattern);
    trace.logprobs.back() = std::isnan(value) ? none : value;
  }
  const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, FLT_MIN, FLT_MAX, FLT_TRUE_MIN, 0.1f};
  for (std::size_t i = 0; i < std::size(special); ++i) trace.entropies_nats[i] = special[i];
  save({&trace, 1}, file);
  expect_equal(load_traces(file).at(0), trace);
}

TEST(SaveAndLoad, AppendAddsAndReplaceReplaces) {
  const auto file = fresh("append") / "traces.jsonl";
  const Trace trace = example();
  save({&trace, 1}, file, IfExists::append);
  save({&trace, 1}, file, IfExists::append);
  EXPECT_EQ(load_traces(file).size(), 2U);
  save({&trace, 1}, file);
  EXPECT_EQ(load_traces(file).size(), 1U);
  save({}, file);
  EXPECT_TRUE(load_traces(file).empty());
}

std::string content_of(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

std::string message_of(const std::filesystem::path& file, ErrorCode code) {
  try {
    load_traces(file);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(SaveAndLoad, ATornLineIsNamed) {
  const auto file = fresh("torn") / "traces.jsonl";
  const std::vector<Trace> traces = {example(), example(), example()};
  save(traces, file);
  const std::string whole = content_of(file);
  std::filesystem::resize_file(file, whole.size() - 9);
  EXPECT_THAT(message_of(file, ErrorCode::corrupt_file), HasSubstr("line 3"));
  EXPECT_THROW(save(traces, file, IfExists::append), Error);
  EXPECT_EQ(content_of(file), whole.substr(0, whole.size() - 9)) << "nothing was added";
}

TEST(SaveAndLoad, NewerMinorVersionsAreReadAndTheirKeysKept) {
  const auto folder = fresh("newer");
  const Trace trace = example();
  save({&trace, 1}, folder / "old.jsonl");
  std::string line = content_of(folder / "old.jsonl");
  const auto change = [&](std::string_view before, std::string_view after) {
    const std::size_t at = line.find(before);
    ASSERT_NE(at, std::string::npos) << before;
    line.replace(at, before.size(), after);
  };
  change("\"minor_version\":1", R"("minor_version":9,"mood":{"calm":[1]})");
  change("\"guide\"", R"("colour":"blue","guide")");
  std::ofstream(folder / "new.jsonl") << line;
  const std::vector<Trace> loaded = load_traces(folder / "new.jsonl");
  EXPECT_EQ(loaded.at(0).more_json, R"({"mood":{"calm":[1]},"minor_version":9})");
  EXPECT_EQ(loaded.at(0).actions.at(0).more_json, R"({"colour":"blue"})");
  save(loaded, folder / "again.jsonl");
  EXPECT_THAT(content_of(folder / "again.jsonl"), HasSubstr("\"minor_version\":9"));
  expect_equal(load_traces(folder / "again.jsonl").at(0), loaded.at(0));

  change("\"version\":1", "\"version\":2");
  std::ofstream(folder / "new.jsonl") << line;
  message_of(folder / "new.jsonl", ErrorCode::unsupported);
}

TEST(SaveAndLoad, WhatVersion1ToldAtFirstIsStillRead) {
  const auto file = fresh("older") / "traces.jsonl";
  const Trace trace = example();
  save({&trace, 1}, file);
  std::string line = content_of(file);
  const std::string_view minor = "\"minor_version\":1,";
  line.erase(line.find(minor), minor.size());
  EXPECT_THAT(line, ::testing::Not(HasSubstr("seconds"))) << "none were told";
  std::ofstream(file) << line;
  expect_equal(load_traces(file).at(0), trace);
}

TEST(SaveAndLoad, OnlyFreeKeysMayBeAdded) {
  const auto file = fresh("free") / "traces.jsonl";
  for (const char* more : {"{", "[1]", "{\"tokens\":[]}", "{\"a\":1,\"a\":2}"}) {
    Trace trace = example();
    trace.more_json = more;
    EXPECT_THROW(save({&trace, 1}, file), Error) << more;
    trace = example();
    trace.actions[0].more_json = more;
    if (std::string_view(more) == "{\"tokens\":[]}") {
      EXPECT_THROW(save({&trace, 1}, file), Error) << more;
    }
  }
  EXPECT_FALSE(std::filesystem::exists(file));
}

TEST(Salvage, ReadsWhatIsWholeAndSaysTheLoss) {
  const auto file = fresh("salvage") / "traces.jsonl";
  const std::vector<Trace> traces = {example(), example(), example()};
  save(traces, file);
  const std::string whole = content_of(file);
  Salvage found = salvage_traces(file);
  EXPECT_EQ(found.traces.size(), 3U);
  EXPECT_EQ(found.lost_lines, 0);
  EXPECT_EQ(found.loss, "");

  for (const std::size_t cut : {whole.size() - 2, whole.size() - 20, 2 * whole.size() / 3 + 1}) {
    std::filesystem::resize_file(file, cut);
    found = salvage_traces(file);
    EXPECT_EQ(found.traces.size(), 2U) << cut;
    EXPECT_EQ(found.lost_lines, 1);
    EXPECT_THAT(found.loss, HasSubstr("line 3"));
    expect_equal(found.traces.at(1), traces[1]);
  }

  const std::string line = whole.substr(0, whole.find('\n') + 1);
  std::string newer = line;
  newer.replace(newer.find("\"version\":1"), 11, "\"version\":2");
  std::ofstream(file) << line << line.substr(0, 99) << "\n" << line << newer;
  found = salvage_traces(file);
  EXPECT_EQ(found.traces.size(), 2U) << "also what comes after the damage";
  EXPECT_EQ(found.lost_lines, 2);
  EXPECT_THAT(found.loss, HasSubstr("line 2")) << "of the first";
  EXPECT_THROW(salvage_traces(file.parent_path() / "none"), Error);
}

TEST(SaveAndLoad, DamagedLinesAreRefused) {
  const auto file = fresh("damaged") / "traces.jsonl";
  const Trace trace = example();
  save({&trace, 1}, file);
  const std::string line = content_of(file);
  const std::pair<const char*, const char*> damages[] = {
      {"\"prompt_tokens\":1", "\"prompt_tokens\":11"},
      {"\"prompt_tokens\":1", "\"prompt_tokens\":-1"},
      {"\"prompt_tokens\":1", "\"prompt_tokens\":1.5"},
      {"\"tokens\":[1,", "\"tokens\":[1,1,"},
      {"\"tokens\":[1,", "\"tokens\":[4294967297,"},
      {"\"tokens\":[1,", "\"tokens\":[null,"},
      {"\"logprobs\":[null", "\"logprobs\":[\"x\""},
      {"\"segments\":\"p", "\"segments\":\"q"},
      {"\"is_marker\":\"1", "\"is_marker\":\"2"},
      {"\"stopped\":\"end_token\"", "\"stopped\":\"tired\""},
      {"\"stopped\":\"end_token\"", "\"stopped\":3"},
      {"\"seed\":18446744073709551615", "\"seed\":-1"},
      {"\"path\":[1,0,4294967295]", "\"path\":[4294967296]"},
      {"\"path\":[1,0,4294967295]", "\"path\":7"},
      {"\"sample\":7", "\"sample\":4294967296"},
      {"\"actions\":[{", "\"actions\":[5,{"},
      {"\"probe_tokens\":4,", ""},
      {"\"probe_tokens\":4,", "\"probe_tokens\":4,\"top_count\":1,"},
      {"\"probe_tokens\":4,",
       "\"probe_tokens\":4,\"top_count\":-1,\"top_tokens\":[],\"top_logprobs\":[],"},
      {"\"probe_tokens\":4,",
       "\"probe_tokens\":4,\"top_count\":1,\"top_tokens\":[1],\"top_logprobs\":[0],"},
      {"\"probe_tokens\":4,", "\"probe_tokens\":4,\"stop_text\":4,"},
      {"\"probe_tokens\":4,", "\"probe_tokens\":4,\"seconds\":[1],"},
      {"\"probe_tokens\":4,", "\"probe_tokens\":4,\"is_steered\":\"2\","},
      {"\"kind\":", "\"seconds\":\"now\",\"kind\":"},
      {"\"kind\":", "\"draws\":0.5,\"kind\":"},
      {"\"minor_version\":1", "\"minor_version\":\"x\""},
      {"{\"version\":1,", "[{\"version\":1,"},
  };
  for (const auto& [before, after] : damages) {
    std::string damaged = line;
    const std::size_t at = damaged.find(before);
    ASSERT_NE(at, std::string::npos) << before;
    damaged.replace(at, std::string_view(before).size(), after);
    std::ofstream(file) << line << damaged;
    EXPECT_THAT(message_of(file, ErrorCode::corrupt_file), HasSubstr("line 2")) << after;
  }
}

TEST(SaveAndLoad, PathsThatCannotBeAreErrors) {
  const auto folder = fresh("paths");
  message_of(folder / "none.jsonl", ErrorCode::not_found);
  const Trace trace = example();
  EXPECT_THROW(save({&trace, 1}, folder / "none" / "traces.jsonl"), Error);
  EXPECT_THROW(save({&trace, 1}, folder / "none" / "traces.jsonl", IfExists::append), Error);
  EXPECT_THROW(save({&trace, 1}, folder, IfExists::append), Error);
}

TEST(SaveAndLoad, WhatCannotBeSavedLeavesTheFileAsItWas) {
  const auto file = fresh("refused") / "traces.jsonl";
  std::vector<Trace> traces = {example()};
  save(traces, file);
  const std::string before = content_of(file);
  traces.push_back(example());
  traces.back().origins.pop_back();
  EXPECT_THROW(save(traces, file), Error);
  EXPECT_THROW(save(traces, file, IfExists::append), Error);
  EXPECT_EQ(content_of(file), before);
}

}  // namespace
}  // namespace pensive
