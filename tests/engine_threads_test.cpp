// What users of other runtimes ran into with thinking budgets, each named by its thread:
// docs/threads.md.
#include <algorithm>

#include "engine_marked.h"

namespace pensive::testing {
namespace {

const Kind& plain_text() { return kinds().at(2); }

// A sequence that the test writes itself.
struct Written {
  explicit Written(const Kind& kind, std::vector<std::shared_ptr<const Guide>> guides,
                   std::string_view closing = {}, std::string_view prompt = "a.", bool opens = true)
      : tokenizer(marked_model()->tokenizer()), engine(marked_model(), exact()) {
    std::string text(prompt);
    if (opens) text += kind.open;
    request = plain_request(encode(text), 1, 200);
    request.markers = markers_of(kind);
    request.guides = std::move(guides);
    if (!closing.empty()) request.closing = closing_of({tokenizer, request.markers}, closing);
    sequence.emplace(engine.start(request));
  }

  std::vector<TokenId> encode(std::string_view text) const {
    return tokenizer->encode(text, {.add_special = AddSpecial::no});
  }
  Written& tokens(const std::vector<std::string>& spellings) {
    for (const TokenId id : ids_of(*tokenizer, spellings)) sequence->feed(std::span(&id, 1));
    return *this;
  }
  Written& text(std::string_view text) {
    for (const TokenId id : encode(text)) sequence->feed(std::span(&id, 1));
    return *this;
  }
  std::string streamed() {
    std::string all;
    for (const TextEvent& event : sequence->take_events())
      all += fmt::format("[{} {}]{}", to_string(event.segment), event.index, event.text);
    return all;
  }
  const Trace& trace() const { return sequence->trace(); }
  std::string kept() const {
    const std::vector<TokenId> all = trace().kept();
    return tokenizer->decode(
        std::span(all).subspan(static_cast<std::size_t>(trace().prompt_tokens)), true);
  }
  int closers() const {
    const std::string all = kept();
    int count = 0;
    for (std::size_t at = all.find("</think>"); at != all.npos; at = all.find("</think>", at + 1))
      ++count;
    return count;
  }

