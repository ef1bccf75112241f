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

// What a type is called in an error.
template <class T>
std::string kind_of() {
  if constexpr (std::is_same_v<T, bool>)
    return "a bool";
  else if constexpr (std::is_integral_v<T>)
    return std::is_signed_v<T> ? "a whole number" : "a whole number from 0 on";
  else if constexpr (std::is_floating_point_v<T>)
    return "a number";
  else if constexpr (std::is_same_v<T, std::string>)
    return "a str";
  else if constexpr (std::is_same_v<T, std::vector<pensive::TokenId>>)
    return "a list of token ids";
  else if constexpr (std::is_same_v<T, std::vector<std::string>>)
    return "a list of str";
  else if constexpr (requires { typename T::value_type; })
    return kind_of<typename T::value_type>();  // of an optional
  else
    return py::type_id<T>();
}

// A value as C++ has it, or an Error that names it and where it stands.
template <class T>
T as(const py::handle& value, const std::string& where) {
  try {
    return py::cast<T>(value);
  } catch (const py::cast_error&) {
    refuse(kind_of<T>(), shown(value), where);
  }
}
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
