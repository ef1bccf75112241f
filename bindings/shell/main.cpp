// The `pensive` command.
#include <fmt/core.h>

#include "pensive/base.h"
#include "shell.h"

int main(int argc, char** argv) {
  using namespace pensive;
  CLI::App app(
      "pensive: a frozen language model that thinks longer when that helps, and stops when "
      "it does not",
      "pensive");
  app.set_version_flag("--version", shell::build_text());
  app.require_subcommand(1);
  shell::add_generate(app);
  shell::add_chat(app);
  shell::add_train(app);
  shell::add_exam(app);
  shell::add_compare(app);
  shell::add_tune(app);
  shell::add_export(app);
  shell::add_trace(app);
  shell::add_info(app);
  shell::add_guides(app);
  shell::add_demo(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& error) {
    return app.exit(error);
  } catch (const Error& error) {
    fmt::print(stderr, "pensive: {}: {}\n", to_string(error.code()), error.what());
    return 1;
  } catch (const std::exception& error) {
    fmt::print(stderr, "pensive: {}\n", error.what());
    return 1;
  }
}
