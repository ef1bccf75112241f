#include <fmt/core.h>
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "shell.h"

namespace pensive::shell {
namespace {

struct Flags {
  ModelFlags model;
  RequestFlags request;
  std::string prompt, prompt_file, ids_file;
  bool chat = false;
  bool json = false;
};

std::string read_all(std::istream& in) { return {std::istreambuf_iterator<char>(in), {}}; }

std::string read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error(ErrorCode::not_found, "expected a readable file; found none (" + path + ")");
  return read_all(in);
}

// Whitespace- or comma-separated numbers, JSON brackets allowed.
std::vector<TokenId> read_ids(const std::string& path) {
  std::string text = path == "-" ? read_all(std::cin) : read_file(path);
  std::vector<TokenId> ids;
  for (std::size_t i = 0; i < text.size();) {
    if (std::string_view(" \t\r\n,[]").find(text[i]) != std::string_view::npos) {
      ++i;
      continue;
    }
    const auto [end, error] =
        std::from_chars(text.data() + i, text.data() + text.size(), ids.emplace_back());
    if (error != std::errc()) {
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format("expected token ids; found '{}' ({}, byte {})", text.substr(i, 12), path, i));
    }
    i = static_cast<std::size_t>(end - text.data());
  }
  return ids;
}

std::vector<TokenId> read_prompt(const Flags& flags, const Tokenizer& tokenizer) {
  if (!flags.ids_file.empty()) return read_ids(flags.ids_file);
  std::string text = flags.prompt;
  if (!flags.prompt_file.empty()) {
    text = flags.prompt_file == "-" ? read_all(std::cin) : read_file(flags.prompt_file);
  }
  if (text.empty() && !is_terminal(STDIN_FILENO)) text = read_all(std::cin);
  if (!flags.chat) return tokenizer.encode(text);
  std::vector<Message> chat;
  if (!flags.request.system.empty()) chat.push_back({"system", flags.request.system});
  chat.push_back({"user", text});
  return tokenizer.encode_chat(chat);
}

// Thinking dim, each segment on a line of its own.
class Printer {
 public:
  void print(Sequence& sequence) {
    for (const TextEvent& event : sequence.take_events()) {
      const bool is_next = event.segment != segment_ || event.index != index_;
      if (is_next && !last_.empty() && last_.back() != '\n') fmt::print("\n");
      segment_ = event.segment;
      index_ = event.index;
      last_ = event.text;
      const bool is_dim = is_terminal_ && event.segment == Segment::think;
      fmt::print("{}{}{}", is_dim ? "\033[2m" : "", event.text, is_dim ? "\033[0m" : "");
    }
    std::fflush(stdout);
  }

 private:
  bool is_terminal_ = is_terminal(STDOUT_FILENO);
  Segment segment_ = Segment::prompt;
  int index_ = 0;
  std::string last_;
};

std::string finish_reason(StopReason reason) {
  if (reason == StopReason::end_token) return "stop";
  return std::string(to_string(reason));
}

void print_json(const Sequence& sequence, const Tokenizer& tokenizer) {
  const Trace& trace = sequence.trace();
  const Response response = respond(trace, tokenizer);
  nlohmann::ordered_json ids = nlohmann::ordered_json::array();
  nlohmann::ordered_json logprobs = nlohmann::ordered_json::array();
  for (std::size_t i = static_cast<std::size_t>(trace.prompt_tokens); i < trace.tokens.size();
       ++i) {
    if (trace.is_taken_back[i]) continue;
    ids.push_back(trace.tokens[i]);
    if (trace.origins[i] == Origin::sampled) {
      logprobs.push_back(trace.logprobs[i]);
    } else {
      logprobs.push_back(nullptr);
    }
  }
  nlohmann::ordered_json out = {
      {"content", response.answer},
      {"reasoning_content", response.thinking},
      {"finish_reason", finish_reason(trace.stopped)},
      {"usage",
       {{"prompt_tokens", trace.prompt_tokens},
        {"completion_tokens", trace.decoded_tokens()},
        {"total_tokens", trace.prompt_tokens + trace.decoded_tokens()},
        {"completion_tokens_details", {{"reasoning_tokens", response.think_tokens}}}}},
      {"seed", trace.seed},
      {"ids", ids},
      {"logprobs", logprobs}};
  if (!trace.error.empty()) out["error"] = trace.error;
  fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void generate(const Flags& flags) {
  const auto model = flags.model.load();
  const auto soft = flags.model.load_soft(model);
  const auto tokenizer = model->tokenizer();
  Request request = flags.request.request(*model, *soft);
  request.prompt = read_prompt(flags, *tokenizer);
  Engine engine(model, flags.model.engine_options(soft));
  Sequence sequence = engine.start(request);
  catch_interrupt();
  Printer printer;
  while (!sequence.finished()) {
    engine.step();
    if (was_interrupted()) sequence.cancel();
    if (!flags.json) printer.print(sequence);
  }
  if (flags.json) {
    print_json(sequence, *tokenizer);
  } else {
    printer.print(sequence);
    fmt::print("\n");
  }
  if (sequence.trace().stopped == StopReason::error) {
    throw Error(ErrorCode::internal, sequence.trace().error);
  }
}

}  // namespace

void add_generate(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("generate", "answer one prompt, streaming");
  flags->model.add_to(*command);
  auto* prompt = command->add_option("prompt,-p,--prompt", flags->prompt,
                                     "the prompt; default: standard input");
  auto* file = command
                   ->add_option("-f,--file", flags->prompt_file,
                                "read the prompt from a file; - is standard input")
                   ->excludes(prompt);
  auto* chat = command->add_flag("--chat", flags->chat,
                                 "the prompt is a user's message: use the chat template");
  command->add_option("--ids", flags->ids_file, "read the prompt as token ids from a file")
      ->excludes(prompt)
      ->excludes(file)
      ->excludes(chat);
  command->add_flag("--json", flags->json, "print one JSON object, with ids and logprobs");
  flags->request.add_to(*command);
  command->get_option("--system")->needs(chat);
  command->callback([flags] { generate(*flags); });
}

}  // namespace pensive::shell
