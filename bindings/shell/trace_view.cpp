// What a terminal and a page both say of a trace.
#include <fmt/core.h>

#include <cmath>
#include <optional>

#include "trace_page.h"

namespace pensive::shell {
namespace {

std::string percent(double share) { return fmt::format("{:.1f} %", 100 * share); }

// The way to the answer.
void add_answer(const Measures& measures, std::vector<Figure>& figures) {
  if (measures.tokens_to_answer >= 0)
    figures.push_back({"answer begins", fmt::format("after {}", measures.tokens_to_answer),
                       percent(measures.share_to_answer)});
  if (measures.final_answer) {
    std::string note;
    if (measures.is_right) note = *measures.is_right ? "right" : "wrong";
    figures.push_back({"final answer", *measures.final_answer, note});
  } else if (measures.is_right) {
    figures.push_back({"final answer", "none", "wrong"});
  }
  if (!std::isnan(measures.seconds)) {
    std::string note;
    if (!std::isnan(measures.seconds_to_answer))
      note = fmt::format("answer from {:.2f} s", measures.seconds_to_answer);
    figures.push_back({"time", fmt::format("{:.2f} s", measures.seconds), note});
  }
}

void add_thinking(const Measures& measures, std::vector<Figure>& figures) {
  if (!std::isnan(measures.doubt_share))
    figures.push_back(
        {"doubts", percent(measures.doubt_share), fmt::format("{} terms", measures.doubts)});
  if (measures.switches > 0)
    figures.push_back({"switches", std::to_string(measures.switches),
                       std::isnan(measures.switch_interval)
                           ? ""
                           : fmt::format("every {:.0f} tokens", measures.switch_interval)});
  if (!measures.answers.empty())
    figures.push_back({"answers thought of", std::to_string(measures.answers.size()),
                       fmt::format("{} changes", measures.answer_changes)});
  if (!std::isnan(measures.eta))
    figures.push_back({"efficiency η", fmt::format("{:.2f}", measures.eta),
                       fmt::format("{} tokens after", measures.think_tokens_after)});
  if (!std::isnan(measures.overthink_score))
    figures.push_back({"overthink", fmt::format("{:.2f}", measures.overthink_score), ""});
  if (!std::isnan(measures.underthinking))
    figures.push_back({"underthink ξ", fmt::format("{:.2f}", measures.underthinking), ""});
}

}  // namespace

std::vector<Figure> figures_of(const TraceView& view) {
  const Measures& measures = view.measures;
  std::vector<Figure> figures = {{"decoded", std::to_string(measures.decoded_tokens), "tokens"}};
  const auto add = [&](std::string_view name, int tokens) {
    if (tokens > 0) figures.push_back({std::string(name), std::to_string(tokens), ""});
  };
  add("thinking", measures.think_tokens);
  add("answer", measures.answer_tokens);
  add("forced", measures.forced_tokens);
  add("steered", measures.steered_tokens);
  add("taken back", measures.taken_back_tokens);
  add("probes", measures.probe_tokens);
  add_answer(measures, figures);
  add_thinking(measures, figures);
  return figures;
}

std::string words_of(const TraceAction& action) {
  std::vector<std::string> parts;
  if (!action.reason.empty()) parts.push_back(action.reason);
  const bool is_probe = action.kind == "probe";
  if (action.tokens > 0)
    parts.push_back(fmt::format("{} {}", action.tokens, is_probe ? "on the side" : "fed"));
  if (action.taken_back > 0) parts.push_back(fmt::format("{} taken back", action.taken_back));
  if (action.draws > 0) parts.push_back(fmt::format("{} draws", action.draws));
  std::string words;
  for (const std::string& part : parts) words += (words.empty() ? "" : ", ") + part;
  return words;
}

std::string piece_of(TokenId id, const Tokenizer* tokenizer) {
  if (tokenizer == nullptr || !tokenizer->is_known(id)) return fmt::format("⟨{}⟩", id);
  return tokenizer->decode(std::span(&id, 1), true);
}

std::vector<std::string> pieces_of(const Trace& trace,
                                   const std::shared_ptr<const Tokenizer>& tokenizer) {
  std::vector<std::string> pieces;
  std::optional<TextStream> kept, gone;
  if (tokenizer) kept.emplace(tokenizer, true);
  for (std::size_t i = 0; i < trace.tokens.size(); ++i) {
    const TokenId id = trace.tokens[i];
    if (!tokenizer || !tokenizer->is_known(id)) {
      pieces.push_back(piece_of(id, nullptr));
      continue;
    }
    // What was taken back went on from what is kept, and what is kept knows nothing of it.
    const bool is_gone = trace.is_taken_back[i] != 0;
    if (is_gone && !gone) gone = kept;
    if (!is_gone && gone) {
      pieces.back() += gone->finish();
      gone.reset();
    }
    pieces.push_back((is_gone ? gone : kept)->push(id));
  }
  if (kept && !pieces.empty()) pieces.back() += gone ? gone->finish() : kept->finish();
  return pieces;
}

}  // namespace pensive::shell
