// guides: what this library brings to steer the thinking; each with the rule of its paper.
//
// Every guide can be made in two ways: by a function of its own, with ids; or by make_guide() from
// a line such as "budget:max=2048,window=64", as the command, the C door and Python take it.
#pragma once
#include <cstdint>
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
  // How long before the limit the next sentence end closes already, at most max_think_tokens; it
  // never reaches back behind the least. -1: 32, or the limit where that is less.
  int window_tokens = -1;
  // Before so many the closer cannot be drawn: its last token, where the others stand, and these
  // ids that end the turn. At most max_think_tokens; needs `closer` (Markers::think_close).
  int min_think_tokens = 0;
  std::vector<TokenId> closer{};
  std::vector<TokenId> end_tokens{};  // such as Model::stop_tokens()
};
// Ends the thinking by the limit: from limit - window on at the first line or sentence end, at the
// limit wherever it stands. Before the least it does not end by itself: a marker that does it all
// the same, spelled by other tokens or one of an answer, is not completed, its last token drawn
// again without that one. What other guides force, such as a brake's closing, passes. Half a
// character that a closing takes back at the limit may be missing of the least.
PENSIVE_EXPORT std::shared_ptr<const Guide> budget(const BudgetOptions& options);

// What happens at the limit: closers are let through; or the thinking is closed right there.
enum class AtMax : std::uint8_t { let_through, close };
struct ContinueOptions {
  std::vector<TokenId> with;          // a word, or one soft id: what replaces the closer
  int times = 1;                      // C_max: closers replaced before one is let through
  int max_think_tokens = 1 << 30;     // B_max: a closer sampled at or after this is let through
  AtMax at_max = AtMax::let_through;  // `close` is the paper's: wherever the thinking stands
};
// Continue-thinking (arXiv 2506.11274, section 2.1; s1, arXiv 2501.19393): a *sampled* closer of
// the thinking is replaced in place by `with`, `times` times. Forced closers pass.
PENSIVE_EXPORT std::shared_ptr<const Guide> continue_thinking(const ContinueOptions& options);

// How s1's rounds are counted. A round lasts from one ignored closer to the next.
enum class RoundBudget : std::uint8_t {
  each_round,  // its harness: every round has the whole limit; when the last one has ended, all
               // that is beyond one limit is taken back, decoded in vain
  total        // its README: what a round drew, its closer too, is taken off the limit
};
struct BudgetForcingOptions {
  std::vector<TokenId> closer;   // Markers::think_close
  int max_think_tokens = 32000;  // at least 1
  int times = 1;                 // closers ignored
  std::vector<TokenId> with{};   // fed in their place, such as "Wait"; empty: drawn again
  RoundBudget count = RoundBudget::each_round;
  // Fed where a round met the limit, and only there: `newline` unless the text ends in one, the
  // closer, and this.
  std::vector<TokenId> final_text{};  // such as "\nFinal Answer:"
  std::vector<TokenId> newline{};
  std::vector<TokenId> end_tokens{};  // these end a round as the closer does
};
// Budget forcing (arXiv 2501.19393, section 3) as s1's code does it: a sampled closer is taken back
// and `with` fed, `times` times; the next stands as it is. In a round that may not be empty (all in
// the harness, all but the first in the README) the closer's first token is not drawn first. Once a
// closer has passed, thinking that opens again has what is left of the limit.
PENSIVE_EXPORT std::shared_ptr<const Guide> budget_forcing(const BudgetForcingOptions& options);

struct SwitchPenaltyOptions {
  std::vector<TokenId> tokens;  // V_switch, such as tokens_spelling("alternatively")
  float alpha = 3;              // taken off their logits
  int beta = 600;               // for so many thinking tokens from the beginning of each thought
};
// The thought-switching penalty TIP (arXiv 2501.18585): z - alpha for these tokens while t < Psi +
// beta, Psi where the present thought began: the thinking, or after the last of these tokens. The
// paper names "alternatively" only.
PENSIVE_EXPORT std::shared_ptr<const Guide> switch_penalty(const SwitchPenaltyOptions& options);

enum class BanScope : std::uint8_t { thinking, everywhere };
struct BanOptions {
  std::vector<TokenId> tokens;  // such as tokens_containing(); not all there are
  int vocab_size = 0;           // Model::vocab_size(): ids that can be drawn
  BanScope scope = BanScope::thinking;
};
// NoWait (arXiv 2506.08343): these tokens are never drawn in the thinking. Forced ones pass.
PENSIVE_EXPORT std::shared_ptr<const Guide> ban(const BanOptions& options);

// Every token that is not special and whose text contains one of the words and none of the
// exceptions ("but" is in "button"), in ascending order. Case is folded for ASCII. Throws
// invalid_argument for an empty word.
PENSIVE_EXPORT std::vector<TokenId> tokens_containing(const Tokenizer& tokenizer,
                                                      std::span<const std::string> words,
                                                      std::span<const std::string> except = {});
