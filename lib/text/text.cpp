#include "pensive/text.h"

#include "base/inside.h"
#include "text/parts.h"

namespace pensive {
namespace {

// Throws what the door reports of a call; `expected` is what the call was to be given.
void check(int status, std::string_view expected, const DoorText& error, std::string_view where) {
  switch (status) {
    case pensive_door_ok:
      return;
    case pensive_door_bad_file:
      fail(ErrorCode::corrupt_file, expected, error.view(), where);
    case pensive_door_bad_argument:
      fail(ErrorCode::invalid_argument, expected, error.view(), where);
    default:
      fail(ErrorCode::internal, expected, error.view(), where);
  }
}

std::shared_ptr<const Vocabulary> take(const PensiveDoorVocabulary& given) {
  auto vocabulary = std::make_shared<Vocabulary>();
  vocabulary->bytes.assign(given.bytes.data, given.bytes.size);
  vocabulary->ends.assign(given.ends.data, given.ends.data + given.ends.size);
  vocabulary->flags.assign(given.flags.data, given.flags.size);
  vocabulary->size = given.size;
  vocabulary->join = given.join;
  pensive_door_free_text(given.bytes);
  pensive_door_free_ids(given.ends);
  pensive_door_free_text(given.flags);
  return vocabulary;
}

}  // namespace

Tokenizer::Tokenizer() = default;
Tokenizer::~Tokenizer() = default;

std::shared_ptr<const Tokenizer> Tokenizer::load(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / "tokenizer.json";
  const std::string json = read_text(file);
  auto parts = std::make_shared<Parts>();
  parts->where = file.string();
  PensiveDoor* door = nullptr;
  PensiveDoorVocabulary vocabulary{};
  DoorText error;
  const int status = pensive_door_open(json.data(), json.size(), &door, &vocabulary, error.out());
  check(status == pensive_door_internal ? pensive_door_bad_file : status,
        "a tokenizer of Hugging Face's format", error, parts->where);
  parts->door = std::shared_ptr<PensiveDoor>(door, pensive_door_close);
  parts->vocabulary = take(vocabulary);
  parts->format = std::make_shared<ChatFormat>(read_chat_format(directory));

  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer());
  tokenizer->parts_ = parts;
  const auto find_special = [&](const char* key) -> std::optional<TokenId> {
    const auto& special = parts->format->special_tokens;
    if (!special.contains(key)) return std::nullopt;
    return tokenizer->find(special.at(key).get_ref<const std::string&>());
  };
  parts->bos = find_special("bos_token");
  parts->eos = find_special("eos_token");
  return tokenizer;
}

std::vector<TokenId> Tokenizer::encode(std::string_view text, const EncodeOptions& options) const {
  PensiveDoorIds ids{};
  DoorText error;
  const int status = pensive_door_encode(
      parts_->door.get(), text.data(), text.size(), options.add_special == AddSpecial::yes,
      options.parse_special == ParseSpecial::yes, &ids, error.out());
  check(status, "text that the tokenizer can encode", error, parts_->where);
  const std::unique_ptr<PensiveDoorIds, void (*)(PensiveDoorIds*)> owner(
      &ids, [](PensiveDoorIds* given) { pensive_door_free_ids(*given); });
  return {ids.data, ids.data + ids.size};
}

std::string Tokenizer::decode(std::span<const TokenId> ids, bool keep_special) const {
  DoorText text;
  DoorText error;
  const int status = pensive_door_decode(parts_->door.get(), ids.data(), ids.size(), keep_special,
                                         text.out(), error.out());
  check(status, "ids that the tokenizer knows", error, parts_->where);
  return std::string(text.view());
}

std::optional<TokenId> Tokenizer::find(std::string_view token) const {
  const TokenId id = pensive_door_find(parts_->door.get(), token.data(), token.size());
  return id < 0 ? std::nullopt : std::optional<TokenId>(id);
}

std::optional<std::string> Tokenizer::spelling(TokenId id) const {
  const DoorText text(pensive_door_spelling(parts_->door.get(), id));
  if (text.is_null()) return std::nullopt;
  return std::string(text.view());
}

bool Tokenizer::is_special(TokenId id) const noexcept {
  return (parts_->vocabulary->flags_of(id) & pensive_door_special) != 0;
}

bool Tokenizer::is_known(TokenId id) const noexcept {
  return parts_->vocabulary->flags_of(id) != 0 || parts_->names.contains(id);
}

int Tokenizer::size() const noexcept { return parts_->vocabulary->size; }
std::optional<TokenId> Tokenizer::bos() const noexcept { return parts_->bos; }
std::optional<TokenId> Tokenizer::eos() const noexcept { return parts_->eos; }

std::shared_ptr<const Tokenizer> Tokenizer::with_names(
    std::span<const std::pair<TokenId, std::string>> names) const {
  auto parts = std::make_shared<Parts>(*parts_);
  std::vector<TokenId> ids;
  std::vector<PensiveDoorText> texts;
  for (const auto& [id, name] : names) {
    require(id >= 0 && parts_->vocabulary->flags_of(id) == 0, ErrorCode::invalid_argument,
            "an id that the tokenizer does not know yet", fmt::format("{}", id),
            "Tokenizer::with_names");
    ids.push_back(id);
    texts.push_back({const_cast<char*>(name.data()), name.size()});
    parts->names.insert_or_assign(id, name);
  }
  PensiveDoor* named = nullptr;
  DoorText error;
  const int status = pensive_door_name(parts_->door.get(), ids.data(), texts.data(), ids.size(),
                                       &named, error.out());
  check(status, "names in UTF-8", error, "Tokenizer::with_names");
  parts->door = std::shared_ptr<PensiveDoor>(named, pensive_door_close);
  std::shared_ptr<Tokenizer> tokenizer(new Tokenizer());
  tokenizer->parts_ = std::move(parts);
  return tokenizer;
}

}  // namespace pensive
