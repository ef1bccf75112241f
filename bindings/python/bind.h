// What the sections of the Python module share: handles, and callables that C++ may keep.
#pragma once
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pensive/engine.h"
#include "pensive/exam.h"
#include "pensive/judge.h"
#include "pensive/model.h"
#include "pensive/think.h"
#include "pensive/trace.h"
#include "pensive/train.h"

namespace py = pybind11;

namespace bind {

// A Python object that C++ may copy and drop on any thread, with or without the interpreter's lock.
class Kept {
 public:
  explicit Kept(py::object object)
      : object_(new py::object(std::move(object)), [](py::object* object) {
          if (!Py_IsInitialized()) return;  // too late to free anything
          const py::gil_scoped_acquire lock;
          delete object;
        }) {}
  // With the lock held only.
  const py::object& get() const { return *object_; }

 private:
  std::shared_ptr<py::object> object_;
};

struct GuideHandle {
  std::shared_ptr<const pensive::Guide> guide;
};
struct JudgeHandle {
  std::shared_ptr<const pensive::Judge> judge;
};

[[noreturn]] void refuse(const std::string& expected, const std::string& found,
                         const std::string& where);

std::string shown(const py::handle& object);
pensive::LogSink log_of(const py::object& callable);  // None: nobody listens
std::string json_of(const py::object& value);         // None: ""
py::str text_of(std::string_view text);               // broken characters become U+FFFD

std::shared_ptr<const pensive::Guide> guide_of(const py::object& guide);
std::shared_ptr<const pensive::Judge> judge_of(const py::object& judge);
std::string chat_of(const py::iterable& chat);  // a JSON list of the dicts
// A Request from keyword arguments, or one made before; `tokenizer` may be null where there are no
// texts to encode.
pensive::Request request_of(const py::dict& fields, const pensive::Tokenizer* tokenizer);
pensive::Request request_of(const py::object& request);
pensive::Request request_of(const py::object& request, const py::dict& fields,
                            const pensive::Tokenizer& tokenizer);
// At most one of the two: a system message, or a callable from Problem to ids.
pensive::PromptOf prompt_of(const py::object& system, const py::object& callable,
                            std::shared_ptr<const pensive::Tokenizer> tokenizer);

// Options from keyword arguments.
pensive::ModelOptions model_options_of(const std::string& device, const std::string& precision,
                                       const py::object& log, const std::string& unknown_keys);
pensive::EngineOptions engine_options_of(const py::dict& fields);

const char* name_of(pensive::Marker marker);
const char* name_of(pensive::Origin origin);
pensive::Segment segment_of(const std::string& name);

void add_model(py::module_& module);
void add_text(py::module_& module);
void add_think(py::module_& module);
void add_measure(py::module_& module);
void add_trace(py::module_& module);
void add_engine(py::module_& module);
void add_memory(py::module_& module);
void add_serve(py::module_& module);
void add_judge(py::module_& module);
void add_train(py::module_& module);
pensive::Logprobs logprobs_of(const std::string& name);  // "fast" or "exact"
void add_exam(py::module_& module);

}  // namespace bind
