// trace: everything that happened to one sequence, in columns.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/judge.h"
#include "pensive/text.h"
#include "pensive/think.h"

namespace pensive {

// One thing that a guide, or the caller, had done.
struct TraceAction {
  int position = 0;   // index into the columns of the token after which it was done
  std::string guide;  // Guide::name()
  // "force", "close", "probe", "stop"; "bias" and "allow", of draws; "rewind", by the caller.
  std::string kind;
  std::string reason;  // "budget", "brake", …; of a rewind, "same" or "fresh"; or empty
  int tokens = 0;      // tokens fed; for a probe, tokens fed and decoded
  int taken_back = 0;
  // Of "bias" and "allow": how many draws, one right after another, this guide steered like that.
  // Where several guides did, the first of them is named.
  int draws = 0;
  std::string text;  // of a probe: what it decoded, without what was fed; in UTF-8
  // From the request's start on; of a probe, when it was answered. NaN where nobody looked.
  float seconds = std::numeric_limits<float>::quiet_NaN();
  std::string more_json;  // as Trace::more_json
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
  // 1 where biases or a mask of guides were on the draw. Empty where it was not told.
  std::vector<std::uint8_t> is_steered;
  // When each came, from the request's start (a fork: of what it was forked from) on; NaN for the
  // prompt. Empty where it was not told: whoever needs no times in a file clears it.
  std::vector<float> seconds;
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
  // What a file of a newer minor version told beyond all this: one JSON object, or empty. Saved
  // again as it was.
  std::string more_json;

  // The prompt and every token that was kept.
  std::vector<TokenId> kept() const;
  // Everything decoded after the prompt: kept, forced, taken back, probes, the closer, the answer.
  int decoded_tokens() const noexcept;
  int count(Segment segment) const noexcept;  // kept, after the prompt, markers not counted
};

// What a Judge sees of a trace. Text is decoded with special tokens, thinking and answer without,
// and of a text that ended at a stop text these two are cut before it. A closer that ended the turn
// as well, such as <|im_end|> named by a caller, is in none of them. Ids that the tokenizer does
// not know, such as soft rows without a name, have no text.
PENSIVE_EXPORT Response respond(const Trace& trace, const Tokenizer& tokenizer);

// JSON lines, one trace a line, with a version; every float comes back with its bits. `append` adds
// to what is there. A file appears whole or not at all; what a failing append wrote is cut off
// again. Throws io, corrupt_file for an append to a half-written line, and invalid_argument for
// columns of unequal lengths or a more_json that is no object or tells what the trace tells.
enum class IfExists : std::uint8_t { replace, append };
PENSIVE_EXPORT void save(std::span<const Trace> traces, const std::filesystem::path& file,
                         IfExists if_exists = IfExists::replace);
// Reads version 1 with any minor version; these only ever add keys, which are kept. Throws
// not_found, io, unsupported for another version, or corrupt_file, naming the line.
PENSIVE_EXPORT std::vector<Trace> load_traces(const std::filesystem::path& file);

// The whole lines of a file of which some are cut or damaged.
struct Salvage {
  std::vector<Trace> traces;
  int lost_lines = 0;
  std::string loss;  // what load_traces() would say of the first of them; empty without a loss
};
// Throws not_found or io.
PENSIVE_EXPORT Salvage salvage_traces(const std::filesystem::path& file);

// Finds the answer written in one step of thinking; nothing where there is none. The final answer
// of a response is found as correct() finds it, not with this.
using AnswerFinder = std::function<std::optional<std::string>(std::string_view step)>;
// What stands in a step behind the last `before`, such as "= ", trimmed.
PENSIVE_EXPORT AnswerFinder answer_after(std::string before);

struct MeasureOptions {
  std::string reference{};      // the right answer; empty where none is known
  AnswerFinder find{};          // empty: find_answer() of the judge room
  std::string step_end = "\n";  // what ends a step of thinking; its answers are looked for there
  // Terms that tell of doubt; ASCII case does not count, and no letter stands right beside one.
  // Empty: the 26 of self-braking (arXiv 2505.14604, appendix E), "wait", "hmm", "but", …
  std::vector<std::string> doubts{};
  // Terms that begin another thought, likewise. Empty: "alternatively" (arXiv 2501.18585).
  std::vector<std::string> switches{};
  double beta = 0.1;  // of the overthink score, 0 to 1
};

// An answer that the thinking came to.
struct FoundAnswer {
  std::string text;
  int position = 0;       // index into the columns of the token in which its step ended
  int think_tokens = 0;   // kept thinking tokens up to and with that one
  bool is_final = false;  // same_answer() as the response's final one
  bool is_right = false;  // same_answer() as the reference
};

// All tokens are after the prompt; `unknown` stands where a number has no meaning.
struct Measures {
  static constexpr double unknown = std::numeric_limits<double>::quiet_NaN();

  // Every token is counted once in these five; their sum is decoded_tokens.
  int think_tokens = 0;
  int answer_tokens = 0;
  int marker_tokens = 0;  // of the markers that open and close segments
  int taken_back_tokens = 0;
  int probe_tokens = 0;
  int decoded_tokens = 0;
  int forced_tokens = 0;   // of those kept, fed by guides or the caller
  int steered_tokens = 0;  // of all, drawn under biases or a mask

  // Before the first kept token of the answer that has more than white space: everything decoded,
  // probes too; its share of decoded_tokens; and when it came. -1 and unknown without one.
  int tokens_to_answer = -1;
  double share_to_answer = unknown;
  double seconds_to_answer = unknown;
  double seconds = unknown;  // when the last token came

  // kappa_t of self-braking: the share of thinking tokens that belong to a doubt. (The authors'
  // code counts substrings, so that "button" holds a "but"; here terms are whole words.)
  int doubts = 0;
  double doubt_share = unknown;
  // Thought switches, and the thinking tokens from one to the next on average (arXiv 2501.18585,
  // section 2); unknown below two.
  int switches = 0;
  double switch_interval = unknown;

  std::optional<std::string> final_answer;
  std::optional<bool> is_right;      // where there is a reference
  std::vector<FoundAnswer> answers;  // in thinking that was kept, in order
  int answer_changes = 0;            // how often one is not same_answer() as that before it

  // Where thinking came first to the answer that counts: the reference, or without one the final
  // answer. -1 where it never did.
  int first_think_tokens = -1;
  int think_tokens_after = -1;  // think_tokens less these
  // eta = first_think_tokens / think_tokens: the reasoning efficiency of self-braking, in tokens
  // where the paper counts steps.
  double eta = unknown;
  // beta x doubt_share + (1 - beta) x (1 - eta): the overthink score of self-braking.
  double overthink_score = unknown;
  // first_think_tokens / (think_tokens + answer_tokens), 0 where the thinking never came to the
  // reference (arXiv 2412.21187, equation 1). Needs a reference.
  double outcome_efficiency = unknown;
  // xi = 1 - first_think_tokens / (think_tokens + answer_tokens) where the final answer is wrong, 0
  // where the thinking never came to the reference; unknown where it is right, so that the paper's
  // score is the mean of those known (arXiv 2501.18585, section 2.3). Needs a reference.
  double underthinking = unknown;
};

// Without a tokenizer only what needs no text is measured. Throws invalid_argument for columns of
// unequal lengths, an empty step_end or term, or a beta out of range.
PENSIVE_EXPORT Measures measure(const Trace& trace,
                                const std::shared_ptr<const Tokenizer>& tokenizer,
                                const MeasureOptions& options = {});

}  // namespace pensive
