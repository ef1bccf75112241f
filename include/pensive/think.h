// think: which part of a sequence is thinking, and small state machines that steer it.
//
// A Guide is told of every token and answers with an Action; the engine does the rest. Guides see
// values only, never an engine, a tensor or a stream, so that all of this room is tested with
// invented moments.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "pensive/base.h"
#include "pensive/text.h"

namespace pensive {

enum class Segment : std::uint8_t { prompt, think, answer };
enum class Marker : std::uint8_t { none, think_open, think_close, answer_open, answer_close };
// How a token came to be: drawn from the model, or fed because a guide or a closing said so.
enum class Origin : std::uint8_t { prompt, sampled, forced };

enum class StopReason : std::uint8_t {
  running,    // not finished
  end_token,  // the model ended its turn
  length,     // max_new_tokens, or the model's positions, are used up
  guide,      // a guide asked for Stop
  cancelled,  // Sequence::cancel()
  error,      // a guide threw; Trace::error says what
  stop_text,  // one of Request::stop_texts came; Trace::stop_text says which
  deadline    // Request::timeout_seconds were over
};
enum class CloseReason : std::uint8_t { budget, brake, other };

PENSIVE_EXPORT std::string_view to_string(Segment segment);
PENSIVE_EXPORT std::string_view to_string(StopReason reason);
PENSIVE_EXPORT std::string_view to_string(CloseReason reason);

// The token sequences by which a checkpoint opens and closes its thinking and, where it marks
// them, its answers. One token or several each; an empty one does not occur.
//
// A marker of several tokens, none of them special, is plain text, and plain text can be spelled by
// other tokens too: "</think>" also by those of ".</", "think" and ">\n\n". Such a marker counts
// wherever the decoded text holds it, however its tokens are cut; what else these tokens hold is
// text of the segments before and behind. All other markers count by these ids alone.
struct Markers {
  std::vector<TokenId> think_open;
  std::vector<TokenId> think_close;
  std::vector<TokenId> answer_open;
  std::vector<TokenId> answer_close;
};

// The markers of a checkpoint, by its tokenizer and its default chat template. Known are <think> …
// </think> (DeepSeek-R1, Qwen3), <|im_start|>think … <|im_start|>answer (s1, arXiv 2501.19393),
// <|begin_of_thought|>, <|START_THINKING|>, <seed:think>, [THINK], ◁think▷, <reasoning>, <thinking>
// and <thought>, each with its closer. A pair is found where its closer is a token of its own, or
// where the template names both; of several first those of which both holds, then those that the
// template names. Answers are marked where theirs, such as <answer> … </answer>, are found
// likewise. Nothing where there are none: a caller who knows better names them with markers_of().
PENSIVE_EXPORT std::optional<Markers> find_markers(const Tokenizer& tokenizer);

// Markers named by their texts. An empty `open_text`: thinking is opened by prompts only. Of a text
// of several tokens the ones that it has at the beginning of a line. Throws invalid_argument for an
// empty `close_text`, two equal texts, or one that the tokenizer cannot spell, naming it.
PENSIVE_EXPORT Markers markers_of(const Tokenizer& tokenizer, std::string_view open_text,
                                  std::string_view close_text);

// One piece of streamed text. Markers are never part of it.
struct TextEvent {
  Segment segment;
  int index;  // counts the segments of this kind from 0: think 0, answer 0, think 1, answer 1, …
  std::string text;
};

// One token and its surroundings. Valid for the duration of the call.
struct Moment {
  std::span<const TokenId> tokens;  // the prompt and all that is kept, ending with `token`
  int prompt_tokens = 0;            // how many of them are prompt
  TokenId token = 0;
  std::string_view text;  // what this token added to the decoded text; may be empty
  std::string_view tail;  // the last 64 bytes or so of that text, ending with this token
  Segment segment = Segment::prompt;
  Segment next = Segment::prompt;  // where the next token will stand: think or answer
  Origin origin = Origin::sampled;
  Marker completes = Marker::none;  // the marker whose last token this is
  int marker_tokens = 0;            // its length in tokens
  int pending_tokens = 0;  // how many of the last may still become a marker: not text for sure
  int think_tokens = 0;    // thinking tokens decoded and kept so far, markers not counted
  int new_tokens = 0;      // kept tokens after the prompt
  // Of the untruncated distribution at temperature 1, before any bias; NaN for forced tokens.
  float logprob = 0;
  float entropy_nats = 0;
  TokenId top_token = 0;  // the likeliest token of that distribution
  float top_logprob = 0;
  std::span<const float> watched;  // logprobs of Guide::watches(), in its order
};

// Adds to a logit at the next step: `logit` plus `times_max_minus_mean` x (max - mean of the
// step's own logits), as Think Token Adjustment needs it (arXiv 2506.02536).
struct Bias {
  TokenId token = 0;
  float logit = 0;
  float times_max_minus_mean = 0;
  bool operator==(const Bias&) const = default;
};

// Go on; the biases hold for the next step only.
struct Proceed {
  std::vector<Bias> biases;
};
// Go on; the next step may draw only tokens whose bit is set. Bit t % 32 of word t / 32, the layout
// that llguidance and xgrammar fill; missing words are zeros.
struct Allow {
  std::vector<std::uint32_t> mask;
};
// Take the last `replaces_last` tokens back, then feed these. Both may be empty, not both at once.
//
// With none to feed, what stood in the first place of those taken back is drawn again, under what
// all guides wished for that draw and `biases` besides: a token that they forbid cannot come there
// again. The wishes for the last 64 tokens are known; further back those of the 64th hold. With
// tokens to feed there must be no biases.
struct Force {
  std::vector<TokenId> tokens;
  int replaces_last = 0;
  std::vector<Bias> biases{};
};
// End the thinking gracefully: take back `replaces_last`, then, at the next line or sentence end
// but at most `within_tokens` tokens later, feed the closing text. Means nothing outside thinking.
// What is drawn until then is drawn as after a Force without tokens.
struct Close {
  CloseReason reason = CloseReason::other;
  int replaces_last = 0;
  int within_tokens = 0;
};
// Ask the model on the side: fork from `from_back` tokens back, feed `tokens`, decode without
// guides until a stop text or the limit, and hand the result to Guide::on_probe(). The fork is
// dropped; its tokens are counted in the trace. One more than 64 after one token is an error.
struct Probe {
  int from_back = 0;
  std::vector<TokenId> tokens;
  std::vector<std::string> stop_texts;
  float temperature = 0;  // 0 is greedy
  int max_new_tokens = 16;
};
// End the sequence here.
struct Stop {};

using Action = std::variant<Proceed, Allow, Force, Close, Probe, Stop>;

struct ProbeReply {
  std::span<const TokenId> tokens;  // what was decoded, without the tokens that were fed
  std::span<const float> logprobs;  // of each, at temperature 1
  std::string_view text;
  bool is_refused = false;  // no page was free: nothing was decoded
};

// What was really carried out after a token, whoever asked for it.
struct Done {
  const Action* action = nullptr;
  bool was_mine = false;
};

// A small state machine that belongs to one sequence. Guides are given to a Request as shared
// constant prototypes and cloned when a sequence starts or forks, so members are plain values.
//
// Every guide sees every token, forced ones too. Of several actions the first that is neither
// Proceed nor Allow is carried out; biases add, masks intersect. A guide that throws ends its own
// sequence with StopReason::error; others go on. Called on the thread that steps the engine. A
// guide may cancel sequences and drop them, but not start, fork, feed or step any: that throws.
class PENSIVE_EXPORT Guide {
 public:
  virtual ~Guide() = default;
  virtual std::string_view name() const = 0;  // asked when a sequence starts
  // Tokens whose logprobs this guide wants to see in every moment. Asked once, at the start.
  virtual std::vector<TokenId> watches() const { return {}; }
  // Whether this guide means nothing without thinking markers: a request then needs them.
  virtual bool needs_markers() const { return false; }
  // Called once before the first token; `moment.token` is the last of the prompt.
  virtual Action on_start(const Moment& moment);
  virtual Action on_token(const Moment& moment) = 0;
  virtual Action on_probe(const ProbeReply& reply);
  virtual void on_done(const Done& done);
  virtual std::unique_ptr<Guide> clone() const = 0;  // null: start(), fork(), rewind() refuse
};

// Whether a text ends at a line or sentence end: a newline, or . ! ? … (also before closing quotes
// or brackets, and before spaces); a full stop right after a digit or a single capital does not
// count.
PENSIVE_EXPORT bool is_sentence_end(std::string_view text) noexcept;

}  // namespace pensive
