// What is not the engine's own fault: guides whose clones, names and wishes cannot be trusted, and
// memory that ends while sequences begin. Only the sequence it happens to may notice.
#include <cstdlib>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "engine_helpers.h"

namespace {

// How many of this thread's next requests for memory are refused.
thread_local int refusals = 0;

}  // namespace

// Not inlined: GCC would take the pairs below for mismatched ones. All whose memory goes back
// through the delete below: sanitizers know who gave it.
[[gnu::noinline]] void* operator new(std::size_t bytes) {
  if (refusals > 0) {
    --refusals;
    throw std::bad_alloc();
  }
  if (void* const at = std::malloc(bytes > 0 ? bytes : 1)) return at;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return std::malloc(bytes > 0 ? bytes : 1);
}
[[gnu::noinline]] void operator delete(void* at) noexcept { std::free(at); }
[[gnu::noinline]] void operator delete(void* at, std::size_t) noexcept { std::free(at); }

namespace pensive::testing {
namespace {

constexpr auto bad = ErrorCode::invalid_argument;

// What its clones are is for the test to say.
struct Strange : Scripted {
  std::function<std::unique_ptr<Guide>(const Strange&)> copy;
  std::unique_ptr<Guide> clone() const override { return copy(*this); }
};

Request with(std::shared_ptr<const Guide> guide) {
  Request request = plain_request(ids(1, 9));
  request.guides = {std::move(guide)};
  return request;
}

TEST(Faults, ACloneThatIsNullIsRefused) {
  Engine engine(tiny_model(), exact());
  const auto expected = finish(engine, plain_request(ids(1, 9)));
  auto guide = std::make_shared<Strange>();
  guide->copy = [](const Strange&) { return nullptr; };
  EXPECT_ERROR(engine.start(with(guide)), bad,
               "expected a clone; found a null one (guide scripted)");
  EXPECT_ERROR(engine.submit(with(guide)), bad, "guide scripted");
  // A clone that has none itself: it starts, and cannot be forked.
  guide->copy = [](const Strange& from) {
    auto clone = std::make_unique<Strange>(from);
    clone->copy = [](const Strange&) { return nullptr; };
    return clone;
  };
  Sequence sequence = engine.start(with(guide));
  engine.step();
  EXPECT_ERROR(sequence.fork(), bad, "a null one");
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().kept(), expected);
  EXPECT_EQ(engine.counters().live + engine.counters().waiting, 0);
}

TEST(Faults, AnIdThatOnlyACloneWatchesIsRefused) {
  Engine engine(tiny_model(), exact());
  for (const TokenId id : {tiny_vocab, 1000000, -1}) {
    auto guide = std::make_shared<Strange>();
    guide->copy = [id](const Strange& from) {
      auto clone = std::make_unique<Strange>(from);
      clone->wants = {3, id};
      return clone;
    };
    EXPECT_ERROR(engine.start(with(guide)), bad,
                 fmt::format("expected ids from 0 to 63; found {} (guide scripted watches)", id));
  }
  expect_no_leak(engine);
}

TEST(Faults, GuidesThatWatchSomethingElseTheNextTimeCannotBeToldAgain) {
  Engine engine(tiny_model(), exact());
  const auto expected = finish(engine, plain_request(ids(1, 9)));
  int clones = 0;
  auto guide = std::make_shared<Strange>();
  guide->copy = [&](const Strange& from) {
    auto clone = std::make_unique<Strange>(from);
    clone->wants.assign(static_cast<std::size_t>(1 + 40 * clones++), 5);
    return clone;
  };
  Sequence sequence = engine.start(with(guide));
  for (int i = 0; i < 6; ++i) engine.step();
  EXPECT_ERROR(sequence.rewind(2), bad, "watch the same");
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().kept(), expected);
}

