// Which markers a checkpoint has, and those that are plain text wherever tokens begin and end.
#include <random>

#include "base/inside.h"
#include "marked.h"
#include "think/segments.h"

namespace pensive::testing {
namespace {

using ::testing::ElementsAre;

std::shared_ptr<const Tokenizer> words_tokenizer(const std::vector<std::string>& words,
                                                 std::string_view chat = {}) {
  const TempDir folder;
  std::string vocabulary = R"("u":0)";
  for (std::size_t i = 0; i < words.size(); ++i)
    vocabulary += ",\"" + words[i] + "\":" + std::to_string(i + 1);
  write_file(folder / "tokenizer.json",
             R"({"version":"1.0","truncation":null,"padding":null,"added_tokens":[],)"
             R"("normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":null,)"
             R"("model":{"type":"WordLevel","unk_token":"u","vocab":{)" +
                 vocabulary + "}}}");
  if (!chat.empty()) write_file(folder / "chat_template.jinja", chat);
  return Tokenizer::load(folder.path());
}

TEST(FindMarkers, KnowsPairsThatAreTokensOfTheirOwn) {
  for (const auto& [open, close] : std::vector<std::pair<std::string, std::string>>{
           {"<think>", "</think>"},
           {"<|begin_of_thought|>", "<|end_of_thought|>"},
           {"<|START_THINKING|>", "<|END_THINKING|>"},
           {"<seed:think>", "</seed:think>"},
           {"[THINK]", "[/THINK]"},
           {"◁think▷", "◁/think▷"},
           {"<reasoning>", "</reasoning>"},
           {"<thinking>", "</thinking>"},
           {"<thought>", "</thought>"}}) {
    const auto found = find_markers(*words_tokenizer({open, close}));
    ASSERT_TRUE(found) << open;
    EXPECT_THAT(found->think_open, ElementsAre(1));
    EXPECT_THAT(found->think_close, ElementsAre(2));
    EXPECT_TRUE(found->answer_open.empty());
  }
  EXPECT_FALSE(find_markers(*words_tokenizer({"<think>", "<answer>", "</answer>"})));
}

TEST(FindMarkers, OfSeveralPairsTheOneThatTheTemplateNamesCounts) {
  const std::vector<std::string> words{"<think>", "</think>", "[THINK]", "[/THINK]"};
  EXPECT_THAT(find_markers(*words_tokenizer(words))->think_close, ElementsAre(2));
  EXPECT_THAT(find_markers(*words_tokenizer(words, "[THINK]x[/THINK]"))->think_close,
              ElementsAre(4));
}

TEST(FindMarkers, KnowsAnswersThatAreMarkedToo) {
  const auto solution =
      find_markers(*words_tokenizer({"<|begin_of_thought|>", "<|end_of_thought|>",
                                     "<|begin_of_solution|>", "<|end_of_solution|>"}));
  ASSERT_TRUE(solution);
  EXPECT_THAT(solution->answer_open, ElementsAre(3));
  EXPECT_THAT(solution->answer_close, ElementsAre(4));
}

std::vector<TokenId> ids_of(const Tokenizer& tokenizer, std::vector<std::string_view> spellings) {
  std::vector<TokenId> ids;
  for (const std::string_view spelling : spellings) ids.push_back(tokenizer.find(spelling).value());
  return ids;
}

TEST(FindMarkers, ThoseOfS1AreFoundWhereTheTemplateNamesThem) {
  EXPECT_FALSE(find_markers(*marked_tokenizer("<|im_start|>assistant")));
  const auto tokenizer = marked_tokenizer("<|im_start|>think\nx<|im_start|>answer\ny");
  const auto found = find_markers(*tokenizer);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->think_open, ids_of(*tokenizer, {"<|im_start|>", "think"}));
  EXPECT_EQ(found->think_close, ids_of(*tokenizer, {"<|im_start|>", "answer"}));
}

TEST(FindMarkers, TagsThatAreTextAreFoundWhereTheTemplateNamesBoth) {
  EXPECT_FALSE(find_markers(*marked_tokenizer()));
  EXPECT_FALSE(find_markers(*marked_tokenizer("{{ content.split('</think>')[-1] }}")));
  const auto tokenizer =
      marked_tokenizer("<think>\n</think>{% if answers %}<answer>x</answer>{% endif %}");
  const auto found = find_markers(*tokenizer);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->think_open, ids_of(*tokenizer, {"<", "think", ">"}));
  EXPECT_EQ(found->think_close, ids_of(*tokenizer, {"</", "think", ">"}));
  EXPECT_EQ(found->answer_open, ids_of(*tokenizer, {"<", "answer", ">"}));
  EXPECT_EQ(found->answer_close, ids_of(*tokenizer, {"</", "answer", ">"}));
}

