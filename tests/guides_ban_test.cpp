// Words that are not drawn, and which tokens hold them.
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

}  // namespace
}  // namespace pensive
