#include "pensive/text.h"

#include <utility>

#include "handles.h"

namespace door {

namespace {

// What the caller gave, as messages or as JSON, with either of the tokenizer's two functions on it.
struct Chat {
  std::vector<pensive::Message> messages;
  std::string messages_json;
  bool is_json = false;
  pensive::ChatOptions options;

  std::vector<pensive::TokenId> encode(const pensive::Tokenizer& tokenizer) const {
    return is_json ? tokenizer.encode_chat_json(messages_json, options)
                   : tokenizer.encode_chat(messages, options);
  }
  std::string render(const pensive::Tokenizer& tokenizer) const {
    return is_json ? tokenizer.render_chat_json(messages_json, options)
                   : tokenizer.render_chat(messages, options);
  }
};

Chat chat_in(const pensive_chat* chat) {
  const auto given = struct_in(&need(chat, "chat"), "pensive_chat");
  check_zero(given.reserved, "pensive_chat.reserved");
  Chat result;
  result.options.add_generation_prompt = !flag_in(given.leave_open, "pensive_chat.leave_open");
  result.options.variables_json = text_or(given.variables_json, "");
  result.options.tools_json = text_or(given.tools_json, "");
  result.options.template_name = text_or(given.template_name, "");
  result.is_json = given.messages_json != nullptr;
  if (result.is_json) {
    check_zero(given.count, "pensive_chat.count beside messages_json");
    result.messages_json = given.messages_json;
  }
  const auto roles = array_in(given.roles, given.count, "pensive_chat.roles");
  const auto contents = array_in(given.contents, given.count, "pensive_chat.contents");
  for (size_t i = 0; i < given.count; ++i)
    result.messages.push_back({std::string(text_in(roles[i], "pensive_chat.roles")),
                               std::string(text_in(contents[i], "pensive_chat.contents"))});
  return result;
}

}  // namespace

int32_t tokenizer_load(const char* directory, pensive_tokenizer** tokenizer,
                       pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(tokenizer, "tokenizer");
    auto value = pensive::Tokenizer::load(text_in(directory, "directory"));
    slot = new pensive_tokenizer{std::move(value)};
  });
}

int32_t tokenizer_with_soft(const pensive_tokenizer* tokenizer, const pensive_soft* soft,
                            pensive_tokenizer** named, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(named, "named");
    const pensive::SoftVocab& rows = *need(soft, "soft").value;
    std::vector<std::pair<pensive::TokenId, std::string>> names;
    for (int row = 0; row < rows.size(); ++row) {
      const pensive::TokenId id = rows.model()->vocab_size() + row;
      names.emplace_back(id, rows.name(id));
    }
    slot = new pensive_tokenizer{need(tokenizer, "tokenizer").value->with_names(names)};
  });
}

void tokenizer_free(pensive_tokenizer* tokenizer) { delete tokenizer; }

int32_t tokenizer_encode(const pensive_tokenizer* tokenizer, const char* text, size_t size,
                         uint32_t how, int32_t** ids, size_t* count, pensive_error** error) {
  return guard(error, [&] {
    out(ids, "ids");
    need(count, "count") = 0;
    check_zero(how & ~std::uint32_t{PENSIVE_ENCODE_BARE | PENSIVE_ENCODE_LITERAL}, "how");
    pensive::EncodeOptions options;
    if (how & PENSIVE_ENCODE_BARE) options.add_special = pensive::AddSpecial::no;
    if (how & PENSIVE_ENCODE_LITERAL) options.parse_special = pensive::ParseSpecial::no;
    const auto tokens =
        need(tokenizer, "tokenizer").value->encode(text_in(text, size, "text"), options);
    array_out<int32_t>(ids, count, tokens);
  });
}

int32_t tokenizer_encode_chat(const pensive_tokenizer* tokenizer, const pensive_chat* chat,
                              int32_t** ids, size_t* count, pensive_error** error) {
  return guard(error, [&] {
    out(ids, "ids");
    need(count, "count") = 0;
    const auto tokens = chat_in(chat).encode(*need(tokenizer, "tokenizer").value);
    array_out<int32_t>(ids, count, tokens);
  });
}

int32_t tokenizer_render_chat(const pensive_tokenizer* tokenizer, const pensive_chat* chat,
                              char** text, size_t* size, pensive_error** error) {
  return guard(error, [&] {
    out(text, "text");
    text_out(text, size, chat_in(chat).render(*need(tokenizer, "tokenizer").value));
  });
}

int32_t tokenizer_get_template_name(const pensive_tokenizer* tokenizer, int32_t index, char** name,
                                    pensive_error** error) {
  return guard(error, [&] {
    out(name, "name");
    const auto names = need(tokenizer, "tokenizer").value->chat_templates();
    if (index < 0 || static_cast<size_t>(index) >= names.size())
      throw pensive::Error(pensive::ErrorCode::not_found,
                           "expected an index below " + std::to_string(names.size()) + "; found " +
                               std::to_string(index) + " (pensive_tokenizer_get_template_name)");
    text_out(name, nullptr, names[static_cast<size_t>(index)]);
  });
}

int32_t tokenizer_decode(const pensive_tokenizer* tokenizer, const int32_t* ids, size_t count,
                         int32_t keep_special, char** text, size_t* size, pensive_error** error) {
  return guard(error, [&] {
    out(text, "text");
    const bool keep = flag_in(keep_special, "keep_special");
    text_out(text, size,
             need(tokenizer, "tokenizer").value->decode(array_in(ids, count, "ids"), keep));
  });
}

int32_t tokenizer_find(const pensive_tokenizer* tokenizer, const char* token, int32_t* id,
                       pensive_error** error) {
  return guard(error, [&] {
    need(id, "id") = need(tokenizer, "tokenizer").value->find(text_in(token, "token")).value_or(-1);
  });
}

int32_t tokenizer_size(const pensive_tokenizer* tokenizer) {
  return tokenizer ? tokenizer->value->size() : 0;
}

}  // namespace door
