// A tokenizer of 64 byte-level tokens whose markers are of every kind: <t> and </t> are tokens of
// their own, <|im_start|>think holds a special token, <think> and <answer> are spelled by ordinary
// tokens, which also stand in others such as ".</" and "><". Some tokens are half a character.
#pragma once
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pensive/think.h"
#include "testing.h"

namespace pensive::testing {

inline std::string marked_json() {
  const std::vector<std::string_view> words{"<unk>", "<bos>",  "<eos>", "<stop>", "<|im_start|>",
                                            "<t>",   "</t>",   "<",     ">",      "/",
                                            "t",     "h",      "i",     "n",      "k",
                                            "a",     "s",      "w",     "e",      "r",
                                            ".",     "Ċ",      "Ġ",     "Ã",      "©",
                                            "â",     "Ĥ",      "¬",     "th",     "thi",
                                            "thin",  "think",  "an",    "ans",    "answ",
                                            "answe", "answer", "</",    ".</",    ">Ċ",
                                            ">ĊĊ",   "><",     "></",   "b",      "c",
                                            "d",     "f",      "g",     "j",      "l",
                                            "m",     "o",      "p",     "q",      "u",
                                            "v",     "x",      "y",     "z",      "0",
                                            "1",     "2",      "?",     "!"};
  std::string vocabulary, added;
  for (std::size_t i = 0; i < words.size(); ++i) {
    vocabulary += (i > 0 ? ",\"" : "\"") + std::string(words[i]) + "\":" + std::to_string(i);
    if (i > 6) continue;
    added += (i > 0 ? ",{\"id\":" : "{\"id\":") + std::to_string(i) + ",\"content\":\"" +
             std::string(words[i]) +
             "\",\"single_word\":false,\"lstrip\":false,\"rstrip\":false,\"normalized\":false,"
             "\"special\":" +
             (i < 5 ? "true}" : "false}");
  }
  constexpr std::string_view bytes =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false})";
  return R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[)" + added +
         R"(],"normalizer":null,"pre_tokenizer":)" + std::string(bytes) +
         R"(,"post_processor":null,"decoder":)" + std::string(bytes) +
         R"(,"model":{"type":"BPE","dropout":null,"unk_token":null,)"
         R"("continuing_subword_prefix":null,"end_of_word_suffix":null,"fuse_unk":false,)"
         R"("byte_fallback":false,"ignore_merges":false,"vocab":{)" +
         vocabulary +
         R"(},"merges":["t h","th i","thi n","thin k","a n","an s","ans w","answ e","answe r",)"
         R"("< /",". </","> Ċ",">Ċ Ċ","> <","> </"]}})";
}

// Puts it into a checkpoint's folder, with a chat template where one is given.
inline void write_marked(const std::filesystem::path& folder, std::string_view chat = {}) {
  write_file(folder / "tokenizer.json", marked_json());
  write_file(folder / "tokenizer_config.json", "{}");
  if (!chat.empty()) write_file(folder / "chat_template.jinja", chat);
}

inline std::shared_ptr<const Tokenizer> marked_tokenizer(std::string_view chat = {}) {
  const TempDir folder;
  write_marked(folder.path(), chat);
  return Tokenizer::load(folder.path());
}

}  // namespace pensive::testing
