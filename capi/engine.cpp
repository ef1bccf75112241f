#include "pensive/engine.h"

#include "handles.h"

namespace door {

pensive::Markers markers_in(const pensive_markers& markers) {
  const auto given = struct_in(&markers, "pensive_markers");
  check_zero(given.reserved, "pensive_markers.reserved");
  pensive::Markers wanted;
  wanted.think_open = copy_in(given.think_open, given.think_open_count, "think_open");
  wanted.think_close = copy_in(given.think_close, given.think_close_count, "think_close");
  wanted.answer_open = copy_in(given.answer_open, given.answer_open_count, "answer_open");
  wanted.answer_close = copy_in(given.answer_close, given.answer_close_count, "answer_close");
  return wanted;
}

namespace {

// A number that is not said to be given must be zero: a forgotten bit is told, not ignored.
template <typename T, typename To>
void optional_in(const pensive_request& given, std::uint32_t bit, T value, To& to,
                 const char* name) {
  if (given.given & bit)
    to = value;
  else if (value != T{})
    refuse("0, or its PENSIVE_GIVEN bit", "a value without the bit", name);
}

void sampling_in(const pensive_request& given, pensive::Sampling& sampling) {
  optional_in(given, PENSIVE_GIVEN_MIN_P, given.min_p, sampling.min_p, "pensive_request.min_p");
  optional_in(given, PENSIVE_GIVEN_REPETITION_PENALTY, given.repetition_penalty,
              sampling.repetition_penalty, "pensive_request.repetition_penalty");
  sampling.presence_penalty = given.presence_penalty;
  sampling.frequency_penalty = given.frequency_penalty;
  const auto tokens = array_in(given.bias_tokens, given.bias_count, "pensive_request.bias_tokens");
  const auto biases = array_in(given.biases, given.bias_count, "pensive_request.biases");
  for (std::size_t i = 0; i < tokens.size(); ++i)
    sampling.logit_bias.push_back({tokens[i], biases[i]});
  sampling.allowed_tokens =
      copy_in(given.allowed_tokens, given.allowed_count, "pensive_request.allowed_tokens");
  sampling.banned_tokens =
      copy_in(given.banned_tokens, given.banned_count, "pensive_request.banned_tokens");
}

}  // namespace

pensive::Request request_in(const pensive_request* request) {
  const auto given = struct_in(request, "pensive_request");
  check_zero(given.reserved, "pensive_request.reserved");
  constexpr std::uint32_t known =
      PENSIVE_GIVEN_TEMPERATURE | PENSIVE_GIVEN_TOP_P | PENSIVE_GIVEN_TOP_K | PENSIVE_GIVEN_SEED |
      PENSIVE_GIVEN_BEGINS_IN | PENSIVE_GIVEN_MIN_P | PENSIVE_GIVEN_REPETITION_PENALTY;
  check_zero(given.given & ~known, "pensive_request.given, unknown bits");
  pensive::Request wanted;
  auto& sampling = wanted.sampling;
  optional_in(given, PENSIVE_GIVEN_TEMPERATURE, given.temperature, sampling.temperature,
              "pensive_request.temperature");
  optional_in(given, PENSIVE_GIVEN_TOP_P, given.top_p, sampling.top_p, "pensive_request.top_p");
  optional_in(given, PENSIVE_GIVEN_TOP_K, given.top_k, sampling.top_k, "pensive_request.top_k");
  optional_in(given, PENSIVE_GIVEN_SEED, given.seed, sampling.seed, "pensive_request.seed");
  const auto segment = static_cast<pensive::Segment>(
      choice_in(given.begins_in, PENSIVE_SEGMENT_ANSWER, "pensive_request.begins_in"));
  optional_in(given, PENSIVE_GIVEN_BEGINS_IN, segment, wanted.begins_in,
              "pensive_request.begins_in");
  wanted.prompt = copy_in(given.prompt, given.prompt_count, "pensive_request.prompt");
  for (const auto* guide : array_in(given.guides, given.guide_count, "pensive_request.guides"))
    wanted.guides.push_back(need(guide, "pensive_request.guides").value);
  if (given.markers) wanted.markers = markers_in(*given.markers);
  wanted.closing = copy_in(given.closing, given.closing_count, "pensive_request.closing");
  wanted.extra_stop_tokens =
      copy_in(given.extra_stop_tokens, given.extra_stop_count, "pensive_request.extra_stop_tokens");
  wanted.max_new_tokens = number_or(given.max_new_tokens, wanted.max_new_tokens);
  wanted.sample = given.sample;
  sampling_in(given, sampling);
  for (const char* text :
       array_in(given.stop_texts, given.stop_text_count, "pensive_request.stop_texts"))
    wanted.stop_texts.emplace_back(text_in(text, "pensive_request.stop_texts"));
  wanted.timeout_seconds = given.timeout_seconds;
  wanted.top_logprobs = given.top_logprobs;
  wanted.prompt_logprobs = flag_in(given.prompt_logprobs, "pensive_request.prompt_logprobs");
  check_zero(given.reserved_2, "pensive_request.reserved_2");
  wanted.ignore_end_tokens = flag_in(given.ignore_end_tokens, "pensive_request.ignore_end_tokens");
  return wanted;
}

pensive::EngineOptions engine_options_in(const pensive_engine_options* options,
                                         std::shared_ptr<User>& user) {
  const auto given = struct_in(options, "pensive_engine_options");
  check_zero(given.reserved, "pensive_engine_options.reserved");
  pensive::EngineOptions wanted;
  if (given.soft) wanted.soft = given.soft->value;
  user = log_in(given.log, wanted.log);
  if (flag_in(given.row_invariant, "pensive_engine_options.row_invariant"))
    wanted.arithmetic = pensive::Arithmetic::row_invariant;
  wanted.reuse_prefixes = !flag_in(given.forget_prefixes, "pensive_engine_options.forget_prefixes");
  wanted.graphs = !flag_in(given.without_graphs, "pensive_engine_options.without_graphs");
  wanted.run_ahead = !flag_in(given.without_run_ahead, "pensive_engine_options.without_run_ahead");
  wanted.page_tokens = number_or(given.page_tokens, wanted.page_tokens);
  wanted.cache_tokens = given.cache_tokens;
  wanted.max_live_sequences = number_or(given.max_live_sequences, wanted.max_live_sequences);
  wanted.max_tokens_per_step = number_or(given.max_tokens_per_step, wanted.max_tokens_per_step);
  return wanted;
}

int32_t engine_new(const pensive_model* model, const pensive_engine_options* options,
                   pensive_engine** engine, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(engine, "engine");
    std::shared_ptr<User> user;
    const pensive::EngineOptions wanted = engine_options_in(options, user);
    slot =
        new pensive_engine{std::make_shared<pensive::Engine>(need(model, "model").value, wanted)};
    if (user) user->is_ours = true;
  });
}

