// A learned row as a token of its own, for other programs.
#include <fmt/core.h>

#include "shell.h"

namespace pensive::shell {

void add_export(CLI::App& app) {
  struct Flags {
    ModelFlags model;
    std::string name, token, out;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand(
      "export", "a copy of a checkpoint in which a soft row is a token of its own");
  flags->model.add_to(*command);
  command->add_option("--row", flags->name, "the row's name; default: the only one of --soft");
  command->add_option("--token", flags->token, "how it is spelled; default: <|NAME|>");
  command->add_option("-o,--out", flags->out, "a folder that does not exist yet")->required();
  command->callback([flags] {
    const auto model = flags->model.load();
    const auto soft = flags->model.load_soft(model);
    if (flags->name.empty() && soft->size() == 1) flags->name = soft->name(model->vocab_size());
    const auto row = soft->find(flags->name);
    if (!row)
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("expected the name of one of the {} rows of --soft; found '{}' (--row)",
                      soft->size(), flags->name));
    const Exported exported = export_token(*soft, *row, flags->out, {.token = flags->token});
    fmt::print("folder    {}\n", flags->out);
    fmt::print("token     {} = {}\n", exported.token, exported.id);
    fmt::print("weights   {:.1f} MB, {:.1f} MB of them for the head of its own and the row\n",
               static_cast<double>(exported.weight_bytes) / 1e6,
               static_cast<double>(exported.added_bytes) / 1e6);
    fmt::print(
        "sampling  its logit is always 0; generation_config.json suppresses it: Transformers heeds "
        "that,\n          vLLM does not: send logit_bias {{\"{}\": -100}} with each request\n",
        exported.id);
  });
}

}  // namespace pensive::shell
