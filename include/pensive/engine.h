// engine: the one thing that runs. Many sequences share its pages and go through the model
// together.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pensive/judge.h"
#include "pensive/model.h"
#include "pensive/think.h"
#include "pensive/trace.h"

namespace pensive {

// Adds to one token's logit; -infinity bans it.
struct LogitBias {
  TokenId token = 0;
  float bias = 0;
};

// How tokens are drawn. What is unset comes from the checkpoint's generation_config.json, then
// from the value named here. In this order: logit_bias and what guides add, repetition_penalty,
// presence_penalty and frequency_penalty, allowed and banned tokens, temperature, top_k, top_p,
// min_p. What the trace tells of a token is of the distribution before all of these.
struct Sampling {
  std::optional<float> temperature{};  // 1.0; 0 is greedy: the likeliest, ties to the lower id
  std::optional<float> top_p{};        // 1.0; keeps the likeliest tokens whose sum first reaches it
  std::optional<int> top_k{};          // 0 = all; ties with the k-th are kept
  std::optional<std::uint64_t> seed{};  // unset: a fresh one is taken and recorded in the trace
  // 0; keeps tokens at least so likely, measured by the likeliest one.
  std::optional<float> min_p{};
  // 1, above 0; for tokens of the prompt and of the kept output a logit above 0
  // is divided by it and another multiplied (arXiv 1909.05858, as Transformers and vLLM do it).
  std::optional<float> repetition_penalty{};
  // Subtracted from the logits of tokens that stand in the kept output, once, and once for each
  // time (OpenAI's definitions). The output begins after the prompt; what guides fed is part of it.
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::vector<LogitBias> logit_bias{};    // each token once
  std::vector<TokenId> allowed_tokens{};  // empty: all
  std::vector<TokenId> banned_tokens{};
};

// Turns a problem into a prompt.
using PromptOf = std::function<std::vector<TokenId>(const Problem&)>;
// The checkpoint's chat template over an optional system message and the question.
PENSIVE_EXPORT PromptOf chat_prompt(std::shared_ptr<const Tokenizer> tokenizer,
                                    std::string system = {});

// What to generate. Copyable; guides are shared constant prototypes.
struct Request {
  std::vector<TokenId> prompt;  // at least one token; soft ids allowed
  Sampling sampling{};
  int max_new_tokens = 4096;  // kept, forced and taken back by guides together
  std::vector<std::shared_ptr<const Guide>> guides{};
  // Unset: find_markers() of the model's tokenizer, or none.
  std::optional<Markers> markers{};
  // What Close feeds; empty: the markers' think_close. Must contain think_close.
  std::vector<TokenId> closing{};
  // Where the text goes on right after the prompt. Unset: the prompt's last marker tells.
  std::optional<Segment> begins_in{};
  std::vector<TokenId> extra_stop_tokens{};
  // Ends with StopReason::stop_text as soon as the text after the prompt, thinking too, holds one
  // of these, wherever tokens begin and end. The token that completed it is kept; of the text
  // nothing from the stop text on is streamed. Where a guide takes that token back, it goes on.
  std::vector<std::string> stop_texts{};
  bool ignore_end_tokens = false;
  std::uint32_t sample = 0;  // the number of this sample of the request; keys the draws
  // How many of the likeliest tokens the trace tells beside each that is drawn: 0 to 20.
  int top_logprobs = 0;
  // Whether the trace tells the same of the prompt's tokens, each but the first. What they need
  // is computed also where the cache knows the prompt.
  bool prompt_logprobs = false;
  // Ends it at the first step so long after start() or submit(), with StopReason::deadline; forks
  // end with it. 0: never.
  double timeout_seconds = 0;
};

// Whether a fork draws what its parent will draw (replay) or its own (search); and a sequence that
// was rewound what it drew before, or something new.
enum class Draws : std::uint8_t { same, fresh };

struct EngineOptions {
  std::shared_ptr<const SoftVocab> soft{};  // rows that prompts and guides may feed
  Arithmetic arithmetic = Arithmetic::fast;
  int page_tokens = 16;
  // Positions the cache can hold. 0: a tenth of the host's free memory, half of the device's, not
  // what steps need, and no more than max_live_sequences of the longest. Sequences that do not fit
  // wait; one that alone outgrows the cache ends with StopReason::length.
  std::int64_t cache_tokens = 0;
  int max_live_sequences = 256;  // more wait their turn
  int max_tokens_per_step = 2048;
  bool reuse_prefixes = true;  // match prompts against pages computed before
  // On a CUDA card, steps in which every sequence decodes one token run through kernels of their
  // own as one CUDA graph, captured the second time a size of step is needed. Off: through
  // libtorch, operation by operation; slower, and the twin to compare with. Not for
  // float64, or widths that are no multiple of 16 bytes, which always go through libtorch.
  // Row-invariant steps and prompts go through those kernels either way. Without effect on a CPU.
  bool graphs = true;
  LogSink log{};
  // Where graphs are: the next decode step is launched while guides look at the tokens of the last,
  // for draws wished as before. A sequence that then wants something else (another bias or mask, a
  // forced token, an end) is computed again, one step later than its neighbours; one that counts
  // penalties, or has just wished something new, keeps its step from being launched early. Tokens
  // are the same either way, up to what a batch's size does to rounding: bit for bit where
  // arithmetic is row-invariant. Off: guides are waited for; the twin to compare with.
  bool run_ahead = true;
};

// What a model and an engine ask of their device, in bytes, before any of it is there. Weights,
// soft rows and cache are exact; a step is the largest that the options allow, in libtorch's terms
// (what it keeps for later is given back where it is needed), and never more than planned. Prompts
// whose logprobs are asked for take 8 x 64 bytes of each token of the vocabulary more while they
// run. Row-invariant prompts on a card work in room for 256 rows, part of prompt_step_bytes.
struct PENSIVE_EXPORT MemoryPlan {
  Device device{};
  std::int64_t memory_bytes = 0;       // that there are for all of this
  std::int64_t weight_bytes = 0;       // and the angles of every position; 0 of a loaded model
  std::int64_t soft_bytes = 0;         // rows of EngineOptions::soft
  std::int64_t cache_bytes = 0;        // keys and values
  std::int64_t prompt_step_bytes = 0;  // a step of max_tokens_per_step: activations and logits
  std::int64_t decode_step_bytes = 0;  // what graphs of max_live_sequences rows work in
  std::int64_t training_bytes = 0;     // of one backward, where training was planned for
  std::int64_t runtime_bytes = 0;      // of CUDA and libtorch for themselves; 0 on a CPU
  std::int64_t cache_tokens = 0;       // positions the cache will hold
  int page_tokens = 0;
  int max_positions = 0;   // of a sequence: what the model knows
  int context = 0;         // see PlanOptions
  int most_sequences = 0;  // see PlanOptions

