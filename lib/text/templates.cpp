// Which chat templates a checkpoint has, and which of them a chat gets.
#include <algorithm>
#include <array>
#include <vector>

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

void add_template(ChatFormat& format, std::string name, std::string source, std::string where) {
  auto made = std::make_shared<ChatTemplate>();
  made->source = std::move(source);
  made->where = std::move(where);
  const bool is_new = format.templates.emplace(name, std::move(made)).second;
  require(is_new, ErrorCode::corrupt_file, "each template's name once",
          "two templates " + in_quotes(name), format.where);
}

// One template, or a list of named ones.
void add_from_config(ChatFormat& format, const Json& config) {
  const Json* value = find_member(config, "chat_template");
  if (value == nullptr) return;
  if (!value->is_array()) {
    add_template(format, "default", member<std::string>(config, "chat_template", format.where),
                 format.where);
    return;
  }
  const std::string here = format.where + ", chat_template";
  for (const Json& entry : *value) {
    auto name = member<std::string>(entry, "name", here);
    add_template(format, std::move(name), member<std::string>(entry, "template", here),
                 format.where);
  }
}

void add_from_file(ChatFormat& format, std::string name, const std::filesystem::path& file) {
  std::string source = read_text(file);
  require(to_utf8(source) == source, ErrorCode::corrupt_file, "UTF-8", "bytes that are not",
          file.string());
  add_template(format, std::move(name), std::move(source), file.string());
}

// chat_template.jinja and additional_chat_templates/NAME.jinja.
std::vector<std::pair<std::string, std::filesystem::path>> template_files(
    const std::filesystem::path& directory) {
  std::vector<std::pair<std::string, std::filesystem::path>> files;
  const std::filesystem::path main = directory / "chat_template.jinja";
  if (std::filesystem::exists(main)) files.emplace_back("default", main);
  const std::filesystem::path more = directory / "additional_chat_templates";
  if (!std::filesystem::is_directory(more)) return files;
  for (const auto& entry : std::filesystem::directory_iterator(more))
    if (entry.path().extension() == ".jinja")
      files.emplace_back(entry.path().stem().string(), entry.path());
  std::sort(files.begin(), files.end());
  return files;
}

std::string listed(const ChatFormat& format) {
  std::string names;
  for (const auto& [name, one] : format.templates) names += (names.empty() ? "" : ", ") + name;
  return names.empty() ? "none" : names;
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
    add_from_config(format, config);
  }
  const auto files = template_files(directory);
  // Files replace what the configuration says, as a whole.
  if (!files.empty()) format.templates.clear();
  format.where = directory.string();
  for (const auto& [name, file] : files) add_from_file(format, name, file);
  return format;
}

const ChatTemplate& choose_template(const ChatFormat& format, const std::string& name,
                                    bool has_tools) {
  const auto find = [&format](const std::string& wanted) -> const ChatTemplate* {
    const auto found = format.templates.find(wanted);
    return found == format.templates.end() ? nullptr : found->second.get();
  };
  if (!name.empty()) {
    const ChatTemplate* named = find(name);
    require(named != nullptr, ErrorCode::not_found, "a chat template named " + in_quotes(name),
            listed(format), format.where);
    return *named;
  }
  if (const ChatTemplate* tool_use = has_tools ? find("tool_use") : nullptr) return *tool_use;
  const ChatTemplate* usual = find("default");
  require(usual != nullptr, ErrorCode::unsupported, "a checkpoint with a default chat template",
          listed(format), format.where);
  return *usual;
}

bool Tokenizer::has_chat_template() const noexcept {
  return parts_->format->templates.contains("default");
}

std::optional<std::string> Tokenizer::chat_template_source(std::string_view name) const {
  const auto found = parts_->format->templates.find(std::string(name));
  if (found == parts_->format->templates.end()) return std::nullopt;
  return found->second->source;
}

std::vector<std::string> Tokenizer::chat_templates() const {
  std::vector<std::string> names;
  for (const auto& [name, one] : parts_->format->templates) names.push_back(name);
  return names;
}

}  // namespace pensive
