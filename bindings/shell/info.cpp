#include <fmt/ranges.h>

#include "shell.h"

namespace pensive::shell {

namespace {

// What generation_config.json asks for.
std::string defaults_text(const GenerationDefaults& defaults) {
  std::string text;
  if (defaults.temperature) text += fmt::format("temperature {} ", *defaults.temperature);
  if (defaults.top_p) text += fmt::format("top_p {} ", *defaults.top_p);
  if (defaults.top_k) text += fmt::format("top_k {} ", *defaults.top_k);
  return text.empty() ? "no defaults" : text;
}

// The markers as they are spelled.
std::string markers_text(const Tokenizer& tokenizer) {
  const auto markers = find_markers(tokenizer);
  if (!markers) return "no markers";
  return fmt::format("{} … {}", tokenizer.decode(markers->think_open, true),
                     tokenizer.decode(markers->think_close, true));
}

}  // namespace

void add_info(CLI::App& app) {
  auto flags = std::make_shared<ModelFlags>();
  auto plan = std::make_shared<PlanFlags>();
  CLI::App* command = app.add_subcommand("info", "what a checkpoint is, and what fits");
  flags->add_to(*command);
  plan->add_to(*command);
  command->callback([flags, plan] {
    if (plan->is_asked) return print_plan(*flags, *plan);
    const auto model = flags->load();
    const ModelInfo& info = model->info();
    fmt::print("pensive        {}\n", version());
    fmt::print("folder         {}\n", model_folder(flags->directory, flags->revision));
    fmt::print("family         {}\n", info.family);
    fmt::print("parameters     {:.1f} million{}\n", static_cast<double>(info.parameters) / 1e6,
               info.is_tied ? ", tied head" : "");
    fmt::print("weights        {:.1f} MB in {} on {}\n",
               static_cast<double>(info.weight_bytes) / 1e6, to_string(info.precision),
               to_string(info.device));
    fmt::print("layers         {} of width {}\n", info.layers, info.width);
    fmt::print("heads          {} ({} for keys and values) of {}\n", info.heads, info.kv_heads,
               info.head_dim);
    fmt::print("vocabulary     {} rows, {} tokens\n", info.vocab_size, model->tokenizer()->size());
    fmt::print("positions      {}\n", info.max_positions);
    const auto names = model->tokenizer()->chat_templates();
    fmt::print("chat template  {}\n",
               names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", ")));
    const auto stops = model->stop_tokens();
    fmt::print("stop tokens    {}\n", fmt::join(stops.begin(), stops.end(), ", "));
    fmt::print("sampling       {}\n", defaults_text(model->defaults()));
    fmt::print("thinking       {}\n", markers_text(*model->tokenizer()));
    fmt::print("fingerprint    {:016x}\n", info.fingerprint);
    if (flags->soft_file.empty()) return;
    const auto soft = flags->load_soft(model);
    for (int i = 0; i < soft->size(); ++i) {
      const TokenId id = model->vocab_size() + i;
      fmt::print("soft row       {} = {}\n", id, soft->name(id));
    }
  });
}

}  // namespace pensive::shell
