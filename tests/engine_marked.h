// The tiny model with the tokenizer of marked.h, and the markers of every kind.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "engine_helpers.h"
#include "marked.h"

namespace pensive::testing {

inline std::shared_ptr<const Model> marked_model() {
  static std::shared_ptr<const Model> model;
  if (model) return model;
  const TempDir folder;
  write_tiny(folder.path());
  write_marked(folder.path());
  model =
      Model::load(folder.path(), {.device = {DeviceKind::cpu}, .precision = Precision::float32});
  return model;
}

// How a checkpoint may mark its thinking, and the tokens that are drawn so that it happens.
struct Kind {
  std::string name, open, close;
  std::vector<std::string> words;
};

inline const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all{
      {"tokens of their own", "<t>", "</t>", {"<t>", "</t>", "a", ".", "Ċ", "Ã", "©", "â", "Ĥ"}},
      {"of a special token",
       "<|im_start|>think",
       "<|im_start|>answer",
       {"<|im_start|>", "think", "answer", "a", ".", "Ċ", "Ã", "©"}},
      {"plain text",
       "<think>",
       "</think>",
       {"<", "</", ".</", "think", ">", ">Ċ", "></", "a", ".", "Ã", "©"}},
      {"plain text in many tokens",
       "<thin>",
       "</thin>",
       {"<", "/", "</", "thin", "t", "h", "i", "n", ">", "a", "."}}};
  return all;
}

inline TokenId id_of(const Tokenizer& tokenizer, std::string_view spelling) {
  return tokenizer.find(spelling).value();
}

inline std::vector<TokenId> ids_of(const Tokenizer& tokenizer,
                                   const std::vector<std::string>& spellings) {
  std::vector<TokenId> ids;
  for (const std::string& spelling : spellings) ids.push_back(id_of(tokenizer, spelling));
  return ids;
}

// The markers of a kind, with <answer> where it is plain text.
inline Markers markers_of(const Kind& kind) {
  const Tokenizer& tokenizer = *marked_model()->tokenizer();
  Markers markers = pensive::markers_of(tokenizer, kind.open, kind.close);
  if (kind.open != "<think>") return markers;
  markers.answer_open = ids_of(tokenizer, {"<", "answer", ">"});
  markers.answer_close = ids_of(tokenizer, {"</", "answer", ">"});
  return markers;
}

}  // namespace pensive::testing
