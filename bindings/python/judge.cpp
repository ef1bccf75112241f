// Answers, and the judges.
#include "bind.h"

namespace bind {

namespace {

using pensive::Extraction;
using pensive::Problem;
using pensive::Response;
using pensive::ResponseSegment;

class PythonJudge final : public pensive::Judge {
 public:
  explicit PythonJudge(const py::object& callable) : callable_(callable) {}
  double score(const Problem& problem, const Response& response) const override {
    const py::gil_scoped_acquire lock;
    return as<double>(callable_.get()(problem, response), "judge");
  }

 private:
  Kept callable_;
};

Extraction extraction_of(bool is_strict) {
  return is_strict ? Extraction::strict : Extraction::lenient;
}

std::string repr(const Problem& problem) {
  return "Problem(" + shown(text_of(problem.question)) + ", " + shown(text_of(problem.reference)) +
         ")";
}

void add_values(py::module_& module) {
  py::class_<Problem>(module, "Problem", "A question and its right answer.")
      .def(py::init([](std::string question, std::string reference, std::string id,
                       std::vector<std::string> intermediates, int target_tokens) {
             return Problem{std::move(id), std::move(question), std::move(reference),
                            std::move(intermediates), target_tokens};
           }),
           py::arg("question"), py::arg("reference"), py::arg("id") = "",
           py::arg("intermediates") = std::vector<std::string>(), py::arg("target_tokens") = 0)
      .def_readonly("id", &Problem::id)
      .def_readonly("question", &Problem::question)
      .def_readonly("reference", &Problem::reference)
      .def_readonly("intermediates", &Problem::intermediates)
      .def_readonly("target_tokens", &Problem::target_tokens)
      .def("__repr__", &repr);
  py::class_<ResponseSegment>(module, "ResponseSegment", "A stretch of thinking or an answer.")
      .def(py::init([](std::string text, int begin, int tokens, bool is_thinking) {
             return ResponseSegment{std::move(text), begin, tokens, is_thinking};
           }),
           py::arg("text"), py::arg("begin") = 0, py::arg("tokens") = 0,
           py::arg("is_thinking") = false)
      .def_property_readonly("text", [](const ResponseSegment& self) { return text_of(self.text); })
      .def_readonly("begin", &ResponseSegment::begin)
      .def_readonly("tokens", &ResponseSegment::tokens)
      .def_readonly("is_thinking", &ResponseSegment::is_thinking);
  py::class_<Response>(module, "Response", "What a judge sees of a finished sequence.")
      .def(py::init([](std::string text, std::string thinking, std::string answer, int think_tokens,
                       int answer_tokens, bool is_truncated, std::vector<ResponseSegment> segments,
                       int tokens) {
             return Response{
                 std::move(text), std::move(thinking), std::move(answer),   think_tokens,
                 answer_tokens,   is_truncated,        std::move(segments), tokens};
           }),
           py::arg("text"), py::arg("thinking") = "", py::arg("answer") = "",
           py::arg("think_tokens") = 0, py::arg("answer_tokens") = 0,
           py::arg("is_truncated") = false, py::arg("segments") = std::vector<ResponseSegment>(),
           py::arg("tokens") = 0)
      .def_property_readonly("text", [](const Response& self) { return text_of(self.text); })
      .def_property_readonly("thinking",
                             [](const Response& self) { return text_of(self.thinking); })
      .def_property_readonly("answer", [](const Response& self) { return text_of(self.answer); })
      .def_readonly("think_tokens", &Response::think_tokens)
      .def_readonly("answer_tokens", &Response::answer_tokens)
      .def_readonly("is_truncated", &Response::is_truncated)
      .def_readonly("segments", &Response::segments)
      .def_readonly("tokens", &Response::tokens);
  py::class_<JudgeHandle>(module, "Judge", "Gives a response a number; call it to ask.")
      .def(
          "__call__",
          [](const JudgeHandle& self, const Problem& problem, const Response& response) {
            const py::gil_scoped_release unlock;
            return self.judge->score(problem, response);
          },
          py::arg("problem"), py::arg("response"));
}

void add_answers(py::module_& module) {
  module.def(
      "find_answer",
      [](const std::string& response, bool strict) {
        return pensive::find_answer(response, extraction_of(strict));
      },
      py::arg("response"), py::arg("strict") = false,
      "The final answer written in a text, or None. Strict: a box only.");
  module.def(
      "final_answer",
      [](const Response& response, bool strict) {
        return pensive::final_answer(response, extraction_of(strict));
      },
      py::arg("response"), py::arg("strict") = false, "The final answer of a response, or None.");
  module.def("same_answer", &pensive::same_answer, py::arg("a"), py::arg("b"),
             "Whether two answers are the same: numbers, LaTeX, lists, equations, text.");
  module.def("grading_prompt", &pensive::grading_prompt, py::arg("problem"), py::arg("response"),
             "The prompt with which a model grades (arXiv 2506.11274).");
}

JudgeHandle hybrid(const py::object& judge, const py::object& ask, bool strict) {
  if (!PyCallable_Check(ask.ptr()))
    refuse("a callable from a prompt to a reply", shown(ask), "ask");
  const auto call = [kept = Kept(ask)](const std::string& prompt) {
    const py::gil_scoped_acquire lock;
    return as<std::string>(kept.get()(text_of(prompt)), "ask");
  };
  return {pensive::hybrid(judge_of(judge), call, extraction_of(strict))};
}

}  // namespace

std::shared_ptr<const pensive::Judge> judge_of(const py::object& judge) {
  if (py::isinstance<JudgeHandle>(judge)) return py::cast<const JudgeHandle&>(judge).judge;
  if (!PyCallable_Check(judge.ptr())) refuse("a judge or a callable", shown(judge), "judge");
  return std::make_shared<PythonJudge>(judge);
}

void add_judge(py::module_& module) {
  add_values(module);
  add_answers(module);
  module.def(
      "correct", [](bool strict) { return JudgeHandle{pensive::correct(extraction_of(strict))}; },
      py::arg("strict") = false, "1 when the final answer is the reference, else 0.");
  module.def(
      "boxed", [] { return JudgeHandle{pensive::boxed()}; },
      "1 when the response holds a \\boxed answer, else 0.");
  module.def(
      "sum_judges",
      [](const py::object& first, const py::object& second, double weight) {
        return JudgeHandle{pensive::sum(judge_of(first), judge_of(second), weight)};
      },
      py::arg("first"), py::arg("second"), py::arg("weight") = 1.0,
      "The first plus `weight` times the second.");
  module.def(
      "token_price", [](double per_token) { return JudgeHandle{pensive::token_price(per_token)}; },
      py::arg("per_token"), "Minus `per_token` for each token of thinking and answer.");
  module.def(
      "lcpo_exact",
      [](const py::object& judge, int target_tokens, double per_token) {
        return JudgeHandle{pensive::lcpo_exact(
            judge_of(judge), {.target_tokens = target_tokens, .per_token = per_token})};
      },
      py::arg("judge"), py::arg("target_tokens") = 0, py::arg("per_token") = 0.0003,
      "The judge's score minus `per_token` for each token beside the target (arXiv 2503.04697).");
  module.def(
      "lcpo_max",
      [](const py::object& judge, int target_tokens, double per_token, double offset) {
        return JudgeHandle{pensive::lcpo_max(judge_of(judge), {target_tokens, per_token, offset})};
      },
      py::arg("judge"), py::arg("target_tokens") = 0, py::arg("per_token") = 0.0003,
      py::arg("offset") = 0.5,
      "The judge's score times what is left of the target, cut to 0 and 1 (arXiv 2503.04697).");
  module.def("hybrid", &hybrid, py::arg("judge"), py::arg("ask"), py::arg("strict") = true,
             "The judge's score where there is an answer; else ask(prompt) says True or False.");
}

}  // namespace bind
