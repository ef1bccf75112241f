// Specs: a guide from a line of text.
#include "pensive/guides.h"
#include "testing.h"

namespace pensive {
namespace {

GuideContext context() {
  const auto tokenizer = Tokenizer::load(PENSIVE_REASONER);
  return {tokenizer, find_markers(*tokenizer)};
}

TEST(GuideSpecs, MakeWhatTheyName) {
  EXPECT_EQ(make_guide("budget:max=200,window=0", context())->name(), "budget");
  EXPECT_EQ(make_guide("margin", context())->watches(), context().markers->think_close);
  EXPECT_EQ(make_guide("continue:with=\"Wait, \",times=2", context())->name(), "continue_thinking");
}

TEST(GuideSpecs, RefuseWhatTheyDoNotKnow) {
  const auto expect = [](std::string_view spec, std::string_view says) {
    EXPECT_ERROR(make_guide(spec, context()), ErrorCode::invalid_argument, says);
  };
  expect("bugdet:max=1", "budget, ");
  expect("budget", "max=…");
  expect("budget:max=", "a whole number");
  expect("budget:max=1.5", "a whole number");
  expect("budget:max=1,max=2", "a setting once");
  expect("budget:most=1", "max, window");
  expect("budget:max", "KEY=VALUE");
  expect("budget:max=-1", "at least 0");
  expect("margin:tau=nan", "a number");
  expect("continue:with=", "at least one token");
  expect("continue:with=\"Wait", "ends with");
  expect("continue:with=\"Wait\"x", "a comma");
}

TEST(GuideSpecs, NeedTheirContext) {
  EXPECT_ERROR(make_guide("margin", {}), ErrorCode::invalid_argument, "thinking markers");
  EXPECT_ERROR(make_guide("continue:with=Wait", {}), ErrorCode::invalid_argument, "a tokenizer");
}

// Every line of the catalogue says where its rule is from and what each setting does.
TEST(Catalogue, IsInOrderAndComplete) {
  std::string_view last;
  for (const GuideInfo& info : guides()) {
    EXPECT_LT(last, info.name);
    last = info.name;
    EXPECT_FALSE(info.source.empty() || info.meaning.empty()) << info.name;
    for (const GuideKey& key : info.keys)
      EXPECT_FALSE(key.name.empty() || key.fallback.empty() || key.meaning.empty()) << info.name;
  }
}

}  // namespace
}  // namespace pensive
