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
};
// Ends the thinking by the limit: from limit - window on at the first line or sentence end, at the
// limit wherever it stands.
PENSIVE_EXPORT std::shared_ptr<const Guide> budget(const BudgetOptions& options);

struct ContinueOptions {
  std::vector<TokenId> with;       // a word, or one soft id: what replaces the closer
  int times = 1;                   // C_max: closers replaced before one is let through
  int max_think_tokens = 1 << 30;  // B_max: a closer sampled at or after this is let through
};
// Continue-thinking (arXiv 2506.11274, section 2.1; s1, arXiv 2501.19393): a *sampled* closer of
// the thinking is replaced in place by `with`, `times` times. Forced closers pass.
PENSIVE_EXPORT std::shared_ptr<const Guide> continue_thinking(const ContinueOptions& options);

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
