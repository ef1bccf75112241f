// Tiny checkpoints with a chat template, for the tests of text.
#pragma once
#include "base/inside.h"
#include "pensive/text.h"
#include "testing.h"

namespace pensive::testing {

// A checkpoint of the smallest tokenizer with this template and configuration.
class ChatFolder {
 public:
  explicit ChatFolder(std::string_view source,
                      std::string_view tokenizer_config =
                          R"({"bos_token": "<s>", "eos_token": {"content": "</s>"}})") {
    std::filesystem::copy_file(data("text/words/tokenizer.json"), folder_ / "tokenizer.json");
    write_file(folder_ / "tokenizer_config.json", tokenizer_config);
    if (!source.empty()) write_file(folder_ / "chat_template.jinja", source);
  }
  ChatFolder& add(const std::string& name, std::string_view source) {
    std::filesystem::create_directory(folder_ / "additional_chat_templates");
    write_file(folder_ / "additional_chat_templates" / (name + ".jinja"), source);
    return *this;
  }
  std::shared_ptr<const Tokenizer> load() const { return Tokenizer::load(folder_.path()); }

 private:
  TempDir folder_;
};

inline std::string render(std::string_view source, std::vector<Message> chat = {},
                          const ChatOptions& options = {}) {
  return ChatFolder(source).load()->render_chat(chat, options);
}

}  // namespace pensive::testing