  std::int64_t bytes() const noexcept;  // together
  bool fits() const noexcept { return bytes() <= memory_bytes; }
  // The option that lowers the largest part that one lowers: "cache_tokens",
  // "max_tokens_per_step", "max_live_sequences" or "max_batch_tokens".
  std::string_view to_lower() const noexcept;
  // How many sequences of so many positions the cache holds at once, nothing shared.
  std::int64_t sequences(int positions) const noexcept;
};

struct PlanOptions {
  // What the device has for all of this. 0: what is free on it now. Given, no card need be there.
  std::int64_t memory_bytes = 0;
  // Asks how many sequences of so many positions could decode at once if the cache took what all
  // else leaves: MemoryPlan::most_sequences. 0: not asked; at most the model's positions.
  int context = 0;
};

// Reads config.json and the heads of the safetensors of a folder, no weights. Throws what
// Model::load() throws of them, and what Engine does of options that can never work; a plan that
// does not fit is an outcome.
PENSIVE_EXPORT MemoryPlan plan_memory(const std::filesystem::path& directory,
                                      const ModelOptions& model, const EngineOptions& options,
                                      const PlanOptions& plan = {});
// Of an engine of a model that is there already: what is free now is for the rest.
PENSIVE_EXPORT MemoryPlan plan_memory(const Model& model, const EngineOptions& options,
                                      const PlanOptions& plan = {});

struct EngineCounters {
  std::int64_t steps = 0;
  std::int64_t computed_tokens = 0;  // positions that went through the model
  std::int64_t reused_tokens = 0;    // positions found in the cache
  std::int64_t preemptions = 0;
  int live = 0;
  int waiting = 0;
  int pages = 0;
  int free_pages = 0;              // includes pages kept only for prefixes
  std::int64_t ahead_steps = 0;    // launched before guides had seen the tokens they go on with
  std::int64_t ahead_dropped = 0;  // rows of these that were not wanted in the end
};

// One live path through the cache. Move-only. Dropping it, from any thread, returns its pages; it
// keeps what it needs of the engine alive. Other members belong to the thread that steps.
class PENSIVE_EXPORT Sequence {
 public:
  Sequence(Sequence&&) noexcept;
  Sequence& operator=(Sequence&&) noexcept;
  ~Sequence();