// The templates of real checkpoints, with tokens as these have them.
TEST(FindMarkers, ReadsThePublishedTemplates) {
  const auto read = [](const char* name) {
    return read_file(data(std::string("text/published/") + name));
  };
  const std::vector<std::string> tokens{"<think>", "</think>"};
  for (const char* name : {"qwen3.jinja", "r1_distill.jinja"})
    EXPECT_THAT(find_markers(*words_tokenizer(tokens, read(name)))->think_close, ElementsAre(2));
  for (const char* name : {"qwen25.jinja", "llama3.jinja", "smollm2.jinja", "mistral_v03.jinja"})
    EXPECT_FALSE(find_markers(*marked_tokenizer(read(name)))) << name;
}

TEST(MarkersOf, TakesTheTextsThatACallerNames) {
  const auto tokenizer = marked_tokenizer();
  const Markers own = markers_of(*tokenizer, "<t>", "</t>");
  EXPECT_EQ(own.think_open, ids_of(*tokenizer, {"<t>"}));
  EXPECT_EQ(own.think_close, ids_of(*tokenizer, {"</t>"}));
  const Markers s1 = markers_of(*tokenizer, "<|im_start|>think", "<|im_start|>answer");
  EXPECT_EQ(s1.think_close, ids_of(*tokenizer, {"<|im_start|>", "answer"}));
  EXPECT_TRUE(markers_of(*tokenizer, "", "</t>").think_open.empty());
  // Where a tokenizer puts a space in front of all text, the marker has none.
  const auto spaced = Tokenizer::load(data("text/byte_fallback"));
  EXPECT_EQ(spaced->decode(markers_of(*spaced, "", "</x>").think_close, true).find(' '),
            std::string::npos);
}

TEST(MarkersOf, RefusesByNameWhatCannotBe) {
  const auto bad = ErrorCode::invalid_argument;
  const auto words = words_tokenizer({"<think>", "</think>"});
  EXPECT_ERROR(markers_of(*words, "<think>", "</thinking>"), bad, "</thinking>");
  EXPECT_ERROR(markers_of(*words, "<thinking>", "</think>"), bad, "<thinking>");
  EXPECT_ERROR(markers_of(*words, "<think>", ""), bad, "closes the thinking");
  EXPECT_ERROR(markers_of(*words, "</think>", "</think>"), bad, "twice");
}

// Tags of ordinary tokens, and how a sequence is told.
struct Spelled {
  explicit Spelled(std::string_view prompt = "<think>") {
    segments.begin(tokenizer->encode(prompt, {.add_special = AddSpecial::no}), {});
  }
  static const std::shared_ptr<const Tokenizer>& shared() {
    static const auto one = marked_tokenizer("<think></think><answer></answer>");
    return one;
  }

  Spelled& push(std::vector<std::string_view> spellings) {
    for (const TokenId id : ids_of(*tokenizer, std::move(spellings))) {
      texts.push_back(stream.push(id));
      segments.push(id, texts.back());
    }
    return *this;
  }

  // What would be streamed: [think 0]… [answer 0]…, of all tokens but the last `held`.
  std::string shown(int held = 0) const {
    std::string all, last;
    for (int i = 0; i < static_cast<int>(texts.size()) - held; ++i)
      for (const Piece& piece : segments.pieces(i, texts[i].size())) {
        const std::string head = fmt::format("[{} {}]", to_string(piece.segment), piece.index);
        if (piece.begin == piece.end) continue;
        if (head != last) all += head;
        last = head;
        all += texts[i].substr(piece.begin, piece.end - piece.begin);
      }
    return all;
  }

  std::shared_ptr<const Tokenizer> tokenizer = shared();
  Segments segments{find_markers(*tokenizer), tokenizer};
  TextStream stream{tokenizer};
  std::vector<std::string> texts;
};

TEST(TextMarkers, TheTagAlone) {
  Spelled spelled;
  spelled.push({"a", "</", "think"});
  EXPECT_EQ(spelled.segments.pending(), 2);
  EXPECT_EQ(spelled.shown(spelled.segments.held()), "[think 0]a");
  spelled.push({">", "b"});
  EXPECT_EQ(spelled.shown(), "[think 0]a[answer 0]b");
  EXPECT_EQ(spelled.segments.think_tokens(), 1);
}

TEST(TextMarkers, TheTagBehindALineEnd) {
  Spelled spelled;
  spelled.push({"a", "Ċ", "</", "think", ">", "b"});
  EXPECT_EQ(spelled.shown(), "[think 0]a\n[answer 0]b");
}

