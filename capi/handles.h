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
pensive::Request request_in(const pensive_request* request);
std::vector<pensive::Problem> problems_in(const pensive_problems* problems);

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
  std::vector<pensive::TextEvent> events{};
  std::size_t next_event = 0;
};
struct pensive_trainer {
  std::shared_ptr<pensive::Engine> engine;  // the trainer borrows its engine: destroyed after it
  pensive::Trainer value;
};