  // From any thread; once it has said true to a thread, that thread may ask trace() and
  // take_events() too, until the sequence is rewound.
  bool finished() const noexcept;
  const Trace& trace() const noexcept;
  // Text since the last call, by segment. Held back: half a character, tokens that may become a
  // marker, what may become a stop text, and the last token while its probe runs. What guides take
  // back later than right after it was drawn has been handed out by then, and is not called back.
  std::vector<TextEvent> take_events();

  // A second path that shares every page so far; guides are cloned. Works while running or
  // finished; of a finished one it is finished too.
  Sequence fork(Draws draws = Draws::fresh) const;
  // Feeds tokens as if a guide had forced them; while a probe runs, after it. What a guide has done
  // meanwhile drops those not fed yet. Throws invalid_argument after the end.
  void feed(std::span<const TokenId> tokens);
  // Goes back to where the last `tokens` kept tokens had not come yet: pages return, and segments,
  // guides, limits and text are as a fork taken right after the last token that stays. Nothing is
  // computed, but guides are told again, from copies of the request's, what they were told until
  // then; what was about to be fed there is not. A finished sequence runs on. The tokens stay in
  // the trace as taken back, with an action "rewind", and count towards no limit; text handed out
  // stays handed out. 0 undoes nothing. Throws invalid_argument for more tokens than came after the
  // prompt, after a cancel or a deadline, and where guides told the same do something else: nothing
  // has happened then.
  void rewind(int tokens, Draws draws = Draws::fresh);
  // Ends the sequence at the next step with StopReason::cancelled. From any thread.
  void cancel() noexcept;

  struct Parts;  // private to the library
  explicit Sequence(std::shared_ptr<Parts> parts);
  const std::shared_ptr<Parts>& parts() const noexcept { return parts_; }

