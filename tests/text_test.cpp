#include "pensive/text.h"

#include <random>
#include <thread>

#include "base/inside.h"
#include "testing.h"

namespace pensive {
namespace {

using testing::data;
using testing::TempDir;
using testing::write_file;
using Json = nlohmann::ordered_json;
using Ids = std::vector<TokenId>;

std::filesystem::path folder_of(std::string_view name) { return data("text") / name; }

std::shared_ptr<const Tokenizer> load(std::string_view name) {
  return Tokenizer::load(folder_of(name));
}

std::string streamed(const std::shared_ptr<const Tokenizer>& tokenizer, const Ids& ids,
                     bool keep_special) {
  TextStream stream(tokenizer, keep_special);
  std::string text;
  for (const TokenId id : ids) {
    const std::string piece = stream.push(id);
    EXPECT_EQ(to_utf8(piece), piece) << "half a character";
    text += piece;
  }
  return text + stream.finish();
}

std::string tokenizer_json(std::string_view name) {
  return read_text(folder_of(name) / "tokenizer.json");
}

// Loads a tokenizer.json of this text and nothing else.
std::shared_ptr<const Tokenizer> load_text(std::string_view json) {
  const TempDir folder;
  write_file(folder / "tokenizer.json", json);
  return Tokenizer::load(folder.path());
}

class EveryTokenizer : public ::testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const Tokenizer> tokenizer_ = load(GetParam());
  Json recorded_ = parse_json(read_text(folder_of(GetParam()) / "recorded.json"), GetParam());
};

INSTANTIATE_TEST_SUITE_P(Text, EveryTokenizer,
                         ::testing::Values("byte_level", "byte_fallback", "metaspace", "word_piece",
                                           "words", "fused"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(EveryTokenizer, EncodesAsRecorded) {
  for (const Json& entry : recorded_) {
    if (!entry.contains("text")) continue;
    const std::string text = entry["text"];
    EXPECT_EQ(tokenizer_->encode(text), entry["ids"].get<Ids>()) << text;
    EXPECT_EQ(tokenizer_->encode(text, {AddSpecial::no}), entry["bare"].get<Ids>()) << text;
  }
}

TEST_P(EveryTokenizer, DecodesAsRecorded) {
  for (const Json& entry : recorded_) {
    const Ids ids = entry["ids"];
    EXPECT_EQ(tokenizer_->decode(ids), entry["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer_->decode(ids, true), entry["kept"].get<std::string>());
  }
}

TEST_P(EveryTokenizer, StreamsAsRecorded) {
  for (const Json& entry : recorded_) {
    const Ids ids = entry["ids"];
    EXPECT_EQ(streamed(tokenizer_, ids, false), entry["decoded"].get<std::string>());
    EXPECT_EQ(streamed(tokenizer_, ids, true), entry["kept"].get<std::string>());
  }
}

TEST_P(EveryTokenizer, StreamsRandomIdsAsDecoded) {
  Ids known;
  for (TokenId id = 0; id < 2 * tokenizer_->size(); ++id)
    if (tokenizer_->spelling(id)) known.push_back(id);
  std::mt19937 random(7);
  for (int round = 0; round < 300; ++round) {
    Ids ids(random() % 40);
    const std::size_t most = round % 2 == 0 ? known.size() : 12;  // few ids: runs and repeats
    const std::size_t first = random() % (known.size() - most + 1);
    for (TokenId& id : ids) id = known[first + random() % most];
    for (const bool keep : {false, true})
      ASSERT_EQ(streamed(tokenizer_, ids, keep), tokenizer_->decode(ids, keep)) << round;
  }
}

TEST_P(EveryTokenizer, SpellsSpecialTokensOutWhenAsked) {
  const std::optional<TokenId> unknown = tokenizer_->find("<unk>");
  for (const Json& entry : recorded_) {
    if (!entry.contains("text")) continue;
    const Ids ids =
        tokenizer_->encode(entry["text"].get<std::string>(), {AddSpecial::no, ParseSpecial::no});
    const Ids recorded = entry["literal"];
    const auto is_special = [&](TokenId id) { return tokenizer_->is_special(id) && id != unknown; };
    EXPECT_TRUE(std::none_of(ids.begin(), ids.end(), is_special)) << entry["text"];
    if (std::none_of(recorded.begin(), recorded.end(), is_special)) {
      EXPECT_EQ(ids, recorded) << entry["text"];
    }
  }
}

TEST_P(EveryTokenizer, KnowsItsTokens) {
  EXPECT_EQ(tokenizer_->bos(), tokenizer_->find("<s>"));
  EXPECT_EQ(tokenizer_->eos(), tokenizer_->find("</s>"));
  EXPECT_NE(tokenizer_->bos(), std::nullopt);
  int known = 0;
  for (TokenId id = 0; id < 1000; ++id) {
    const auto spelling = tokenizer_->spelling(id);
    if (!spelling) continue;
    ++known;
    EXPECT_EQ(tokenizer_->find(*spelling), id);
  }
  EXPECT_EQ(known, tokenizer_->size());
  EXPECT_TRUE(tokenizer_->is_special(*tokenizer_->find("<|turn|>")));
  EXPECT_FALSE(tokenizer_->is_special(-1));
  EXPECT_FALSE(tokenizer_->is_special(1 << 30));
  EXPECT_TRUE(tokenizer_->is_known(0));
  for (TokenId id : {-1, 5000, 1 << 30}) EXPECT_FALSE(tokenizer_->is_known(id));
  EXPECT_EQ(tokenizer_->find("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer_->find("\xff"), std::nullopt);
  EXPECT_EQ(tokenizer_->spelling(-1), std::nullopt);
  EXPECT_EQ(tokenizer_->spelling(1 << 30), std::nullopt);
}

TEST_P(EveryTokenizer, RefusesUnknownIds) {
  for (const TokenId id : {TokenId{-1}, TokenId{100000}, TokenId{0x7fffffff}}) {
    EXPECT_ERROR(tokenizer_->decode(Ids{id}), ErrorCode::invalid_argument, std::to_string(id));
    TextStream stream(tokenizer_);
    EXPECT_ERROR(stream.push(id), ErrorCode::invalid_argument, std::to_string(id));
    EXPECT_EQ(stream.finish(), "");
  }
}

TEST_P(EveryTokenizer, RefusesTextThatIsNoUtf8) {
  EXPECT_ERROR(tokenizer_->encode("ab\xff"), ErrorCode::invalid_argument, "0xff at offset 2");
  EXPECT_ERROR(tokenizer_->encode("\xf0\x9f\x98"), ErrorCode::invalid_argument, "UTF-8");
}

TEST_P(EveryTokenizer, PrintsNames) {
  const std::vector<std::pair<TokenId, std::string>> names = {{5000, "<go on>"}, {5001, "é"}};
  const auto named = tokenizer_->with_names(names);
  EXPECT_EQ(named->spelling(5000), "<go on>");
  EXPECT_EQ(named->find("<go on>"), 5000);
  EXPECT_FALSE(named->is_special(5000));
  EXPECT_TRUE(named->is_known(5000));
  EXPECT_EQ(named->size(), tokenizer_->size());
  const Ids dog = tokenizer_->encode("dog", {AddSpecial::no});
  Ids ids = dog;
  ids.push_back(5000);
  ids.insert(ids.end(), dog.begin(), dog.end());
  ids.push_back(5001);
  EXPECT_THAT(named->decode(ids), ::testing::HasSubstr("<go on>"));
  EXPECT_THAT(named->decode(ids), ::testing::EndsWith("é"));
  EXPECT_EQ(streamed(named, ids, false), named->decode(ids));
  EXPECT_ERROR(tokenizer_->decode(ids), ErrorCode::invalid_argument, "5000");
}

TEST_P(EveryTokenizer, ServesManyThreads) {
  const std::string text = "The dog. <|turn|> The answer is 7.";
  const Ids ids = tokenizer_->encode(text);
  const Ids literal = tokenizer_->encode(text, {AddSpecial::yes, ParseSpecial::no});
  const auto fresh = load(GetParam());
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int round = 0; round < 50; ++round) {
        EXPECT_EQ(fresh->encode(text, {AddSpecial::yes, ParseSpecial::no}), literal);
        EXPECT_EQ(fresh->encode(text), ids);
        EXPECT_EQ(streamed(fresh, ids, true), tokenizer_->decode(ids, true));
      }
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(Names, MustBeNewIdsAndUtf8) {
  const auto tokenizer = load("byte_level");
  using Names = std::vector<std::pair<TokenId, std::string>>;
  EXPECT_ERROR(tokenizer->with_names(Names{{0, "x"}}), ErrorCode::invalid_argument, "found 0");
  EXPECT_ERROR(tokenizer->with_names(Names{{-4, "x"}}), ErrorCode::invalid_argument, "found -4");
  EXPECT_ERROR(tokenizer->with_names(Names{{900, "\xff"}}), ErrorCode::invalid_argument, "0xff");
  const auto twice = tokenizer->with_names(Names{{900, "a"}, {901, "b"}})
                         ->with_names(Names{{900, "c"}, {0x7fffffff, "d"}});
  EXPECT_EQ(twice->decode(Ids{900, 901, 0x7fffffff}), "cbd");
  EXPECT_EQ(tokenizer->with_names({})->decode({}), "");
}

TEST(TextStream, HoldsACharacterUntilItIsWhole) {
  const auto tokenizer = load("byte_level");
  const Ids ids = tokenizer->encode("😀!", {AddSpecial::no});
  ASSERT_GE(ids.size(), 3u);
  TextStream stream(tokenizer);
  std::vector<std::string> pieces;
  for (const TokenId id : ids) pieces.push_back(stream.push(id));
  EXPECT_EQ(pieces.front(), "");
  EXPECT_EQ(pieces.back(), "!");
  EXPECT_EQ(stream.finish(), "");
}

TEST(TextStream, EndsHalfACharacterWithAMark) {
  const auto tokenizer = load("byte_level");
  const Ids ids = tokenizer->encode("😀", {AddSpecial::no});
  TextStream stream(tokenizer);
  EXPECT_EQ(stream.push(ids[0]), "");
  EXPECT_EQ(stream.finish(), "\xef\xbf\xbd");
  EXPECT_EQ(stream.push(*tokenizer->find("a")), "a") << "begins anew";
}

TEST(TextStream, CopiesWithItsState) {
  const auto tokenizer = load("byte_level");
  const Ids ids = tokenizer->encode("😀", {AddSpecial::no});
  TextStream stream(tokenizer);
  stream.push(ids[0]);
  TextStream copy = stream;
  EXPECT_EQ(copy.finish(), "\xef\xbf\xbd");
  std::string text;
  for (std::size_t i = 1; i < ids.size(); ++i) text += stream.push(ids[i]);
  EXPECT_EQ(text, "😀");
}

TEST(TextStream, StripsOnlyTheFirstSpace) {
  const auto tokenizer = load("byte_fallback");
  const Ids ids = tokenizer->encode("The dog  is a 😀 dog", {AddSpecial::no});
  EXPECT_EQ(streamed(tokenizer, ids, false), "The dog  is a 😀 dog");
  TextStream stream(tokenizer);
  EXPECT_EQ(stream.push(ids[0]), "The") << "text that is sure comes at once";
}

TEST(TextStream, KeepsUpOverLongTexts) {
  for (const char* name : {"byte_fallback", "metaspace", "word_piece"}) {
    const auto tokenizer = load(name);
    const Ids line = tokenizer->encode("The answer is 7. Grüße 😀 and the dog", {AddSpecial::no});
    Ids ids;
    for (int i = 0; i < 200; ++i) ids.insert(ids.end(), line.begin(), line.end());
    EXPECT_EQ(streamed(tokenizer, ids, false), tokenizer->decode(ids));
  }
}

TEST(TextStream, NeedsATokenizer) {
  EXPECT_ERROR(TextStream(nullptr), ErrorCode::invalid_argument, "a tokenizer");
}

TEST(Load, ReportsAMissingFile) {
  const TempDir folder;
  EXPECT_ERROR(Tokenizer::load(folder.path()), ErrorCode::not_found, "tokenizer.json");
  EXPECT_ERROR(Tokenizer::load(folder / "none"), ErrorCode::not_found, "tokenizer.json");
}

TEST(Load, NeedsNothingButTokenizerJson) {
  const auto tokenizer = load_text(tokenizer_json("words"));
  EXPECT_EQ(tokenizer->bos(), std::nullopt);
  EXPECT_EQ(tokenizer->eos(), std::nullopt);
  EXPECT_FALSE(tokenizer->has_chat_template());
}

TEST(Load, RefusesTruncatedFiles) {
  for (const char* name : {"byte_level", "metaspace"}) {
    const std::string json = tokenizer_json(name);
    for (std::size_t size = 0; size + 1 < json.size(); size += 97)
      EXPECT_ERROR(load_text(json.substr(0, size)), ErrorCode::corrupt_file, "tokenizer.json");
  }
}

TEST(Load, RefusesRandomBytes) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    std::string bytes(random() % 500, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    EXPECT_ERROR(load_text(bytes), ErrorCode::corrupt_file, "tokenizer.json");
  }
}

TEST(Load, RefusesWrongTypes) {
  for (const char* text :
       {"null", "[]", "3", "{}", "{\"model\":null}", "{\"model\":{\"type\":\"BPE\"}}",
        "{\"model\":{\"type\":\"Magic\",\"vocab\":{}}}", "{\"added_tokens\":7}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}}",
        "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b\"]}}",
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":\"0\"},\"unk_token\":\"a\"}}",
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0},\"unk_token\":\"a\"},"
        "\"decoder\":7}",
        "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0},\"unk_token\":\"a\"},"
        "\"version\":\"9\"}"})
    EXPECT_ERROR(load_text(text), ErrorCode::corrupt_file, "tokenizer.json");
}

TEST(Load, SurvivesAnyOneByteChanged) {
  std::mt19937 random(5);
  const std::string json = tokenizer_json("byte_fallback");
  for (int round = 0; round < 150; ++round) {
    std::string damaged = json;
    damaged[random() % damaged.size()] = static_cast<char>(random());
    try {
      const auto tokenizer = load_text(damaged);
      const Ids ids = tokenizer->encode("The dog is 😀 <s>");
      EXPECT_EQ(streamed(tokenizer, ids, true), tokenizer->decode(ids, true));
    } catch (const Error& error) {
      EXPECT_NE(error.code(), ErrorCode::internal) << error.what();
    }
  }
}

TEST(Load, RefusesHugeIds) {
  const char* const json =
      "{\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0,\"b\":4294967295},"
      "\"unk_token\":\"a\"}}";
  EXPECT_ERROR(load_text(json), ErrorCode::corrupt_file, "429496729");
}

TEST(Load, RefusesAddedTokensThatGetOtherIds) {
  const char* const json =
      "{\"added_tokens\":[{\"id\":9,\"content\":\"<x>\",\"single_word\":false,\"lstrip\":false,"
      "\"rstrip\":false,\"normalized\":false,\"special\":true}],"
      "\"model\":{\"type\":\"WordLevel\",\"vocab\":{\"a\":0},\"unk_token\":\"a\"}}";
  EXPECT_ERROR(load_text(json), ErrorCode::corrupt_file, "with id 9, which gets 1");
}

TEST(Load, ForgetsTruncationAndPadding) {
  Json json = parse_json(tokenizer_json("words"), "words");
  json["truncation"] = {
      {"direction", "Right"}, {"max_length", 2}, {"strategy", "LongestFirst"}, {"stride", 0}};
  json["padding"] = {{"strategy", {{"Fixed", 8}}},
                     {"direction", "Right"},
                     {"pad_to_multiple_of", nullptr},
                     {"pad_id", 2},
                     {"pad_type_id", 0},
                     {"pad_token", "<pad>"}};
  EXPECT_EQ(load_text(json.dump())->encode("the dog and the dog").size(), 5u);
}

// A WordLevel model lists its special tokens as words, where a text could still find them.
TEST(ParseSpecial, DoesNotFindSpecialWordsInAModel) {
  const auto tokenizer = load("words");
  const TokenId pad = *tokenizer->find("<pad>");
  EXPECT_EQ(tokenizer->encode("<pad>"), Ids{pad});
  EXPECT_EQ(tokenizer->encode("<pad>", {AddSpecial::no, ParseSpecial::no}),
            Ids{*tokenizer->find("<unk>")});
}

TEST(Reasoner, GoesThereAndBack) {
  if (!std::filesystem::exists(std::filesystem::path(PENSIVE_REASONER) / "tokenizer.json"))
    GTEST_SKIP() << "no examples/reasoner/tokenizer.json";
  const auto tokenizer = Tokenizer::load(PENSIVE_REASONER);
  const Ids ids = tokenizer->encode("<think>3+4=7</think>", {AddSpecial::no});
  EXPECT_EQ(ids.front(), tokenizer->find("<think>"));
  EXPECT_EQ(streamed(tokenizer, ids, true), tokenizer->decode(ids, true));
  EXPECT_THAT(tokenizer->decode(ids), ::testing::Not(::testing::HasSubstr("<think>")));
  EXPECT_THAT(tokenizer->encode("<think>", {AddSpecial::no, ParseSpecial::no}),
              ::testing::Not(::testing::Contains(*tokenizer->find("<think>"))));
}

}  // namespace
}  // namespace pensive
