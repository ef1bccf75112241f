// What the engine refuses, and what it says then.
#include <cmath>
#include <limits>
#include <stdexcept>

#include "engine_helpers.h"

namespace pensive::testing {
namespace {

using ::testing::HasSubstr;

struct Bad {
  std::string expected;  // a part of the message
  std::function<void(Request&)> spoil;
};

TEST(EngineInput, RefusesRequestsThatCanNeverWork) {
  Engine engine(tiny_model(), {.cache_tokens = 128});
  const std::vector<Bad> table{
      {"at least one token", [](Request& r) { r.prompt.clear(); }},
      {"ids from 0 to 63; found 64 at place 2", [](Request& r) { r.prompt[2] = 64; }},
      {"ids from 0 to 63; found -1 at place 0", [](Request& r) { r.prompt[0] = -1; }},
      {"512 positions", [](Request& r) { r.prompt.assign(513, 5); }},
      {"the cache's 128 positions", [](Request& r) { r.prompt.assign(129, 5); }},
      {"max_new_tokens of at least 1", [](Request& r) { r.max_new_tokens = 0; }},
      {"temperature", [](Request& r) { r.sampling.temperature = -0.5f; }},
      {"temperature", [](Request& r) { r.sampling.temperature = NAN; }},
      {"temperature", [](Request& r) { r.sampling.temperature = INFINITY; }},
      {"top_p", [](Request& r) { r.sampling.top_p = 0.0f; }},
      {"top_p", [](Request& r) { r.sampling.top_p = 1.5f; }},
      {"top_p", [](Request& r) { r.sampling.top_p = NAN; }},
      {"top_k", [](Request& r) { r.sampling.top_k = -1; }},
      {"Request::extra_stop_tokens", [](Request& r) { r.extra_stop_tokens = {64}; }},
      {"Request::closing", [](Request& r) { r.closing = {99}; }},
      {"think_close",
       [](Request& r) {
         r.closing = {5, 6};
       }},
      {"think_close",
       [](Request& r) {
         r.markers = tiny_markers();
         r.closing = {10};
       }},
      {"Request::markers",
       [](Request& r) {
         r.markers = Markers{{10}, {70}, {}, {}};
       }},
      {"begins_in", [](Request& r) { r.begins_in = Segment::prompt; }},
      {"markers", [](Request& r) { r.begins_in = Segment::think; }},
      {"a null one", [](Request& r) { r.guides = {nullptr}; }},
      {"guide budget", [](Request& r) { r.guides = {budget({})}; }},
      {"guide continue_thinking",
       [](Request& r) { r.guides = {continue_thinking({.with = {5}})}; }},
      {"guide margin_brake", [](Request& r) { r.guides = {margin_brake({.closer = {11}})}; }},
      {"watches",
       [](Request& r) {
         auto guide = std::make_shared<Scripted>();
         guide->wants = {64};
         r.guides = {guide};
       }},
  };
  for (const Bad& bad : table) {
    Request request = plain_request(ids(1, 9));
    bad.spoil(request);
    EXPECT_ERROR(engine.start(request), ErrorCode::invalid_argument, bad.expected);
  }
  EXPECT_EQ(engine.counters().waiting, 0);
  expect_no_leak(engine);
}

TEST(EngineInput, TakesWhatIsJustPossible) {
  Engine engine(tiny_model(), {.cache_tokens = 128});
  Request request = plain_request(std::vector<TokenId>(128, 5), 1, 1);
  request.sampling.top_p = 1.0f;
  request.sampling.temperature = 1e31f;
  request.sampling.top_k = 1 << 30;
  request.markers = tiny_markers();
  request.closing = {5, 11, 6};
  request.begins_in = Segment::think;
  request.guides = {budget({})};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().stopped, StopReason::length);
  EXPECT_EQ(sequence.trace().tokens.size(), 129u);
}

TEST(EngineInput, RefusesOptionsThatCanNeverWork) {
  const auto refused = [](ErrorCode code, std::string_view text, const EngineOptions& options) {
    EXPECT_ERROR(Engine(tiny_model(), options), code, std::string(text));
  };
  const auto bad = ErrorCode::invalid_argument;
  refused(bad, "page_tokens", {.page_tokens = 0});
  refused(bad, "cache_tokens", {.cache_tokens = -1});
  refused(bad, "max_live_sequences", {.max_live_sequences = 0});
  refused(bad, "max_tokens_per_step", {.max_tokens_per_step = 0});
  refused(ErrorCode::out_of_memory, "cache_tokens",
          {.cache_tokens = std::numeric_limits<std::int64_t>::max()});
  EXPECT_ERROR(Engine(nullptr), bad, "a model");
  const auto other = Model::load(data("models/plain"), {.device = {DeviceKind::cpu}});
  EXPECT_ERROR(Engine(tiny_model(), {.soft = std::make_shared<SoftVocab>(other)}), bad,
               "EngineOptions::soft");
}

TEST(EngineInput, RefusesSoftIdsThatNobodyMade) {
  const auto soft = std::make_shared<SoftVocab>(tiny_model());
  const std::vector<TokenId> mean{5};
  EXPECT_EQ(soft->add("more", mean), tiny_vocab);
  Engine engine(tiny_model(), {.soft = soft, .cache_tokens = 256});
  Request request = plain_request({5, tiny_vocab, 6});
  Sequence sequence = engine.start(request);
  request.prompt[1] = tiny_vocab + 1;
  EXPECT_ERROR(engine.start(request), ErrorCode::invalid_argument, "ids from 0 to 64");
  soft->add("later", mean);
  Sequence later = engine.start(request);
  engine.finish(later);
  EXPECT_EQ(later.trace().stopped, StopReason::length);
}

// The tiny model with another word list in its tokenizer.
std::shared_ptr<const Model> model_with(const std::string& words, const std::string& others) {
  const TempDir folder;
  for (const auto& file : std::filesystem::directory_iterator(data("models/plain")))
    std::filesystem::copy_file(file.path(), folder / file.path().filename().string());
  std::string text = read_file(folder / "tokenizer.json");
  text.replace(text.find(words), words.size(), others);
  write_file(folder / "tokenizer.json", text);
  return Model::load(folder.path(), {.device = {DeviceKind::cpu}, .precision = Precision::float32});
}

TEST(EngineInput, MarkersBeyondTheEmbeddingAreNone) {
  const std::string last = R"("w63":63)";
  const auto closer = model_with(last, last + R"(,"<think>":64,"</think>":65)");
  Engine engine(closer, {.cache_tokens = 256});
  Request request = plain_request(ids(1, 9));
  EXPECT_EQ(finish(engine, request).size(), 33u);
  request.guides = {budget({})};
  EXPECT_ERROR(engine.start(request), ErrorCode::invalid_argument, "guide budget");

  const auto opener =
      model_with(last, R"("</think>":63,"<think>":64,"<answer>":62,"</answer>":65)");
  Engine half(opener, {.cache_tokens = 256});
  request.begins_in = Segment::think;
  const Sequence sequence = half.start(request);
  const Markers& found = *sequence.parts()->record.segments().markers();
  EXPECT_EQ(found.think_close, std::vector<TokenId>{63});
  EXPECT_TRUE(found.think_open.empty());
  EXPECT_TRUE(found.answer_open.empty() && found.answer_close.empty());
}

TEST(EngineInput, SoftRowsNeedIdsOfTheirOwn) {
  const auto model = model_with(R"("w63":63)", R"("w63":63,"w64":64)");
  EXPECT_ERROR(Engine(model, {.soft = std::make_shared<SoftVocab>(model), .cache_tokens = 256}),
               ErrorCode::unsupported, "at most 64 ids");
}

TEST(EngineInput, IdsInHolesOfTheTokenizerHaveNoText) {
  const auto model = model_with(R"("w20":20,"w21":21,)", "");
  ASSERT_FALSE(model->tokenizer()->is_known(20));
  ASSERT_TRUE(model->tokenizer()->is_known(22));
  Engine engine(model, {.cache_tokens = 256});
  Sequence sequence = engine.start(plain_request({5, 20, 6}, 1, 4));
  const std::vector<TokenId> fed{7, 20, 21, 22};
  sequence.feed(fed);
  EXPECT_EQ(sequence.trace().stopped, StopReason::length);
  EXPECT_EQ(sequence.take_events().at(0).text, "w7 w22");
}

TEST(EngineInput, SizesItsCacheByTheMemoryAndWhatCanBeUsed) {
  Engine engine(tiny_model(), {.page_tokens = 8, .max_live_sequences = 2});
  EXPECT_EQ(engine.counters().pages, 2 * tiny_positions / 8);
  Engine exact_size(tiny_model(), {.page_tokens = 8, .cache_tokens = 41});
  EXPECT_EQ(exact_size.counters().pages, 6);
  std::string line;
  Engine talking(tiny_model(), {.cache_tokens = 64,
                                .log = [&](LogLevel, std::string_view text) { line = text; }});
  EXPECT_THAT(line, HasSubstr("4 pages of 16 positions"));
}

TEST(EngineInput, AGuideThatForcesForEverEndsAtTheLimitAndOthersGoOn) {
  Engine engine(tiny_model(), exact());
  const Request plain = plain_request(ids(1, 9), 3, 20);
  const std::vector<TokenId> alone = finish(engine, plain);
  const std::vector<Action> endless{Force{{30}, 0}, Force{{30, 31}, 1}, Force{{}, 1}};
  for (const Action& action : endless) {
    Request request = plain_request(ids(2, 9), 3, 300);
    request.guides = {scripted([action](const Moment&) { return action; })};
    std::vector<Sequence> both;
    both.push_back(engine.start(request));
    both.push_back(engine.start(plain));
    engine.finish(both);
    const Trace& trace = both[0].trace();
    EXPECT_EQ(trace.stopped, StopReason::length);
    EXPECT_EQ(trace.decoded_tokens(), 300);
    EXPECT_FALSE(trace.actions.empty());
    EXPECT_EQ(trace.actions.back().guide, "scripted");
    EXPECT_EQ(both[1].trace().kept(), alone);
  }
  expect_no_leak(engine);
}

TEST(EngineInput, AGuideThatProbesOrClosesForEverEndsToo) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request({5, 10}, 3, 40);
  request.markers = tiny_markers();
  auto asking = scripted([](const Moment&) -> Action { return Probe{0, {}, {}, 0, 1}; });
  asking->reply = [](const ProbeReply&) -> Action { return Probe{0, {}, {}, 0, 1}; };
  request.guides = {asking};
  Sequence sequence = engine.start(request);
  engine.finish(sequence);
  EXPECT_EQ(sequence.trace().stopped, StopReason::error);
  EXPECT_THAT(sequence.trace().error, HasSubstr("guide scripted: expected at most 64 probes"));
  request.guides = {scripted([](const Moment&) -> Action {
    return Close{CloseReason::brake, 0, 0};
  })};
  Sequence closing = engine.start(request);
  engine.finish(closing);
  EXPECT_EQ(closing.trace().stopped, StopReason::length);
  EXPECT_EQ(closing.trace().decoded_tokens(), 40);
}