 private:
  std::shared_ptr<Parts> parts_;
};

// Advances every live sequence together. One thread at a time: while a call of start(), step(),
// finish(), clear_prefixes() or a Sequence's fork(), feed() or rewind() is under way, another one,
// from a second thread or from inside a guide, throws busy.
class PENSIVE_EXPORT Engine {
 public:
  // Throws out_of_memory, naming the number to lower, where plan_memory() says that it does not
  // fit. Where memory ends later, in a step, that step throws the same, and the engine goes on.
  explicit Engine(std::shared_ptr<const Model> model, const EngineOptions& options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Checks and queues a request; no device work. Throws invalid_argument for an empty prompt, ids
  // out of range, a prompt longer than the positions or the whole cache, numbers out of range, or a
  // guide that needs markers where there are none.
  Sequence start(const Request& request);
  // The same from any thread, also while another one steps: the next call that steps takes it in,
  // and only then are guides asked. Meanwhile nothing but finished(), cancel() and dropping may be
  // asked of the sequence by a thread that does not step.
  Sequence submit(const Request& request);
  // Computes one batch: some prefill, one token for each decoding sequence. Returns how many
  // sequences are not finished. A failing step leaves every sequence as it was before.
  int step();
  // The logprob of each token of `continuation`, were it to follow `prompt` and what stands before
  // it. Steps until it is computed; other sequences go on meanwhile. Throws invalid_argument for an
  // empty prompt or continuation, soft ids in the continuation, and what start() refuses.
  std::vector<float> score(std::span<const TokenId> prompt, std::span<const TokenId> continuation);
  // Steps until these are finished.
  void finish(std::span<Sequence> sequences);
  void finish(Sequence& sequence);

  std::shared_ptr<const Model> model() const noexcept;
  const EngineOptions& options() const noexcept;
  // From any thread: as they were when the last call ended that changed something.
  EngineCounters counters() const noexcept;
  // Forgets every prefix that no unfinished sequence uses; finished ones keep their pages.
  void clear_prefixes();

  struct Parts;  // private to the library
  const std::shared_ptr<Parts>& parts() const noexcept { return parts_; }

 private:
  std::shared_ptr<Parts> parts_;
};

// Keeps an engine to its own thread from call to call: calls of other threads throw busy until it
// goes, on the thread that made it. finish() holds one; so may whoever steps for longer.
class PENSIVE_EXPORT Turn {
 public:
  enum class Nested : std::uint8_t { allowed, refused };  // where its thread holds one already
  explicit Turn(Engine& engine, Nested nested = Nested::allowed);  // throws busy
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

 private:
  std::shared_ptr<Engine::Parts> parts_;
};

// One request in the hands of a Server. A handle: copies are the same job, and it goes on when they
// are gone. Any thread.
class PENSIVE_EXPORT Job {
 public:
  bool finished() const noexcept;
  // Waits until it is finished, at most so long; whether it is. Not for listeners.
  bool wait_for(double seconds) const;
  void wait() const;
  // Text since the last call; none where a listener gets it.
  std::vector<TextEvent> take_events();
  void cancel() noexcept;
  // Throws invalid_argument before it is finished. Lives as long as a handle.
  const Trace& trace() const;

  struct State;  // private to the library
  explicit Job(std::shared_ptr<State> state) : state_(std::move(state)) {}

 private:
  std::shared_ptr<State> state_;
};

// Is told of new text, and once of the end, after which job.trace() is there. On the server's
// thread, under no lock: it may submit and cancel, but not wait, drain, stop or call the engine.
// One that throws cancels its job.
using JobListener =
    std::function<void(Job& job, std::span<const TextEvent> events, bool is_finished)>;

struct ServeOptions {
  int max_queued = 256;  // submitted and not yet begun; one more is refused with busy
};

struct ServerCounters {
  int queued = 0;
  int running = 0;
  std::int64_t submitted = 0;
  std::int64_t refused = 0;   // with busy
  std::int64_t finished = 0;  // for whatever reason; among them:
  std::int64_t cancelled = 0;
  std::int64_t expired = 0;  // their time was over
  std::int64_t failed = 0;   // StopReason::error, also where the device failed
  EngineCounters engine{};   // after the last step
};

// Steps an engine on a thread of its own for whoever submits, from any thread. It holds the
// engine's Turn: other calls throw busy until it has ended. The engine must outlive it.
class PENSIVE_EXPORT Server {
 public:
  // Throws busy where another thread is at work with the engine.
  explicit Server(Engine& engine, const ServeOptions& options = {});
  ~Server();  // stop()
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Checks and queues. As many jobs run as EngineOptions::max_live_sequences, first come first
  // served. Throws busy for a full queue, cancelled after drain() or stop(), and what
  // Engine::start() throws.
  Job submit(const Request& request, JobListener listener = {});
  // Takes no more, finishes what it has, and ends.
  void drain();
  // Takes no more, cancels what it has, and ends. Both throw busy to a listener.
  void stop();
  ServerCounters counters() const;

 private:
  struct Parts;
  std::shared_ptr<Parts> parts_;  // the thread's too
};

// An engine that serves.
PENSIVE_EXPORT std::unique_ptr<Server> serve(Engine& engine, const ServeOptions& options = {});

}  // namespace pensive
