// Traces written by hand, and a tokenizer of a few words to read them with.
#pragma once
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "pensive/trace.h"

namespace pensive::testing {

constexpr float none = std::numeric_limits<float>::quiet_NaN();

inline std::filesystem::path fresh(const std::string& name) {
  const auto folder = std::filesystem::path(::testing::TempDir()) / ("pensive_trace_" + name);
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

inline void add(Trace& trace, TokenId id, Segment segment, Origin origin, bool is_marker = false,
                bool is_taken_back = false) {
  const bool is_sampled = origin == Origin::sampled;
  trace.tokens.push_back(id);
  trace.logprobs.push_back(is_sampled ? -0.1f * static_cast<float>(id) : none);
  trace.drawn_logprobs.push_back(is_sampled ? -0.2f : none);
  trace.entropies_nats.push_back(is_sampled ? 1.5f : none);
  trace.segments.push_back(segment);
  trace.origins.push_back(origin);
  trace.is_marker.push_back(is_marker);
  trace.is_taken_back.push_back(is_taken_back);
  if (origin == Origin::prompt) ++trace.prompt_tokens;
}

// Id i is words[i]; those in angle brackets are special tokens, the first stands for what is none.
inline std::shared_ptr<const Tokenizer> tokenizer_of(const std::string& name,
                                                     std::span<const char* const> words) {
  const auto folder = fresh(name);
  std::string added, vocabulary;
  for (std::size_t id = 0; id < words.size(); ++id) {
    std::string word;
    for (const char c : std::string_view(words[id])) word += c == '\n' ? "\\n" : std::string(1, c);
    const std::string comma = id > 0 ? "," : "";
    vocabulary += comma + '"' + word + "\":" + std::to_string(id);
    if (word[0] == '<')
      added += comma + R"({"id":)" + std::to_string(id) + R"(,"content":")" + word +
               R"(","single_word":false,"lstrip":false,"rstrip":false,"normalized":false,)" +
               R"("special":true})";
  }
  std::ofstream(folder / "tokenizer.json")
      << R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)" << added
      << R"(],"normalizer":null,"pre_tokenizer":null,"post_processor":null,)"
      << R"("decoder":{"type":"Fuse"},"model":{"type":"WordLevel","unk_token":")" << words[0]
      << R"(","vocab":{)" << vocabulary << "}}}";
  return Tokenizer::load(folder);
}

// Words of example(). 100 is a soft row.
enum : TokenId { unknown, think, end_think, end_turn, one, two, three, wait, answer, end_answer };

// <think> | 1 </think>(taken back) wait 2 </think> <answer> 3 </answer> <end>
inline Trace example() {
  Trace trace;
  add(trace, think, Segment::prompt, Origin::prompt, true);
  add(trace, one, Segment::think, Origin::sampled);
  add(trace, end_think, Segment::think, Origin::sampled, true, true);
  add(trace, wait, Segment::think, Origin::forced);
  add(trace, two, Segment::think, Origin::sampled);
  add(trace, end_think, Segment::think, Origin::sampled, true);
  add(trace, answer, Segment::answer, Origin::sampled, true);
  add(trace, three, Segment::answer, Origin::sampled);
  add(trace, end_answer, Segment::answer, Origin::sampled, true);
  add(trace, end_turn, Segment::answer, Origin::sampled);
  TraceAction& action = trace.actions.emplace_back();
  action.position = 2;
  action.guide = "continue_thinking";
  action.kind = "force";
  action.tokens = action.taken_back = 1;
  trace.probe_tokens = 4;
  trace.stopped = StopReason::end_token;
  trace.seed = std::numeric_limits<std::uint64_t>::max();
  trace.sample = 7;
  trace.path = {1, 0, std::numeric_limits<std::uint32_t>::max()};
  return trace;
}

}  // namespace pensive::testing
