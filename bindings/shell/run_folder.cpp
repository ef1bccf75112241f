#include "run_folder.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstring>
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

constexpr const char* cache_limit_key = "cache_limit";

std::string value_of(const CLI::Option& option) {
  if (option.count() == 0) return option.get_default_str();
  std::string text;
  for (const std::string& one : option.results()) text += (text.empty() ? "" : " | ") + one;
  return text;
}

// Every option with its value; of sampling what comes of the checkpoint's defaults, as the engine
// takes them.
Json options_of(const CLI::App& command, const RunParts& parts) {
  Json options = Json::object();
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_name();
    if (!neutral.contains(name) && name != "file") options[name] = value_of(*option);
  }
  const Sampling& asked = parts.options.request.sampling;
  const GenerationDefaults& defaults = parts.engine.model()->defaults();
  const auto set = [&options](const char* name, const auto& value) {
    options[name] = fmt::format("{}", value);
  };
  set("--temp", asked.temperature.value_or(defaults.temperature.value_or(1.0f)));
  set("--top-p", asked.top_p.value_or(defaults.top_p.value_or(1.0f)));
  set("--top-k", asked.top_k.value_or(defaults.top_k.value_or(0)));
  set("--min-p", asked.min_p.value_or(defaults.min_p.value_or(0.0f)));
  set("--repeat-penalty",
      asked.repetition_penalty.value_or(defaults.repetition_penalty.value_or(1.0f)));
  set("--presence-penalty", asked.presence_penalty);
  set("--frequency-penalty", asked.frequency_penalty);
  set("--timeout", parts.options.request.timeout_seconds);
  set("--seed", parts.options.seed);
  return options;
}

// What makes ids of texts. The model's hash does not cover it.
Json text_files_of(const files::path& folder) {
  std::vector<files::path> found;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja"})
    if (files::exists(folder / name)) found.push_back(folder / name);
  const files::path more = folder / "additional_chat_templates";
  if (files::is_directory(more))
    for (const auto& entry : files::directory_iterator(more))
      if (entry.path().extension() == ".jinja") found.push_back(entry.path());
  std::sort(found.begin(), found.end());
  Json hashes = Json::object();
  for (const files::path& file : found)
    hashes[file.lexically_relative(folder).string()] = hash_of(read_file(file.string()));
  return hashes;
}

// What was asked and what counts as right: flags may read one file in many ways.
std::string hash_of_problems(std::span<const Problem> problems) {
  Json all = Json::array();
  for (const Problem& one : problems) all.push_back({one.id, one.question, one.reference});
  return hash_of(all.dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string stop_tokens_of(const Model& model) {
  std::string text;
  for (const TokenId id : model.stop_tokens())
    text += fmt::format("{}{}", text.empty() ? "" : ", ", id);
  return text;
}

}  // namespace

std::string hash_of(std::string_view bytes) {  // FNV-1a, 64 bits
  std::uint64_t hash = 14695981039346656037u;
  for (const char byte : bytes) hash = (hash ^ static_cast<unsigned char>(byte)) * 1099511628211u;
  return fmt::format("{:016x}", hash);
}

std::string rows_text(const SoftVocab& soft, std::string_view but) {
  std::string text;
  for (int i = 0; i < soft.size(); ++i) {
    const TokenId id = soft.model()->vocab_size() + i;
    if (soft.name(id) == but) continue;
    const std::vector<float> row = soft.row(id);
    std::string bytes(row.size() * sizeof(float), '\0');
    std::memcpy(bytes.data(), row.data(), bytes.size());
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", soft.name(id), hash_of(bytes));
  }
  return text.empty() ? "none" : text;
}

std::optional<int> cache_limit(const Engine& engine, std::span<const Problem> problems,
                               const PromptOf& prompt_of, const Request& request) {
  const std::int64_t cache =
      static_cast<std::int64_t>(engine.counters().pages) * engine.options().page_tokens;
  const std::int64_t positions = engine.model()->max_positions();
  if (cache >= positions) return std::nullopt;
  std::int64_t longest = 0;
  for (const Problem& problem : problems)
    longest = std::max(longest, std::ssize(prompt_of(problem)));
  if (cache >= std::min(positions, longest + request.max_new_tokens)) return std::nullopt;
  return static_cast<int>(cache);
}

Json describe_run(const CLI::App& command, const RunParts& parts) {
  const ModelInfo& info = parts.engine.model()->info();
  const auto limit =
      cache_limit(parts.engine, parts.problems, parts.options.prompt_of, parts.options.request);
  Json run = {{"pensive_exam", 1},
              {"build", build_text()},
              {"torch", torch_text()},
              {"model", fmt::format("{:016x}", info.fingerprint)},
              {"files", text_files_of(info.folder)},
              {"stop_tokens", stop_tokens_of(*parts.engine.model())},
              {"soft", rows_text(*parts.engine.options().soft)},
              {"device", machine_text(info.device)},
              {"precision", to_string(info.precision)},
              {"data", files::path(parts.data).filename().string()},
              {"data_hash", hash_of(read_file(parts.data))},
              {"problems", parts.problems.size()},
              {"problems_hash", hash_of_problems(parts.problems)},
              {cache_limit_key, limit ? Json(*limit) : Json("none")},
              {"options", options_of(command, parts)}};
  if (!parts.grader.empty()) run["grader"] = parts.grader;
  return run;
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
      if (!(key == cache_limit_key && left.contains(key) != right.contains(key)) &&
          shown(left, key) != shown(right, key))
        found.push_back(
            fmt::format("{}{}: \"{}\", \"{}\"", prefix, key, shown(left, key), shown(right, key)));
  };
  compare_keys(a, b, "");
  for (const auto& [key, prefix] : {std::pair("files", "file "), std::pair("options", "option ")})
    compare_keys(a.value(key, Json::object()), b.value(key, Json::object()), prefix);
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
  if (files::exists(folder / samples_file))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("expected a new folder, or one of this run; found samples without a "
                            "run.json that tells whose they are ({})",
                            (folder / samples_file).string()));
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
