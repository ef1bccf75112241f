// A conversation, as the template sees it.
#include <array>

#include "base/inside.h"
#include "pensive/text.h"
#include "text/parts.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

void require_utf8(std::string_view text, std::string_view what) {
  require(to_utf8(text) == text, ErrorCode::invalid_argument, "UTF-8", "bytes that are not", what);
}

// JSON that a caller passed, not a file.
Json parse_argument(std::string_view text, std::string_view where) {
  try {
    return parse_json(text, where);
  } catch (const Error& error) {
    throw Error(ErrorCode::invalid_argument, error.what());
  }
}

Json parse_variables(const std::string& text) {
  constexpr std::string_view where = "ChatOptions::variables_json";
  if (text.empty()) return Json::object();
  Json variables = parse_argument(text, where);
  require(variables.is_object(), ErrorCode::invalid_argument, "an object", in_quotes(text), where);
  for (const char* taken : {"messages", "add_generation_prompt"})
    require(!variables.contains(taken), ErrorCode::invalid_argument, "names of other variables",
            taken, where);
  return variables;
}

// A list of objects; an empty text is none.
Json parse_tools(const std::string& text) {
  constexpr std::string_view where = "ChatOptions::tools_json";
  if (text.empty()) return nullptr;
  Json tools = parse_argument(text, where);
  require(tools.is_array(), ErrorCode::invalid_argument, "a list of tools", in_quotes(text), where);
  for (const Json& tool : tools)
    require(tool.is_object(), ErrorCode::invalid_argument, "an object for each tool",
            in_quotes(tool.dump()), where);
  return tools;
}

// Transformers drops what is null, and offers the reasoning under the names that templates know.
Json normalized(const Json& message) {
  Json::object_t members;
  const Json* reasoning = nullptr;
  for (const char* name : {"reasoning_content", "thinking", "reasoning"}) {
    const auto found = message.find(name);
    if (found != message.end() && !found->is_null() && reasoning == nullptr) reasoning = &*found;
  }
  if (reasoning != nullptr) members["thinking"] = *reasoning;
  for (const auto& [key, value] : message.items())
    if (!value.is_null()) members[key] = value;
  if (reasoning != nullptr) members["reasoning_content"] = *reasoning;
  return members;
}

Json parse_messages(std::string_view text) {
  constexpr std::string_view where = "messages_json";
  const Json given = parse_argument(text, where);
  require(given.is_array(), ErrorCode::invalid_argument, "a list of messages", in_quotes(text),
          where);
  Json messages = Json::array();
  for (std::size_t i = 0; i < given.size(); ++i) {
    require(given[i].is_object(), ErrorCode::invalid_argument, "an object for each message",
            in_quotes(given[i].dump()), fmt::format("{}, message {}", where, i));
    messages.push_back(normalized(given[i]));
  }
  return messages;
}

Json to_json(std::span<const Message> chat) {
  Json messages = Json::array();
  for (const Message& message : chat) {
    require_utf8(message.role, "a message's role");
    require_utf8(message.content, "a message's content");
    messages.push_back({{"role", message.role}, {"content", message.content}});
  }
  return messages;
}

// Everything the template sees, in the names that Transformers gives it.
Json template_variables(const ChatFormat& format, Json messages, const ChatOptions& options) {
  Json all = format.special_tokens;
  all["tools"] = parse_tools(options.tools_json);
  all["documents"] = nullptr;
  const Json variables = parse_variables(options.variables_json);
  require(all["tools"].is_null() || !variables.contains("tools"), ErrorCode::invalid_argument,
          "tools in one place", "tools_json and a variable `tools`", "ChatOptions");
  for (const auto& [key, value] : variables.items()) all[key] = value;
  all["messages"] = std::move(messages);
  all["add_generation_prompt"] = options.add_generation_prompt;
  return all;
}

std::string render(const ChatFormat& format, Json messages, const ChatOptions& options) {
  const Json variables = template_variables(format, std::move(messages), options);
  const ChatTemplate& chosen =
      choose_template(format, options.template_name, !variables["tools"].is_null());
  require(!chosen.is_endless, ErrorCode::corrupt_file, "a chat template that ends",
          "one that was stopped before", chosen.where);
  const std::string context = variables.dump();
  DoorText text;
  DoorText error;
  const int status = pensive_door_render(chosen.source.data(), chosen.source.size(), context.data(),
                                         context.size(), text.out(), error.out());
  if (status == pensive_door_endless) chosen.is_endless = true;
  if (status == pensive_door_bad_argument)
    fail(ErrorCode::invalid_argument, "a conversation that the chat template takes", error.view(),
         chosen.where);
  const bool is_broken = status == pensive_door_bad_file || status == pensive_door_endless;
  require(status == pensive_door_ok, is_broken ? ErrorCode::corrupt_file : ErrorCode::internal,
          "a chat template that renders", error.view(), chosen.where);
  return std::string(text.view());
}

}  // namespace

std::string Tokenizer::render_chat(std::span<const Message> chat,
                                   const ChatOptions& options) const {
  return render(*parts_->format, to_json(chat), options);
}

std::string Tokenizer::render_chat_json(std::string_view messages_json,
                                        const ChatOptions& options) const {
  return render(*parts_->format, parse_messages(messages_json), options);
}

// The template wrote the special tokens: none are added.
std::vector<TokenId> Tokenizer::encode_chat(std::span<const Message> chat,
                                            const ChatOptions& options) const {
  return encode(render_chat(chat, options), {AddSpecial::no, ParseSpecial::yes});
}

std::vector<TokenId> Tokenizer::encode_chat_json(std::string_view messages_json,
                                                 const ChatOptions& options) const {
  return encode(render_chat_json(messages_json, options), {AddSpecial::no, ParseSpecial::yes});
}

}  // namespace pensive
