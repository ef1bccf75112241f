// What the subcommands share: flags that several have, and progress on a terminal.
#pragma once
#include <CLI/CLI.hpp>
#include <chrono>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/engine.h"
#include "pensive/exam.h"
#include "pensive/model.h"

namespace pensive::shell {

// How the most tokens of a sample are asked for.
inline constexpr const char* max_tokens_names = "-n,--max-tokens,--predict,--n-predict";

// Numbers above 0, and 0 or more. CLI11's own tell of a bound with three hundred digits.
extern const CLI::Validator positive, not_negative;
// Throws invalid_argument where an option holds what JSON cannot, before it is written to one.
void check_utf8(const CLI::App& command);

// Which model, where, and which soft rows.
struct ModelFlags {
  std::string directory;  // as given: a folder or a hub id
  std::string revision;
  std::string device = "auto";
  std::string precision = "as_stored";
  std::string unknown_keys = "refuse";
  std::string soft_file;
  bool takes_other_soft = false;
  bool row_invariant = false;
  bool no_graphs = false;
  bool no_run_ahead = false;

  void add_to(CLI::App& app);
  ModelOptions model_options() const;
  std::shared_ptr<const Model> load() const;
  // The rows of --soft; an empty vocabulary without it.
  std::shared_ptr<SoftVocab> load_soft(const std::shared_ptr<const Model>& model) const;
  EngineOptions engine_options(std::shared_ptr<const SoftVocab> soft) const;
};

// How much runs at once, and what it may take.
struct RoomFlags {
  std::int64_t cache_tokens = 0;  // 0: the engine's own choice, as is
  int batch = 0;

  void add_to(CLI::App& app);
  EngineOptions apply(EngineOptions options) const;
};

// What `info --plan` is asked.
struct PlanFlags {
  bool is_asked = false, trains = false;
  std::string memory;  // as given
  std::string logprobs = "fast";
  int batch = 0, context = 0, tokens_per_step = 0, batch_tokens = 0, max_tokens = 0;
  std::int64_t cache_tokens = 0;

  void add_to(CLI::App& app);  // to what ModelFlags are in
};
// A table of what the model, an engine and, where asked, a backward take, and of what fits.
void print_plan(const ModelFlags& model, const PlanFlags& asked);

// What else may be asked of draws, and what ends a text.
struct DrawFlags {
  std::optional<float> min_p, repetition_penalty;
  float presence_penalty = 0, frequency_penalty = 0;
  std::vector<std::string> logit_bias;  // as given
  std::vector<std::string> stop_texts;
  double timeout_seconds = 0;

  void add_to(CLI::App& app);
  void apply(Request& request) const;  // throws invalid_argument
};

// How to steer the thinking.
struct SteeringFlags {
  int think_max = 0, think_min = 0;
  std::string close_with, think_open, think_close;  // texts; the checkpoint's where empty
  std::string continue_with;
  int times = 1;
  std::vector<std::string> brakes, guides;  // specs of make_guide()

  void add_to(CLI::App& app);
  std::optional<Markers> markers(const Tokenizer& tokenizer) const;
  // Throws invalid_argument for a spec that is none, unsupported where the thinking has no markers.
  void apply(Request& request, const SoftVocab& soft) const;
};

// How to sample and how to steer the thinking.
struct RequestFlags {
  std::string system;
  std::optional<float> temperature, top_p;
  std::optional<int> top_k;
  std::optional<std::uint64_t> seed;
  int max_tokens = 2048;
  bool ignore_eos = false;
  SteeringFlags steering;
  DrawFlags draws;

  void add_to(CLI::App& app);
  // The seed aside, which whoever starts many gives them. Throws invalid_argument where a flag
  // needs thinking markers that the model lacks.
  Request request(const Model& model, const SoftVocab& soft) const;
};

// How a chat becomes a prompt.
struct TemplateFlags {
  std::string variables, tools_file, name;

  void add_to(CLI::App& app);
  ChatOptions options() const;  // reads the file of tools
};

// The folder itself; for a hub id ("Qwen/Qwen3-0.6B") that is no path, its snapshot in this
// machine's Hugging Face cache. Throws not_found with the line that downloads it.
std::string model_folder(const std::string& given, const std::string& revision);

// A whole file; - is standard input.
std::string read_file(const std::string& path);
// In the place of what is there. Throws io.
void write_file(const std::string& path, std::string_view text);
// Throws invalid_argument where there is a file already; `otherwise` says what may be done then.
void check_new(const std::string& path, std::string_view otherwise);

// Before the work whose results go there (an empty name is none): throws invalid_argument where one
// exists and `overwrite` does not allow for it, or allows for it in vain; io where one cannot be
// written. Leaves them as they are.
void check_outputs(std::initializer_list<std::string> files, bool overwrite);

// The names of a problem file's fields.
void add_fields(CLI::App& app, ProblemFields& fields);

// Which problems of a file.
struct ProblemFlags {
  ProblemFields fields;
  int limit = 0;
  std::string bad_lines = "refuse";

  void add_to(CLI::App& app);
  // Warns of lines that were skipped. Throws what load_problems() throws, and invalid_argument
  // where there are none.
  std::vector<Problem> load(const std::string& file) const;
};

// A word to ids: a soft row's name first, else the tokenizer's ids for it.
std::vector<TokenId> word(const Model& model, const SoftVocab& soft, const std::string& text);

// A bar on standard error where that is a terminal; a line every few seconds where it is not.
class Progress {
 public:
  Progress(std::string title, int total);
  ~Progress();
  void update(int done, std::string_view note = {});

 private:
  std::string title_;
  int total_;
  bool is_terminal_;
  std::chrono::steady_clock::time_point start_, last_;
};

// Says what takes so long, on standard error where that is a terminal, from the second second on;
// gone at the end of the scope.
class Waiting {
 public:
  explicit Waiting(std::string what);
  ~Waiting();
  Waiting(const Waiting&) = delete;
  Waiting& operator=(const Waiting&) = delete;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;  // none where it is no terminal
};

// Prints text as it arrives: thinking dim on a terminal, each segment on a line of its own.
class Printer {
 public:
  Printer();
  void print(std::span<const TextEvent> events);

 private:
  bool is_terminal_;
  Segment segment_ = Segment::prompt;
  int index_ = 0;
  std::string last_;
};

// Steps until the sequence is finished; Ctrl-C cancels it. Prints where there is a printer.
void stream(Engine& engine, Sequence& sequence, Printer* printer);

// The likeliest tokens that a saved trace tells.
inline constexpr int traced_tops = 5;
// That traces can be added to it, before there are any; empty is none.
void check_trace_file(const std::string& file);

bool is_terminal(int descriptor);
bool was_interrupted();   // Ctrl-C since the last call of one of these two:
void catch_interrupt();   // a second one ends the program
void catch_interrupts();  // any number; reads are interrupted too

std::string build_text();  // version, commit, torch, CUDA: what --version prints

void add_generate(CLI::App& app);
void add_chat(CLI::App& app);
void add_train(CLI::App& app);
void add_exam(CLI::App& app);
void add_compare(CLI::App& app);
void add_tune(CLI::App& app);
void add_export(CLI::App& app);
void add_trace(CLI::App& app);
void add_info(CLI::App& app);
void add_guides(CLI::App& app);
void add_demo(CLI::App& app);

}  // namespace pensive::shell
