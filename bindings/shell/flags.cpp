#include <fmt/core.h>

#include <fstream>
#include <iostream>
#include <iterator>

#include "pensive/guides.h"
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
  app.add_option("--soft", soft_file, "a file of soft rows made by `pensive train`");
  app.add_flag("--row-invariant", row_invariant, "the same bits alone and in any batch; slower");
}

std::shared_ptr<const Model> ModelFlags::load() const {
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
  const std::string folder = model_folder(directory, revision);
  const Waiting loading("loading " + directory);
  return Model::load(folder, options);
}

std::shared_ptr<SoftVocab> ModelFlags::load_soft(const std::shared_ptr<const Model>& model) const {
  if (soft_file.empty()) return std::make_shared<SoftVocab>(model);
  return SoftVocab::load(model, soft_file);
}

EngineOptions ModelFlags::engine_options(std::shared_ptr<const SoftVocab> soft) const {
  EngineOptions options;
  options.soft = std::move(soft);
  if (row_invariant) options.arithmetic = Arithmetic::row_invariant;
  return options;
}

void RequestFlags::add_to(CLI::App& app) {
  app.add_option("--system,--system-prompt", system, "the system message of the chat");
  app.add_option("-n,--max-tokens,--predict,--n-predict", max_tokens, "most tokens to decode")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--temp,--temperature", temperature, "0 is greedy; default: the checkpoint's");
  app.add_option("--top-p", top_p, "default: the checkpoint's");
  app.add_option("--top-k", top_k, "0 is all; default: the checkpoint's");
  draws.add_to(app);
  app.add_option("-s,--seed", seed, "the same seed gives the same text");
  app.add_flag("--ignore-eos", ignore_eos, "go on past the end token");
  app.add_option("--continue", continue_with,
                 "replace the end of the thinking by this word, or by the soft row of this name");
  app.add_option("--times", times, "how often to replace it")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  auto* most = app.add_option("--think-max", think_max, "close the thinking by so many tokens")
                   ->check(CLI::PositiveNumber);
  app.add_option(
         "--think-window", think_window,
         "how long before --think-max a sentence end closes already; default: 32, or --think-max")
      ->needs(most);
  app.add_option(
      "--brake", brake,
      "close the thinking at a line or sentence end when the end of the thinking is within "
      "so many nats of the best token");
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

void add_fields(CLI::App& app, ProblemFields& fields) {
  app.add_option("--question-field", fields.question)->capture_default_str();
  app.add_option("--answer-field", fields.answer)->capture_default_str();
  app.add_option("--answer-after", fields.answer_after,
                 "the answer follows this text in its field, for example '#### '");
}

std::vector<TokenId> word(const Model& model, const SoftVocab& soft, const std::string& text) {
  if (auto id = soft.find(text)) return {*id};
  auto ids = model.tokenizer()->encode(text, {.add_special = AddSpecial::no});
  if (ids.empty()) {
    throw Error(ErrorCode::invalid_argument,
                "expected a word of at least one token; found '" + text + "' (--continue)");
  }
  return ids;
}

Request RequestFlags::request(const Model& model, const SoftVocab& soft) const {
  Request request;
  request.sampling = {temperature, top_p, top_k, seed};
  draws.apply(request);
  request.max_new_tokens = max_tokens;
  request.ignore_end_tokens = ignore_eos;
  request.markers = find_markers(*model.tokenizer());
  const bool is_steered = think_max > 0 || !continue_with.empty() || brake;
  if (is_steered && !request.markers) {
    throw Error(ErrorCode::unsupported,
                "expected a model with thinking markers; found a tokenizer without </think> "
                "(--think-max, --continue and --brake steer the thinking)");
  }
  if (think_max > 0) {
    request.guides.push_back(
        budget({.max_think_tokens = think_max, .window_tokens = think_window}));
  }
  if (brake) {
    request.guides.push_back(margin_brake({.closer = request.markers->think_close,
                                           .max_margin_nats = *brake,
                                           .at = Boundary::sentence}));
  }
  if (!continue_with.empty()) {
    ContinueOptions options{.with = word(model, soft, continue_with), .times = times};
    if (think_max > 0) options.max_think_tokens = think_max;
    request.guides.push_back(continue_thinking(options));
  }
  return request;
}

}  // namespace pensive::shell
