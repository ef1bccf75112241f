// Requests from other threads: submitted, served, cancelled, late.
#include <atomic>
#include <future>
#include <thread>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

constexpr auto bad = ErrorCode::invalid_argument;

TEST(Submit, IsStartingFromAnotherThread) {
  Engine engine(tiny_model(), exact());
  std::vector<std::vector<TokenId>> expected;
  for (int i = 0; i < 12; ++i)
    expected.push_back(finish(engine, plain_request(ids(i, 9), static_cast<std::uint64_t>(i))));
  std::atomic<int> left = 3;
  std::vector<std::thread> threads;
  for (int t = 0; t < 3; ++t)
    threads.emplace_back([&, t] {
      for (int i = t; i < 12; i += 3) {
        Sequence sequence = engine.submit(plain_request(ids(i, 9), static_cast<std::uint64_t>(i)));
        while (!sequence.finished()) std::this_thread::yield();
        EXPECT_EQ(sequence.trace().kept(), expected[static_cast<std::size_t>(i)]);
        EXPECT_FALSE(sequence.take_events().empty());
        { const Sequence dropped = engine.submit(plain_request(ids(i, 9))); }
        engine.submit(plain_request(ids(i, 9))).cancel();
      }
      --left;
    });
  while (left > 0) engine.step();
  for (std::thread& thread : threads) thread.join();
  expect_no_leak(engine);
}

TEST(Submit, MayBeFedBeforeTheNextStep) {
  Engine engine(tiny_model(), exact());
  Sequence sequence = engine.submit(plain_request(ids(1, 9), 1, 12));
  sequence.feed(std::vector<TokenId>{5, 6});
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().tokens[10], 6);
  EXPECT_EQ(sequence.trace().stopped, StopReason::length);
}

TEST(Submit, RefusesAtOnceAndEndsWithTheEngine) {
  auto engine = std::make_unique<Engine>(tiny_model());
  EXPECT_ERROR(engine->submit(plain_request({})), bad, "at least one token");
  Sequence sequence = engine->submit(plain_request(ids(1, 9)));
  engine.reset();
  EXPECT_FALSE(sequence.finished());
}

TEST(Gate, ASecondThreadIsTold) {
  Engine engine(tiny_model());
  Sequence sequence = engine.start(plain_request(ids(1, 9), 1, 100));
  std::promise<void> inside, told;
  Request request = plain_request(ids(2, 9));
  request.guides = {scripted([&](const Moment& m) -> Action {
    if (m.new_tokens != 2) return Proceed{};
    inside.set_value();
    told.get_future().wait();
    return Proceed{};
  })};
  std::thread other([&] {
    inside.get_future().wait();
    const std::vector<TokenId> fed{5};
    const std::function<void()> calls[] = {
        [&] { engine.step(); },          [&] { engine.start(request); },
        [&] { sequence.fork(); },        [&] { sequence.feed(fed); },
        [&] { sequence.rewind(1); },     [&] { engine.finish(sequence); },
        [&] { engine.score(fed, fed); }, [&] { engine.clear_prefixes(); },
        [&] { const Turn turn(engine); }};
    for (const auto& call : calls)
      EXPECT_ERROR(call(), ErrorCode::busy, "a call from another thread");
    sequence.cancel();
    told.set_value();
  });
  Sequence mine = engine.start(request);
  engine.finish(mine);
  other.join();
  EXPECT_TRUE(sequence.finished());
  const Turn turn(engine);
  { const Turn again(engine); }
  EXPECT_ERROR(Turn(engine, Turn::Nested::refused), ErrorCode::busy, "a guide or a callback");
  std::thread([&] {
    EXPECT_ERROR(engine.step(), ErrorCode::busy, "a call from another thread");
  }).join();
  engine.step();
}