// Every token that is not special and whose text is this word, but for case, and for white space
// and ASCII's punctuation around it. Throws invalid_argument where nothing else is in `word`.
PENSIVE_EXPORT std::vector<TokenId> tokens_spelling(const Tokenizer& tokenizer,
                                                    std::string_view word);

enum class PressureAt : std::uint8_t { anywhere, sentence_ends };
struct CloserPressureOptions {
  std::vector<TokenId> closer;  // Markers::think_close; of several the one that comes next
  float alpha = 0.6f;           // 0.2 to 0.4 did best in the paper's ablation
  // Thinking tokens between which alpha grows from 0 to all of it, on a straight line.
  int from = 0, full = 0;
  PressureAt at = PressureAt::anywhere;  // a closer that has begun is pushed anywhere
};
// Think Token Adjustment (arXiv 2506.02536, (b)): alpha x (max - mean of the step's logits) is
// added to the closer's logit at every step of the thinking.
PENSIVE_EXPORT std::shared_ptr<const Guide> closer_pressure(const CloserPressureOptions& options);

// The tokens of the answer so far to those that may come next: one bit a token (see Allow); an
// empty mask allows everything. Called for all clones, on the thread that steps the engine: it must
// depend on the tokens alone.
using AnswerMask = std::function<std::vector<std::uint32_t>(std::span<const TokenId> answer)>;
// Where an answer begins for the mask.
enum class AnswerBegin : std::uint8_t {
  at_first_drawn,  // without what is fed right behind the closer, such as "Final Answer:"
  at_closer        // behind the closer, or behind a prompt that ends in an answer
};
// Free thinking, then a grammar: a mask for every token of the answer, its markers and its end too.
// Where thinking opens again, the next answer begins anew. What the function throws ends the
// sequence with that error.
PENSIVE_EXPORT std::shared_ptr<const Guide> allow_after_thinking(
    AnswerMask mask, AnswerBegin begins = AnswerBegin::at_first_drawn);

// Where a brake looks: after ".\n\n", after any line, or at a line or sentence end as
// is_sentence_end() has it.
enum class Boundary : std::uint8_t { paragraph, line, sentence };

struct MarginBrakeOptions {
  std::vector<TokenId> closer;  // Markers::think_close; of several tokens the first is watched
  // tau. The paper's: 0.1 for Qwen3 and R1-Distill-7B, 2.5 for Phi-4-reasoning.
  float max_margin_nats = 0.1f;
  int min_think_tokens = 0;
  Boundary at = Boundary::paragraph;  // the paper's code; the others are ours
};
// ThinkBrake (arXiv 2510.00546): right after a boundary in thinking, if the best logprob exceeds
// the closer's by at most tau (both untempered), the thinking is closed there instead of taking the
// token drawn.
PENSIVE_EXPORT std::shared_ptr<const Guide> margin_brake(const MarginBrakeOptions& options);

// All brakes: min_think_tokens is how many thinking tokens there must be before one looks; tokens
// that are forced never set one off; numbers out of bounds throw invalid_argument. The tokens of
// probes are counted in the trace. A probe for which no page is free is asked again at the next
// place.

struct OverthinkBrakeOptions {
  float max_score = 0.2f;      // the paper's tau1; 0 to 1
  float marker_weight = 0.1f;  // the paper's beta; 0 to 1
  // Words or phrases. Empty: the paper's (appendix E); ours too are alternatively, let me try,
  // verify.
  std::vector<std::string> markers{};
  // What an answer stands after, to the end of its sentence, such as "So ". Empty: find_answer().
  std::vector<std::string> answer_cues{};
  int min_think_tokens = 0;
};
// An online overthink score. OUR DERIVATION from Self-Braking Tuning (arXiv 2505.14604), which only
// labels training data with one and knows the right answer: here the first answer that the thinking
// states twice takes its place. After each sentence (or 1024 bytes without one), with beta =
// marker_weight, closes where
//   score = beta M / W + (1 - beta) (T - R) / T  >  max_score,
// W: words so far, M: those that belong to a marker (case folded), T: thinking tokens so far, R: T
// at the end of the sentence that first repeats an answer of a sentence before it (same_answer());
// R = T until one does. Counts begin anew where thinking is opened again.
PENSIVE_EXPORT std::shared_ptr<const Guide> overthink_brake(const OverthinkBrakeOptions& options);

