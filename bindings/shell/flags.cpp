#include <fmt/core.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "shell.h"

namespace pensive::shell {

void ModelFlags::add_to(CLI::App& app) {
  app.add_option("-m,--model", directory,
                 "a Hugging Face checkpoint's folder, or the hub id of one in the local cache")
      ->required();
  app.add_option("--revision", revision, "of a hub id: a branch, tag or commit; default: main");
  app.add_option("--device", device, "auto, cpu, cuda or cuda:N")->capture_default_str();
  app.add_option("--precision", precision, "what to compute in")
      ->check(CLI::IsMember({"as_stored", "float32", "bfloat16", "float16", "float64"}))
      ->capture_default_str();
  app.add_option("--unknown-keys", unknown_keys,
                 "about keys of config.json that are not known: refuse or warn")
      ->check(CLI::IsMember({"refuse", "warn"}))
      ->capture_default_str();
  auto* soft = app.add_option("--soft", soft_file, "a file of soft rows made by `pensive train`");
  app.add_flag("--soft-of-other-model", takes_other_soft,
               "take --soft although it was made for another model of the same width")
      ->needs(soft);
  app.add_flag("--row-invariant", row_invariant, "the same bits alone and in any batch; slower");
  app.add_flag("--no-graphs", no_graphs,
               "on a CUDA card: no graphs for decode steps; slower, to compare with");
  app.add_flag("--no-run-ahead", no_run_ahead,
               "on a CUDA card: the next step waits for guides; slower, to compare with");
}

ModelOptions ModelFlags::model_options() const {
  ModelOptions options;
  options.device = Device::parse(device);
  if (precision == "float32") options.precision = Precision::float32;
  if (precision == "bfloat16") options.precision = Precision::bfloat16;
  if (precision == "float16") options.precision = Precision::float16;
  if (precision == "float64") options.precision = Precision::float64;
  if (unknown_keys == "warn") options.unknown_keys = UnknownKeys::warn;
  options.log = [](LogLevel level, std::string_view line) {
    if (level == LogLevel::warning) fmt::print(stderr, "pensive: warning: {}\n", line);
  };
  return options;
}

std::shared_ptr<const Model> ModelFlags::load() const {
  const std::string folder = model_folder(directory, revision);
  const Waiting loading("loading " + directory);
  return Model::load(folder, model_options());
}

std::shared_ptr<SoftVocab> ModelFlags::load_soft(const std::shared_ptr<const Model>& model) const {
  if (soft_file.empty()) return std::make_shared<SoftVocab>(model);
  return SoftVocab::load(model, soft_file,
                         takes_other_soft ? OtherModel::allow : OtherModel::refuse);
}

EngineOptions ModelFlags::engine_options(std::shared_ptr<const SoftVocab> soft) const {
  EngineOptions options;
  options.soft = std::move(soft);
  if (row_invariant) options.arithmetic = Arithmetic::row_invariant;
  options.graphs = !no_graphs;
  options.run_ahead = !no_run_ahead;
  return options;
}

void RoomFlags::add_to(CLI::App& app) {
  app.add_option("--cache-tokens", cache_tokens,
                 "positions of the cache; default: half of the card's free memory, a tenth of the "
                 "host's (`pensive info --plan` tells)")
      ->check(positive);
  app.add_option("--batch", batch, "samples that run at once; default: 256")->check(positive);
}

EngineOptions RoomFlags::apply(EngineOptions options) const {
  if (cache_tokens > 0) options.cache_tokens = cache_tokens;
  if (batch > 0) options.max_live_sequences = batch;
  return options;
}

void RequestFlags::add_to(CLI::App& app) {
  app.add_option("--system,--system-prompt", system, "the system message of the chat");
  app.add_option(max_tokens_names, max_tokens, "most tokens to decode")
      ->check(positive)
      ->capture_default_str();
  app.add_option("--temp,--temperature", temperature, "0 is greedy; default: the checkpoint's");
  app.add_option("--top-p", top_p, "default: the checkpoint's");
  app.add_option("--top-k", top_k, "0 is all; default: the checkpoint's");
  draws.add_to(app);
  app.add_option("-s,--seed", seed, "the same seed gives the same text");
  app.add_flag("--ignore-eos", ignore_eos, "go on past the end token");
  steering.add_to(app);
}

void TemplateFlags::add_to(CLI::App& app) {
  app.add_option("--chat-template-kwargs", variables,
                 "a JSON object of template variables, such as '{\"enable_thinking\": false}'");
  app.add_option("--tools", tools_file, "a JSON file with a list of tools, in OpenAI's form");
  app.add_option("--chat-template-name", name, "the name of one of the checkpoint's templates");
}

ChatOptions TemplateFlags::options() const {
  ChatOptions options;
  options.variables_json = variables;
  if (!tools_file.empty()) options.tools_json = read_file(tools_file);
  options.template_name = name;
  return options;
}

std::string read_file(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error(ErrorCode::not_found, "expected a readable file; found none (" + path + ")");
  std::string text{std::istreambuf_iterator<char>(in), {}};
  if (in.bad())
    throw Error(ErrorCode::io, "expected a readable file; found another (" + path + ")");
  return text;
}

void write_file(const std::string& path, std::string_view text) {
  std::ofstream out(path, std::ios::binary);
  out << text;
  out.close();
  if (!out)
    throw Error(ErrorCode::io, "expected a file that can be written; found none (" + path + ")");
}

void check_new(const std::string& path, std::string_view otherwise) {
  if (std::filesystem::is_regular_file(path))
    throw Error(ErrorCode::invalid_argument,
                fmt::format("expected a file that does not exist yet ({}); found one ({})",
                            otherwise, path));
}

void check_outputs(std::initializer_list<std::string> files, bool overwrite) {
  bool is_any = false;
  for (const std::string& file : files) {
    if (file.empty()) continue;
    is_any = true;
    if (!overwrite) check_new(file, "--overwrite takes its place");
    std::error_code none;
    const bool was_there = std::filesystem::exists(file, none);
    // To open a pipe is to begin with it.
    if (was_there && !std::filesystem::is_regular_file(file, none) &&
        !std::filesystem::is_directory(file, none))
      continue;
    const bool can_write = std::ofstream(file, std::ios::app).is_open();
    if (can_write && !was_there) std::filesystem::remove(file, none);
    if (!can_write)
      throw Error(ErrorCode::io, "expected a file that can be written; found none (" + file + ")");
  }
  if (overwrite && !is_any)
    throw Error(ErrorCode::invalid_argument,
                "expected a file to write; found none whose place could be taken (--overwrite)");
}

void add_fields(CLI::App& app, ProblemFields& fields) {
  fields = problem_fields("auto");
  // Options are heeded in the order in which they stand here: names go before a kind's own.
  app.add_option_function<std::string>(
         "--fields", [&fields](const std::string& name) { fields = problem_fields(name); },
         "of which kind the file is: plain, gsm8k, svamp, math500, aime or math; auto: as its "
         "first "
         "problem's keys tell")
      ->default_str("auto");
  const auto add = [&](const char* flag, std::string ProblemFields::*member, const char* help) {
    app.add_option_function<std::string>(
        flag,
        [&fields, member](const std::string& name) {
          if (fields.question.empty()) fields = problem_fields("plain");
          fields.*member = name;
        },
        help);
  };
  add("--question-field", &ProblemFields::question, "the key of the question");
  add("--answer-field", &ProblemFields::answer, "the key of the right answer");
  add("--answer-after", &ProblemFields::answer_after,
      "the answer follows this text in its field, for example '#### '");
  add("--intermediates-field", &ProblemFields::intermediates,
      "the key of the steps' answers: a list, or a text with calculations <<2+2=4>>");
  add("--target-field", &ProblemFields::target_tokens,
      "the key of how many tokens a response shall have");
}

void ProblemFlags::add_to(CLI::App& app) {
  app.add_option("--limit", limit, "only the first so many problems; 0: all")->check(not_negative);
  add_fields(app, fields);
  app.add_option(
         "--bad-lines", bad_lines,
         "what is no problem with an answer, and in training a prompt that does not fit: refuse or "
         "skip")
      ->check(CLI::IsMember({"refuse", "skip"}))
      ->capture_default_str();
}

std::vector<Problem> ProblemFlags::load(const std::string& file) const {
  std::vector<std::string> broken;
  auto problems = load_problems(file, fields, bad_lines == "skip" ? &broken : nullptr);
  if (!broken.empty())
    fmt::print(stderr, "pensive: warning: {} left out; the first: {}\n", broken.size(),
               broken.front());
  if (limit > 0 && static_cast<std::size_t>(limit) < problems.size())
    problems.resize(static_cast<std::size_t>(limit));
  if (problems.empty())
    throw Error(ErrorCode::invalid_argument, "expected problems; found none (" + file + ")");
  return problems;
}

std::vector<TokenId> word(const Model& model, const SoftVocab& soft, const std::string& text) {
  if (auto id = soft.find(text)) return {*id};
  auto ids = model.tokenizer()->encode(text, {.add_special = AddSpecial::no});
  if (ids.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "expected a word of at least one token; found '" + text + "'");
  }
  return ids;
}

Request RequestFlags::request(const Model& model, const SoftVocab& soft) const {
  Request request;
  request.sampling = {temperature, top_p, top_k};
  draws.apply(request);
  request.max_new_tokens = max_tokens;
  request.ignore_end_tokens = ignore_eos;
  request.markers = steering.markers(*model.tokenizer());
  steering.apply(request, soft);
  return request;
}

}  // namespace pensive::shell
