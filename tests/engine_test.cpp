// The doors of the engine: what a caller sees of requests, sequences and steps.
#include <cmath>
#include <thread>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

TEST(Engine, GeneratesUntilTheLimit) {
  Engine engine(tiny_model());
  Sequence sequence = engine.start(plain_request(ids(1, 20), 5, 12));
  EXPECT_FALSE(sequence.finished());
  engine.finish(sequence);
  const Trace& trace = sequence.trace();
  EXPECT_EQ(trace.stopped, StopReason::length);
  EXPECT_EQ(trace.prompt_tokens, 20);
  EXPECT_EQ(trace.tokens.size(), 32u);
  EXPECT_EQ(trace.seed, 5u);
  for (int i = 20; i < 32; ++i) {
    EXPECT_LT(trace.logprobs[i], 0);
    EXPECT_GT(trace.entropies_nats[i], 0);
    EXPECT_EQ(trace.origins[i], Origin::sampled);
    EXPECT_LT(trace.tokens[i], tiny_vocab);
  }
  EXPECT_TRUE(std::isnan(trace.logprobs[19]));
}

}  // namespace
}  // namespace pensive::testing
