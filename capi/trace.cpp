#include "pensive/trace.h"

#include "handles.h"

namespace door {

namespace {

static_assert(sizeof(pensive::Segment) == 1 && sizeof(pensive::Origin) == 1);

pensive_measures measures_out(const pensive::Measures& from) {
  pensive_measures to{};
  to.decoded_tokens = from.decoded_tokens;
  to.think_tokens = from.think_tokens;
  to.answer_tokens = from.answer_tokens;
  to.marker_tokens = from.marker_tokens;
  to.taken_back_tokens = from.taken_back_tokens;
  to.probe_tokens = from.probe_tokens;
  to.forced_tokens = from.forced_tokens;
  to.steered_tokens = from.steered_tokens;
  to.tokens_to_answer = from.tokens_to_answer;
  to.doubts = from.doubts;
  to.switches = from.switches;
  to.answers = static_cast<int32_t>(from.answers.size());
  to.answer_changes = from.answer_changes;
  to.first_think_tokens = from.first_think_tokens;
  to.think_tokens_after = from.think_tokens_after;
  to.is_right = from.is_right ? static_cast<int32_t>(*from.is_right) : -1;
  to.share_to_answer = from.share_to_answer;
  to.seconds_to_answer = from.seconds_to_answer;
  to.seconds = from.seconds;
  to.doubt_share = from.doubt_share;
  to.switch_interval = from.switch_interval;
  to.eta = from.eta;
  to.overthink_score = from.overthink_score;
  to.outcome_efficiency = from.outcome_efficiency;
  to.underthinking = from.underthinking;
  return to;
}

}  // namespace

pensive_trace trace_out(const pensive::Trace& from) {
  pensive_trace to{};
  to.struct_size = sizeof to;
  to.stopped = static_cast<int32_t>(from.stopped);
  to.count = from.tokens.size();
  to.tokens = from.tokens.data();
  to.logprobs = from.logprobs.data();
  to.drawn_logprobs = from.drawn_logprobs.data();
  to.entropies_nats = from.entropies_nats.data();
  to.segments = reinterpret_cast<const uint8_t*>(from.segments.data());
  to.origins = reinterpret_cast<const uint8_t*>(from.origins.data());
  to.is_marker = from.is_marker.data();
  to.is_taken_back = from.is_taken_back.data();
  to.prompt_tokens = from.prompt_tokens;
  to.probe_tokens = from.probe_tokens;
  to.decoded_tokens = from.decoded_tokens();
  to.think_tokens = from.count(pensive::Segment::think);
  to.answer_tokens = from.count(pensive::Segment::answer);
  to.action_count = static_cast<int32_t>(from.actions.size());
  to.seed = from.seed;
  to.sample = from.sample;
  to.path = from.path.data();
  to.path_count = from.path.size();
  to.error = from.error.c_str();
  to.top_count = from.top_count;
  to.top_tokens = from.top_tokens.data();
  to.top_logprobs = from.top_logprobs.data();
  to.stop_text = from.stop_text.c_str();
  to.is_steered = from.is_steered.data();
  to.seconds = from.seconds.data();
  return to;
}

int32_t sequence_get_trace(const pensive_sequence* sequence, pensive_trace* trace,
                           pensive_error** error) {
  return guard(error, [&] {
    struct_out(trace, trace_out(need(sequence, "sequence").value.trace()), "pensive_trace");
  });
}

int32_t sequence_get_action(const pensive_sequence* sequence, int32_t index,
                            pensive_trace_action* action, pensive_error** error) {
  return guard(error, [&] {
    const auto& actions = need(sequence, "sequence").value.trace().actions;
    if (index < 0 || static_cast<std::size_t>(index) >= actions.size())
      refuse("an index below " + std::to_string(actions.size()), std::to_string(index), "index");
    const pensive::TraceAction& from = actions[static_cast<std::size_t>(index)];
    pensive_trace_action to{};
    to.position = from.position;
    to.guide = from.guide.c_str();
    to.kind = from.kind.c_str();
    to.reason = from.reason.c_str();
    to.tokens = from.tokens;
    to.taken_back = from.taken_back;
    to.draws = from.draws;
    to.seconds = from.seconds;
    to.text = from.text.c_str();
    struct_out(action, to, "pensive_trace_action");
  });
}

int32_t sequence_get_response(const pensive_sequence* sequence, int32_t** ids, size_t* count,
                              pensive_error** error) {
  return guard(error, [&] {
    out(ids, "ids");
    need(count, "count") = 0;
    const pensive::Trace& trace = need(sequence, "sequence").value.trace();
    const std::vector<pensive::TokenId> kept = trace.kept();
    array_out<int32_t>(
        ids, count,
        std::span<const int32_t>(kept).subspan(static_cast<std::size_t>(trace.prompt_tokens)));
  });
}

int32_t sequence_save_trace(const pensive_sequence* sequence, const char* file, int32_t append,
                            pensive_error** error) {
  return guard(error, [&] {
    const pensive::Trace& trace = need(sequence, "sequence").value.trace();
    const auto if_exists =
        flag_in(append, "append") ? pensive::IfExists::append : pensive::IfExists::replace;
    pensive::save({&trace, 1}, text_in(file, "file"), if_exists);
  });
}

int32_t sequence_measure(const pensive_sequence* sequence, const pensive_measure_options* options,
                         pensive_measures* measures, pensive_error** error) {
  return guard(error, [&] {
    const pensive_measure_options given = struct_in(options, "pensive_measure_options");
    check_zero(given.reserved, "pensive_measure_options.reserved");
    pensive::MeasureOptions how;
    how.reference = text_or(given.reference, "");
    how.step_end = text_or(given.step_end, "\n");
    if (given.answer_after) how.find = pensive::answer_after(given.answer_after);
    const pensive_sequence& of = need(sequence, "sequence");
    const auto found = pensive::measure(of.value.trace(), of.tokenizer(), how);
    struct_out(measures, measures_out(found), "pensive_measures");
  });
}

}  // namespace door
