// By which texts checkpoints open and close their thinking, and which tokens spell them.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "base/inside.h"
#include "pensive/think.h"

namespace pensive {
namespace {

struct Known {
  std::string_view think_open, think_close, answer_open, answer_close;
};
constexpr std::string_view answer = "<answer>", answer_end = "</answer>";

constexpr std::array<Known, 10> known{{
    {"<think>", "</think>", answer, answer_end},          // DeepSeek-R1, Qwen3, QwQ, Phi-4
    {"<|im_start|>think", "<|im_start|>answer", {}, {}},  // s1
    {"<|begin_of_thought|>", "<|end_of_thought|>", "<|begin_of_solution|>",
     "<|end_of_solution|>"},  // Sky-T1, OpenThinker
    {"<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>",
     "<|END_RESPONSE|>"},                                 // Command A
    {"<seed:think>", "</seed:think>", {}, {}},            // Seed-OSS
    {"[THINK]", "[/THINK]", {}, {}},                      // Magistral
    {"◁think▷", "◁/think▷", {}, {}},                      // Kimi-VL
    {"<reasoning>", "</reasoning>", answer, answer_end},  // what GRPO recipes ask for
    {"<thinking>", "</thinking>", answer, answer_end},
    {"<thought>", "</thought>", answer, answer_end},  // EXAONE Deep
}};

constexpr EncodeOptions bare{.add_special = AddSpecial::no};

// The tokens of a text at the beginning of a line: at the beginning of all text some tokenizers put
// a space in front. Nothing where they do not decode to it.
std::optional<std::vector<TokenId>> spell(const Tokenizer& tokenizer, std::string_view text) {
  if (const auto one = tokenizer.find(text)) return std::vector<TokenId>{*one};
  std::string in_line = "\n";
  const std::vector<TokenId> line = tokenizer.encode(in_line, bare);
  in_line += text;
  std::vector<TokenId> ids = tokenizer.encode(in_line, bare);
  const bool begins_so =
      ids.size() > line.size() && std::equal(line.begin(), line.end(), ids.begin());
  if (begins_so)
    ids.erase(ids.begin(), ids.begin() + std::ssize(line));
  else
    ids = tokenizer.encode(text, bare);
  std::string spelled = tokenizer.decode(ids, true);
  if (spelled.starts_with(' ') && !text.starts_with(' ')) spelled.erase(0, 1);
  if (ids.empty() || spelled != text) return std::nullopt;
  return ids;
}

bool is_token(const Tokenizer& tokenizer, std::string_view text) {
  return !text.empty() && tokenizer.find(text).has_value();
}

std::vector<TokenId> spell_or_none(const Tokenizer& tokenizer, std::string_view text) {
  return spell(tokenizer, text).value_or(std::vector<TokenId>{});
}

// A pair that is marked by tokens of its own needs no opener: some templates write it.
std::optional<Markers> own_tokens(const Tokenizer& tokenizer, const Known& pair) {
  if (!is_token(tokenizer, pair.think_close)) return std::nullopt;
  Markers markers;
  markers.think_close = {*tokenizer.find(pair.think_close)};
  if (const auto open = tokenizer.find(pair.think_open)) markers.think_open = {*open};
  return markers;
}

std::optional<Markers> spelled_tokens(const Tokenizer& tokenizer, const Known& pair) {
  Markers markers;
  markers.think_open = spell_or_none(tokenizer, pair.think_open);
  markers.think_close = spell_or_none(tokenizer, pair.think_close);
  if (markers.think_open.empty() || markers.think_close.empty()) return std::nullopt;
  return markers;
}

void add_answers(Markers& markers, const Tokenizer& tokenizer, const Known& pair,
                 std::string_view chat) {
  if (pair.answer_open.empty()) return;
  const bool are_tokens =
      is_token(tokenizer, pair.answer_open) && is_token(tokenizer, pair.answer_close);
  const bool are_named =
      chat.find(pair.answer_open) != chat.npos && chat.find(pair.answer_close) != chat.npos;
  if (!are_tokens && !are_named) return;
  std::vector<TokenId> open = spell_or_none(tokenizer, pair.answer_open);
  std::vector<TokenId> close = spell_or_none(tokenizer, pair.answer_close);
  if (open.empty() || close.empty()) return;
  markers.answer_open = std::move(open);
  markers.answer_close = std::move(close);
}

}  // namespace

std::optional<Markers> find_markers(const Tokenizer& tokenizer) {
  const std::string chat = tokenizer.chat_template_source().value_or("");
  const auto is_named = [&](std::string_view text) { return chat.find(text) != chat.npos; };
  const auto found = [&](auto&& of) -> std::optional<Markers> {
    for (const Known& pair : known) {
      std::optional<Markers> markers = of(pair);
      if (!markers) continue;
      add_answers(*markers, tokenizer, pair, chat);
      return markers;
    }
    return std::nullopt;
  };
  if (auto markers = found([&](const Known& pair) {
        auto own = own_tokens(tokenizer, pair);
        return own && is_named(pair.think_close) ? own : std::nullopt;
      }))
    return markers;
  if (auto markers = found([&](const Known& pair) {
        const bool is_pair = is_named(pair.think_open) && is_named(pair.think_close);
        return is_pair ? spelled_tokens(tokenizer, pair) : std::nullopt;
      }))
    return markers;
  return found([&](const Known& pair) { return own_tokens(tokenizer, pair); });
}

Markers markers_of(const Tokenizer& tokenizer, std::string_view open_text,
                   std::string_view close_text) {
  constexpr std::string_view where = "markers_of";
  require(!close_text.empty(), ErrorCode::invalid_argument, "a text that closes the thinking",
          "none", where);
  require(open_text != close_text, ErrorCode::invalid_argument,
          "two texts, one to open and one to close the thinking", in_quotes(close_text) + " twice",
          where);
  const auto tokens = [&](std::string_view text) {
    std::optional<std::vector<TokenId>> ids = spell(tokenizer, text);
    if (!ids)
      fail(ErrorCode::invalid_argument, "a marker that the tokenizer can spell", in_quotes(text),
           where);
    return std::move(*ids);
  };
  Markers markers;
  if (!open_text.empty()) markers.think_open = tokens(open_text);
  markers.think_close = tokens(close_text);
  return markers;
}

}  // namespace pensive
