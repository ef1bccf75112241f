// A conversation in the terminal.
#include <fmt/core.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "shell.h"

namespace pensive::shell {
namespace {

struct Flags {
  ModelFlags model;
  RequestFlags request;
  TemplateFlags format;
  std::string trace_file;
};

// What a person types up to the end of a line; a backslash at its end joins the next one.
class Lines {
 public:
  enum class Ending { line, interrupted, over };

  Ending read(std::string& text) {
    text.clear();
    const char* prompt = "> ";
    while (true) {
      if (is_terminal_) fmt::print("{}", prompt);
      std::fflush(stdout);
      char* line = nullptr;
      std::size_t room = 0;
      errno = 0;
      const ssize_t size = ::getline(&line, &room, stdin);
      const bool is_interrupted = size < 0 && errno == EINTR;
      std::string got(line == nullptr || size < 0 ? "" : line,
                      size < 0 ? 0 : static_cast<std::size_t>(size));
      std::free(line);
      if (size < 0) {
        std::clearerr(stdin);
        if (is_terminal_) fmt::print("\n");
        if (is_interrupted || was_interrupted()) return Ending::interrupted;
        return text.empty() ? Ending::over : Ending::line;
      }
      if (!got.empty() && got.back() == '\n') got.pop_back();
      if (got.empty() || got.back() != '\\') {
        text += got;
        return Ending::line;
      }
      got.back() = '\n';
      text += got;
      prompt = "… ";
    }
  }

 private:
  bool is_terminal_ = is_terminal(STDIN_FILENO);
};

class Chat {
 public:
  explicit Chat(const Flags& flags)
      : flags_(flags),
        model_(flags.model.load()),
        soft_(flags.model.load_soft(model_)),
        engine_(model_, flags.model.engine_options(soft_)),
        request_(flags.request.request(*model_, *soft_)) {
    request_.sampling.seed = flags.request.seed;
    if (!flags.trace_file.empty()) request_.top_logprobs = traced_tops;
    reset();
  }

  void reset() {
    messages_ = nlohmann::ordered_json::array();
    if (!flags_.request.system.empty())
      messages_.push_back({{"role", "system"}, {"content", flags_.request.system}});
  }

  // One turn. A turn that fails, or is stopped before it answers, leaves the history as it was.
  void say(const std::string& text) {
    const auto before = messages_;
    messages_.push_back({{"role", "user"}, {"content", text}});
    try {
      if (!answer()) messages_ = before;
    } catch (const Error& error) {
      messages_ = before;
      fmt::print(stderr, "{}: {}\n", to_string(error.code()), error.what());
    } catch (const nlohmann::json::exception&) {
      messages_ = before;
      fmt::print(stderr, "expected text in UTF-8; found other bytes\n");
    }
  }

 private:
  bool answer() {
    request_.prompt =
        model_->tokenizer()->encode_chat_json(messages_.dump(), flags_.format.options());
    Sequence sequence = engine_.start(request_);
    catch_interrupts();  // what came before the answer is not meant for it
    Printer printer;
    stream(engine_, sequence, &printer);
    fmt::print("\n");
    const Trace& trace = sequence.trace();
    if (!flags_.trace_file.empty()) save(std::span(&trace, 1), flags_.trace_file, IfExists::append);
    if (trace.stopped == StopReason::error) throw Error(ErrorCode::internal, trace.error);
    const Response response = respond(trace, *model_->tokenizer());
    const bool is_kept = !response.answer.empty() || trace.stopped == StopReason::end_token;
    if (trace.stopped != StopReason::end_token)
      fmt::print(stderr, "({}{})\n", to_string(trace.stopped),
                 is_kept ? "" : "; no answer: the turn is forgotten");
    if (!is_kept) return false;
    nlohmann::ordered_json message = {{"role", "assistant"}, {"content", response.answer}};
    if (!response.thinking.empty()) message["reasoning_content"] = response.thinking;
    messages_.push_back(std::move(message));
    return true;
  }

  const Flags& flags_;
  std::shared_ptr<const Model> model_;
  std::shared_ptr<SoftVocab> soft_;
  Engine engine_;
  Request request_;
  nlohmann::ordered_json messages_;
};

void run_chat(const Flags& flags) {
  check_trace_file(flags.trace_file);
  Chat chat(flags);
  if (is_terminal(STDIN_FILENO))
    fmt::print("/exit or Ctrl-D leaves, /reset starts anew, Ctrl-C stops an answer\n");
  Lines lines;
  std::string text;
  while (true) {
    catch_interrupts();  // what stopped the answer does not count here
    const Lines::Ending ending = lines.read(text);
    if (ending == Lines::Ending::over) return;
    if (ending == Lines::Ending::interrupted) {
      fmt::print("(/exit leaves)\n");
    } else if (text == "/exit" || text == "/quit") {
      return;
    } else if (text == "/reset") {
      chat.reset();
      fmt::print("(a new conversation)\n");
    } else if (text.starts_with('/') && text.find_first_of(" /", 1) == std::string::npos) {
      fmt::print(stderr, "expected /exit or /reset; found {}\n", text);
    } else if (text.find_first_not_of(" \t\r\n") != std::string::npos) {
      chat.say(text);
    }
  }
}

}  // namespace

void add_chat(CLI::App& app) {
  auto flags = std::make_shared<Flags>();
  CLI::App* command = app.add_subcommand("chat", "a conversation in the terminal");
  flags->model.add_to(*command);
  flags->format.add_to(*command);
  command->add_option("--trace", flags->trace_file, "add each turn's trace to a file");
  flags->request.add_to(*command);
  command->callback([flags] { run_chat(*flags); });
}

}  // namespace pensive::shell
