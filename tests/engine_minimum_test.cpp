// The least thinking of a budget: never fewer, with markers of every kind.
#include <algorithm>

#include "engine_marked.h"

namespace pensive::testing {
namespace {

std::shared_ptr<const Guide> spec(const Kind& kind, std::string_view text) {
  return make_guide(text, {marked_model()->tokenizer(), markers_of(kind)});
}

TEST(Threads, Vllm15418ThinkingHasAMinimum) {
  Engine engine(marked_model(), exact());
  const Tokenizer& tokenizer = *marked_model()->tokenizer();
  int early = 0;
  for (const Kind& kind : kinds()) {
    for (std::uint64_t seed = 0; seed < 50; ++seed) {
      Request request = plain_request(
          tokenizer.encode("a." + kind.open, {.add_special = AddSpecial::no}), seed, 90);
      request.markers = markers_of(kind);
      request.sampling.allowed_tokens = ids_of(tokenizer, kind.words);
      bool is_cut = false;  // by max_new_tokens
      const auto thinking = [&](const Request& asked) {
        Sequence sequence = engine.start(asked);
        engine.finish(sequence);
        EXPECT_NE(sequence.trace().stopped, StopReason::error) << sequence.trace().error;
        is_cut = sequence.trace().stopped == StopReason::length;
        return sequence.trace().count(Segment::think);
      };
      early += thinking(request) < 12 ? 1 : 0;
      for (const int most : {40, 12}) {
        request.guides = {spec(kind, fmt::format("budget:max={},window=0,min=12", most))};
        const int tokens = thinking(request);
        // At the limit a closing takes half a character back, and half a closer before it.
        const bool has_halves = std::ranges::count(kind.words, "Ã") > 0;
        if (most > 12 || (!has_halves && !is_cut)) {
          EXPECT_GE(tokens, 12) << kind.name << ", seed " << seed;
        }
        const auto half = static_cast<int>(request.markers->think_close.size()) - 1;
        EXPECT_LE(tokens, most + (is_cut ? half : 0)) << kind.name << ", seed " << seed;
      }
    }
  }
  EXPECT_GT(early, 0) << "without a minimum some end early";
}

// A closer that the bias does not know, since other tokens spell it, at the top of every draw:
// drawn again without what completed it, or it would come again and again.
TEST(Minimum, ACloserSpelledOtherwiseIsNotDrawnForever) {
  const Kind& kind = kinds()[2];
  const Tokenizer& tokenizer = *marked_model()->tokenizer();
  Request request =
      plain_request(tokenizer.encode("a." + kind.open, {.add_special = AddSpecial::no}), 1, 60);
  request.markers = markers_of(kind);
  request.sampling.temperature = 0;
  request.sampling.allowed_tokens = ids_of(tokenizer, {">Ċ", "a", "w"});
  request.sampling.logit_bias = {{id_of(tokenizer, ">Ċ"), 1000}};
  auto begun = std::make_shared<Scripted>();
  begun->begin = [&](const Moment&) -> Action { return Force{ids_of(tokenizer, {"</", "think"})}; };
  request.guides = {begun, spec(kind, "budget:max=20,window=0,min=12")};
  Engine engine(marked_model(), exact());
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  const Trace& trace = sequence.trace();
  EXPECT_EQ(std::ranges::count(trace.is_taken_back, 1), 1) << print(trace);
  EXPECT_EQ(trace.count(Segment::think), 20);
}

std::string kept_of(const Trace& trace) {
  std::string text(to_string(trace.stopped));
  for (std::size_t i = 0; i < trace.tokens.size(); ++i)
    if (trace.is_taken_back[i] == 0)
      text += fmt::format(" {}:{:a}", trace.tokens[i], trace.drawn_logprobs[i]);
  return text;
}

TEST(Minimum, ForksAndRewindsKnowWhatIsForbidden) {
  Engine engine(marked_model(), exact());
  const Tokenizer& tokenizer = *marked_model()->tokenizer();
  const Kind& kind = kinds()[2];
  int taken_back = 0;
  for (std::uint64_t seed = 0; seed < 40; ++seed) {
    Request request = plain_request(
        tokenizer.encode("a." + kind.open, {.add_special = AddSpecial::no}), seed, 60);
    request.markers = markers_of(kind);
    request.sampling.allowed_tokens = ids_of(tokenizer, {"</", ".</", "think", ">", ">Ċ"});
    request.guides = {spec(kind, "budget:max=30,window=0,min=30")};
    Sequence sequence = engine.start(request);
    std::vector<Sequence> forks;
    while (!sequence.finished()) {
      engine.step();
      forks.push_back(sequence.fork(Draws::same));
    }
    engine.finish(forks);
    const std::string whole = kept_of(sequence.trace());
    for (const Sequence& fork : forks) ASSERT_EQ(kept_of(fork.trace()), whole) << seed;
    taken_back += static_cast<int>(std::ranges::count(sequence.trace().is_taken_back, 1));
    const int most =
        static_cast<int>(sequence.trace().kept().size()) - static_cast<int>(request.prompt.size());
    for (const int back : {1, 2, 7, most}) {
      sequence.rewind(std::min(back, most), Draws::same);
      engine.finish(sequence);
      ASSERT_EQ(kept_of(sequence.trace()), whole) << seed << ", back " << back;
    }
  }
  EXPECT_GT(taken_back, 40);
}

TEST(Threads, Vllm15418AMinimumAboveTheMaximumIsRefused) {
  for (const char* text : {"budget:max=5,window=0,min=6", "budget:max=5,window=0,min=-1"})
    EXPECT_ERROR(spec(kinds()[0], text), ErrorCode::invalid_argument, "budget");
}

}  // namespace
}  // namespace pensive::testing
