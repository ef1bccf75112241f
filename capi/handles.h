// What stands behind the C handles, the bodies of the functions, and conversions several share.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "guard.h"
#include "pensive/engine.h"
#include "pensive/exam.h"
#include "pensive/judge.h"
#include "pensive/model.h"
#include "pensive/think.h"
#include "pensive/train.h"

namespace door {

// A caller's log, held by the sink made from it.
std::shared_ptr<User> log_in(const pensive_log* log, pensive::LogSink& sink);
// How to prompt, and the caller's `user` if there is one.
std::shared_ptr<User> prompting_in(const pensive_prompting* prompting,
                                   std::shared_ptr<const pensive::Tokenizer> tokenizer,
                                   pensive::PromptOf& prompt_of);
// A problem as a callback sees it, for as long as both live.
struct ProblemView {
  explicit ProblemView(const pensive::Problem& problem);
  std::vector<const char*> intermediates{};
  pensive_problem value{};
};
// Events on their way out, one at a time.
struct Events {
  std::vector<pensive::TextEvent> taken;
  std::size_t next = 0;
  // Hands the next one out; asks `source` for more when there is none.
  template <class Source>
  void hand_out(Source& source, pensive_event* event);
};
pensive_event event_out(const pensive::TextEvent& event);
pensive_trace trace_out(const pensive::Trace& trace);

// Options, and where a log was given its caller's `user`.
pensive::ModelOptions model_options_in(const pensive_model_options* options,
                                       std::shared_ptr<User>& user);
pensive::EngineOptions engine_options_in(const pensive_engine_options* options,
                                         std::shared_ptr<User>& user);
pensive::TrainOptions train_options_in(const pensive_train_options& given);
pensive::Markers markers_in(const pensive_markers& markers);
pensive::Request request_in(const pensive_request* request);
std::vector<pensive::Problem> problems_in(const pensive_problems* problems);

template <class Source>
void Events::hand_out(Source& source, pensive_event* event) {
  check_size(need(event, "event").struct_size, first_size<pensive_event>, "pensive_event");
  if (next == taken.size()) {
    next = 0;
    taken.clear();
    taken = source.take_events();
  }
  struct_out(event, next < taken.size() ? event_out(taken[next++]) : pensive_event{},
             "pensive_event");
}

#define CALL(name, parameters, arguments) int32_t name parameters;
#define TELL(type, name, parameters, arguments, otherwise) type name parameters;
#define DROP(name, parameters, arguments) void name parameters;
#include "functions.h"
#undef CALL
#undef TELL
#undef DROP

}  // namespace door

struct pensive_model {
  std::shared_ptr<const pensive::Model> value;
};
struct pensive_soft {
  std::shared_ptr<pensive::SoftVocab> value;
};
struct pensive_tokenizer {
  std::shared_ptr<const pensive::Tokenizer> value;
};
struct pensive_guide {
  std::shared_ptr<const pensive::Guide> value;
};
struct pensive_judge {
  std::shared_ptr<const pensive::Judge> value;
};
struct pensive_engine {
  std::shared_ptr<pensive::Engine> value;
};
struct pensive_sequence {
  pensive::Sequence value;
  std::shared_ptr<const pensive::Model> model;
  std::shared_ptr<const pensive::SoftVocab> soft;  // of its engine; may be null
  door::Events events{};

  // Tells its texts as its engine and the judges do.
  std::shared_ptr<const pensive::Tokenizer> tokenizer() const {
    return soft ? soft->tokenizer() : model->tokenizer();
  }
};
struct pensive_server {
  std::shared_ptr<pensive::Engine> engine;  // the server borrows it: destroyed after it
  std::unique_ptr<pensive::Server> value;
};
struct pensive_job {
  pensive::Job value;
  door::Events events{};
};
struct pensive_trainer {
  std::shared_ptr<pensive::Engine> engine;  // the trainer borrows its engine: destroyed after it
  pensive::Trainer value;
};
