// Looks at traces that were saved: on a terminal, or as one page for a browser.
#include <fmt/core.h>
#include <unistd.h>

#include <cmath>
#include <iterator>
#include <nlohmann/json.hpp>

#include "shell.h"
#include "trace_page.h"

namespace pensive::shell {
namespace {

struct Flags {
  std::string file, model, revision, soft_file, html_file;
  std::string reference, answer_after, step_end = "\n";
  int only = 0;
  bool overwrite = false;
};

// A model's folder is asked for its tokenizer only, unless soft rows are to have their names.
std::shared_ptr<const Tokenizer> tokenizer_of(const Flags& flags) {
  if (flags.model.empty()) return nullptr;
  if (flags.soft_file.empty()) return Tokenizer::load(model_folder(flags.model, flags.revision));
  ModelFlags model;
  model.directory = flags.model;
  model.revision = flags.revision;
  model.device = "cpu";
  model.soft_file = flags.soft_file;
  const auto loaded = model.load();
  const auto soft = model.load_soft(loaded);
  std::vector<std::pair<TokenId, std::string>> names;
  for (TokenId id = loaded->vocab_size(); id < loaded->vocab_size() + soft->size(); ++id)
    names.emplace_back(id, soft->name(id));
  return loaded->tokenizer()->with_names(names);
}

// How tokens of one kind look: in colours on a terminal, in brackets elsewhere.
struct Look {
  std::string_view begin, end;
  friend bool operator==(const Look&, const Look&) = default;
};

Look look_of(const Trace& trace, std::size_t i, bool is_terminal) {
  if (trace.is_taken_back[i] != 0)
    return is_terminal ? Look{"\033[9;31m", "\033[0m"} : Look{"[-", "-]"};
  if (trace.origins[i] == Origin::forced)
    return is_terminal ? Look{"\033[4;36m", "\033[0m"} : Look{"{+", "+}"};
  const bool is_dim = is_terminal && trace.segments[i] == Segment::think;
  return is_dim ? Look{"\033[2m", "\033[0m"} : Look{};
}

// Escape sequences that a text brings along stay what they are: text.
std::string harmless(std::string_view text) {
  std::string safe;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '\n' || c == '\t' || (byte >= 0x20 && byte != 0x7f))
      safe += c;
    else
      safe += fmt::format("\\x{:02x}", byte);
  }
  return safe;
}

void print_text(const TraceView& view, bool is_terminal) {
  const Trace& trace = view.trace;
  Look look;
  for (auto i = static_cast<std::size_t>(trace.prompt_tokens); i < trace.tokens.size(); ++i) {
    const Look next = look_of(trace, i, is_terminal);
    if (!(next == look)) fmt::print("{}{}", look.end, next.begin);
    look = next;
    fmt::print("{}", harmless(view.pieces[i]));
  }
  fmt::print("{}\n", look.end);
}

void print_trace(const TraceView& view, std::size_t number) {
  const Trace& trace = view.trace;
  const bool is_terminal = shell::is_terminal(STDOUT_FILENO);
  fmt::print("{}trace {}: {} tokens of prompt, stopped by {}, seed {}{}\n",
             is_terminal ? "\033[1m" : "", number, trace.prompt_tokens, to_string(trace.stopped),
             trace.seed, is_terminal ? "\033[0m" : "");
  if (!trace.error.empty()) fmt::print("{}\n", harmless(trace.error));
  print_text(view, is_terminal);
  for (const TraceAction& action : trace.actions) {
    fmt::print("  after {:>5}", action.position - trace.prompt_tokens);
    if (!std::isnan(action.seconds)) fmt::print("  {:8.3f} s", action.seconds);
    fmt::print("  {}: {}", action.guide.empty() ? "caller" : harmless(action.guide),
               harmless(action.kind));
    if (const std::string words = words_of(action); !words.empty())
      fmt::print(" ({})", harmless(words));
    if (!action.text.empty()) fmt::print(" {}", nlohmann::json(action.text).dump());
    fmt::print("\n");
  }
  std::string summary;
  for (const Figure& figure : figures_of(view))
    summary += fmt::format("{}{} {}{}", summary.empty() ? "" : "; ", figure.name, figure.value,
                           figure.note.empty() ? "" : " (" + figure.note + ")");
  fmt::print("= {}\n", harmless(summary));
}

std::vector<Trace> read(const Flags& flags) {
  Salvage found = salvage_traces(flags.file);
  if (found.lost_lines > 0 && found.traces.empty())
    throw Error(ErrorCode::corrupt_file, found.loss);
  if (found.lost_lines > 0)
    fmt::print(stderr, "pensive: warning: {} of {} lines are lost: {}\n", found.lost_lines,
               found.traces.size() + static_cast<std::size_t>(found.lost_lines), found.loss);
  if (flags.only == 0) return std::move(found.traces);
  if (static_cast<std::size_t>(flags.only) > found.traces.size()) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("expected a trace from 1 to {}; found {} (--only)", found.traces.size(),
                            flags.only));
  }
  return {found.traces[static_cast<std::size_t>(flags.only) - 1]};
}

void show(const Flags& flags) {
  check_outputs({flags.html_file}, flags.overwrite);
  std::vector<Trace> traces = read(flags);
  const auto tokenizer = tokenizer_of(flags);
  MeasureOptions options;
  options.reference = flags.reference;
  options.step_end = flags.step_end;
  if (!flags.answer_after.empty()) options.find = answer_after(flags.answer_after);
  std::vector<TraceView> views;
  for (Trace& trace : traces) {
    TraceView& view = views.emplace_back();
    view.trace = std::move(trace);
    view.measures = measure(view.trace, tokenizer, options);
    view.pieces = pieces_of(view.trace, tokenizer);
  }
  if (flags.html_file.empty()) {
    for (std::size_t i = 0; i < views.size(); ++i) {
      if (i > 0) fmt::print("\n");
      print_trace(views[i], flags.only > 0 ? static_cast<std::size_t>(flags.only) : i + 1);
    }
    return;
  }
  write_file(flags.html_file, html_of(views, flags.file, tokenizer.get()));
}

}  // namespace

void check_trace_file(const std::string& file) {
  if (!file.empty()) save({}, file, IfExists::append);
}

void add_trace(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command =
      app.add_subcommand("trace", "look at saved traces: text, guides' actions, figures");
  command->add_option("file", flags->file, "traces, one JSON object a line")->required();
  auto* model = command->add_option("-m,--model", flags->model,
                                    "whose tokenizer reads them; default: ids are shown");
  command->add_option("--revision", flags->revision, "of a hub id")->needs(model);
  command->add_option("--soft", flags->soft_file, "whose rows have names")->needs(model);
  auto* html =
      command->add_option("--html", flags->html_file, "write one page for a browser instead");
  command->add_flag("--overwrite", flags->overwrite, "take the place of an --html that exists")
      ->needs(html);
  command->add_option("--only", flags->only, "the number of one trace")->check(positive);
  command->add_option("--reference", flags->reference, "the right answer");
  command->add_option("--answer-after", flags->answer_after,
                      "a step's answer stands behind this; default: as judges find answers");
  command->add_option("--step-end", flags->step_end, "what ends a step; default: a line end");
  command->callback([flags] { show(*flags); });
}

}  // namespace pensive::shell