struct LoopBrakeOptions {
  // Cycles: the last tokens are one stretch of at most max_cycle_tokens (1 to 512), at least
  // cycle_times times in a row, and at least min_loop_tokens in all: indentation and rulers pass.
  int max_cycle_tokens = 64;
  int cycle_times = 4;  // 2 or more; 0: cycles are no loop
  int min_loop_tokens = 64;
  // The same line came so many times, or the same paragraph of several lines; both trimmed and of
  // at least min_line_bytes. 2 or more; 0: they are no loop.
  int line_times = 4;
  int paragraph_times = 3;
  int min_line_bytes = 16;
  int within_tokens = 32;  // how long a sentence end is waited for
  int min_think_tokens = 0;
};
// Closes thinking that goes round in circles. Ours, after what servers are asked for; the numbers
// too. Paragraphs end with an empty line. At least the last 1024 lines and paragraphs are
// remembered, by a hash of 64 bits; a token costs max_cycle_tokens comparisons. Counts begin anew
// where thinking is opened again.
PENSIVE_EXPORT std::shared_ptr<const Guide> loop_brake(const LoopBrakeOptions& options);

struct ColdStopOptions {
  // The paper searched 0 to 0.1 nats and 256 to 1024 tokens, and reports these.
  float max_entropy_nats = 0.01f;
  int for_tokens = 256;  // 1 or more
  int within_tokens = 0;
  int min_think_tokens = 0;
};
// Soft Thinking's Cold Stop (arXiv 2505.15778): closes after for_tokens consecutive thinking tokens
// with an entropy below max_entropy_nats (untempered, in full). A forced token, or what is taken
// back, begins the count anew.
PENSIVE_EXPORT std::shared_ptr<const Guide> cold_stop(const ColdStopOptions& options);

// Of probabilities p: sum p / n, or exp(sum ln p / n).
enum class Mean : std::uint8_t { arithmetic, geometric };

// Of DEER's scripts. R1-Distill: think_ratio 0.6. Qwen3: think_ratio 0.8, mean geometric,
// must_end_with and stop_texts the closer. The code's own default ratio is 0.9.
struct TrialBrakeOptions {
  std::string at = "Wait";                // the other of the paper: Alternatively
  std::vector<TokenId> trial{};           // "\n**Final Answer**\n\\boxed", encoded; not empty
  std::vector<std::string> stop_texts{};  // end a trial; empty: where \boxed{…} ends
  std::vector<TokenId> must_end_with{};   // a trial without it has confidence 0; empty: none
  Mean mean = Mean::arithmetic;
  float min_confidence = 0.95f;  // lambda; 0 to 1
  int max_probes = 10;
  int max_probe_tokens = 20;
  int max_tokens = 16384;    // what thinking and answer may take together
  float think_ratio = 0.9f;  // the share of it at which thinking is closed anyway; 0 to 1
  int min_think_tokens = 0;
};
// DEER (arXiv 2504.15895), as its code does it, but greedy in the trials too: where `at` is drawn,
// a trial answer from before it is decoded; if the mean probability of its tokens, the first left
// out, exceeds min_confidence, `at` is taken back and the thinking closed there. Thinking also ends
// at think_ratio x max_tokens, and after a trial in the 50 tokens before.
PENSIVE_EXPORT std::shared_ptr<const Guide> trial_brake(const TrialBrakeOptions& options);

struct ConvergenceBrakeOptions {
  std::vector<TokenId> trial;             // the closer, and what an answer begins with; not empty
  std::string trial_text{};               // how what an answer begins with reads, such as "\\boxed"
  std::vector<std::string> stop_texts{};  // end a trial; empty: where \boxed{…} ends
  int agreeing = 10;                      // k: 10 in the paper, 3 in its script; 1 or more
  int max_probe_tokens = 20;
  int min_think_tokens = 0;
};
// Answer convergence (arXiv 2506.02536, method (a)): after each sentence a greedy trial answer;
// closes after k in a row that are the same_answer(). The answer is find_answer() of trial_text and
// the trial, else the trial up to a stop text, trimmed; an empty one agrees with none, and what is
// taken back begins the count anew.
PENSIVE_EXPORT std::shared_ptr<const Guide> convergence_brake(
    const ConvergenceBrakeOptions& options);

struct RandomStopOptions {
  float chance = 0.1f;  // at each sentence end; 0 to 1
  std::uint64_t seed = 0;
  int min_think_tokens = 0;
};
// A control for experiments: closes at a sentence end by a draw that depends on the seed, the
// prompt's ids and the number of tokens kept after it, and on nothing else.
PENSIVE_EXPORT std::shared_ptr<const Guide> random_stop(const RandomStopOptions& options);

struct PromptBudgetOptions {
  float tokens_per_prompt_token = 1.0f;  // above 0
  int window_tokens = -1;                // as BudgetOptions has it, or the limit where that is less
};
// A baseline for experiments: budget() whose limit is so many times the length of the prompt.
PENSIVE_EXPORT std::shared_ptr<const Guide> prompt_budget(const PromptBudgetOptions& options);

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
