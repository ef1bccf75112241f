// Brakes that ask: DEER's trial answers, and answers that agree.
#include <cmath>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "story.h"

namespace pensive {
namespace {

using testing::Story;

constexpr std::string_view asked = "probe -1 for 20 at 0: 70 71";
constexpr std::string_view closed = "close brake -1 in 0";

TrialBrakeOptions deer() {
  TrialBrakeOptions options;
  options.trial = {70, 71};
  return options;
}

std::vector<float> logs(const std::vector<double>& probabilities) {
  std::vector<float> all;
  for (const double one : probabilities) all.push_back(static_cast<float>(std::log(one)));
  return all;
}

TEST(TrialBrake, HasTheNumbersOfThePapersCode) {
  EXPECT_EQ(deer().at, "Wait");
  EXPECT_FLOAT_EQ(deer().min_confidence, 0.95f);
  EXPECT_FLOAT_EQ(deer().think_ratio, 0.9f);
  EXPECT_EQ(deer().max_probes, 10);
  EXPECT_EQ(deer().max_probe_tokens, 20);
  EXPECT_EQ(deer().max_tokens, 16384);
  EXPECT_EQ(deer().mean, Mean::arithmetic);
}

TEST(TrialBrake, AsksWhereTheMarkerIsDrawn) {
  const struct {
    std::vector<std::string_view> texts;
    std::string_view says;
  } table[] = {{{"so ", "Wait"}, asked},
               {{"so", " Wait"}, asked},
               {{"so\n", "Wait, "}, asked},
               {{"so ", "Wa", "it"}, "probe -2 for 20 at 0: 70 71"},
               {{"so ", "W", "", "ait"}, "probe -3 for 20 at 0: 70 71"},
               {{"so", "wait"}, "-"},
               {{"Await", "Wait", "ing"}, "-"},
               {{"so", "Waiting"}, "-"},
               {{"so", "A", "Wait"}, "-"}};
  for (const auto& row : table) {
    Story story(trial_brake(deer()));
    std::string last;
    for (const std::string_view text : row.texts) last = story.draw(text);
    EXPECT_EQ(last, row.says) << row.texts.back();
  }
}

TEST(TrialBrake, AsksOnlyInThinkingThatIsDrawn) {
  Story story(trial_brake(deer()));
  EXPECT_EQ(story.force("Wait"), "-");
  EXPECT_EQ(story.mark(Marker::think_close), "-");
  EXPECT_EQ(story.answer("Wait"), "-");
  TrialBrakeOptions options = deer();
  options.min_think_tokens = 2;
  Story late(trial_brake(options));
  EXPECT_EQ(late.draw("Wait"), "-");
  EXPECT_EQ(late.draw("Wait"), "-") << "no letter may stand before it";
  EXPECT_EQ(late.draw(" Wait"), asked);
}

TEST(TrialBrake, TakesTheMarkerBackWhereTheTrialIsConfident) {
  const float minus_infinity = -std::numeric_limits<float>::infinity();
  const struct {
    std::vector<float> logprobs;
    Mean mean;
    bool closes;
  } table[] = {{logs({0.01, 0.96, 0.95}), Mean::arithmetic, true},
               {logs({0.99, 0.94, 0.95}), Mean::arithmetic, false},
               {logs({1, 1, 0.902}), Mean::arithmetic, true},
               {logs({1, 1, 0.902}), Mean::geometric, false},
               {logs({1, 1, 0.91}), Mean::geometric, true},
               {logs({1}), Mean::arithmetic, false},
               {{}, Mean::arithmetic, false},
               {{0, std::nanf(""), 0}, Mean::arithmetic, false},
               {{0, 0, minus_infinity}, Mean::geometric, false}};
  for (const auto& row : table) {
    TrialBrakeOptions options = deer();
    options.mean = row.mean;
    Story story(trial_brake(options));
    ASSERT_EQ(story.draw_all({"so", " Wait"}), asked);
    EXPECT_EQ(story.reply("{4}.", row.logprobs), row.closes ? closed : "-");
  }
}

TEST(TrialBrake, QwensTrialsMustCloseTheThinking) {
  TrialBrakeOptions options = deer();
  options.must_end_with = {8, 9};
  const std::vector<float> sure = logs({1, 1, 1, 1, 0.01});
  const struct {
    std::vector<TokenId> tokens;
    bool closes;
  } table[] = {{{1, 2, 8, 9, 3}, true}, {{1, 2, 9, 8, 3}, false}, {{1, 2, 3, 8, 9}, false}};
  for (const auto& row : table) {
    Story story(trial_brake(options));
    story.draw_all({"so", " Wait"});
    EXPECT_EQ(story.reply("", sure, row.tokens), row.closes ? closed : "-")
        << "what comes after the closer does not count";
  }
}

TEST(TrialBrake, AsksOnlySoOften) {
  TrialBrakeOptions options = deer();
  options.max_probes = 2;
  Story story(trial_brake(options));
  EXPECT_EQ(story.draw_all({"so", " Wait"}), asked);
  EXPECT_EQ(story.reply("", logs({1, 0.5})), "-");
  EXPECT_EQ(story.draw(" Wait"), asked);
  EXPECT_EQ(story.refuse(), "-") << "a refused one is asked again at the next marker";
  EXPECT_EQ(story.draw(" Wait", false), asked) << "and one that another guide prevented";
  EXPECT_EQ(story.draw(" Wait"), asked);
  EXPECT_EQ(story.reply("", logs({1, 0.5})), "-");
  EXPECT_EQ(story.draw(" Wait"), "-");
}

TEST(TrialBrake, ClosesAtItsShareOfTheTokens) {
  TrialBrakeOptions options = deer();
  options.max_tokens = 100;
  options.think_ratio = 0.6f;
  options.max_probes = 1;
  Story story(trial_brake(options));
  for (int i = 0; i < 9; ++i) EXPECT_EQ(story.draw("so"), "-");
  Story early = story;
  EXPECT_EQ(early.draw(" Wait"), asked);
  EXPECT_EQ(early.reply("", logs({1, 0.5})), "-");
  EXPECT_EQ(early.first_round({"so"}, 99), 50) << "60 thinking tokens";
  EXPECT_EQ(early.draw("so"), "close brake -0 in 0") << "as long as it is not closed";
  story.draw("so");
  EXPECT_EQ(story.draw(" Wait"), asked);
  EXPECT_EQ(story.reply("", logs({1, 0.5})), closed) << "50 tokens before the limit";
}

TEST(TrialBrake, StopsTrialsWhereABoxEnds) {
  const auto guide = trial_brake(deer())->clone();
  Moment moment;
  moment.segment = Segment::think;
  moment.text = moment.tail = "Wait";
  moment.think_tokens = moment.new_tokens = 1;
  const Action action = guide->on_token(moment);
  ASSERT_TRUE(std::holds_alternative<Probe>(action));
  EXPECT_THAT(std::get<Probe>(action).stop_texts,
              ::testing::ElementsAre(" }", "}\n", "}.", "}\\", "}}", ")}"));
}

TEST(TrialBrake, RefusesOptionsThatCannotBe) {
  const auto expect = [](std::string_view says, auto change) {
    TrialBrakeOptions options = deer();
    change(options);
    EXPECT_ERROR(trial_brake(options), ErrorCode::invalid_argument, says);
  };
  using O = TrialBrakeOptions;
  expect("tokens of a trial; found none", [](O& o) { o.trial = {}; });
  expect("token ids of at least 0; found -1", [](O& o) { o.trial = {-1}; });
  expect("token ids", [](O& o) { o.must_end_with = {-1}; });
  expect("1 to 32 bytes", [](O& o) { o.at = ""; });
  expect("1 to 32 bytes", [](O& o) { o.at = std::string(33, 'x'); });
  expect("stop_texts", [](O& o) { o.stop_texts = {""}; });
  expect("min_confidence from 0 to 1", [](O& o) { o.min_confidence = std::nanf(""); });
  expect("max_probes", [](O& o) { o.max_probes = -1; });
  expect("max_probe_tokens", [](O& o) { o.max_probe_tokens = 0; });
  expect("max_tokens of at least 1", [](O& o) { o.max_tokens = 0; });
  expect("think_ratio", [](O& o) { o.think_ratio = 1.1f; });
  expect("min_think_tokens", [](O& o) { o.min_think_tokens = -1; });
}

constexpr std::string_view tried = "probe -0 for 20 at 0: 90 70";
constexpr std::string_view agreed = "close brake -0 in 0";

ConvergenceBrakeOptions agreeing(int k) {
  return {.trial = {90, 70}, .trial_text = "\\boxed", .stop_texts = {"}"}, .agreeing = k};
}

TEST(ConvergenceBrake, TriesAfterEachSentenceDrawnInThinking) {
  EXPECT_EQ(ConvergenceBrakeOptions{}.agreeing, 10) << "as in the paper";
  Story story(convergence_brake(agreeing(3)));
  EXPECT_EQ(story.draw("so"), "-");
  EXPECT_EQ(story.draw(" it is."), tried);
  EXPECT_EQ(story.draw(""), "-");
  EXPECT_EQ(story.draw("line\n"), tried);
  EXPECT_EQ(story.force("line\n"), "-");
  EXPECT_EQ(story.mark(Marker::think_close), "-");
  EXPECT_EQ(story.answer("4.\n"), "-");
}

TEST(ConvergenceBrake, ClosesAfterSoManyInARowThatAgree) {
  const struct {
    std::vector<std::string_view> replies;
    bool closes;  // at the last; never before
  } table[] = {{{"{4}", "{4.0}", "{ 4 }"}, true},
               {{"{4}", "{4}", "{5}"}, false},
               {{"{5}", "{4}", "{4}", "{4}"}, true},
               {{"{4}", "{4}", "", "{4}"}, false},
               {{"", "", ""}, false},
               {{" four } and", "four}", "Four"}, true},
               {{"{}", "{}", "{}"}, false}};
  for (const auto& row : table) {
    Story story(convergence_brake(agreeing(3)));
    for (const std::string_view& reply : row.replies) {
      ASSERT_EQ(story.draw("so.\n"), tried);
      EXPECT_EQ(story.reply(reply), &reply == &row.replies.back() && row.closes ? agreed : "-")
          << reply;
    }
  }
}

TEST(ConvergenceBrake, ARefusedTrialLeavesTheCount) {
  Story story(convergence_brake(agreeing(2)));
  story.draw("so.\n");
  EXPECT_EQ(story.reply("{4}"), "-");
  EXPECT_EQ(story.draw("so.\n"), tried);
  EXPECT_EQ(story.refuse(), "-");
  EXPECT_EQ(story.draw("so.\n"), tried);
  Story fork = story;
  EXPECT_EQ(story.reply("{4}"), agreed);
  EXPECT_EQ(fork.reply("{5}"), "-");
}

TEST(ConvergenceBrake, CountsAnewWhatIsOpenedAgainOrTakenBack) {
  Story story(convergence_brake(agreeing(2)));
  story.draw("so.\n");
  story.reply("{4}");
  Story taken = story;
  story.mark(Marker::think_open);
  story.draw("so.\n");
  EXPECT_EQ(story.reply("{4}"), "-");
  taken.take_back(1);
  taken.draw("so.\n");
  EXPECT_EQ(taken.reply("{4}"), "-");
}

TEST(ConvergenceBrake, LeavesTheFirstThinkingAlone) {
  ConvergenceBrakeOptions options = agreeing(1);
  options.min_think_tokens = 3;
  Story story(convergence_brake(options));
  EXPECT_EQ(story.first_round({"so.\n"}, 9), 3);
  EXPECT_EQ(story.reply("{4}"), agreed);
}

TEST(ConvergenceBrake, RefusesOptionsThatCannotBe) {
  const auto expect = [](std::string_view says, auto change) {
    ConvergenceBrakeOptions options = agreeing(3);
    change(options);
    EXPECT_ERROR(convergence_brake(options), ErrorCode::invalid_argument, says);
  };
  using O = ConvergenceBrakeOptions;
  expect("tokens of a trial; found none", [](O& o) { o.trial = {}; });
  expect("token ids", [](O& o) { o.trial = {-1}; });
  expect("stop_texts", [](O& o) { o.stop_texts = {""}; });
  expect("agreeing of at least 1", [](O& o) { o.agreeing = 0; });
  expect("max_probe_tokens", [](O& o) { o.max_probe_tokens = 0; });
  expect("min_think_tokens", [](O& o) { o.min_think_tokens = -1; });
}

// Every brake, from a line; its name is what traces show.
TEST(Brakes, AreMadeFromSpecs) {
  const auto tokenizer = Tokenizer::load(PENSIVE_REASONER);
  const GuideContext context{tokenizer, find_markers(*tokenizer)};
  const struct {
    std::string_view spec, name;
  } table[] = {
      {"overthink", "overthink_brake"},
      {R"(overthink:max=0.3,weight=0,markers=wait|"hold on",cues="So ",min=8)", "overthink_brake"},
      {"loops", "loop_brake"},
      {"loops:cycle=8,times=0,least=9,lines=3,paragraphs=0,bytes=4,within=0,min=2", "loop_brake"},
      {"cold_stop:entropy=0.05,tokens=32,within=8,min=1", "cold_stop"},
      {R"(trial:at="Wait, ",text=<answer>,closed=yes,mean=geometric,ratio=0.8)", "trial_brake"},
      {"trial:text=<answer>,confidence=0.9,probes=3,tokens=4,budget=700,min=1,stop=x|y",
       "trial_brake"},
      {"convergence:k=3,cue=<answer>,stop=x,tokens=4,min=1", "convergence_brake"},
      {"random_stop:p=0.2,seed=3,min=1", "random_stop"},
      {"prompt_budget:factor=2.5,window=0", "prompt_budget"}};
  for (const auto& row : table) {
    const auto guide = make_guide(row.spec, context);
    EXPECT_EQ(guide->name(), row.name) << row.spec;
    EXPECT_TRUE(guide->needs_markers()) << row.spec;
    EXPECT_EQ(guide->clone()->name(), row.name);
  }
  EXPECT_ERROR(make_guide("trial:text=<answer>,mean=harmonic", context),
               ErrorCode::invalid_argument, "arithmetic, geometric");
  EXPECT_ERROR(make_guide("random_stop:seed=-1", context), ErrorCode::invalid_argument, "seed");
  EXPECT_ERROR(make_guide("overthink:max=2", context), ErrorCode::invalid_argument, "max_score");
}

}  // namespace
}  // namespace pensive