TEST(EngineInput, AGuideThatThrowsEndsItsOwnSequenceAndOthersGoOn) {
  Engine engine(tiny_model(), exact());
  const Request plain = plain_request(ids(1, 9), 3, 20);
  const std::vector<TokenId> alone = finish(engine, plain);
  Request request = plain_request(ids(2, 9), 3, 20);
  request.guides = {scripted([](const Moment& m) -> Action {
    if (m.new_tokens == 4) throw std::runtime_error("lost the thread");
    return Proceed{};
  })};
  std::vector<Sequence> both;
  both.push_back(engine.start(request));
  both.push_back(engine.start(plain));
  engine.finish(both);
  EXPECT_EQ(both[0].trace().stopped, StopReason::error);
  EXPECT_EQ(both[0].trace().error, "guide scripted: lost the thread");
  EXPECT_EQ(both[0].trace().decoded_tokens(), 4);
  EXPECT_EQ(both[1].trace().kept(), alone);
  both.clear();
  expect_no_leak(engine);
}

TEST(EngineInput, RefusesMarkersThatCloseNothing) {
  Engine engine(tiny_model(), exact());
  Request request = plain_request(ids(1, 9));
  request.markers = Markers{{10}, {}, {}, {}};
  request.guides = {budget({})};
  EXPECT_ERROR(engine.start(request), ErrorCode::invalid_argument, "guide budget");
}

}  // namespace
}  // namespace pensive::testing
