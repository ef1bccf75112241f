// Words that are not drawn, and which tokens hold them.
#include <fmt/format.h>

#include "guides_scene.h"
#include "testing.h"

namespace pensive {
namespace {

using namespace testing;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Ban, MasksInThinkingOnly) {
  Scene scene(ban({.tokens = {3, 40, 99}, .vocab_size = 100}));
  EXPECT_EQ(scene.started(), "allow all but 3 40 99");
  EXPECT_EQ(scene.draw(5), "allow all but 3 40 99");
  EXPECT_EQ(scene.feed(40), "allow all but 3 40 99");
  EXPECT_EQ(scene.draw(think_close), "-");
  EXPECT_EQ(scene.draw(5), "-");
  EXPECT_EQ(scene.draw(think_open), "allow all but 3 40 99");
}

TEST(Ban, OrEverywhere) {
  const auto guide = ban({.tokens = {3}, .vocab_size = 100, .scope = BanScope::everywhere});
  EXPECT_FALSE(guide->needs_markers());
  EXPECT_TRUE(ban({.tokens = {3}, .vocab_size = 100})->needs_markers());
  Scene scene(guide, one_token_markers(), {1});
  EXPECT_EQ(scene.started(), "allow all but 3");
  EXPECT_EQ(scene.draw(5), "allow all but 3");
}

TEST(Ban, AllowsNothingBeyondTheVocabulary) {
  const Action action = ban({.tokens = {1}, .vocab_size = 35})->clone()->on_token([] {
    Moment moment;
    moment.next = Segment::think;
    return moment;
  }());
  EXPECT_THAT(std::get<Allow>(action).mask, ElementsAre(0xfffffffdu, 0x7u));
}

TEST(Ban, RefusesOptionsThatCannotBe) {
  const auto expect = [](BanOptions options, std::string_view says) {
    EXPECT_ERROR(ban(options), ErrorCode::invalid_argument, says);
  };
  expect({.tokens = {}, .vocab_size = 9}, "tokens to ban");
  expect({.tokens = {1}}, "vocab_size of at least 1");
  expect({.tokens = {9}, .vocab_size = 9}, "below vocab_size = 9");
  expect({.tokens = {-1}, .vocab_size = 9}, "token ids");
  expect({.tokens = {0, 1}, .vocab_size = 2}, "not banned");
}

std::vector<TokenId> containing(std::vector<std::string> words,
                                std::vector<std::string> except = {}) {
  return tokens_containing(*Tokenizer::load(PENSIVE_REASONER), words, except);
}

TEST(TokensContaining, FindsWordsAnywhereInAnyCase) {
  EXPECT_THAT(containing({"wait", "HMM"}), ElementsAre(26, 27));
  EXPECT_THAT(containing({"t"}), ElementsAre(26, 28, 30, 31));
  EXPECT_THAT(containing({"t"}, {"THO", "wai"}), ElementsAre(28, 31));
  EXPECT_THAT(containing({"think"}), IsEmpty()) << "special tokens are left out";
  EXPECT_THAT(containing({}), IsEmpty());
  EXPECT_ERROR(containing({""}), ErrorCode::invalid_argument, "an empty one");
}

TEST(TokensSpelling, MindsNeitherCaseNorWhatIsAround) {
  const auto tokenizer = Tokenizer::load(PENSIVE_REASONER);
  EXPECT_THAT(tokens_spelling(*tokenizer, "alternatively"), ElementsAre(28));
  EXPECT_THAT(tokens_spelling(*tokenizer, " WAIT"), ElementsAre(26));
  EXPECT_THAT(tokens_spelling(*tokenizer, "wai"), IsEmpty());
  EXPECT_ERROR(tokens_spelling(*tokenizer, " ,"), ErrorCode::invalid_argument, "a word");
}

// A vocabulary of these words, as byte-level tokenizers have them: alone and behind a space.
std::shared_ptr<const Tokenizer> spelling(const std::vector<std::string>& words) {
  std::string vocabulary = R"("<unk>":0,"<t>":1,"</t>":2)";
  TokenId id = 3;
  for (const std::string& word : words)
    for (const std::string& text : {word, " " + word})
      vocabulary += fmt::format(",\"{}\":{}", text, id++);
  const TempDir folder;
  write_file(folder.path() / "tokenizer.json",
             R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[],)"
             R"("normalizer":null,"pre_tokenizer":null,"post_processor":null,)"
             R"("decoder":{"type":"Fuse"},"model":{"type":"WordLevel","unk_token":"<unk>",)"
             R"("vocab":{)" +
                 vocabulary + "}}}");
  write_file(folder.path() / "tokenizer_config.json", "{}");
  return Tokenizer::load(folder.path());
}

// What of these words, alone or behind a space, may be drawn under the catalogue's lists.
std::string drawn(const std::vector<std::string>& words) {
  const auto tokenizer = spelling(words);
  const GuideContext context{tokenizer, Markers{{1}, {2}, {}, {}}};
  Moment moment;
  moment.next = Segment::think;
  const Action action = make_guide("ban", context)->clone()->on_token(moment);
  const std::vector<std::uint32_t>& mask = std::get<Allow>(action).mask;
  std::string all;
  for (TokenId id = 3; id < tokenizer->size(); ++id)
    if ((mask[static_cast<std::size_t>(id) / 32] >> (id % 32) & 1) != 0)
      all += "[" + tokenizer->spelling(id).value() + "]";
  return all;
}

TEST(NoWait, BansThePapersWords) {
  EXPECT_EQ(
      drawn({"wait",    "Alternatively", "hmm",          "But",       "HOWEVER",  "alternative",
             "another", "check",         "double-check", "oh",        "Oh",       "Maybe",
             "verify",  "other",         "again",        "now",       "Ah",       "any",
             "Hmmm",    "waiting",       "rechecking",   "otherwise", "verifying"}),
      "");
}

TEST(NoWait, LeavesHarmlessWords) {
  const std::vector<std::string> harmless{
      "Ohio",       "button",      "buttons",      "butter",     "knowledge",  "company",
      "companies",  "accompany",   "known",        "unknown",    "know",       "snow",
      "brother",    "mother",      "contribute",   "distribute", "attribute",  "many",
      "Germany",    "botany",      "checker",      "checkbox",   "checkpoint", "checksum",
      "against",    "John",        "ahead",        "Utah",       "Sarah",      "Noah",
      "Abraham",    "ohm",         "Bohr",         "alcohol",    "cohort",     "cohesive",
      "cohomology", "distributed", "distribution", "debut",      "butane",     "so"};
  std::vector<std::string> with_one = harmless;
  with_one.push_back("wait");
  std::string all;
  for (const std::string& word : harmless) all += fmt::format("[{0}][ {0}]", word);
  EXPECT_EQ(drawn(with_one), all);
}

TEST(NoWait, TheTokensOfMarkersStay) {
  const auto tokenizer = spelling({"now", "any", "so"});
  const GuideContext context{tokenizer, Markers{{1}, {3}, {}, {}}};
  const auto mask =
      std::get<Allow>(make_guide("ban:answer=yes", context)->clone()->on_token({})).mask;
  EXPECT_THAT(mask, ElementsAre(0x18fu)) << "3 is the closer; 4 to 6 go";
}

}  // namespace
}  // namespace pensive
