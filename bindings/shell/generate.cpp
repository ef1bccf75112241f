#include <fmt/core.h>
#include <unistd.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "shell.h"

namespace pensive::shell {
namespace {

struct Flags {
  ModelFlags model;
  RequestFlags request;
  TemplateFlags format;
  std::string prompt, prompt_file, messages_file, ids_file, trace_file;
  bool chat = false;
  bool json = false;
};

// Whitespace- or comma-separated numbers, JSON brackets allowed.
std::vector<TokenId> read_ids(const std::string& path) {
  const std::string text = read_file(path);
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
  if (!flags.messages_file.empty())
    return tokenizer.encode_chat_json(read_file(flags.messages_file), flags.format.options());
  std::string text = flags.prompt;
  if (!flags.prompt_file.empty()) text = read_file(flags.prompt_file);
  if (text.empty() && flags.prompt_file.empty() && !is_terminal(STDIN_FILENO)) {
    text = read_file("-");
  }
  if (!flags.chat) return tokenizer.encode(text);
  std::vector<Message> chat;
  if (!flags.request.system.empty()) chat.push_back({"system", flags.request.system});
  chat.push_back({"user", text});
  return tokenizer.encode_chat(chat, flags.format.options());
}

// OpenAI's word where there is one.
std::string finish_reason(StopReason reason) {
  switch (reason) {
    case StopReason::length:
      return "length";
    case StopReason::cancelled:
    case StopReason::deadline:
    case StopReason::error:
      return std::string(to_string(reason));
    default:  // the end token, a guide, a stop text: the answer is over
      return "stop";
  }
}

// One entry of OpenAI's logprobs.content; a forced token has no logprob.
nlohmann::ordered_json token_json(const Trace& trace, std::size_t i, const Tokenizer& tokenizer) {
  const TokenId id = trace.tokens[i];
  nlohmann::ordered_json entry;
  entry["token"] = tokenizer.is_known(id) ? tokenizer.decode(std::span(&id, 1), true) : "";
  if (trace.origins[i] == Origin::sampled) {
    entry["logprob"] = trace.logprobs[i];
  } else {
    entry["logprob"] = nullptr;
  }
  return entry;
}

void print_json(const Sequence& sequence, const Tokenizer& tokenizer) {
  const Trace& trace = sequence.trace();
  const Response response = respond(trace, tokenizer);
  nlohmann::ordered_json ids = nlohmann::ordered_json::array();
  nlohmann::ordered_json logprobs = nlohmann::ordered_json::array();
  for (auto i = static_cast<std::size_t>(trace.prompt_tokens); i < trace.tokens.size(); ++i) {
    if (trace.is_taken_back[i]) continue;
    ids.push_back(trace.tokens[i]);
    logprobs.push_back(token_json(trace, i, tokenizer));
  }
  nlohmann::ordered_json out = {
      {"content", response.answer},
      {"reasoning_content", response.thinking},
      {"finish_reason", finish_reason(trace.stopped)},
      {"stop_reason", to_string(trace.stopped)},
      {"usage",
       {{"prompt_tokens", trace.prompt_tokens},
        {"completion_tokens", trace.decoded_tokens()},
        {"total_tokens", trace.prompt_tokens + trace.decoded_tokens()},
        {"completion_tokens_details", {{"reasoning_tokens", response.think_tokens}}}}},
      {"seed", trace.seed},
      {"ids", ids},
      {"logprobs", {{"content", logprobs}}}};
  if (!trace.error.empty()) out["error"] = trace.error;
  fmt::print("{}\n", out.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
}

void generate(const Flags& flags) {
  check_trace_file(flags.trace_file);
  const auto model = flags.model.load();
  const auto soft = flags.model.load_soft(model);
  const auto tokenizer = soft->tokenizer();  // knows the soft rows' names too
  Request request = flags.request.request(*model, *soft);
  request.sampling.seed = flags.request.seed;
  request.prompt = read_prompt(flags, *tokenizer);
  if (!flags.trace_file.empty()) request.top_logprobs = traced_tops;
  Engine engine(model, flags.model.engine_options(soft));
  Sequence sequence = engine.start(request);
  catch_interrupt();
  Printer printer;
  stream(engine, sequence, flags.json ? nullptr : &printer);
  if (!flags.trace_file.empty())
    save(std::span(&sequence.trace(), 1), flags.trace_file, IfExists::append);
  if (flags.json) {
    print_json(sequence, *tokenizer);
  } else {
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
  auto* messages =
      command
          ->add_option("--messages", flags->messages_file,
                       "read the chat from a file: a JSON list of messages, in OpenAI's form")
          ->excludes(prompt)
          ->excludes(file)
          ->excludes(chat);
  command->add_option("--ids", flags->ids_file, "read the prompt as token ids from a file")
      ->excludes(prompt)
      ->excludes(messages)
      ->excludes(file)
      ->excludes(chat);
  command->add_flag("--json", flags->json, "print one JSON object, with ids and logprobs");
  command->add_option("--trace", flags->trace_file, "add the trace to a file; see pensive trace");
  flags->format.add_to(*command);
  flags->request.add_to(*command);
  command->get_option("--system")->needs(chat);
  command->callback([flags] {
    const TemplateFlags& format = flags->format;
    const bool is_formatted =
        !format.variables.empty() || !format.tools_file.empty() || !format.name.empty();
    if (is_formatted && !flags->chat && flags->messages_file.empty()) {
      throw Error(ErrorCode::invalid_argument,
                  "expected --chat or --messages; found neither (--chat-template-kwargs, --tools "
                  "and --chat-template-name shape a chat)");
    }
    generate(*flags);
  });
}

}  // namespace pensive::shell
