// Budgets over many random runs, with markers of every kind: what must hold whatever is drawn.
// PENSIVE_LONG=1 makes ten thousand of them.
#include <algorithm>
#include <cstdlib>
#include <random>

#include "engine_marked.h"
#include "think/tags.h"

namespace pensive::testing {
namespace {

using Random = std::mt19937;

int below(Random& random, int end) {
  return static_cast<int>(random() % static_cast<unsigned>(end));
}

bool is_utf8(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto lead = static_cast<unsigned char>(text[i]);
    const std::size_t size = lead < 0x80   ? 1
                             : lead < 0xc2 ? 0
                             : lead < 0xe0 ? 2
                             : lead < 0xf0 ? 3
                                           : 0;
    if (size == 0 || i + size > text.size()) return false;
    for (std::size_t k = 1; k < size; ++k)
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) return false;
    i += size;
  }
  return true;
}

// One random run: what is asked, and what came.
struct Trial {
  const Kind* kind = nullptr;
  Markers markers;
  std::vector<TokenId> closing;  // as it will be fed
  int before = 0;                // tokens of it before the closer
  int limit = 0;
  int rounds = 0;  // closers that continue_thinking replaces
  Request request;
  std::vector<TextEvent> events;
  Trace trace;

  std::string text() const {
    return fmt::format("{}, seed {}, limit {}\n{}", kind->name, *request.sampling.seed, limit,
                       print(trace));
  }
};

Trial random_trial(Random& random) {
  const Tokenizer& tokenizer = *marked_model()->tokenizer();
  Trial run;
  run.kind = &kinds()[random() % kinds().size()];
  run.markers = markers_of(*run.kind);
  run.limit = below(random, 24);
  run.closing = run.markers.think_close;
  Request& request = run.request;
  std::vector<TokenId> prompt = tokenizer.encode("a.", {.add_special = AddSpecial::no});
  // An earlier turn that thought, too.
  for (int turn = below(random, 2); turn < 2; ++turn) {
    prompt.insert(prompt.end(), run.markers.think_open.begin(), run.markers.think_open.end());
    prompt.push_back(id_of(tokenizer, "b"));
    if (turn == 0)
      prompt.insert(prompt.end(), run.markers.think_close.begin(), run.markers.think_close.end());
  }
  request = plain_request(std::move(prompt), random(), 20 + below(random, 50));
  request.markers = run.markers;
  request.sampling.allowed_tokens = ids_of(tokenizer, run.kind->words);
  for (const TokenId id : run.markers.think_close)
    if (std::ranges::find(request.sampling.allowed_tokens, id) !=
        request.sampling.allowed_tokens.end())
      request.sampling.logit_bias.push_back({id, static_cast<float>(below(random, 3))});
  request.guides.push_back(
      budget({.max_think_tokens = run.limit, .window_tokens = below(random, run.limit + 1)}));
  if (random() % 3 == 0) {
    run.rounds = 1 + below(random, 2);
    request.guides.push_back(
        continue_thinking({.with = {id_of(tokenizer, "w")}, .times = run.rounds}));
  }
  if (random() % 2 == 0) {
    const std::vector<TokenId> said = ids_of(tokenizer, {".", "Ċ"});
    run.before = static_cast<int>(said.size());
    run.closing.insert(run.closing.begin(), said.begin(), said.end());
    run.closing.push_back(id_of(tokenizer, "Ċ"));
    request.closing = run.closing;
  }
  return run;
}

std::vector<int> kept_rows(const Trace& trace) {
  std::vector<int> rows;
  for (std::size_t i = static_cast<std::size_t>(trace.prompt_tokens); i < trace.tokens.size(); ++i)
    if (trace.is_taken_back[i] == 0) rows.push_back(static_cast<int>(i));
  return rows;
}

// Whether `ahead` ends in half a closer, of which `taken` (what was taken back behind it) was part.
bool is_half_a_closer_left(const Trial& run, std::span<const TokenId> ahead,
                           std::span<const TokenId> taken) {
  std::vector<TokenId> all(ahead.begin(), ahead.end());
  all.insert(all.end(), taken.begin(), taken.end());
  const auto& closer = run.markers.think_close;
  const std::span<const TokenId> drawn(all);
  for (std::size_t size = std::min(closer.size() - 1, all.size()); size > taken.size(); --size)
    if (std::ranges::equal(drawn.last(size), std::span(closer).first(size))) return true;
  const Tokenizer& tokenizer = *marked_model()->tokenizer();
  Markers only;
  only.think_close = closer;
  const Tags tags(only, tokenizer);
  return !tags.empty() && tags.begun(tokenizer.decode(all)) > tokenizer.decode(taken).size();
}

struct Closings {
  int count = 0;
  int cut = 0;  // tokens of a closer that no token was left to end
};

