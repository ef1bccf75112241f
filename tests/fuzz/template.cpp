// A chat template; after a zero byte, the messages.
#include "fuzz.h"
#include "pensive/text.h"

namespace {

constexpr std::string_view messages = R"([{"role": "system", "content": "a"},
    {"role": "user", "content": "b <think>"}, {"role": "assistant", "content": "c</think>d",
    "tool_calls": [{"id": "123456789", "function": {"name": "f", "arguments": {"x": 1.5}}}]},
    {"role": "tool", "tool_call_id": "123456789", "content": "e"}, {"role": "user", "content": "g"}])";

constexpr std::string_view tokenizer = R"({"version": "1.0", "added_tokens": [], "model":
    {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}})";

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace pensive;
  static const fuzz::Folder folder;
  const std::string_view input = fuzz::text_of(data, size);
  const std::size_t end = std::min(input.find('\0'), input.size());
  folder.write("tokenizer.json", tokenizer);
  folder.write("chat_template.jinja", input.substr(0, end));
  return fuzz::expect_answer([&] {
    const auto read = Tokenizer::load(folder.path());
    ChatOptions options;
    if (size % 2 == 0) options.tools_json = R"([{"function": {"name": "f", "parameters": {}}}])";
    read->render_chat_json(end < input.size() ? input.substr(end + 1) : messages, options);
  });
}
