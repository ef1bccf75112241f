// trace: everything that happened to one sequence, in columns.
#pragma once
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "pensive/judge.h"
#include "pensive/text.h"
#include "pensive/think.h"

namespace pensive {

// One thing that a guide, or the caller, had done.
struct TraceAction {
  int position = 0;    // index into the columns of the token after which it was done
  std::string guide;   // Guide::name()
  std::string kind;    // "force", "close", "probe", "stop"; "rewind", by the caller
  std::string reason;  // "budget", "brake", …; of a rewind, "same" or "fresh"; or empty
  int tokens = 0;      // tokens fed; for a probe, tokens fed and decoded
  int taken_back = 0;
};

// Text of a marker's token that is not the marker's: of plain text tags only, whose first and last
// token may hold more than the tag.
enum class Edge : std::uint8_t { before, behind };
struct MarkerText {
  int position = 0;  // index into the columns
  Edge edge = Edge::before;
  Segment segment = Segment::answer;  // where this text belongs
  std::string text;
};

// Columns of equal length, one entry per token: first the prompt, then all that was decoded in the
// order in which it was, including what was taken back.
struct PENSIVE_EXPORT Trace {
  int prompt_tokens = 0;
  std::vector<TokenId> tokens;
  // Untruncated, temperature 1; NaN where not sampled, but for a prompt whose logprobs were asked.
  std::vector<float> logprobs;
  std::vector<float> drawn_logprobs;  // of the distribution it was drawn from; NaN likewise
  std::vector<float> entropies_nats;  // untruncated, temperature 1; NaN likewise
  std::vector<Segment> segments;
  std::vector<Origin> origins;
  std::vector<std::uint8_t> is_marker;      // 1 for the tokens of a marker
  std::vector<std::uint8_t> is_taken_back;  // 1 for tokens that a guide or the caller took back
  // Of the same distribution the likeliest tokens, `top_count` a token, the likeliest first, of
  // equals the lower id; -1 and NaN where there are none. Both are empty where none were asked for.
  int top_count = 0;
  std::vector<TokenId> top_tokens;
  std::vector<float> top_logprobs;
  std::vector<TraceAction> actions;
  std::vector<MarkerText> marker_texts;  // of a token that is no marker any more, it means nothing
  int probe_tokens = 0;                  // fed and decoded on the side; not in the columns
  StopReason stopped = StopReason::running;
  std::string error;       // for StopReason::error
  std::string stop_text;   // for StopReason::stop_text: the one that came
  std::uint64_t seed = 0;  // what draws were keyed by: seed, sample, then path
  std::uint32_t sample = 0;
  std::vector<std::uint32_t> path;

  // The prompt and every token that was kept.
  std::vector<TokenId> kept() const;
  // Everything decoded after the prompt: kept, forced, taken back, probes, the closer, the answer.
  int decoded_tokens() const noexcept;
  int count(Segment segment) const noexcept;  // kept, after the prompt, markers not counted
};

// What a Judge sees of a trace. Text is decoded with special tokens, thinking and answer without,
// and of a text that ended at a stop text these two are cut before it. Ids that the tokenizer does
// not know, such as soft rows without a name, have no text.
PENSIVE_EXPORT Response respond(const Trace& trace, const Tokenizer& tokenizer);

// JSON lines, one trace a line, with a version; every float comes back with its bits. `append` adds
// to what is there. A file appears whole or not at all; what a failing append wrote is cut off
// again. Throws io, corrupt_file for an append to a half-written line, and invalid_argument for
// columns of unequal lengths.
enum class IfExists : std::uint8_t { replace, append };
PENSIVE_EXPORT void save(std::span<const Trace> traces, const std::filesystem::path& file,
                         IfExists if_exists = IfExists::replace);
// Throws not_found, io, unsupported for another version, or corrupt_file, naming the line. Keys it
// does not know are passed over.
PENSIVE_EXPORT std::vector<Trace> load_traces(const std::filesystem::path& file);

}  // namespace pensive