// Each closing that was fed stands there whole, once, behind no half of one.
Closings expect_whole_closings(const Trial& run) {
  const Trace& trace = run.trace;
  const std::vector<int> rows = kept_rows(trace);
  Closings closings;
  for (const TraceAction& action : trace.actions) {
    if (action.kind != "close") continue;
    ++closings.count;
    EXPECT_EQ(action.reason, "budget");
    const auto first = std::ranges::upper_bound(rows, action.position);
    std::vector<TokenId> fed;
    int completed = 0;
    for (auto row = first; row != rows.end() && fed.size() < run.closing.size(); ++row) {
      fed.push_back(trace.tokens[static_cast<std::size_t>(*row)]);
      EXPECT_EQ(trace.origins[static_cast<std::size_t>(*row)], Origin::forced);
      completed += trace.is_marker[static_cast<std::size_t>(*row)];
    }
    if (fed.size() < run.closing.size()) {
      EXPECT_EQ(trace.stopped, StopReason::length);
      const int begun = static_cast<int>(fed.size()) - run.before;
      closings.cut = completed > 0 ? 0 : std::max(begun, 0);
      continue;
    }
    EXPECT_EQ(fed, run.closing);
    EXPECT_EQ(completed, static_cast<int>(run.markers.think_close.size())) << "one closer in it";
    std::vector<TokenId> ahead;
    for (auto row = rows.begin(); row != first; ++row) {
      const auto at = static_cast<std::size_t>(*row);
      ahead.push_back(trace.tokens[at]);
      if (trace.is_marker[at] != 0) ahead.clear();
    }
    std::vector<TokenId> taken;
    for (int row = first == rows.begin() ? trace.prompt_tokens : first[-1] + 1;
         row <= action.position; ++row)
      taken.push_back(trace.tokens[static_cast<std::size_t>(row)]);
    EXPECT_FALSE(is_half_a_closer_left(run, ahead, taken));
  }
  return closings;
}

void expect_clean_text(const Trial& run) {
  std::string streamed;
  for (const TextEvent& event : run.events) {
    EXPECT_TRUE(is_utf8(event.text));
    EXPECT_FALSE(event.text.empty());
    EXPECT_NE(event.segment, Segment::prompt);
    streamed += event.text;
  }
  // All text but the markers', and no text between two of them is one.
  const Tokenizer& tokenizer = *marked_model()->tokenizer();
  std::string kept, between;
  const auto end = [&] {
    EXPECT_EQ(between.find(run.kind->open), std::string::npos);
    EXPECT_EQ(between.find(run.kind->close), std::string::npos);
    kept += std::exchange(between, {});
  };
  for (const int row : kept_rows(run.trace)) {
    const auto at = static_cast<std::size_t>(row);
    const TokenId id = run.trace.tokens[at];
    if (run.trace.is_marker[at] == 0) {
      between += tokenizer.decode(std::span(&id, 1));
      continue;
    }
    for (const Edge edge : {Edge::before, Edge::behind}) {
      if (edge == Edge::behind) end();
      for (const MarkerText& text : run.trace.marker_texts)
        if (text.position == row && text.edge == edge) between += text.text;
    }
  }
  end();
  // What was half a character is left out.
  const auto is_wide = [](char c) { return (c & 0x80) != 0; };
  std::erase_if(streamed, is_wide);
  std::erase_if(kept, is_wide);
  EXPECT_EQ(streamed, kept);
}

struct Count {
  int closings = 0, by_themselves = 0, reopened = 0;
};

void check(const Trial& run, Count& count) {
  ASSERT_NE(run.trace.stopped, StopReason::error) << run.trace.error;
  const Closings closings = expect_whole_closings(run);
  // What a closing says before its closer is thinking, and so is the word that replaces a closer.
  EXPECT_LE(run.trace.count(Segment::think), run.limit + closings.count * run.before +
                                                 closings.cut + (run.limit == 0 ? run.rounds : 0));
  expect_clean_text(run);
  count.closings += closings.count;
  for (const int row : kept_rows(run.trace)) {
    const auto at = static_cast<std::size_t>(row);
    if (run.trace.is_marker[at] != 0 && run.trace.origins[at] == Origin::sampled)
      (run.trace.segments[at] == Segment::think ? count.by_themselves : count.reopened) += 1;
  }
}

void finish(Engine& engine, std::vector<Trial>& runs) {
  std::vector<Sequence> sequences;
  for (const Trial& run : runs) sequences.push_back(engine.start(run.request));
  for (bool is_done = false; !is_done;) {
    is_done = engine.step() == 0;
    // Some are listened to all the time, others at the end.
    for (std::size_t i = 0; i < runs.size(); ++i) {
      if (!is_done && i % 2 == 0) continue;
      for (TextEvent& event : sequences[i].take_events()) {
        std::vector<TextEvent>& all = runs[i].events;
        EXPECT_TRUE(is_utf8(event.text));
        if (!all.empty() && all.back().segment == event.segment && all.back().index == event.index)
          all.back().text += event.text;
        else
          all.push_back(std::move(event));
      }
    }
  }
  for (std::size_t i = 0; i < runs.size(); ++i) runs[i].trace = sequences[i].trace();
}

TEST(Budget, HoldsOverRandomRunsWithMarkersOfEveryKind) {
  const char* given = std::getenv("PENSIVE_LONG");
  const int all = given != nullptr && std::string_view(given) == "1" ? 10000 : 1000;
  constexpr int batch = 100;
  EngineOptions options;
  options.cache_tokens = 16384;
  options.reuse_prefixes = false;
  Engine engine(marked_model(), options);
  Random random(5);
  Count count;
  for (int done = 0; done < all && !HasFailure(); done += batch) {
    std::vector<Trial> runs;
    for (int i = 0; i < batch; ++i) runs.push_back(random_trial(random));
    finish(engine, runs);
    for (const Trial& run : runs) {
      check(run, count);
      ASSERT_FALSE(HasFailure()) << run.text();
    }
  }
  // The runs are such that all of it happens.
  EXPECT_GT(count.closings, all / 4);
  EXPECT_GT(count.by_themselves, all / 4);
  EXPECT_GT(count.reopened, all / 20);
}

}  // namespace
}  // namespace pensive::testing
