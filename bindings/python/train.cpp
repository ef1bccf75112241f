// The trainer.
#include <map>

#include "bind.h"

namespace bind {

namespace {

using pensive::Problem;
using pensive::TokenId;

// The trainer borrows the engine, which must outlive it.
struct TrainerHandle {
  std::shared_ptr<pensive::Engine> engine;
  pensive::Trainer trainer;
};

// A choice by its name.
template <typename Choice>
Choice choice_of(const py::object& value, const std::string& key,
                 std::initializer_list<std::string_view> names) {
  const auto name = as<std::string>(value, key);
  std::string known;
  int place = 0;
  for (const std::string_view one : names) {
    if (one == name) return static_cast<Choice>(place);
    known += (place++ == 0 ? "'" : ", '") + std::string(one) + "'";
  }
  refuse(known, name, key);
}

using Setter = void (*)(pensive::TrainOptions&, const py::object&, const std::string& name);

template <auto member>
void set_plain(pensive::TrainOptions& options, const py::object& value, const std::string& name) {
  auto& slot = options.*member;
  slot = as<std::remove_reference_t<decltype(slot)>>(value, name);
}

void set_one_of(pensive::TrainOptions& options, const py::object& value, const std::string& name) {
  for (const auto& guide : as<py::iterable>(value, name))
    options.one_of.push_back(guide_of(py::reinterpret_borrow<py::object>(guide)));
}

const std::map<std::string, Setter>& setters() {
  using Options = pensive::TrainOptions;
  static const std::map<std::string, Setter> all = {
      {"rollout",
       [](Options& o, const py::object& v, const std::string&) { o.rollout = request_of(v); }},
      {"one_of", set_one_of},
      {"branch",
       [](Options& o, const py::object& v, const std::string& name) {
         o.branch = choice_of<pensive::Branch>(v, name, {"prompt", "soft_token"});
       }},
      {"truncated",
       [](Options& o, const py::object& v, const std::string& name) {
         o.truncated = choice_of<pensive::Truncated>(v, name, {"judged", "zero", "masked"});
       }},
      {"advantage_scale",
       [](Options& o, const py::object& v, const std::string& name) {
         o.advantage_scale =
             choice_of<pensive::AdvantageScale>(v, name, {"group", "batch", "none"});
       }},
      {"denominator",
       [](Options& o, const py::object& v, const std::string& name) {
         o.denominator = choice_of<pensive::Denominator>(
             v, name, {"drawn_tokens", "suffix_tokens", "constant"});
       }},
      {"rate_unit",
       [](Options& o, const py::object& v, const std::string& name) {
         o.rate_unit = choice_of<pensive::RateUnit>(v, name, {"absolute", "start_rms"});
       }},
      {"logprobs",
       [](Options& o, const py::object& v, const std::string& name) {
         o.logprobs = logprobs_of(as<std::string>(v, name));
       }},
      {"answer_tokens", set_plain<&Options::answer_tokens>},
      {"group_size", set_plain<&Options::group_size>},
      {"constant_tokens", set_plain<&Options::constant_tokens>},
      {"clip", set_plain<&Options::clip>},
      {"clip_high", set_plain<&Options::clip_high>},
      {"inner_steps", set_plain<&Options::inner_steps>},
      {"max_importance_weight", set_plain<&Options::max_importance_weight>},
      {"kl", set_plain<&Options::kl>},
      {"pull", set_plain<&Options::pull>},
      {"learning_rate", set_plain<&Options::learning_rate>},
      {"total_steps", set_plain<&Options::total_steps>},
      {"max_gradient_norm", set_plain<&Options::max_gradient_norm>},
      {"max_row_norm", set_plain<&Options::max_row_norm>},
      {"max_row_distance", set_plain<&Options::max_row_distance>},
      {"stop_errors", set_plain<&Options::stop_errors>},
      {"seed", set_plain<&Options::seed>},
      {"max_batch_tokens", set_plain<&Options::max_batch_tokens>},
      {"run", set_plain<&Options::run>}};
  return all;
}

// None: the paper's. A judge or a callable: one reward. A dict: of names to a judge, or to a judge
// and its weight.
std::vector<pensive::Reward> rewards_of(const py::object& judge) {
  if (judge.is_none()) return pensive::paper_rewards();
  if (!py::isinstance<py::dict>(judge)) return {{"reward", judge_of(judge), 1}};
  std::vector<pensive::Reward> rewards;
  for (const auto& [name, item] : py::reinterpret_borrow<py::dict>(judge)) {
    const auto value = py::reinterpret_borrow<py::object>(item);
    const bool is_pair = py::isinstance<py::tuple>(value) && py::len(value) == 2;
    const auto pair = is_pair ? py::reinterpret_borrow<py::tuple>(value) : py::tuple();
    rewards.push_back({py::cast<std::string>(name), judge_of(is_pair ? py::object(pair[0]) : value),
                       is_pair ? py::cast<double>(pair[1]) : 1.0});
  }
  return rewards;
}

std::shared_ptr<TrainerHandle> make_trainer(std::shared_ptr<pensive::Engine> engine,
                                            std::shared_ptr<pensive::SoftVocab> soft, TokenId row,
                                            const py::object& judge, const py::kwargs& fields) {
  pensive::TrainOptions options;
  py::object system = py::none();
  py::object prompt = py::none();
  for (const auto& [key, item] : fields) {
    const auto name = py::cast<std::string>(key);
    const auto value = py::reinterpret_borrow<py::object>(item);
    if (value.is_none()) continue;
    const auto known = setters().find(name);
    if (known != setters().end())
      known->second(options, value, name);
    else if (name == "system")
      system = value;
    else if (name == "prompt_of")
      prompt = value;
    else
      refuse("an option of trainers", name, "Trainer");
  }
  options.prompt_of = prompt_of(system, prompt, engine->model()->tokenizer());
  pensive::Engine& borrowed = *engine;
  return std::shared_ptr<TrainerHandle>(new TrainerHandle{
      std::move(engine),
      pensive::Trainer(borrowed, std::move(soft), row, rewards_of(judge), options)});
}

std::vector<double> pass_rates(const TrainerHandle& self, const std::vector<Problem>& problems,
                               const py::object& judge) {
  const auto scorer = judge_of(judge);
  const pensive::Turn turn(*self.engine, pensive::Turn::Nested::refused);
  const py::gil_scoped_release unlock;
  return self.trainer.pass_rates(problems, *scorer);
}

}  // namespace

pensive::Logprobs logprobs_of(const std::string& name) {
  return choice_of<pensive::Logprobs>(py::cast(name), "logprobs", {"fast", "exact"});
}

void add_train(py::module_& module) {
  using Report = pensive::TrainReport;
  py::class_<Report>(module, "TrainReport", "What one training step did.")
      .def_readonly("step", &Report::step)
      .def_readonly("mean_reward", &Report::mean_reward)
      .def_readonly("mean_parts", &Report::mean_parts)
      .def_readonly("mean_tokens", &Report::mean_tokens)
      .def_readonly("truncated_share", &Report::truncated_share)
      .def_readonly("spread_share", &Report::spread_share)
      .def_readonly("loss", &Report::loss)
      .def_readonly("gradient_norm", &Report::gradient_norm)
      .def_readonly("entropy_nats", &Report::entropy_nats)
      .def_readonly("kl_nats", &Report::kl_nats)
      .def_readonly("clip_share", &Report::clip_share)
      .def_readonly("mean_weight", &Report::mean_weight)
      .def_readonly("learning_rate", &Report::learning_rate)
      .def_readonly("row_norm", &Report::row_norm)
      .def_readonly("row_distance", &Report::row_distance)
      .def_readonly("mean_logprob_gap", &Report::mean_logprob_gap)
      .def_readonly("max_logprob_gap", &Report::max_logprob_gap)
      .def_readonly("rollout_seconds", &Report::rollout_seconds)
      .def_readonly("judge_seconds", &Report::judge_seconds)
      .def_readonly("update_seconds", &Report::update_seconds)
      .def_readonly("has_stopped", &Report::has_stopped)
      .def_readonly("best_step", &Report::best_step);
  py::class_<TrainerHandle, std::shared_ptr<TrainerHandle>>(
      module, "Trainer", "Improves one soft row by reinforcement; the model never changes.")
      .def(py::init(&make_trainer), py::arg("engine").none(false), py::arg("soft").none(false),
           py::arg("row"), py::arg("judge") = py::none())
      .def(
          "step",
          [](TrainerHandle& self, const std::vector<Problem>& problems) {
            const pensive::Turn turn(*self.engine, pensive::Turn::Nested::refused);
            const py::gil_scoped_release unlock;
            return self.trainer.step(problems);
          },
          py::arg("problems"), "Rolls out, judges, and updates the row once.")
      .def_property_readonly("steps_done",
                             [](const TrainerHandle& self) { return self.trainer.steps_done(); })
      .def_property_readonly("has_stopped",
                             [](const TrainerHandle& self) { return self.trainer.has_stopped(); })
      .def_property_readonly("last_report",
                             [](const TrainerHandle& self) { return self.trainer.last_report(); })
      .def(
          "check_prompt",
          [](const TrainerHandle& self, const Problem& problem) {
            const pensive::Turn turn(*self.engine, pensive::Turn::Nested::refused);
            self.trainer.check_prompt(problem);
          },
          py::arg("problem"), "Raises what a step would raise for this problem's prompt.")
      .def("pass_rates", &pass_rates, py::arg("problems"), py::arg("judge"),
           "The mean score of group_size samples of each problem, with the row as it is.")
      .def(
          "save_checkpoint",
          [](const TrainerHandle& self, const std::filesystem::path& path) {
            const pensive::Turn turn(*self.engine, pensive::Turn::Nested::refused);
            self.trainer.save_checkpoint(path);
          },
          py::arg("path"))
      .def(
          "resume",
          [](TrainerHandle& self, const std::filesystem::path& path) {
            const pensive::Turn turn(*self.engine, pensive::Turn::Nested::refused);
            self.trainer.resume(path);
          },
          py::arg("path"));
}

}  // namespace bind