void engine_free(pensive_engine* engine) { delete engine; }

int32_t engine_start(pensive_engine* engine, const pensive_request* request,
                     pensive_sequence** sequence, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(sequence, "sequence");
    const auto value = need(engine, "engine").value;
    const auto wanted = request_in(&need(request, "request"));
    slot = new pensive_sequence{value->start(wanted), value->model(), value->options().soft};
  });
}

int32_t engine_submit(pensive_engine* engine, const pensive_request* request,
                      pensive_sequence** sequence, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(sequence, "sequence");
    const auto value = need(engine, "engine").value;
    const auto wanted = request_in(&need(request, "request"));
    slot = new pensive_sequence{value->submit(wanted), value->model(), value->options().soft};
  });
}

int32_t engine_score(pensive_engine* engine, const int32_t* prompt, size_t prompt_count,
                     const int32_t* continuation, size_t continuation_count, float* logprobs,
                     pensive_error** error) {
  return guard(error, [&] {
    const auto value = need(engine, "engine").value;
    need(logprobs, "logprobs");
    const auto scores = value->score(array_in(prompt, prompt_count, "prompt"),
                                     array_in(continuation, continuation_count, "continuation"));
    std::ranges::copy(scores, logprobs);
  });
}

int32_t engine_step(pensive_engine* engine, int32_t* unfinished, pensive_error** error) {
  return guard(error, [&] {
    const auto value = need(engine, "engine").value;  // the handle may be freed meanwhile
    const int left = value->step();
    if (unfinished) *unfinished = left;
  });
}