TEST(Deadline, EndsWhatIsLateAndItsForks) {
  Engine engine(tiny_model());
  Request request = plain_request(ids(1, 9), 1, 400);
  request.timeout_seconds = 1e-9;
  Sequence late = engine.start(request);
  Sequence mailed = engine.submit(request);
  request.timeout_seconds = 1e12;
  Sequence patient = engine.start(request);
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
  engine.step();
  engine.step();
  EXPECT_EQ(late.trace().stopped, StopReason::deadline);
  EXPECT_EQ(mailed.trace().stopped, StopReason::deadline);
  EXPECT_FALSE(patient.finished());
  EXPECT_ERROR(late.rewind(0), bad, "a sequence that may go on; found deadline");
  request.timeout_seconds = 0.05;
  Sequence early = engine.start(request);
  engine.step();
  Sequence fork = early.fork();
  std::this_thread::sleep_for(std::chrono::milliseconds(60));
  engine.step();
  EXPECT_EQ(early.trace().stopped, StopReason::deadline);
  EXPECT_EQ(fork.trace().stopped, StopReason::deadline);
  EXPECT_GE(early.trace().tokens.size(), 10u);  // what there is, is kept
  for (const double wrong : {-1.0, std::nan(""), HUGE_VAL}) {
    request.timeout_seconds = wrong;
    EXPECT_ERROR(engine.start(request), bad, "a finite time of at least 0");
  }
}

TEST(Serve, AnswersAsTheEngineDoes) {
  Engine engine(tiny_model(), exact());
  std::vector<std::vector<TokenId>> expected;
  for (int i = 0; i < 20; ++i)
    expected.push_back(finish(engine, plain_request(ids(i, 9), static_cast<std::uint64_t>(i))));
  const auto server = serve(engine);
  EXPECT_ERROR(engine.step(), ErrorCode::busy, "another thread");
  EXPECT_ERROR(serve(engine), ErrorCode::busy, "another thread");
  std::vector<std::thread> clients;
  for (int t = 0; t < 4; ++t)
    clients.emplace_back([&, t] {
      for (int i = t; i < 20; i += 4) {
        Job job = server->submit(plain_request(ids(i, 9), static_cast<std::uint64_t>(i)));
        job.wait();
        EXPECT_EQ(job.trace().kept(), expected[static_cast<std::size_t>(i)]);
        std::string text;
        for (const TextEvent& event : job.take_events()) text += event.text;
        EXPECT_FALSE(text.empty());
      }
    });
  for (std::thread& client : clients) client.join();
  server->drain();
  const ServerCounters counters = server->counters();
  EXPECT_EQ(counters.submitted, 20);
  EXPECT_EQ(counters.finished, 20);
  EXPECT_EQ(counters.queued + counters.running, 0);
  EXPECT_EQ(counters.cancelled + counters.expired + counters.failed, 0);
  EXPECT_GT(counters.engine.steps, 0);
  EXPECT_ERROR(server->submit(plain_request({5})), ErrorCode::cancelled, "drained or stopped");
  expect_no_leak(engine);  // the engine is free again
}

TEST(Serve, TellsListenersUnderNoLock) {
  Engine engine(tiny_model(), exact());
  const std::string expected = [&] {
    Sequence sequence = engine.start(plain_request(ids(1, 9), 1, 30));
    engine.finish(sequence);
    return sequence.take_events().at(0).text;
  }();
  Server server(engine);
  std::string text;
  int told = 0, second = 0;
  std::vector<TokenId> kept;
  server.submit(plain_request(ids(1, 9), 1, 30),
                [&](Job& job, std::span<const TextEvent> events, bool is_finished) {
                  for (const TextEvent& event : events) text += event.text;
                  ++told;
                  EXPECT_EQ(job.finished(), is_finished);
                  EXPECT_ERROR(server.stop(), ErrorCode::busy, "outside listeners");
                  EXPECT_ERROR(server.drain(), ErrorCode::busy, "outside listeners");
                  EXPECT_GT(server.counters().submitted, 0);
                  if (!is_finished) return;
                  kept = job.trace().kept();
                  server.submit(plain_request(ids(2, 9), 1, 3),
                                [&](Job&, std::span<const TextEvent>, bool end) { second += end; });
                });
  while (server.counters().finished < 2) std::this_thread::yield();
  Job thrower = server.submit(plain_request(ids(1, 9), 1, 400),
                              [](Job&, std::span<const TextEvent>, bool) { throw 1; });
  thrower.wait();
  EXPECT_EQ(thrower.trace().stopped, StopReason::cancelled);
  server.drain();
  EXPECT_EQ(text, expected);
  EXPECT_GT(told, 20);
  EXPECT_EQ(kept.size(), 39u);
  EXPECT_EQ(second, 1);
}

