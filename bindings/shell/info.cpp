#include <fmt/core.h>

#include "shell.h"

namespace pensive::shell {

void add_info(CLI::App& app) {
  auto flags = std::make_shared<ModelFlags>();
  CLI::App* command = app.add_subcommand("info", "what a checkpoint is");
  flags->add_to(*command);
  command->callback([flags] {
    const auto model = flags->load();
    const ModelInfo& info = model->info();
    fmt::print("pensive        {}\n", version());
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
    fmt::print("chat template  {}\n", model->tokenizer()->has_chat_template() ? "yes" : "no");
    fmt::print("thinking       {}\n",
               find_markers(*model->tokenizer()) ? "<think> … </think>" : "no markers");
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
