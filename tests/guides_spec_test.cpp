// Specs: a guide from a line of text.
#include "pensive/guides.h"

#include <set>

#include "base/told.h"
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

// Training runs are compared by it: each option that is changed shows.
TEST(GuideSpecs, TellAllTheirOptions) {
  const std::vector<std::vector<std::string>> families = {
      {"budget:max=9", "budget:max=10", "budget:max=9,window=3", "budget:max=9,min=4"},
      {"budget_forcing", "budget_forcing:max=9", "budget_forcing:times=2", "budget_forcing:with=Hm",
       "budget_forcing:count=total", "budget_forcing:final=So"},
      {"continue:with=Wait", "continue:with=Hm", "continue:with=Wait,times=2",
       "continue:with=Wait,max=9", "continue:with=Wait,close=yes"},
      {"switch_penalty", "switch_penalty:words=wait", "switch_penalty:alpha=2",
       "switch_penalty:beta=2"},
      {"ban", "ban:words=t", "ban:answer=yes"},
      {"closer_pressure", "closer_pressure:alpha=0.5", "closer_pressure:from=1,full=3",
       "closer_pressure:full=3", "closer_pressure:at=sentence"},
      {"margin", "margin:tau=0.25", "margin:at=line", "margin:min=1"},
      {"overthink", "overthink:max=0.5", "overthink:weight=0.5", "overthink:markers=hm",
       "overthink:cues=So", "overthink:min=1"},
      {"loops", "loops:cycle=9", "loops:times=9", "loops:least=9", "loops:lines=9",
       "loops:paragraphs=9", "loops:bytes=9", "loops:within=9", "loops:min=9"},
      {"cold_stop", "cold_stop:entropy=0.5", "cold_stop:tokens=2", "cold_stop:within=1",
       "cold_stop:min=1"},
      {"trial", "trial:at=Hm", "trial:confidence=0.5", "trial:mean=geometric", "trial:closed=yes",
       "trial:text=So", "trial:stop=x", "trial:probes=1", "trial:tokens=1", "trial:budget=1",
       "trial:ratio=0.5", "trial:min=1"},
      {"convergence", "convergence:k=3", "convergence:cue=So", "convergence:stop=x",
       "convergence:tokens=1", "convergence:min=1"},
      {"random_stop", "random_stop:p=0.5", "random_stop:seed=1", "random_stop:min=1"},
      {"prompt_budget:factor=4", "prompt_budget:factor=5", "prompt_budget:factor=4,window=3"}};
  EXPECT_EQ(families.size(), guides().size()) << "each guide that has a name";
  std::set<std::string> seen;
  for (const auto& family : families)
    for (const std::string& spec : family) {
      const std::string told = told_by(*make_guide(spec, context()));
      EXPECT_FALSE(told.empty()) << spec;
      EXPECT_TRUE(seen.insert(family.front() + told).second) << spec << ": " << told;
      EXPECT_EQ(told, told_by(*make_guide(spec, context()))) << spec;
    }
}

TEST(GuideSpecs, RefuseWhatTheyDoNotKnow) {
  const auto expect = [](std::string_view spec, std::string_view says) {
    EXPECT_ERROR(make_guide(spec, context()), ErrorCode::invalid_argument, says);
  };
  expect("bugdet:max=1", "budget, budget_forcing");
  expect("budget", "max=…");
  expect("continue", "with=…");
  expect("budget:max=", "a whole number");
  expect("budget:max=1.5", "a whole number");
  expect("budget:max=1,max=2", "a setting once");
  expect("budget:most=1", "max, min, window");
  expect("budget:max", "KEY=VALUE");
  expect("budget:max=-1", "at least 0");
  expect("margin:tau=nan", "a number");
  expect("continue:with=", "at least one token");
  expect("continue:with=\"Wait", "ends with");
  expect("continue:with=\"Wait\"x", "a comma");
}

TEST(GuideSpecs, OfWhatSteers) {
  for (const std::string_view spec :
       {"budget:max=9,min=4", "budget:min=4", R"(budget_forcing:with="Wait, ",final=,count=total)",
        R"(budget_forcing:with=,final="\n",max=64,times=2,count=each_round)",
        R"(continue:with="Wait, ",times=3,max=99,close=yes)", "switch_penalty",
        "switch_penalty:words=wait|hmm,alpha=2.5,beta=10", "switch_penalty:words=perhaps", "ban",
        "ban:words=t,except=steps|thorough", "ban:answer=yes", "closer_pressure",
        "closer_pressure:alpha=0.2,from=10,full=20,at=sentence"})
    EXPECT_NO_THROW(make_guide(spec, context())) << spec;
}

TEST(GuideSpecs, RefuseWhatCannotSteer) {
  const auto expect = [](std::string_view spec, std::string_view says) {
    EXPECT_ERROR(make_guide(spec, context()), ErrorCode::invalid_argument, says);
  };
  expect("budget:max=9,min=10", "min_think_tokens of at most max_think_tokens = 9");
  expect("budget:max=9,window=10", "window_tokens of at most max_think_tokens = 9");
  expect("budget_forcing:count=half", "each_round, total");
  expect("budget_forcing:times=-1", "times of at least 0");
  expect("continue:with=\"Wait, \",close=maybe", "yes or no");
  expect("switch_penalty:words=", "tokens that begin another thought");
  expect("switch_penalty:words=.", "a word");
  expect("ban:words=perhaps", "words that a token contains");
  expect("ban:answer=both", "yes or no");
  expect("closer_pressure:at=ends", "anywhere, sentence");
  expect("closer_pressure:from=2,full=1", "full of at least from = 2");
}

// A word that is no token of its own: the first of those that spell it.
TEST(GuideSpecs, SwitchWordsAreTokensInAnyCase) {
  const auto biased = [](std::string_view spec) {
    Moment moment;
    moment.next = Segment::think;
    const Action action = make_guide(spec, context())->clone()->on_start(moment);
    std::vector<TokenId> ids;
    for (const Bias& bias : std::get<Proceed>(action).biases) ids.push_back(bias.token);
    return ids;
  };
  EXPECT_THAT(biased("switch_penalty"), ::testing::ElementsAre(28));
  EXPECT_THAT(biased("switch_penalty:words=hmm|WAIT,"), ::testing::ElementsAre(26, 27));
  EXPECT_THAT(biased("switch_penalty:words=7 + 1"), ::testing::ElementsAre(15));
}

// With their defaults, as far as they have them.
TEST(GuideSpecs, MakeEveryGuideOfTheCatalogue) {
  for (const GuideInfo& info : guides()) {
    std::string spec(info.name);
    for (const GuideKey& key : info.keys)
      if (key.fallback == "required")
        spec += (spec == info.name ? ":" : ",") + std::string(key.name) + "=5";
    if (info.name == "budget") spec += ":max=5";
    const auto guide = make_guide(spec, context());
    EXPECT_FALSE(guide->name().empty());
    EXPECT_EQ(guide->clone()->name(), guide->name());
  }
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
