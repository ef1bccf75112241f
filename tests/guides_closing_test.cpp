// The closing text, from a text.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "marked.h"
#include "pensive/guides.h"

namespace pensive::testing {
namespace {

GuideContext context(std::string_view open, std::string_view close) {
  static const auto tokenizer = marked_tokenizer();
  return {tokenizer, markers_of(*tokenizer, open, close)};
}

TEST(ClosingText, HasTheClosersOwnTokensInIt) {
  for (const auto& [open, close] : std::vector<std::pair<std::string, std::string>>{
           {"<t>", "</t>"}, {"<|im_start|>think", "<|im_start|>answer"}, {"<think>", "</think>"}}) {
    const GuideContext given = context(open, close);
    const std::vector<TokenId> closing = closing_of(given, "so be it." + close + "\n\nans");
    EXPECT_EQ(given.tokenizer->decode(closing, true), "so be it." + close + "\n\nans");
    const auto& closer = given.markers->think_close;
    EXPECT_FALSE(std::ranges::search(closing, closer).empty()) << close;
    EXPECT_EQ(closing_of(given, close), closer);
  }
}

TEST(ClosingText, IsRefusedByNameWhereItCannotBe) {
  const auto bad = ErrorCode::invalid_argument;
  const GuideContext given = context("<think>", "</think>");
  EXPECT_ERROR(closing_of(given, ""), bad, "at least one token");
  EXPECT_ERROR(closing_of(given, "so be it"), bad, "a text with \"</think>\" in it, once");
  EXPECT_ERROR(closing_of(given, "a</think>b</think>"), bad, "once");
  EXPECT_ERROR(closing_of(given, "a</thin"), bad, "</think>");
  EXPECT_ERROR(closing_of({given.tokenizer, std::nullopt}, "a"), bad, "thinking markers");
  EXPECT_ERROR(closing_of({}, "a"), bad, "a tokenizer");
}

}  // namespace
}  // namespace pensive::testing
