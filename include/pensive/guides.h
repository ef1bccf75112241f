// guides: what this library brings to steer the thinking; each with the rule of its paper.
//
// Every guide can be made in two ways: by a function of its own, with ids; or by make_guide() from
// a line such as "budget:max=2048,window=64", as the command, the C door and Python take it.
#pragma once
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/think.h"

namespace pensive {

struct BudgetOptions {
  int max_think_tokens = 2048;  // over all thinking segments; the prompt does not count
  // How long before the limit the next sentence end closes already, at most max_think_tokens.
  // -1: 32, or the limit where that is less.
  int window_tokens = -1;
  // Before so many the closer cannot be drawn: its last token, where the others stand, and these
  // ids that end the turn. At most max_think_tokens; needs `closer` (Markers::think_close).
  int min_think_tokens = 0;
  std::vector<TokenId> closer{};
  std::vector<TokenId> end_tokens{};
};
// Ends the thinking by the limit: from limit - window on at the first line or sentence end, at the
// limit wherever it stands; and not before the least.
PENSIVE_EXPORT std::shared_ptr<const Guide> budget(const BudgetOptions& options);

struct ContinueOptions {
  std::vector<TokenId> with;       // a word, or one soft id: what replaces the closer
  int times = 1;                   // C_max: closers replaced before one is let through
  int max_think_tokens = 1 << 30;  // B_max: a closer sampled at or after this is let through
  bool close_at_max = false;       // the paper: there the thinking is closed, wherever it stands
};
// Continue-thinking (arXiv 2506.11274, section 2.1; s1, arXiv 2501.19393): a *sampled* closer of
// the thinking is replaced in place by `with`, `times` times. Forced closers pass.
PENSIVE_EXPORT std::shared_ptr<const Guide> continue_thinking(const ContinueOptions& options);

// How s1's rounds are counted.
enum class RoundBudget : std::uint8_t {
  each_round,  // its harness: every round has the whole limit; at the end all is cut to the limit
  total        // its README: what was thought is taken off
};
struct BudgetForcingOptions {
  std::vector<TokenId> closer;   // Markers::think_close
  int max_think_tokens = 32000;  // at least 1
  int times = 1;                 // closers ignored
  std::vector<TokenId> with{};   // fed in their place, such as "Wait"
  RoundBudget count = RoundBudget::each_round;
  // Fed where the limit was met: the closer and a text such as "\nFinal Answer:"; the second where
  // the thinking does not end with a newline. Empty: the closer; the first. Hold the closer.
  std::vector<TokenId> final_text{};
  std::vector<TokenId> final_text_on_new_line{};
};
// Budget forcing as s1's evaluation harness does it (arXiv 2501.19393): a sampled closer is taken
// back and `with` fed, `times` times. The final text comes only where a limit was met; a closer
// that the model drew stands as it is. What each_round thinks beyond the limit is decoded, taken
// back and counted.
PENSIVE_EXPORT std::shared_ptr<const Guide> budget_forcing(const BudgetForcingOptions& options);

struct SwitchPenaltyOptions {
  std::vector<TokenId> tokens;  // what begins another thought: the paper names "alternatively"
  float alpha = 3;              // taken off their logits
  int beta = 600;               // for so many thinking tokens from the beginning of each thought
};
// The thought-switching penalty TIP (arXiv 2501.18585): z - alpha for these tokens while t < Psi +
// beta, Psi where the present thought began: the thinking, or after the last of these tokens.
PENSIVE_EXPORT std::shared_ptr<const Guide> switch_penalty(const SwitchPenaltyOptions& options);

struct BanOptions {
  std::vector<TokenId> tokens;
  bool also_in_answer = false;
};
// NoWait (arXiv 2506.08343): these tokens are never drawn in the thinking.
PENSIVE_EXPORT std::shared_ptr<const Guide> ban(const BanOptions& options);
// Every token that is not special and whose text contains one of the words, in any case, and none
// of the exceptions ("but" is in "button").
PENSIVE_EXPORT std::vector<TokenId> tokens_containing(const Tokenizer& tokenizer,
                                                      std::span<const std::string> words,
                                                      std::span<const std::string> except = {});

struct CloserPressureOptions {
  std::vector<TokenId> closer;  // Markers::think_close; of several the one that comes next
  float alpha = 0.6f;           // 0.2 to 0.4 did best in the paper's ablation
  int from = 0, full = 0;       // thinking tokens between which alpha grows from nothing
  bool at_sentence_ends = false;
};
// Think Token Adjustment (arXiv 2506.02536, (b)): alpha x (max - mean of the step's logits) is
// added to the closer's logit at every step of the thinking.
PENSIVE_EXPORT std::shared_ptr<const Guide> closer_pressure(const CloserPressureOptions& options);

// The tokens of the answer so far to those that may come next: one bit a token (see Allow).
using AnswerMask = std::function<std::vector<std::uint32_t>(std::span<const TokenId> answer)>;
// Free thinking, then a grammar: a mask for every token of the answer. Clones share the function,
// which must depend on the tokens alone. What it throws ends the sequence with that error.
PENSIVE_EXPORT std::shared_ptr<const Guide> allow_after_thinking(AnswerMask mask);

struct MarginBrakeOptions {
  std::vector<TokenId> closer;   // Markers::think_close; of several tokens the first is watched
  float max_margin_nats = 0.1f;  // tau
  int min_think_tokens = 0;
};
// ThinkBrake (arXiv 2510.00546): right after a line or sentence end in thinking, if the best
// logprob exceeds the closer's by at most tau, the thinking is closed there instead of taking the
// token drawn.
PENSIVE_EXPORT std::shared_ptr<const Guide> margin_brake(const MarginBrakeOptions& options);

// One setting of a guide in a spec.
struct GuideKey {
  std::string_view name;
  std::string_view fallback;  // its default, as it would be written; "required" where there is none
  std::string_view meaning;
};
struct GuideInfo {
  std::string_view name;
  std::string_view source;   // where the rule and the defaults come from
  std::string_view meaning;  // one line
  std::vector<GuideKey> keys;
};
// Every guide that make_guide() knows, in alphabetical order. Valid for the whole program.
PENSIVE_EXPORT std::span<const GuideInfo> guides();

// What a spec's words are turned into ids with.
struct GuideContext {
  std::shared_ptr<const Tokenizer> tokenizer;
  std::optional<Markers> markers;  // as the request will have them
};
// `spec` is NAME or NAME:KEY=VALUE,KEY=VALUE. A value with a comma stands in double quotes, with
// \", \\ and \n as in JSON; a text is encoded without special tokens, and one that is the name of
// a single token (a soft one too) is that token. Throws invalid_argument, naming what is known, for
// a guide or key that is not, a value that is none, or a text of no tokens.
PENSIVE_EXPORT std::shared_ptr<const Guide> make_guide(std::string_view spec,
                                                       const GuideContext& context);

// Request::closing from a text, such as Qwen3's "\n\nConsidering the limited time by the user, I
// have to give the solution based on the thinking directly now.\n</think>\n\n" (arXiv 2505.09388):
// what stands before the closer ends the thinking, what stands behind it begins the answer. Throws
// invalid_argument where there are no markers, for a text of no tokens, and for one that does not
// hold the closer exactly once.
PENSIVE_EXPORT std::vector<TokenId> closing_of(const GuideContext& context, std::string_view text);

}  // namespace pensive
