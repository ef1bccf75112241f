// The least thinking of a budget: never fewer, with markers of every kind.
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
      const auto thinking = [&](const Request& asked) {
        Sequence sequence = engine.start(asked);
        engine.finish(sequence);
        EXPECT_NE(sequence.trace().stopped, StopReason::error) << sequence.trace().error;
        return sequence.trace().count(Segment::think);
      };
      early += thinking(request) < 12 ? 1 : 0;
      request.guides = {spec(kind, "budget:max=40,window=0,min=12")};
      const int tokens = thinking(request);
      EXPECT_GE(tokens, 12) << kind.name << ", seed " << seed;
      EXPECT_LE(tokens, 40) << kind.name << ", seed " << seed;
    }
  }
  EXPECT_GT(early, 0) << "without a minimum some end early";
}

TEST(Threads, Vllm15418AMinimumAboveTheMaximumIsRefused) {
  for (const char* text : {"budget:max=5,window=0,min=6", "budget:max=5,window=0,min=-1"})
    EXPECT_ERROR(spec(kinds()[0], text), ErrorCode::invalid_argument, "budget");
}

}  // namespace
}  // namespace pensive::testing
