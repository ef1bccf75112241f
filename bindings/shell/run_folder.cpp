#include "run_folder.h"

#include <fmt/core.h>

#include <fstream>
#include <set>

namespace pensive::shell {
namespace {

using Json = nlohmann::ordered_json;
namespace files = std::filesystem;

// Options that change where things go, not what is run.
const std::set<std::string> neutral = {"--help",      "--json",         "--run",      "--model",
                                       "--revision",  "--pass",         "--majority", "--tokens",
                                       "--loss",      "--of",           "--check",    "--html",
                                       "--overwrite", "--cache-tokens", "--batch"};

// FNV-1a, 64 bits: tells files apart by accident, not by malice.
std::string hash_of(const std::string& bytes) {
  std::uint64_t hash = 14695981039346656037u;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211u;
  return fmt::format("{:016x}", hash);
}

std::string value_of(const CLI::Option& option) {
  if (option.count() == 0) return option.get_default_str();
  std::string text;
  for (const std::string& one : option.results()) text += (text.empty() ? "" : " | ") + one;
  return text;
}

}  // namespace

Json describe_run(const CLI::App& command, const Model& model, const files::path& data) {
  Json options = Json::object();
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_name();
    if (!neutral.contains(name) && name != "file") options[name] = value_of(*option);
  }
  return {{"pensive_exam", 1},
          {"build", build_text()},
          {"model", fmt::format("{:016x}", model.info().fingerprint)},
          {"device", to_string(model.info().device)},
          {"precision", to_string(model.info().precision)},
          {"data", data.filename().string()},
          {"data_hash", hash_of(read_file(data.string()))},
          {"options", options}};
}

std::vector<std::string> differences(const Json& a, const Json& b) {
  std::vector<std::string> found;
  const auto shown = [](const Json& object, const std::string& key) {
    const auto at = object.find(key);
    if (at == object.end()) return std::string("none");
    return at->is_string() ? at->get<std::string>() : at->dump();
  };
  const auto compare_keys = [&](const Json& left, const Json& right, std::string_view prefix) {
    std::set<std::string> keys;
    for (const Json* one : {&left, &right})
      for (const auto& [key, value] : one->items())
        if (!value.is_object()) keys.insert(key);
    for (const std::string& key : keys)
      if (shown(left, key) != shown(right, key))
        found.push_back(
            fmt::format("{}{}: \"{}\", \"{}\"", prefix, key, shown(left, key), shown(right, key)));
  };
  compare_keys(a, b, "");
  compare_keys(a.value("options", Json::object()), b.value("options", Json::object()), "option ");
  return found;
}

Json read_run(const files::path& folder) {
  const std::string path = (folder / run_file).string();
  Json run = Json::parse(read_file(path), nullptr, /*allow_exceptions=*/false);
  if (!run.is_object() || run.value("pensive_exam", 0) != 1)
    throw Error(ErrorCode::corrupt_file,
                "expected the run.json of an exam, version 1; found another file (" + path + ")");
  return run;
}

void begin_run(const files::path& folder, const Json& description) {
  if (files::exists(folder / run_file)) {
    const std::vector<std::string> different = differences(description, read_run(folder));
    if (different.empty()) return;
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("expected a new folder, or one of this run; found a run with another {} "
                    "({})",
                    different.front(), folder.string()));
  }
  std::error_code failure;
  files::create_directories(folder, failure);
  const files::path aside = folder / "run.json.part";
  std::ofstream out(aside, std::ios::binary);
  out << description.dump(1) << "\n";
  out.close();
  if (out) files::rename(aside, folder / run_file, failure);
  if (!out || failure)
    throw Error(ErrorCode::io,
                fmt::format("expected a folder that can be written; found {} ({})",
                            failure ? failure.message() : "a failure", folder.string()));
}

ExamOptions exam_options(RequestFlags flags, const Model& model, const SoftVocab& soft,
                         int samples) {
  ExamOptions options;
  options.request = flags.request(model, soft);
  options.prompt_of = chat_prompt(model.tokenizer(), flags.system);
  options.samples = samples;
  options.seed = flags.seed.value_or(0);
  return options;
}

void keep_in(const files::path& folder, const Json& description, ExamOptions& options) {
  begin_run(folder, description);
  options.samples_file = folder / samples_file;
  options.if_begun = IfBegun::resume;
}

}  // namespace pensive::shell
