// What fits, before it is tried.
#include "bind.h"

namespace bind {

namespace {

pensive::MemoryPlan plan(const std::filesystem::path& path, const std::string& device,
                         const std::string& precision, const std::string& unknown_keys,
                         std::int64_t memory_bytes, int context,
                         std::optional<int> max_batch_tokens, std::optional<int> max_new_tokens,
                         const std::optional<std::string>& logprobs, const py::kwargs& fields) {
  const auto how = model_options_of(device, precision, py::none(), unknown_keys);
  const pensive::EngineOptions options = engine_options_of(fields);
  const pensive::PlanOptions asked{.memory_bytes = memory_bytes, .context = context};
  pensive::TrainOptions training;
  if (max_batch_tokens) training.max_batch_tokens = *max_batch_tokens;
  if (max_new_tokens) training.rollout.max_new_tokens = *max_new_tokens;
  if (logprobs) training.logprobs = logprobs_of(*logprobs);
  const bool trains = max_batch_tokens || max_new_tokens || logprobs;
  const py::gil_scoped_release unlock;
  return trains ? pensive::plan_memory(path, how, options, training, asked)
                : pensive::plan_memory(path, how, options, asked);
}

}  // namespace

void add_memory(py::module_& module) {
  using Plan = pensive::MemoryPlan;
  py::class_<Plan>(module, "MemoryPlan",
                   "What a model and an engine ask of their device, in bytes, before it is there.")
      .def_property_readonly("device",
                             [](const Plan& self) { return pensive::to_string(self.device); })
      .def_readonly("memory_bytes", &Plan::memory_bytes, "That there are for all of this.")
      .def_readonly("weight_bytes", &Plan::weight_bytes)
      .def_readonly("soft_bytes", &Plan::soft_bytes)
      .def_readonly("cache_bytes", &Plan::cache_bytes)
      .def_readonly("prompt_step_bytes", &Plan::prompt_step_bytes)
      .def_readonly("decode_step_bytes", &Plan::decode_step_bytes)
      .def_readonly("training_bytes", &Plan::training_bytes)
      .def_readonly("runtime_bytes", &Plan::runtime_bytes, "Of CUDA and libtorch for themselves.")
      .def_readonly("cache_tokens", &Plan::cache_tokens, "Positions the cache will hold.")
      .def_readonly("page_tokens", &Plan::page_tokens)
      .def_readonly("max_positions", &Plan::max_positions, "Of a sequence: what the model knows.")
      .def_readonly("context", &Plan::context)
      .def_readonly("most_sequences", &Plan::most_sequences,
                    "That could decode at once at `context` if the cache took all that is left.")
      .def_property_readonly("bytes", &Plan::bytes, "Together.")
      .def_property_readonly("fits", &Plan::fits)
      .def_property_readonly("to_lower",
                             [](const Plan& self) { return std::string(self.to_lower()); })
      .def("sequences", &Plan::sequences, py::arg("positions"),
           "How many sequences of so many positions the cache holds at once.");
  module.def("plan_memory", &plan, py::arg("path"), py::kw_only(), py::arg("device") = "auto",
             py::arg("precision") = "as_stored", py::arg("unknown_keys") = "refuse",
             py::arg("memory_bytes") = 0, py::arg("context") = 0,
             py::arg("max_batch_tokens") = py::none(), py::arg("max_new_tokens") = py::none(),
             py::arg("logprobs") = py::none(),
             "What a folder's model and an engine with these options would take; no weights are "
             "read.\n\nmemory_bytes: what the device has; 0: what is free on it now; given, no "
             "card need be there. max_batch_tokens, max_new_tokens, logprobs: any of them asks for "
             "a backward, too, as Trainer's: of so many tokens, or of one sample of so many where "
             "that is more, its logprobs 'fast' or 'exact'. All else are Engine's keyword "
             "arguments.");
}

}  // namespace bind
