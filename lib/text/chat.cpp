#include <array>

#include "base/inside.h"
#include "pensive/text.h"
#include "text/parts.h"

namespace pensive {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array<const char*, 7> special_keys = {
    "bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"};

const Json* find_member(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

// A special token: its text, or an object that holds its text.
std::optional<std::string> special_text(const Json& config, const char* key,
                                        const std::string& where) {
  const Json* value = find_member(config, key);
  if (value == nullptr) return std::nullopt;
  if (value->is_object())
    return member<std::string>(*value, "content", fmt::format("{}, {}", where, key));
  return member<std::string>(config, key, where);
}

// One template, or a list of named ones of which "default" counts.
std::optional<std::string> template_text(const Json& config, const std::string& where) {
  const Json* value = find_member(config, "chat_template");
  if (value == nullptr) return std::nullopt;
  if (!value->is_array()) return member<std::string>(config, "chat_template", where);
  const std::string here = where + ", chat_template";
  for (const Json& entry : *value)
    if (member<std::string>(entry, "name", here) == "default")
      return member<std::string>(entry, "template", here);
  return std::nullopt;
}

void require_utf8(std::string_view text, std::string_view what) {
  require(to_utf8(text) == text, ErrorCode::invalid_argument, "UTF-8", "bytes that are not", what);
}

Json parse_variables(const std::string& variables_json) {
  if (variables_json.empty()) return Json::object();
  try {
    Json variables = parse_json(variables_json, "ChatOptions::variables_json");
    require(variables.is_object(), ErrorCode::invalid_argument, "an object",
            in_quotes(variables_json), "ChatOptions::variables_json");
    return variables;
  } catch (const Error& error) {
    throw Error(ErrorCode::invalid_argument, error.what());
  }
}

// Everything the template sees, in the names that Transformers gives it.
Json template_variables(const ChatFormat& format, std::span<const Message> chat,
                        const ChatOptions& options) {
  Json messages = Json::array();
  for (const Message& message : chat) {
    require_utf8(message.role, "a message's role");
    require_utf8(message.content, "a message's content");
    messages.push_back({{"role", message.role}, {"content", message.content}});
  }
  Json all = format.special_tokens;
  all["tools"] = nullptr;
  all["documents"] = nullptr;
  const Json variables = parse_variables(options.variables_json);
  for (const auto& [key, value] : variables.items()) {
    require(key != "messages" && key != "add_generation_prompt", ErrorCode::invalid_argument,
            "names of other variables", key, "ChatOptions::variables_json");
    all[key] = value;
  }
  all["messages"] = std::move(messages);
  all["add_generation_prompt"] = options.add_generation_prompt;
  return all;
}

}  // namespace

ChatFormat read_chat_format(const std::filesystem::path& directory) {
  ChatFormat format;
  format.special_tokens = Json::object();
  const std::filesystem::path config_file = directory / "tokenizer_config.json";
  if (std::filesystem::exists(config_file)) {
    format.where = config_file.string();
    const Json config = parse_json(read_text(config_file), format.where);
    require(config.is_object(), ErrorCode::corrupt_file, "an object", "another kind of JSON",
            format.where);
    for (const char* key : special_keys)
      if (auto text = special_text(config, key, format.where)) format.special_tokens[key] = *text;
    format.source = template_text(config, format.where);
  }
  const std::filesystem::path template_file = directory / "chat_template.jinja";
  if (std::filesystem::exists(template_file)) {
    format.where = template_file.string();
    format.source = read_text(template_file);
    require(to_utf8(*format.source) == *format.source, ErrorCode::corrupt_file, "UTF-8",
            "bytes that are not", format.where);
  }
  return format;
}

bool Tokenizer::has_chat_template() const noexcept { return parts_->format->source.has_value(); }

std::string Tokenizer::render_chat(std::span<const Message> chat,
                                   const ChatOptions& options) const {
  const ChatFormat& format = *parts_->format;
  require(format.source.has_value(), ErrorCode::unsupported, "a checkpoint with a chat template",
          "none", parts_->where);
  const std::string context = template_variables(format, chat, options).dump();
  DoorText text;
  DoorText error;
  const int status = pensive_door_render(format.source->data(), format.source->size(),
                                         context.data(), context.size(), text.out(), error.out());
  if (status == pensive_door_bad_argument)
    fail(ErrorCode::invalid_argument, "a conversation that the chat template takes", error.view(),
         format.where);
  require(status == pensive_door_ok,
          status == pensive_door_bad_file ? ErrorCode::corrupt_file : ErrorCode::internal,
          "a chat template that renders", error.view(), format.where);
  return std::string(text.view());
}

}  // namespace pensive
