// What a trace tells of how the thinking went.
#include <optional>

#include "bind.h"
#include "pensive/trace.h"

namespace bind {

namespace {

pensive::AnswerFinder finder_of(const py::object& find) {
  if (find.is_none()) return {};
  if (py::isinstance<py::str>(find)) return pensive::answer_after(py::cast<std::string>(find));
  if (PyCallable_Check(find.ptr()) == 0) refuse("a text or a callable", shown(find), "find");
  return [find](std::string_view step) {
    return py::cast<std::optional<std::string>>(find(text_of(step)));
  };
}

pensive::Measures measure(const pensive::Trace& trace,
                          const std::shared_ptr<pensive::Tokenizer>& tokenizer,
                          const std::string& reference, const py::object& find,
                          const std::string& step_end, std::vector<std::string> doubts,
                          std::vector<std::string> switches, double beta) {
  return pensive::measure(trace, tokenizer,
                          {.reference = reference,
                           .find = finder_of(find),
                           .step_end = step_end,
                           .doubts = std::move(doubts),
                           .switches = std::move(switches),
                           .beta = beta});
}

}  // namespace

void add_measure(py::module_& module) {
  using pensive::FoundAnswer;
  using pensive::Measures;
  py::class_<FoundAnswer>(module, "FoundAnswer", "An answer that the thinking came to.")
      .def_property_readonly("text", [](const FoundAnswer& answer) { return text_of(answer.text); })
      .def_readonly("position", &FoundAnswer::position)
      .def_readonly("think_tokens", &FoundAnswer::think_tokens)
      .def_readonly("is_final", &FoundAnswer::is_final)
      .def_readonly("is_right", &FoundAnswer::is_right);
  py::class_<Measures>(module, "Measures", "What measure() found; -1 and NaN have no meaning here.")
      .def_readonly("think_tokens", &Measures::think_tokens)
      .def_readonly("answer_tokens", &Measures::answer_tokens)
      .def_readonly("marker_tokens", &Measures::marker_tokens)
      .def_readonly("taken_back_tokens", &Measures::taken_back_tokens)
      .def_readonly("probe_tokens", &Measures::probe_tokens)
      .def_readonly("decoded_tokens", &Measures::decoded_tokens)
      .def_readonly("forced_tokens", &Measures::forced_tokens)
      .def_readonly("steered_tokens", &Measures::steered_tokens)
      .def_readonly("tokens_to_answer", &Measures::tokens_to_answer)
      .def_readonly("share_to_answer", &Measures::share_to_answer)
      .def_readonly("seconds_to_answer", &Measures::seconds_to_answer)
      .def_readonly("seconds", &Measures::seconds)
      .def_readonly("doubts", &Measures::doubts)
      .def_readonly("doubt_share", &Measures::doubt_share)
      .def_readonly("switches", &Measures::switches)
      .def_readonly("switch_interval", &Measures::switch_interval)
      .def_readonly("final_answer", &Measures::final_answer)
      .def_readonly("is_right", &Measures::is_right)
      .def_readonly("answers", &Measures::answers)
      .def_readonly("answer_changes", &Measures::answer_changes)
      .def_readonly("first_think_tokens", &Measures::first_think_tokens)
      .def_readonly("think_tokens_after", &Measures::think_tokens_after)
      .def_readonly("eta", &Measures::eta)
      .def_readonly("overthink_score", &Measures::overthink_score)
      .def_readonly("outcome_efficiency", &Measures::outcome_efficiency)
      .def_readonly("underthinking", &Measures::underthinking);
  module.def("measure", &measure, py::arg("trace"), py::arg("tokenizer") = py::none(),
             py::kw_only(), py::arg("reference") = "", py::arg("find") = py::none(),
             py::arg("step_end") = "\n", py::arg("doubts") = std::vector<std::string>(),
             py::arg("switches") = std::vector<std::string>(), py::arg("beta") = 0.1,
             "Tokens by kind, the way to the answer, doubts, switches, and the papers' scores.");
}

}  // namespace bind