TEST(TextMarkers, TheTagBeforeALineEndAndBehindAStop) {
  Spelled spelled;
  spelled.push({"a", ".</", "think", ">ĊĊ"});
  EXPECT_EQ(spelled.shown(), "[think 0]a.[answer 0]\n\n");
  EXPECT_EQ(spelled.segments.now(), Segment::answer);
  EXPECT_EQ(spelled.segments.think_tokens(), 1);
  EXPECT_TRUE(spelled.segments.is_marker(1));
  EXPECT_TRUE(spelled.segments.is_marker(3));
  spelled.segments.take_back(1);
  EXPECT_EQ(spelled.segments.now(), Segment::think);
  EXPECT_EQ(spelled.segments.pending(), 2);
}

TEST(TextMarkers, TheTagInTokensOfOneLetter) {
  Spelled spelled;
  spelled.push({"a", "<", "/", "t", "h", "i", "n", "k", ">", "b"});
  EXPECT_EQ(spelled.shown(), "[think 0]a[answer 0]b");
}

TEST(TextMarkers, WhatOnlyLooksLikeATagIsText) {
  Spelled spelled;
  spelled.push({"a", "<", "</", "thin", "<"});
  EXPECT_EQ(spelled.segments.pending(), 1);
  spelled.push({"/", "t", "e"});
  EXPECT_EQ(spelled.segments.pending(), 0);
  EXPECT_EQ(spelled.shown(), "[think 0]a<</thin</te");
}

TEST(TextMarkers, ATokenMayEndOneTagAndBeginTheNext) {
  Spelled spelled;
  spelled.push({"a", "</", "think", "><"});
  EXPECT_EQ(spelled.segments.pending(), 0) << "the token belongs to the closer";
  EXPECT_EQ(spelled.segments.held(), 1);
  EXPECT_EQ(spelled.shown(1), "[think 0]a");
  spelled.push({"answer"});
  EXPECT_EQ(spelled.segments.pending(), 1);
  EXPECT_EQ(spelled.segments.held(), 2);
  spelled.push({">Ċ", "b", "</", "answer", ">"});
  EXPECT_EQ(spelled.shown(), "[think 0]a[answer 0]\nb");
  // What began there and came to nothing is text.
  Spelled other;
  other.push({"</", "think", "><", "b"});
  EXPECT_EQ(other.segments.held(), 0);
  EXPECT_EQ(other.shown(), "[answer 0]<b");
}

TEST(TextMarkers, EmptyThinkingOpensAndCloses) {
  Spelled spelled("a");
  spelled.push({"<", "think", "></", "think", ">", "b"});
  EXPECT_EQ(spelled.shown(), "[answer 0]b");
  EXPECT_EQ(spelled.segments.index(Segment::think), 0);
  EXPECT_EQ(spelled.segments.think_tokens(), 0);
}

TEST(TextMarkers, ThinkingThatIsOpenedAgain) {
  Spelled spelled;
  spelled.push({"<", "think", ">", "a", ".</", "think", ">", "</", "think", ">", "b"});
  spelled.push({"<", "think", ">Ċ", "c", "</", "think", ">ĊĊ", "d"});
  EXPECT_EQ(spelled.shown(), "[think 0]a.[answer 0]b[think 1]\nc[answer 1]\n\nd");
}

TEST(TextMarkers, ThePromptTellsWhereTheTextGoesOn) {
  EXPECT_EQ(Spelled("<think>\n").segments.now(), Segment::think);
  EXPECT_EQ(Spelled("a.</think>\n").segments.now(), Segment::answer);
  EXPECT_EQ(Spelled("<think>a.</think>\n\nb<think>\n").segments.now(), Segment::think);
  EXPECT_EQ(Spelled("<think></think>").segments.now(), Segment::answer);
  EXPECT_EQ(Spelled("<thin").segments.now(), Segment::answer);
}

TEST(TextMarkers, ATagInAnEarlierTurnOpensNothing) {
  EXPECT_EQ(Spelled("what is <think> for<eos>a").segments.now(), Segment::answer);
  EXPECT_EQ(Spelled("what is <think> for<eos>a<think>\n").segments.now(), Segment::think);
  EXPECT_EQ(Spelled("<think>a</think>b<eos><think>").segments.now(), Segment::think);
  const auto tokenizer = marked_tokenizer();
  const auto begins = [&](std::string_view prompt) {
    Segments segments(markers_of(*tokenizer, "<|im_start|>think", "<|im_start|>answer"), tokenizer);
    segments.begin(tokenizer->encode(prompt, {.add_special = AddSpecial::no}), {});
    return segments.now();
  };
  EXPECT_EQ(begins("<|im_start|>think\n"), Segment::think);
  EXPECT_EQ(begins("<|im_start|>think\na<|im_start|>answer\n"), Segment::answer);
  EXPECT_EQ(begins("<|im_start|>think\na<|im_start|>a"), Segment::answer);
}