int32_t engine_finish(pensive_engine* engine, pensive_sequence* const* sequences, size_t count,
                      pensive_error** error) {
  return guard(error, [&] {
    const auto value = need(engine, "engine").value;
    const auto wanted = array_in(sequences, count, "sequences");
    for (pensive_sequence* sequence : wanted) need(sequence, "sequences");
    const pensive::Turn turn(*value);
    for (pensive_sequence* sequence : wanted) value->finish(sequence->value);
  });
}

int32_t engine_clear_prefixes(pensive_engine* engine, pensive_error** error) {
  return guard(error, [&] {
    const auto value = need(engine, "engine").value;
    value->clear_prefixes();
  });
}

int32_t engine_get_counters(const pensive_engine* engine, pensive_engine_counters* counters,
                            pensive_error** error) {
  return guard(error, [&] {
    const pensive::EngineCounters from = need(engine, "engine").value->counters();
    pensive_engine_counters to{};
    to.live = from.live;
    to.steps = from.steps;
    to.computed_tokens = from.computed_tokens;
    to.reused_tokens = from.reused_tokens;
    to.preemptions = from.preemptions;
    to.waiting = from.waiting;
    to.pages = from.pages;
    to.free_pages = from.free_pages;
    to.ahead_steps = from.ahead_steps;
    to.ahead_dropped = from.ahead_dropped;
    struct_out(counters, to, "pensive_engine_counters");
  });
}

int32_t sequence_finished(const pensive_sequence* sequence) {
  return !sequence || sequence->value.finished();
}

pensive_event event_out(const pensive::TextEvent& event) {
  pensive_event to{};
  to.struct_size = sizeof to;
  to.segment = static_cast<int32_t>(event.segment);
  to.index = event.index;
  to.text = event.text.c_str();
  to.size = event.text.size();
  return to;
}

int32_t sequence_next_event(pensive_sequence* sequence, pensive_event* event,
                            pensive_error** error) {
  return guard(error, [&] {
    pensive_sequence& from = need(sequence, "sequence");
    from.events.hand_out(from.value, event);
  });
}

int32_t sequence_fork(const pensive_sequence* sequence, int32_t draws, pensive_sequence** fork,
                      pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(fork, "fork");
    const pensive_sequence& from = need(sequence, "sequence");
    const auto wanted = static_cast<pensive::Draws>(choice_in(draws, PENSIVE_DRAWS_FRESH, "draws"));
    slot = new pensive_sequence{from.value.fork(wanted), from.model, from.soft};
  });
}

int32_t sequence_feed(pensive_sequence* sequence, const int32_t* ids, size_t count,
                      pensive_error** error) {
  return guard(error, [&] {
    pensive_sequence& to = need(sequence, "sequence");
    to.value.feed(array_in(ids, count, "ids"));
  });
}

int32_t sequence_rewind(pensive_sequence* sequence, size_t tokens, int32_t draws,
                        pensive_error** error) {
  return guard(error, [&] {
    pensive_sequence& to = need(sequence, "sequence");
    const auto wanted = static_cast<pensive::Draws>(choice_in(draws, PENSIVE_DRAWS_FRESH, "draws"));
    const auto count = static_cast<int>(std::min<std::size_t>(tokens, INT32_MAX));
    to.value.rewind(count, wanted);
  });
}

void sequence_cancel(pensive_sequence* sequence) {
  if (sequence) sequence->value.cancel();
}

void sequence_free(pensive_sequence* sequence) { delete sequence; }

}  // namespace door