  std::shared_ptr<const Tokenizer> tokenizer;
  Engine engine;
  Request request;
  std::optional<Sequence> sequence;
};

std::shared_ptr<const Guide> most(int tokens, int window = 0) {
  return budget({.max_think_tokens = tokens, .window_tokens = window});
}

// A drawn run in which thinking begins in the prompt, and is nothing but letters.
Request thinking_request(const Kind& kind, std::uint64_t seed, int max_new_tokens) {
  const Tokenizer& tokenizer = *marked_model()->tokenizer();
  Request request = plain_request(
      tokenizer.encode("a." + kind.open, {.add_special = AddSpecial::no}), seed, max_new_tokens);
  request.markers = markers_of(kind);
  request.sampling.allowed_tokens = ids_of(tokenizer, {"a", "b", "c", "d", "x", "y", "z"});
  return request;
}

// The same with all that a marker is made of.
Request marked_request(const Kind& kind, std::uint64_t seed, int max_new_tokens) {
  Request request = thinking_request(kind, seed, max_new_tokens);
  request.sampling.allowed_tokens = ids_of(*marked_model()->tokenizer(), kind.words);
  return request;
}

int thinking_of(Engine& engine, const Request& request) {
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  EXPECT_NE(sequence.trace().stopped, StopReason::error) << sequence.trace().error;
  return sequence.trace().count(Segment::think);
}

TEST(Threads, Vllm15418ThinkingHasAMaximum) {
  Engine engine(marked_model(), exact());
  for (const Kind& kind : kinds())
    for (const int limit : {0, 1, 7, 30}) {
      Request request = marked_request(kind, 3, 80);
      request.guides = {most(limit)};
      EXPECT_LE(thinking_of(engine, request), limit) << kind.name;
    }
}

TEST(Threads, Vllm20859ClosersOfSeveralTokensAreFedWhole) {
  for (const Kind& kind : kinds()) {
    Written written(kind, {most(3)});
    written.text("abcd");
    EXPECT_EQ(written.kept(), "abc" + kind.close + "d") << kind.name;
    EXPECT_EQ(written.streamed(), "[think 0]abc[answer 0]d") << kind.name;
  }
}

TEST(Threads, Vllm37112MarkersComeFromTheCheckpoint) {
  const auto tokenizer = marked_tokenizer("{{ '<think>\n' }}x</think>");
  const auto found = find_markers(*tokenizer);
  ASSERT_TRUE(found);
  EXPECT_EQ(tokenizer->decode(found->think_open), "<think>");
  EXPECT_EQ(tokenizer->decode(found->think_close), "</think>");
}

TEST(Threads, Vllm41672ABudgetNeedsNoPenaltyBesideIt) {
  Engine engine(marked_model(), exact());
  for (const float penalty : {0.0f, 0.5f}) {
    Request request = thinking_request(plain_text(), 4, 60);
    request.guides = {most(9)};
    request.sampling.presence_penalty = penalty;
    EXPECT_EQ(thinking_of(engine, request), 9);
  }
}

TEST(Threads, Vllm50166AndDiscuss2533WhatIsNoSettingIsRefused) {
  const GuideContext context{marked_model()->tokenizer(), markers_of(plain_text())};
  for (const char* spec : {"budget:max=5,thinking_token_budget=5", "thinking_token_budget:max=5",
                           "budget", "budget:max=five", "budget:max=5,max=6"})
    EXPECT_ERROR(make_guide(spec, context), ErrorCode::invalid_argument, "budget");
  // Nor is a budget taken by a model that cannot have one.
  Engine engine(marked_model(), exact());
  Request request = plain_request({5, 6});
  request.guides = {most(5)};
  EXPECT_ERROR(engine.start(request), ErrorCode::invalid_argument, "guide budget");
}

TEST(Threads, Sglang25536TheBudgetIsKeptAndThereIsAnAnswer) {
  Engine engine(marked_model(), exact());
  for (const Kind& kind : kinds()) {
    Request request = marked_request(kind, 5, 300);
    request.guides = {most(40)};
    Sequence sequence = engine.start(request);
    engine.finish(sequence);
    EXPECT_LE(sequence.trace().count(Segment::think), 40);
    EXPECT_GT(sequence.trace().count(Segment::answer), 0) << kind.name;
    EXPECT_FALSE(respond(sequence.trace(), *marked_model()->tokenizer()).answer.empty());
  }
}

TEST(Threads, Sglang24517ABudgetIsOneLine) {
  const GuideContext context{marked_model()->tokenizer(), markers_of(plain_text())};
  Written written(plain_text(), {make_guide("budget:max=2,window=0", context)});
  written.text("abc");
  EXPECT_EQ(written.streamed(), "[think 0]ab[answer 0]c");
}

TEST(Threads, TensorRtLlm18616ABegunCloserIsNotBegunAgain) {
  for (int begun = 1; begun < 3; ++begun) {
    const std::vector<std::string> closer{"</", "think"};
    Written written(plain_text(), {most(2 + begun)});
    written.text("ab").tokens({closer.begin(), closer.begin() + begun});
    EXPECT_EQ(written.kept(), "ab</think>");
    written.text("c");
    EXPECT_EQ(written.streamed(), "[think 0]ab[answer 0]c");
  }
  // What clings to its first token goes with it; the model's own closer just before the limit
  // stays.
  Written clinging(plain_text(), {most(3)});
  clinging.tokens({"a", "b", ".</"}).text("c");
  EXPECT_EQ(clinging.streamed(), "[think 0]ab[answer 0]c");
  Written own(plain_text(), {most(6)});
  own.tokens({"a", "b", ".</", "think", ">Ċ", "c"});
  EXPECT_EQ(own.streamed(), "[think 0]ab.[answer 0]\nc");
  EXPECT_TRUE(own.trace().actions.empty());
}

TEST(Threads, Llamacpp20297EachRequestHasItsOwnBudget) {
  Engine engine(marked_model(), exact());
  std::vector<Sequence> sequences;
  for (const int limit : {3, 30, 11}) {
    Request request = thinking_request(plain_text(), 6, 60);
    request.guides = {most(limit)};
    sequences.push_back(engine.start(request));
  }
  engine.finish(sequences);
  EXPECT_EQ(sequences[0].trace().count(Segment::think), 3);
  EXPECT_EQ(sequences[1].trace().count(Segment::think), 30);
  EXPECT_EQ(sequences[2].trace().count(Segment::think), 11);
}

TEST(Threads, Llamacpp17750And21209ABudgetChangesNothingBeforeItsLimitNorBesideIt) {
  Engine engine(marked_model(), exact());
  const Request free = thinking_request(plain_text(), 7, 50);
  Request bounded = free;
  bounded.guides = {most(12)};
  const std::vector<TokenId> alone = finish(engine, free);
  std::vector<Sequence> both;
  both.push_back(engine.start(free));
  both.push_back(engine.start(bounded));
  engine.finish(both);
  EXPECT_EQ(both[0].trace().kept(), alone);
  const std::vector<TokenId> cut = both[1].trace().kept();
  const auto same = static_cast<std::ptrdiff_t>(free.prompt.size()) + 12;
  EXPECT_TRUE(std::equal(alone.begin(), alone.begin() + same, cut.begin()));
}

TEST(Threads, Llamacpp22488PromptTokensAreNotCounted) {
  Written written(plain_text(), {most(3)}, {},
                  "a long prompt, and <think>thinking</think> in it. ");
  written.text("ab");
  EXPECT_TRUE(written.trace().actions.empty());
  Written opened(plain_text(), {most(3)}, {}, "a <think>already thinking", false);
  opened.text("abcd");
  EXPECT_EQ(opened.streamed(), "[think 0]abc[answer 0]d");
}

TEST(Threads, Llamacpp25961AMessageMayCloseAndNothingSlipsThrough) {
  Written written(plain_text(), {most(3)}, "! so</think>\n");
  written.text("abcd");
  EXPECT_EQ(written.kept(), "abc! so</think>\nd");
  EXPECT_EQ(written.streamed(), "[think 0]abc! so[answer 0]\nd");
  // Thinking that is opened again and again beyond the limit is closed each time.
  for (int round = 0; round < 3; ++round) written.text("<think>efg");
  EXPECT_EQ(written.trace().count(Segment::think), 3 + 4 * 4);
  Request request = thinking_request(plain_text(), 8, 400);
  request.sampling.allowed_tokens = ids_of(*written.tokenizer, {"<", "think", ">"});
  request.guides = {most(20)};
  Engine engine(marked_model(), exact());
  EXPECT_LE(thinking_of(engine, request), 20);
}

TEST(Threads, Ollama17561AnAnswerFollows) {
  Written written(plain_text(), {most(4, 4)});
  written.text("ab.cdef");
  EXPECT_EQ(written.streamed(), "[think 0]ab.[answer 0]cdef");
  EXPECT_FALSE(written.sequence->finished());
}

TEST(Threads, Lmstudio1974And1990NoSentenceIsCutWhereOneEndsInTime) {
  Written written(plain_text(), {most(8, 6)});
  written.text("abcd");
  EXPECT_TRUE(written.trace().actions.empty());
  written.text("ef.gh");
  EXPECT_EQ(written.streamed(), "[think 0]abcdef.[answer 0]gh");
  Written endless(plain_text(), {most(8, 6)});
  endless.text("abcdfgjlm");
  EXPECT_EQ(endless.streamed(), "[think 0]abcdfgjl[answer 0]m");
}

TEST(Threads, Transformers42112TagsInThePrompt) {
  Written answered(plain_text(), {most(2)}, {}, "b<think>x</think>y", false);
  answered.text("abcdef");
  EXPECT_EQ(answered.streamed(), "[answer 0]abcdef");
  EXPECT_TRUE(answered.trace().actions.empty());
  Written asked(plain_text(), {most(2)}, {}, "what is <think>?<eos>", false);
  asked.text("abcdef");
  EXPECT_EQ(asked.streamed(), "[answer 0]abcdef");
}

TEST(Threads, Transformers42112ThinkingThatIsOpenedAgain) {
  Written written(plain_text(), {most(6)});
  written.text("ab</think>c<think>defghi");
  EXPECT_EQ(written.streamed(), "[think 0]ab[answer 0]c[think 1]defg[answer 1]hi");
}

TEST(Threads, Transformers42112ACloserThatIsDoubled) {
  Written written(plain_text(), {most(2)});
  written.text("ab");
  EXPECT_EQ(written.closers(), 1);
  written.text("</think>c</think>d");
  EXPECT_EQ(written.streamed(), "[think 0]ab[answer 0]cd");
}

TEST(Threads, MlxVlm637TheCloserIsForced) {
  Written written(plain_text(), {most(2)});
  written.text("abc");
  const Trace& trace = written.trace();
  ASSERT_EQ(trace.actions.size(), 1u);
  EXPECT_EQ(trace.actions[0].kind, "close");
  EXPECT_EQ(trace.actions[0].reason, "budget");
  EXPECT_EQ(trace.actions[0].tokens, 3);
  EXPECT_EQ(written.closers(), 1);
}

TEST(Threads, SlimServe20NoCharacterIsCutInHalf) {
  for (const Kind& kind : kinds()) {
    Written written(kind, {most(3)});
    written.tokens({"a", "â", "Ĥ"});  // two of the three bytes of €
    EXPECT_EQ(written.kept(), "a" + kind.close) << kind.name;
    EXPECT_EQ(written.trace().actions.at(0).taken_back, 2);
    written.tokens({"Ã", "©"});
    EXPECT_EQ(written.streamed(), "[think 0]a[answer 0]é") << kind.name;
    // A whole one stays, and no window ends within one.
    Written whole(kind, {most(4, 4)});
    whole.tokens({"a", "â", "Ĥ", "¬", "b"});
    EXPECT_EQ(whole.streamed(), "[think 0]a€[answer 0]b") << kind.name;
  }
}

TEST(Threads, SlimServe20TheBudgetIsArmedAgain) {
  Written written(plain_text(), {most(8)}, "?</think>");
  written.text("ab</think>c<think>de</think>f<think>ghijlm");
  EXPECT_EQ(written.streamed(),
            "[think 0]ab[answer 0]c[think 1]de[answer 1]f[think 2]ghij?[answer 2]lm");
}

// A grammar of one letter over and over, once thinking is over.
class OnlyAfterThinking final : public Guide {
 public:
  explicit OnlyAfterThinking(TokenId letter) : letter_(letter) {}
  std::string_view name() const override { return "only_after_thinking"; }
  std::unique_ptr<Guide> clone() const override {
    return std::make_unique<OnlyAfterThinking>(*this);
  }
  Action on_token(const Moment& moment) override {
    is_answer_ = is_answer_ || moment.completes == Marker::think_close;
    if (!is_answer_) return Proceed{};
    Allow allow{std::vector<std::uint32_t>(2)};
    allow.mask[static_cast<std::size_t>(letter_) / 32] = 1u << (letter_ % 32);
    return allow;
  }

 private:
  TokenId letter_;
  bool is_answer_ = false;
};

TEST(Threads, Outlines1627TheAnswerIsConstrainedAndEachSequenceHasItsOwnState) {
  Engine engine(marked_model(), exact());
  const Tokenizer& tokenizer = *marked_model()->tokenizer();
  std::vector<Sequence> sequences;
  const std::vector<std::string> letters{"x", "y", "z"};
  for (std::size_t i = 0; i < letters.size(); ++i) {
    Request request = thinking_request(plain_text(), 9 + i, 40);
    request.guides = {most(5 + 7 * static_cast<int>(i)),
                      std::make_shared<OnlyAfterThinking>(id_of(tokenizer, letters[i]))};
    sequences.push_back(engine.start(request));
  }
  engine.finish(sequences);
  for (std::size_t i = 0; i < letters.size(); ++i) {
    const Response response = respond(sequences[i].trace(), tokenizer);
    EXPECT_EQ(response.think_tokens, 5 + 7 * static_cast<int>(i));
    EXPECT_EQ(response.answer,
              std::string(static_cast<std::size_t>(response.answer_tokens), letters[i][0]));
    EXPECT_GT(response.answer_tokens, 0);
  }
}

}  // namespace
}  // namespace pensive::testing