TEST(Serve, AListenerMayLetGoOfServerAndEngine) {
  auto engine = std::make_unique<Engine>(tiny_model());
  auto server = serve(*engine);
  std::promise<void> begun;
  Job other = server->submit(plain_request(ids(2, 9), 1, 100000));
  Job job = server->submit(plain_request(ids(1, 9), 1, 100000),
                           [&](Job&, std::span<const TextEvent>, bool is_finished) {
                             if (is_finished || !server) return;
                             server.reset();
                             engine.reset();
                             begun.set_value();
                           });
  begun.get_future().wait();
  job.wait();
  other.wait();
  EXPECT_EQ(job.trace().stopped, StopReason::cancelled);
  EXPECT_EQ(other.trace().stopped, StopReason::cancelled);
}

TEST(Serve, RefusesWhatItCannotHold) {
  EngineOptions options;
  options.max_live_sequences = 2;
  Engine engine(tiny_model(), options);
  Server server(engine, {.max_queued = 3});
  std::promise<void> open;
  const auto gate = open.get_future().share();
  Request blocking = plain_request(ids(1, 9), 1, 50);
  blocking.guides = {scripted([gate](const Moment&) -> Action {
    gate.wait();
    return Proceed{};
  })};
  std::vector<Job> jobs;
  for (int i = 0; i < 2; ++i) jobs.push_back(server.submit(blocking));
  while (server.counters().running < 1) std::this_thread::yield();
  int taken = 0;
  try {
    for (int i = 0; i < 10; ++i, ++taken) jobs.push_back(server.submit(plain_request(ids(3, 5))));
    ADD_FAILURE() << "a queue without an end";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::busy);
    EXPECT_THAT(error.what(), ::testing::HasSubstr("at most 3 requests that wait"));
  }
  EXPECT_LE(taken, 3);
  EXPECT_EQ(server.counters().refused, 1);
  EXPECT_ERROR(server.submit(plain_request({})), bad, "at least one token");
  EXPECT_ERROR(jobs.back().trace(), bad, "a job that is finished");
  EXPECT_FALSE(jobs.back().wait_for(0.001));
  jobs.back().cancel();  // while it waits
  open.set_value();
  server.drain();
  for (Job& job : jobs) EXPECT_TRUE(job.finished());
  EXPECT_EQ(jobs.back().trace().stopped, StopReason::cancelled);
  EXPECT_EQ(jobs.back().trace().decoded_tokens(), 0);
  EXPECT_EQ(jobs[0].trace().stopped, StopReason::length);
  EXPECT_EQ(server.counters().cancelled, 1);
}

TEST(Serve, StopCancelsAndDeadlinesHoldInTheQueue) {
  EngineOptions options;
  options.max_live_sequences = 1;
  Engine engine(tiny_model(), options);
  auto server = serve(engine);
  Request endless = plain_request(ids(1, 9), 1, 100000);
  Job first = server->submit(endless);
  endless.timeout_seconds = 0.001;
  Job late = server->submit(endless);
  late.wait();
  EXPECT_EQ(late.trace().stopped, StopReason::deadline);
  Job second = server->submit(plain_request(ids(2, 9), 1, 100000));
  server->stop();
  server->stop();
  EXPECT_TRUE(first.finished() && second.finished());
  const ServerCounters counters = server->counters();
  EXPECT_EQ(counters.finished, 3);
  EXPECT_EQ(counters.expired, 1);
  server.reset();
  EXPECT_TRUE(second.finished());
}

TEST(Serve, TwoEnginesOverOneModel) {
  Engine first(tiny_model(), exact()), second(tiny_model(), exact());
  const auto expected = finish(first, plain_request(ids(1, 9), 3, 60));
  Server a(first), b(second);
  std::vector<Job> jobs;
  for (int i = 0; i < 6; ++i)
    jobs.push_back((i % 2 ? a : b).submit(plain_request(ids(1, 9), 3, 60)));
  for (Job& job : jobs) {
    job.wait();
    EXPECT_EQ(job.trace().kept(), expected);
  }
}

}  // namespace
}  // namespace pensive::testing