// Cannot say who it is once something went wrong.
struct Shy : Scripted {
  std::shared_ptr<bool> is_shy = std::make_shared<bool>(false);
  std::string_view name() const override {
    if (*is_shy) throw std::runtime_error("no name");
    return "shy";
  }
  std::unique_ptr<Guide> clone() const override { return std::make_unique<Shy>(*this); }
};

TEST(Faults, AGuideThatHasNoNameWhenItIsBlamedEndsOnlyItsOwnSequence) {
  Engine engine(tiny_model(), exact());
  const auto expected = finish(engine, plain_request(ids(2, 9)));
  const auto run = [&](Shy& shy, Sampling sampling) {
    auto guide = std::make_shared<Shy>(shy);
    Request request = with(guide);
    request.sampling = std::move(sampling);
    Sequence one = engine.start(request), other = engine.start(plain_request(ids(2, 9)));
    engine.finish(other);
    EXPECT_EQ(other.trace().kept(), expected);
    EXPECT_EQ(one.trace().stopped, StopReason::error);
    *shy.is_shy = false;
    return one.trace().error;
  };
  const Sampling plain = plain_request({1}).sampling;
  Shy thrower;
  thrower.token = [&](const Moment& m) -> Action {
    if (m.new_tokens < 3) return Proceed{};
    *thrower.is_shy = true;
    throw std::runtime_error("no more");
  };
  EXPECT_EQ(run(thrower, plain), "guide shy: no more");
  // It leaves the draw nothing.
  Shy banner;
  banner.token = [&](const Moment& m) -> Action {
    if (m.new_tokens < 3) return Proceed{};
    *banner.is_shy = true;
    return Proceed{{{5, -std::numeric_limits<float>::infinity(), 0}}};
  };
  Sampling only = plain;
  only.allowed_tokens = {5};
  EXPECT_THAT(run(banner, only), ::testing::HasSubstr("guide shy"));
  *thrower.is_shy = true;
  EXPECT_THROW(engine.start(with(std::make_shared<Shy>(thrower))), std::runtime_error);
}

// Steps, some of which may fail, until a sequence is finished; whether that came.
bool finishes(Engine& engine, const Sequence& sequence) {
  for (int i = 0; i < 100 && !sequence.finished(); ++i) engine.step();
  return sequence.finished();
}

TEST(Faults, WhereMemoryEndsBesideABeginningTheOthersBegin) {
  Engine engine(tiny_model(), exact());
  const auto expected = finish(engine, plain_request(ids(2, 9)));
  const auto error =
      std::make_exception_ptr(std::runtime_error("what cannot be told: no memory for its words"));
  auto guide = std::make_shared<Scripted>();
  guide->begin = [&](const Moment&) -> Action {
    refusals = 1;
    std::rethrow_exception(error);
  };
  const Sequence one = engine.submit(with(guide)), two = engine.submit(with(guide));
  const Sequence other = engine.submit(plain_request(ids(2, 9)));
  EXPECT_NO_THROW(engine.step());
  EXPECT_EQ(std::exchange(refusals, 0), 0);
  ASSERT_TRUE(finishes(engine, other));
  EXPECT_EQ(other.trace().kept(), expected);
  for (const Sequence* failed : {&one, &two}) {
    ASSERT_TRUE(failed->finished());
    EXPECT_EQ(failed->trace().stopped, StopReason::error);
    EXPECT_EQ(failed->trace().error, std::bad_alloc().what());
  }
}

TEST(Faults, WhereMemoryEndsBeforeABeginningNothingSubmittedIsLost) {
  Engine engine(tiny_model(), exact());
  const Sequence one = engine.submit(plain_request(ids(1, 9)));
  const Sequence other = engine.submit(plain_request(ids(2, 9)));
  refusals = 1;
  EXPECT_THROW(engine.step(), std::bad_alloc);
  EXPECT_EQ(std::exchange(refusals, 0), 0);
  EXPECT_TRUE(finishes(engine, one));
  EXPECT_TRUE(finishes(engine, other));
}

}  // namespace
}  // namespace pensive::testing
