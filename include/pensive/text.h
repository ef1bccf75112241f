// text: text to token ids and back, exactly as a checkpoint's own files define it.
//
// Tokenization is Hugging Face's `tokenizers`, chat templates are `minijinja`: both live behind
// one Rust library in which no error and no panic reaches the caller except as an Error.
#pragma once
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pensive/base.h"

namespace pensive {

// One turn of a conversation.
struct Message {
  std::string role;  // "system", "user", "assistant", or whatever the template knows
  std::string content;
};

// Whether encode() puts the tokenizer's own special tokens (such as a BOS) around the text.
enum class AddSpecial : std::uint8_t { no, yes };
// Whether special tokens written out in the text ("<|im_end|>") become those tokens, or are
// spelled out as ordinary text. Keep `no` for text that comes from users.
enum class ParseSpecial : std::uint8_t { no, yes };

struct EncodeOptions {
  AddSpecial add_special = AddSpecial::yes;
  ParseSpecial parse_special = ParseSpecial::yes;
};

struct ChatOptions {
  // End with the opening of the assistant's turn, so that the model answers.
  bool add_generation_prompt = true;
  // A JSON object whose members become template variables, for example {"enable_thinking": false}.
  // Empty means none. The names `messages` and `add_generation_prompt` are taken.
  std::string variables_json{};
  // A JSON list of tools, in the form of OpenAI's `tools`. Empty means none.
  std::string tools_json{};
  // One of chat_templates(). Empty: "tool_use" where there are tools and a template of that name,
  // else "default".
  std::string template_name{};
};

// Immutable; any number of threads may share one.
class PENSIVE_EXPORT Tokenizer {
 public:
  // Reads tokenizer.json out of a checkpoint's folder, and its chat templates, where there are
  // any: chat_template.jinja and additional_chat_templates/NAME.jinja or, without these files,
  // tokenizer_config.json (one, or a list of named ones).
  // Throws not_found, corrupt_file or io.
  static std::shared_ptr<const Tokenizer> load(const std::filesystem::path& directory);
  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // Throws invalid_argument for text that is not UTF-8.
  std::vector<TokenId> encode(std::string_view text, const EncodeOptions& options = {}) const;

  // Renders the conversation with the checkpoint's template and encodes it. A rendered chat
  // holds its own special tokens, so none are added. Throws unsupported where the checkpoint has
  // no template, not_found for a template_name it lacks, corrupt_file where the template is broken
  // or takes memory or time without end, invalid_argument where it refuses the conversation.
  std::vector<TokenId> encode_chat(std::span<const Message> chat,
                                   const ChatOptions& options = {}) const;
  std::string render_chat(std::span<const Message> chat, const ChatOptions& options = {}) const;
  // The same for messages with any keys: a JSON list of objects such as {"role": "tool",
  // "tool_call_id": …, "content": …}; tool_calls, reasoning_content and lists of content parts
  // reach the template as they are. As in Transformers, members that are null are left out, and
  // `reasoning` or `thinking` is also found as `reasoning_content`.
  std::vector<TokenId> encode_chat_json(std::string_view messages_json,
                                        const ChatOptions& options = {}) const;
  std::string render_chat_json(std::string_view messages_json,
                               const ChatOptions& options = {}) const;
  // Whether there is a template named "default": what a chat without tools gets.
  bool has_chat_template() const noexcept;
  // The names of all templates, sorted.
  std::vector<std::string> chat_templates() const;
  // The Jinja source of one of them; nothing where there is none of this name.
  std::optional<std::string> chat_template_source(std::string_view name = "default") const;

  // All ids at once. Special tokens are left out unless `keep_special`. Throws invalid_argument
  // for an id the tokenizer does not know; names given with `with_names` are known.
  std::string decode(std::span<const TokenId> ids, bool keep_special = false) const;

  // The id of a token spelled exactly so, special or not; then of a name given with `with_names`.
  std::optional<TokenId> find(std::string_view token) const;
  // The spelling of one token as it stands in the vocabulary; nothing for an unknown id.
  std::optional<std::string> spelling(TokenId id) const;
  bool is_special(TokenId id) const noexcept;
  // Whether decode() takes this id; names given with `with_names` are known.
  bool is_known(TokenId id) const noexcept;

  // Number of ids the tokenizer knows, names not counted. Checkpoints pad: the embedding may have
  // more rows.
  int size() const noexcept;
  std::optional<TokenId> bos() const noexcept;
  std::optional<TokenId> eos() const noexcept;

  // The same tokenizer that also prints these ids by name, such as a SoftVocab's rows. Names are
  // never special and never come out of encode(). Throws invalid_argument for an id that the
  // tokenizer has of its own, or a name that is not UTF-8.
  std::shared_ptr<const Tokenizer> with_names(
      std::span<const std::pair<TokenId, std::string>> names) const;

 private:
  friend class TextStream;
  Tokenizer();
  struct Parts;
  std::shared_ptr<const Parts> parts_;
};

// Decodes ids as they arrive. Never emits half a character; all that push() and finish() return
// together equals decode() of all ids at once. One thread at a time; copying copies the state.
class PENSIVE_EXPORT TextStream {
 public:
  explicit TextStream(std::shared_ptr<const Tokenizer> tokenizer, bool keep_special = false);

  // The text that this id completes; empty while a character is still incomplete.
  std::string push(TokenId id);
  // What is left, with U+FFFD for bytes that never became a character. The stream begins anew.
  std::string finish();

 private:
  void take(std::string_view bytes, std::string& text);
  std::string push_to_window(TokenId id, bool is_byte);
  void shorten_window(std::string_view text);

  std::shared_ptr<const Tokenizer> tokenizer_;
  bool keep_special_;
  bool is_begun_ = false;        // a token with text came by already
  std::string partial_;          // bytes of a character that is not complete
  std::vector<TokenId> window_;  // last ids, where a token's text depends on its neighbours
  std::size_t emitted_ = 0;      // bytes of the window's text already returned
};

}  // namespace pensive
