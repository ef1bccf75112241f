// What the sections of the Python module share: handles, and callables that C++ may keep.
#pragma once
#include <pybind11/functional.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <atomic>
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

// One thread at a time steps or changes what is stepped; a second one, or a callback, is told so.
struct EngineHandle {
  EngineHandle(std::shared_ptr<const pensive::Model> model, const pensive::EngineOptions& options)
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
  explicit Stepping(EngineHandle& engine) : Stepping(*engine.is_stepping) {}
  ~Stepping() { is_stepping_.clear(); }
  Stepping(const Stepping&) = delete;
  Stepping& operator=(const Stepping&) = delete;

 private:
  std::atomic_flag& is_stepping_;
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
// At most one of the two: a system message, or a callable from Problem to ids.
pensive::PromptOf prompt_of(const py::object& system, const py::object& callable,
                            std::shared_ptr<const pensive::Tokenizer> tokenizer);

const char* name_of(pensive::Marker marker);
const char* name_of(pensive::Origin origin);
pensive::Segment segment_of(const std::string& name);

void add_model(py::module_& module);
void add_text(py::module_& module);
void add_think(py::module_& module);
void add_trace(py::module_& module);
void add_engine(py::module_& module);
void add_judge(py::module_& module);
void add_train(py::module_& module);
void add_exam(py::module_& module);

}  // namespace bind
