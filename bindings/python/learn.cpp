// The exam, and how problems become prompts.
#include <optional>

#include "bind.h"

namespace bind {

namespace {

using pensive::Problem;
using pensive::TokenId;

pensive::ExamResult examine(pensive::Engine& engine, const std::vector<Problem>& problems,
                            const py::object& judge, const py::object& request, int samples,
                            std::uint64_t seed, const py::object& system, const py::object& prompt,
                            const py::object& progress,
                            const std::optional<std::filesystem::path>& samples_file, bool resume,
                            bool overwrite) {
  pensive::ExamOptions options;
  options.request = request_of(request);
  options.prompt_of = prompt_of(system, prompt, engine.model()->tokenizer());
  options.samples = samples;
  options.seed = seed;
  options.samples_file = samples_file.value_or("");
  if (resume && overwrite) refuse("resume or overwrite", "both", "examine");
  if (resume) options.if_begun = pensive::IfBegun::resume;
  if (overwrite) options.if_begun = pensive::IfBegun::restart;
  options.progress = [&progress](int done, int of) {
    const py::gil_scoped_acquire lock;
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (!progress.is_none()) progress(done, of);
  };
  const auto scorer = judge_of(judge);
  const pensive::Turn turn(engine, pensive::Turn::Nested::refused);
  const py::gil_scoped_release unlock;
  return pensive::examine(engine, problems, *scorer, options);
}

void add_results(py::module_& module) {
  using pensive::ExamResult;
  using pensive::ExamSample;
  using pensive::Paired;
  py::class_<ExamSample>(module, "ExamSample", "One sampled answer.")
      .def_readonly("problem", &ExamSample::problem)
      .def_readonly("sample", &ExamSample::sample)
      .def_readonly("score", &ExamSample::score)
      .def_readonly("tokens", &ExamSample::tokens)
      .def_readonly("first_answer", &ExamSample::first_answer)
      .def_readonly("answer", &ExamSample::answer)
      .def_readonly("think_tokens", &ExamSample::think_tokens)
      .def_readonly("answer_tokens", &ExamSample::answer_tokens)
      .def_readonly("probe_tokens", &ExamSample::probe_tokens)
      .def_readonly("seconds", &ExamSample::seconds)
      .def_readonly("first_partial", &ExamSample::first_partial)
      .def_readonly("first_correct", &ExamSample::first_correct)
      .def_readonly("strict_score", &ExamSample::strict_score)
      .def_readonly("is_boxed", &ExamSample::is_boxed)
      .def_readonly("flops", &ExamSample::flops)
      .def_property_readonly("stopped", [](const ExamSample& sample) {
        return std::string(pensive::to_string(sample.stopped));
      });
  py::class_<ExamResult>(module, "ExamResult", "Accuracy, tokens, and a 95% interval.")
      .def_readonly("samples", &ExamResult::samples)
      .def_readonly("problems", &ExamResult::problems)
      .def_readonly("accuracy", &ExamResult::accuracy)
      .def_readonly("standard_error", &ExamResult::standard_error)
      .def_readonly("sample_error", &ExamResult::sample_error)
      .def_readonly("low", &ExamResult::low)
      .def_readonly("high", &ExamResult::high)
      .def_readonly("mean_tokens", &ExamResult::mean_tokens)
      .def_readonly("mean_first_answer", &ExamResult::mean_first_answer)
      .def_readonly("truncated_share", &ExamResult::truncated_share)
      .def_readonly("mean_think_tokens", &ExamResult::mean_think_tokens)
      .def_readonly("mean_answer_tokens", &ExamResult::mean_answer_tokens)
      .def_readonly("mean_probe_tokens", &ExamResult::mean_probe_tokens)
      .def_readonly("seconds_p50", &ExamResult::seconds_p50)
      .def_readonly("seconds_p95", &ExamResult::seconds_p95)
      .def_readonly("mean_first_partial", &ExamResult::mean_first_partial)
      .def_readonly("mean_first_correct", &ExamResult::mean_first_correct)
      .def_readonly("strict_accuracy", &ExamResult::strict_accuracy)
      .def_readonly("strict_low", &ExamResult::strict_low)
      .def_readonly("strict_high", &ExamResult::strict_high)
      .def_readonly("boxed_share", &ExamResult::boxed_share)
      .def_readonly("mean_flops", &ExamResult::mean_flops)
      .def_readonly("tokens_low", &ExamResult::tokens_low)
      .def_readonly("tokens_high", &ExamResult::tokens_high);
  py::class_<pensive::Scaling>(module, "Scaling", "s1's measures of a way to think longer.")
      .def_readonly("control", &pensive::Scaling::control)
      .def_readonly("slope", &pensive::Scaling::slope)
      .def_readonly("performance", &pensive::Scaling::performance);
  py::class_<pensive::Share>(module, "Share", "A share with its 95% interval over problems.")
      .def_readonly("value", &pensive::Share::value)
      .def_readonly("low", &pensive::Share::low)
      .def_readonly("high", &pensive::Share::high);
  py::class_<Paired>(module, "Paired", "Two arms over the same problems, b against a.")
      .def_readonly("difference", &Paired::difference)
      .def_readonly("low", &Paired::low)
      .def_readonly("high", &Paired::high)
      .def_readonly("token_difference", &Paired::token_difference)
      .def_readonly("errors_removed", &Paired::errors_removed,
                    "The share of a's errors that b does not make; NaN, as its interval, where a "
                    "makes none.")
      .def_readonly("errors_low", &Paired::errors_low)
      .def_readonly("errors_high", &Paired::errors_high)
      .def_readonly("p_value", &Paired::p_value)
      .def_readonly("improved", &Paired::improved)
      .def_readonly("worsened", &Paired::worsened)
      .def_readonly("detectable", &Paired::detectable,
                    "The smallest difference that four of five such exams would show; 1: none.");
}

}  // namespace

pensive::PromptOf prompt_of(const py::object& system, const py::object& callable,
                            std::shared_ptr<const pensive::Tokenizer> tokenizer) {
  if (!system.is_none() && !callable.is_none()) refuse("system or prompt_of", "both", "prompt_of");
  if (!system.is_none())
    return pensive::chat_prompt(std::move(tokenizer), py::cast<std::string>(system));
  if (callable.is_none()) return {};
  return [kept = Kept(callable)](const Problem& problem) {
    const py::gil_scoped_acquire lock;
    return as<std::vector<TokenId>>(kept.get()(problem), "prompt_of");
  };
}

void add_exam(py::module_& module) {
  add_results(module);
  module.def(
      "load_problems",
      [](const std::filesystem::path& path, const std::string& kind,
         const std::optional<std::string>& question, const std::optional<std::string>& answer,
         const std::optional<std::string>& id, const std::optional<std::string>& answer_after,
         const std::optional<std::string>& body, const std::optional<std::string>& intermediates,
         const std::optional<std::string>& target_tokens, const py::object& broken) {
        const bool has_names =
            question || answer || id || answer_after || body || intermediates || target_tokens;
        // Whoever names fields tells the kind by it.
        pensive::ProblemFields fields =
            pensive::problem_fields(kind == "auto" && has_names ? "plain" : kind);
        for (const auto& [name, given] :
             {std::pair(&fields.question, &question), std::pair(&fields.answer, &answer),
              std::pair(&fields.id, &id), std::pair(&fields.answer_after, &answer_after),
              std::pair(&fields.body, &body), std::pair(&fields.intermediates, &intermediates),
              std::pair(&fields.target_tokens, &target_tokens)})
          if (*given) *name = **given;
        std::vector<std::string> why;
        auto problems = pensive::load_problems(path, fields, broken.is_none() ? nullptr : &why);
        for (const std::string& one : why) py::cast<py::list>(broken).append(text_of(one));
        return problems;
      },
      py::arg("path"), py::kw_only(), py::arg("kind") = "auto", py::arg("question") = py::none(),
      py::arg("answer") = py::none(), py::arg("id") = py::none(),
      py::arg("answer_after") = py::none(), py::arg("body") = py::none(),
      py::arg("intermediates") = py::none(), py::arg("target_tokens") = py::none(),
      py::arg("broken") = py::none(),
      "Reads JSON lines or one array. `kind` or the other arguments name the fields; \"auto\": the "
      "first problem's keys tell, but \"plain\" where one is named.");
  module.def("examine", &examine, py::arg("engine"), py::arg("problems"), py::arg("judge"),
             py::kw_only(), py::arg("request") = py::none(), py::arg("samples") = 1,
             py::arg("seed") = 0, py::arg("system") = py::none(), py::arg("prompt_of") = py::none(),
             py::arg("progress") = py::none(), py::arg("samples_file") = py::none(),
             py::arg("resume") = false, py::arg("overwrite") = false,
             "Asks all problems, judges the answers, sums up.");
  module.def(
      "load_exam", [](const std::filesystem::path& path) { return pensive::load_exam(path); },
      py::arg("samples_file"), "What the samples_file of an exam holds.");
  module.def("pass_at_k", &pensive::pass_at_k, py::arg("result"), py::arg("k"),
             "The chance that one of k samples is right.");
  module.def("majority_at_k", &pensive::majority_at_k, py::arg("result"), py::arg("k"),
             "The chance that the answer most of k samples give is right.");
  module.def("summarized", &pensive::summarized, py::arg("samples"), py::arg("problems"),
             "The result of these samples alone, such as the long ones of another result.");
  module.def(
      "scaling",
      [](const std::vector<pensive::ExamResult>& runs,
         const std::vector<std::pair<double, double>>& ranges) {
        std::vector<pensive::TokenRange> asked;
        for (const auto& [least, most] : ranges) asked.push_back({least, most});
        return pensive::scaling(runs, asked);
      },
      py::arg("runs"), py::arg("ranges") = py::tuple(),
      "s1's control, scaling and performance of runs with different budgets.");
  module.def("compare", &pensive::compare, py::arg("a"), py::arg("b"), py::arg("confidence") = 0.95,
             "Two arms over the same problems, paired.");
}

}  // namespace bind
