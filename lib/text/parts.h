// What a Tokenizer is made of, for the files of this room.
#pragma once
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "pensive/text.h"
#include "text/door/door.h"

namespace pensive {

// A text that the door handed out, given back at the end of a scope.
class DoorText {
 public:
  DoorText() = default;
  explicit DoorText(PensiveDoorText text) : text_(text) {}
  ~DoorText() { pensive_door_free_text(text_); }
  DoorText(const DoorText&) = delete;
  DoorText& operator=(const DoorText&) = delete;
  PensiveDoorText* out() noexcept { return &text_; }
  bool is_null() const noexcept { return text_.data == nullptr; }
  std::string_view view() const noexcept { return {text_.data, text_.size}; }

 private:
  PensiveDoorText text_{};
};

// Every id of a tokenizer: whether it is known or special, and its bytes where these do not depend
// on its neighbours.
struct Vocabulary {
  std::string bytes;
  std::vector<std::int32_t> ends;  // [ids] where each piece ends in `bytes`
  std::string flags;               // [ids] pensive_door_known and so on
  int size = 0;
  int join = pensive_door_windowed;

  int flags_of(TokenId id) const noexcept {
    return id >= 0 && static_cast<std::size_t>(id) < flags.size()
               ? flags[static_cast<std::size_t>(id)]
               : 0;
  }
  // `id` must be known.
  std::string_view piece(TokenId id) const noexcept {
    const auto index = static_cast<std::size_t>(id);
    const std::int32_t begin = index == 0 ? 0 : ends[index - 1];
    return {bytes.data() + begin, static_cast<std::size_t>(ends[index] - begin)};
  }
};

struct ChatTemplate {
  std::string source;
  std::string where;                            // the file it stands in
  mutable std::atomic<bool> is_endless{false};  // it was stopped once: not to be tried again
};

// What tokenizer_config.json, chat_template.jinja and additional_chat_templates say.
struct ChatFormat {
  std::map<std::string, std::shared_ptr<const ChatTemplate>> templates;  // by name
  std::string where;
  nlohmann::ordered_json special_tokens;  // bos_token, eos_token, … as texts
};

// Throws corrupt_file, naming file and key. None of the files has to be there.
ChatFormat read_chat_format(const std::filesystem::path& directory);
// The template of this name; without one "tool_use" where there are tools, else "default". Throws
// not_found, or unsupported where there is no default.
const ChatTemplate& choose_template(const ChatFormat& format, const std::string& name,
                                    bool has_tools);

struct Tokenizer::Parts {
  std::shared_ptr<PensiveDoor> door;
  std::shared_ptr<const Vocabulary> vocabulary;
  std::shared_ptr<const ChatFormat> format;
  std::string where;  // tokenizer.json
  std::optional<TokenId> bos;
  std::optional<TokenId> eos;
  std::unordered_map<TokenId, std::string> names;
};

}  // namespace pensive