TEST(TextMarkers, MarkersWithASpecialTokenCountByTheirIdsAlone) {
  const auto tokenizer = marked_tokenizer();
  Segments segments(markers_of(*tokenizer, "<|im_start|>think", "<|im_start|>answer"), tokenizer);
  segments.begin(std::vector<TokenId>{}, {});
  for (const TokenId id : ids_of(*tokenizer, {"think", "an", "answer"}))
    EXPECT_EQ(segments.push(id, *tokenizer->spelling(id)).completes, Marker::none);
  for (const TokenId id : ids_of(*tokenizer, {"<|im_start|>", "think"})) segments.push(id, "");
  EXPECT_EQ(segments.now(), Segment::think);
}

// What is to be shown, found in the whole text at once: at each place the tag that ends first.
std::string shown_by_scan(std::string_view text) {
  const std::vector<std::pair<std::string_view, Marker>> tags{{"<think>", Marker::think_open},
                                                              {"</think>", Marker::think_close},
                                                              {"<answer>", Marker::answer_open},
                                                              {"</answer>", Marker::answer_close}};
  std::string all, last;
  bool is_thinking = true;
  int think = 0, answer = -1;
  const auto show = [&](std::string_view piece) {
    if (piece.empty()) return;
    if (!is_thinking) answer = std::max(answer, 0);
    const std::string head =
        fmt::format("[{} {}]", is_thinking ? "think" : "answer", is_thinking ? think : answer);
    if (head != last) all += head;
    last = head;
    all += piece;
  };
  for (;;) {
    std::size_t begin = text.npos, size = 0;
    Marker marker = Marker::none;
    for (const auto& [tag, which] : tags)
      if (const std::size_t at = text.find(tag); at < begin) {
        begin = at;
        size = tag.size();
        marker = which;
      }
    show(text.substr(0, begin));
    if (marker == Marker::none) return all;
    text.remove_prefix(begin + size);
    if (marker == Marker::think_open && !is_thinking) ++think;
    if (is_thinking && (marker == Marker::think_close || marker == Marker::answer_open)) ++answer;
    if (marker == Marker::answer_open) answer = std::max(answer, 0);
    if (marker == Marker::think_open) is_thinking = true;
    if (marker == Marker::think_close || marker == Marker::answer_open) is_thinking = false;
  }
}

TEST(TextMarkers, AreThoseThatAScanOfTheTextFinds) {
  std::mt19937 random(3);
  const std::vector<std::string_view> words{"<",  ">",   "/",  "t",  "h",   "a", "think", "answer",
                                            "</", ".</", ">Ċ", "><", "></", "b", "thin",  "k"};
  int found = 0;
  for (int round = 0; round < 1500; ++round) {
    Spelled spelled;
    std::string text;
    for (int step = 0; step < 40; ++step) {
      // Half of the time what would go on with a tag.
      std::vector<std::string_view> next{words[random() % words.size()]};
      if (random() % 2 == 0) next = {words[random() % 2 == 0 ? 8 : 11], words[6 + random() % 2]};
      if (random() % 3 == 0) next.push_back(words[std::vector{1, 10, 11, 12}[random() % 4]]);
      spelled.push(next);
    }
    for (const std::string& piece : spelled.texts) text += piece;
    const std::string shown = spelled.shown();
    ASSERT_EQ(shown, shown_by_scan(text)) << text;
    found += static_cast<int>(std::count(shown.begin(), shown.end(), '['));
  }
  EXPECT_GT(found, 5000);
}

TEST(TextMarkers, TakingBackEqualsReadingWhatIsKept) {
  std::mt19937 random(4);
  const std::vector<std::string_view> words{"</", ".</", "think", ">", ">Ċ", "><", "answer", "<"};
  for (int round = 0; round < 500; ++round) {
    Spelled spelled;
    std::vector<std::string_view> kept;
    for (int step = 0; step < 8; ++step) {
      const std::size_t back = random() % 3 == 0 ? random() % (kept.size() + 1) : 0;
      spelled.segments.take_back(static_cast<int>(back));
      kept.resize(kept.size() - back);
      spelled.texts.resize(kept.size());
      for (int i = 0; i < 4; ++i) {
        kept.push_back(words[random() % words.size()]);
        spelled.push({kept.back()});
      }
      Segments again = Spelled().segments;
      for (std::size_t i = 0; i < kept.size(); ++i)
        again.push(spelled.tokenizer->find(kept[i]).value(), spelled.texts[i]);
      ASSERT_EQ(again.think_tokens(), spelled.segments.think_tokens());
      ASSERT_EQ(again.pending(), spelled.segments.pending());
      ASSERT_EQ(again.held(), spelled.segments.held());
      Segments replaced = std::exchange(spelled.segments, again);
      const std::string shown = spelled.shown();
      spelled.segments = std::move(replaced);
      ASSERT_EQ(spelled.shown(), shown);
    }
  }
}

}  // namespace
}  // namespace pensive::testing
