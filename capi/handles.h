// What stands behind the C handles, the bodies of the functions, and conversions several share.
#pragma once
#include <atomic>
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

// One thread at a time steps or changes what is stepped; a second, or a callback, is told so.
struct EngineBox {
  EngineBox(std::shared_ptr<const pensive::Model> model, const pensive::EngineOptions& options)
      : engine(std::move(model), options) {}
  pensive::Engine engine;
  // Shared with the sequences, which may outlive the engine.
  std::shared_ptr<std::atomic_flag> is_stepping = std::make_shared<std::atomic_flag>();
};

class Stepping {
 public:
  explicit Stepping(std::atomic_flag& is_stepping) : is_stepping_(is_stepping) {
    if (is_stepping_.test_and_set())
      throw pensive::Error(pensive::ErrorCode::busy,
                           "expected one caller at a time; found this engine stepping already "
                           "(another thread, or a callback)");
  }
  explicit Stepping(EngineBox& box) : Stepping(*box.is_stepping) {}
  ~Stepping() { is_stepping_.clear(); }
  Stepping(const Stepping&) = delete;
  Stepping& operator=(const Stepping&) = delete;

 private:
  std::atomic_flag& is_stepping_;
};

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
  std::shared_ptr<door::EngineBox> box;
};
struct pensive_sequence {
  pensive::Sequence value;
  std::shared_ptr<const pensive::Model> model;
  std::shared_ptr<std::atomic_flag> is_stepping;  // its engine's
  std::vector<pensive::TextEvent> events{};
  std::size_t next_event = 0;
};
struct pensive_trainer {
  std::shared_ptr<door::EngineBox> box;  // the trainer borrows its engine: destroyed after it
  pensive::Trainer value;
};
