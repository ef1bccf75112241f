// The Python module: `import pensive` finds it as pensive._pensive.
#include "bind.h"

namespace bind {

void refuse(const std::string& expected, const std::string& found, const std::string& where) {
  throw pensive::Error(pensive::ErrorCode::invalid_argument,
                       "expected " + expected + "; found " + found + " (" + where + ")");
}

std::string shown(const py::handle& object) { return py::cast<std::string>(py::repr(object)); }

pensive::LogSink log_of(const py::object& callable) {
  if (callable.is_none()) return {};
  return [kept = Kept(callable)](pensive::LogLevel level, std::string_view line) {
    const py::gil_scoped_acquire lock;
    kept.get()(level == pensive::LogLevel::warning ? "warning" : "info", text_of(line));
  };
}

std::string json_of(const py::object& value) {
  if (value.is_none()) return {};
  if (py::isinstance<py::str>(value)) return py::cast<std::string>(value);
  return py::cast<std::string>(py::module_::import("json").attr("dumps")(value));
}

py::str text_of(std::string_view text) {
  PyObject* decoded =
      PyUnicode_DecodeUTF8(text.data(), static_cast<Py_ssize_t>(text.size()), "replace");
  if (!decoded) throw py::error_already_set();
  return py::reinterpret_steal<py::str>(decoded);
}

namespace {

// pensive.Error, whose `code` says what kind of trouble it is.
void add_errors(py::module_& module) {
  static PyObject* type = nullptr;  // as long as the interpreter
  type = PyErr_NewExceptionWithDoc("pensive.Error",
                                   "What goes wrong in pensive.\n\n"
                                   "`code` is its kind: 'invalid_argument', 'not_found', ...; the "
                                   "text says what was expected, what was found, and where.",
                                   PyExc_RuntimeError, nullptr);
  if (!type) throw py::error_already_set();
  module.add_object("Error", py::reinterpret_borrow<py::object>(type));
  py::register_exception_translator([](std::exception_ptr pointer) {
    try {
      if (pointer) std::rethrow_exception(pointer);
    } catch (const pensive::Error& error) {
      py::object value = py::reinterpret_borrow<py::object>(type)(text_of(error.what()));
      value.attr("code") = std::string(pensive::to_string(error.code()));
      PyErr_SetObject(type, value.ptr());
    }
  });
}

}  // namespace

}  // namespace bind

PYBIND11_MODULE(_pensive, module) {
  module.attr("__version__") = std::string(pensive::version());
  bind::add_errors(module);
  bind::add_text(module);
  bind::add_model(module);
  bind::add_think(module);
  bind::add_judge(module);
  bind::add_trace(module);
  bind::add_engine(module);
  bind::add_memory(module);
  bind::add_serve(module);
  bind::add_train(module);
  bind::add_exam(module);
}
