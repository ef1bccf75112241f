// Request, Engine, Sequence, Trace.
#include "bind.h"

#include <deque>

namespace bind {

namespace {

using pensive::Request;
using pensive::TokenId;
using pensive::Trace;

// Dropped without the interpreter's lock: the engine may be stepping in another thread, whose
// guides want it.
class SequenceHandle {
 public:
  SequenceHandle(pensive::Sequence sequence, const pensive::Engine& engine)
      : SequenceHandle(std::move(sequence), engine.model(), engine.options().soft, engine.parts()) {
  }
  SequenceHandle(const SequenceHandle&) = delete;
  SequenceHandle& operator=(const SequenceHandle&) = delete;
  ~SequenceHandle() {
    const py::gil_scoped_release unlock;
    sequence_.reset();
  }
  pensive::Sequence& operator*() const { return *sequence_; }
  pensive::Sequence* operator->() const { return sequence_.get(); }
  // Tells its texts as its engine and the judges do.
  std::shared_ptr<const pensive::Tokenizer> tokenizer() const {
    return soft_ ? soft_->tokenizer() : model_->tokenizer();
  }

  std::shared_ptr<SequenceHandle> fork(pensive::Draws draws) const {
    return std::shared_ptr<SequenceHandle>(
        new SequenceHandle(sequence_->fork(draws), model_, soft_, engine_));
  }
  // Another engine would step for ever without it.
  void check_is_of(const pensive::Engine& engine, const char* where) const {
    if (engine_ != engine.parts()) refuse("a sequence of this engine", "one of another", where);
  }

 private:
  using EngineParts = std::shared_ptr<pensive::Engine::Parts>;
  SequenceHandle(pensive::Sequence sequence, std::shared_ptr<const pensive::Model> model,
                 std::shared_ptr<const pensive::SoftVocab> soft, EngineParts engine)
      : sequence_(new pensive::Sequence(std::move(sequence))),
        model_(std::move(model)),
        soft_(std::move(soft)),
        engine_(std::move(engine)) {}

  std::unique_ptr<pensive::Sequence> sequence_;
  std::shared_ptr<const pensive::Model> model_;
  std::shared_ptr<const pensive::SoftVocab> soft_;  // may be null
  EngineParts engine_;
};

int step(pensive::Engine& engine) {
  const py::gil_scoped_release unlock;
  return engine.step();
}

void check_signals() {
  if (PyErr_CheckSignals() != 0) throw py::error_already_set();
}

void finish(pensive::Engine& engine, const std::vector<SequenceHandle*>& sequences) {
  for (SequenceHandle* sequence : sequences) {
    if (!sequence) refuse("a sequence", "None", "finish");
    sequence->check_is_of(engine, "finish");
  }
  for (SequenceHandle* sequence : sequences) {
    while (!(*sequence)->finished()) {
      step(engine);
      check_signals();
    }
  }
}

// Steps as its reader asks for more.
struct Stream {
  std::shared_ptr<pensive::Engine> engine;
  std::shared_ptr<SequenceHandle> sequence;
  std::deque<pensive::TextEvent> events{};

  pensive::TextEvent next() {
    for (;;) {
      for (pensive::TextEvent& event : (*sequence)->take_events())
        events.push_back(std::move(event));
      if (!events.empty()) break;
      if ((*sequence)->finished()) throw py::stop_iteration();
      step(*engine);
      check_signals();
    }
    pensive::TextEvent event = std::move(events.front());
    events.pop_front();
    return event;
  }
};

pensive::Draws draws_of(const std::string& name) {
  if (name != "same" && name != "fresh") refuse("same or fresh", name, "draws");
  return name == "same" ? pensive::Draws::same : pensive::Draws::fresh;
}

void add_sequence(py::module_& module) {
  using Handle = SequenceHandle;
  py::class_<pensive::TextEvent>(module, "TextEvent", "One piece of streamed text.")
      .def_property_readonly("segment",
                             [](const pensive::TextEvent& event) {
                               return std::string(pensive::to_string(event.segment));
                             })
      .def_readonly("index", &pensive::TextEvent::index)
      .def_property_readonly("text",
                             [](const pensive::TextEvent& event) { return text_of(event.text); })
      .def("__repr__", [](const pensive::TextEvent& event) {
        return "TextEvent(" + std::string(pensive::to_string(event.segment)) + " " +
               std::to_string(event.index) + ": " + shown(text_of(event.text)) + ")";
      });
  py::class_<Handle, std::shared_ptr<Handle>>(module, "Sequence",
                                              "One live path through an engine's cache.")
      .def_property_readonly("finished", [](const Handle& self) { return self->finished(); })
      .def_property_readonly(
          "trace", [](const Handle& self) -> const Trace& { return self->trace(); },
          py::return_value_policy::reference_internal,
          "What happened, in columns; a live view, not to be read while another thread steps.")
      .def_property_readonly(
          "response",
          [](const Handle& self) { return pensive::respond(self->trace(), *self.tokenizer()); },
          "The texts as a judge sees them.")
      .def(
          "take_events", [](Handle& self) { return self->take_events(); },
          "Text since the last call, as a list of TextEvent; not while another thread steps.")
      .def(
          "fork",
          [](const Handle& self, const std::string& draws) { return self.fork(draws_of(draws)); },
          py::arg("draws") = "fresh", "A second path that shares every page so far.")
      .def(
          "feed", [](Handle& self, const std::vector<TokenId>& ids) { self->feed(ids); },
          py::arg("ids"), "Feeds tokens as if a guide had forced them.")
      .def(
          "rewind",
          [](Handle& self, int tokens, const std::string& draws) {
            self->rewind(tokens, draws_of(draws));
          },
          py::arg("tokens"), py::arg("draws") = "fresh",
          "Goes back to where the last kept tokens had not come yet; a finished one runs on.")
      .def(
          "cancel", [](Handle& self) { self->cancel(); },
          "Ends the sequence at the next step. From any thread.");
}

}  // namespace

void add_trace(py::module_& module) {
  using pensive::TraceAction;
  py::class_<TraceAction>(module, "TraceAction", "One thing a guide had done.")
      .def_readonly("position", &TraceAction::position)
      .def_readonly("guide", &TraceAction::guide)
      .def_readonly("kind", &TraceAction::kind)
      .def_readonly("reason", &TraceAction::reason)
      .def_readonly("tokens", &TraceAction::tokens)
      .def_readonly("taken_back", &TraceAction::taken_back)
      .def_readonly("draws", &TraceAction::draws)
      .def_property_readonly("text", [](const TraceAction& action) { return text_of(action.text); })
      .def_readonly("seconds", &TraceAction::seconds);
  const auto segments = [](const Trace& trace) {
    std::vector<std::string> names;
    for (const auto segment : trace.segments) names.emplace_back(pensive::to_string(segment));
    return names;
  };
  const auto origins = [](const Trace& trace) {
    std::vector<std::string> names;
    for (const auto origin : trace.origins) names.emplace_back(name_of(origin));
    return names;
  };
  py::class_<Trace>(module, "Trace", "Everything that happened to one sequence; columns are lists.")
      .def_readonly("prompt_tokens", &Trace::prompt_tokens)
      .def_readonly("tokens", &Trace::tokens)
      .def_readonly("logprobs", &Trace::logprobs)
      .def_readonly("drawn_logprobs", &Trace::drawn_logprobs)
      .def_readonly("entropies_nats", &Trace::entropies_nats)
      .def_property_readonly("segments", segments)
      .def_property_readonly("origins", origins)
      .def_readonly("is_marker", &Trace::is_marker)
      .def_readonly("is_taken_back", &Trace::is_taken_back)
      .def_readonly("is_steered", &Trace::is_steered)
      .def_readonly("seconds", &Trace::seconds)
      .def_readonly("more_json", &Trace::more_json)
      .def_readonly("top_count", &Trace::top_count)
      .def_readonly("top_tokens", &Trace::top_tokens)
      .def_readonly("top_logprobs", &Trace::top_logprobs)
      .def_readonly("actions", &Trace::actions)
      .def_readonly("probe_tokens", &Trace::probe_tokens)
      .def_property_readonly(
          "stopped",
          [](const Trace& trace) { return std::string(pensive::to_string(trace.stopped)); })
      .def_property_readonly("error", [](const Trace& trace) { return text_of(trace.error); })
      .def_property_readonly("stop_text",
                             [](const Trace& trace) { return text_of(trace.stop_text); })
      .def_readonly("seed", &Trace::seed)
      .def_readonly("sample", &Trace::sample)
      .def_readonly("path", &Trace::path)
      .def("kept", &Trace::kept, "The prompt and every token that was kept.")
      .def("decoded_tokens", &Trace::decoded_tokens)
      .def(
          "count",
          [](const Trace& trace, const std::string& segment) {
            return trace.count(segment_of(segment));
          },
          py::arg("segment"));
  module.def(
      "save_traces",
      [](const std::vector<Trace>& traces, const std::filesystem::path& path, bool append) {
        pensive::save(traces, path,
                      append ? pensive::IfExists::append : pensive::IfExists::replace);
      },
      py::arg("traces"), py::arg("path"), py::kw_only(), py::arg("append") = false,
      "Writes JSON lines, one trace a line.");
  module.def("load_traces", &pensive::load_traces, py::arg("path"));
  module.def(
      "salvage_traces",
      [](const std::filesystem::path& path) {
        pensive::Salvage found = pensive::salvage_traces(path);
        return py::make_tuple(std::move(found.traces), found.lost_lines, text_of(found.loss));
      },
      py::arg("path"), "The whole lines of a damaged file, how many are lost, and why.");
  add_measure(module);
}

pensive::EngineOptions engine_options_of(const py::dict& fields) {
  pensive::EngineOptions options;
  for (const auto& [key, value] : fields) {
    const auto name = py::cast<std::string>(key);
    if (value.is_none()) continue;
    if (name == "soft")
      options.soft = as<std::shared_ptr<pensive::SoftVocab>>(value, name);
    else if (name == "row_invariant")
      options.arithmetic =
          as<bool>(value, name) ? pensive::Arithmetic::row_invariant : pensive::Arithmetic::fast;
    else if (name == "page_tokens")
      options.page_tokens = as<int>(value, name);
    else if (name == "cache_tokens")
      options.cache_tokens = as<std::int64_t>(value, name);
    else if (name == "max_live_sequences")
      options.max_live_sequences = as<int>(value, name);
    else if (name == "max_tokens_per_step")
      options.max_tokens_per_step = as<int>(value, name);
    else if (name == "reuse_prefixes")
      options.reuse_prefixes = as<bool>(value, name);
    else if (name == "graphs")
      options.graphs = as<bool>(value, name);
    else if (name == "run_ahead")
      options.run_ahead = as<bool>(value, name);
    else if (name == "log")
      options.log = log_of(py::reinterpret_borrow<py::object>(value));
    else
      refuse("an option of engines", name, "Engine");
  }
  return options;
}

void add_engine(py::module_& module) {
  py::class_<Request>(module, "Request", "What to generate; fields as keyword arguments.")
      .def(py::init([](const py::kwargs& fields) { return request_of(fields, nullptr); }));
  add_sequence(module);
  py::class_<Stream>(module, "Stream", "The text of a sequence as it comes.")
      .def("__iter__", [](Stream& self) -> Stream& { return self; })
      .def("__next__", &Stream::next);
  using Counters = pensive::EngineCounters;
  py::class_<Counters>(module, "EngineCounters")
      .def_readonly("steps", &Counters::steps)
      .def_readonly("computed_tokens", &Counters::computed_tokens)
      .def_readonly("reused_tokens", &Counters::reused_tokens)
      .def_readonly("preemptions", &Counters::preemptions)
      .def_readonly("live", &Counters::live)
      .def_readonly("waiting", &Counters::waiting)
      .def_readonly("pages", &Counters::pages)
      .def_readonly("free_pages", &Counters::free_pages)
      .def_readonly("ahead_steps", &Counters::ahead_steps)
      .def_readonly("ahead_dropped", &Counters::ahead_dropped);
  using Handle = pensive::Engine;
  const auto start = [](Handle& self, const py::object& request, const py::kwargs& fields) {
    const Request wanted = request_of(request, fields, *self.model()->tokenizer());
    return std::make_shared<SequenceHandle>(self.start(wanted), self);
  };
  const auto submit = [](Handle& self, const py::object& request, const py::kwargs& fields) {
    const Request wanted = request_of(request, fields, *self.model()->tokenizer());
    return std::make_shared<SequenceHandle>(self.submit(wanted), self);
  };
  py::class_<Handle, std::shared_ptr<Handle>>(
      module, "Engine", "Advances every live sequence together. One thread at a time.")
      .def(py::init([](std::shared_ptr<pensive::Model> model, const py::kwargs& fields) {
             const pensive::EngineOptions options = engine_options_of(fields);
             const py::gil_scoped_release unlock;
             return std::make_shared<Handle>(std::move(model), options);
           }),
           py::arg("model").none(false))
      .def("start", start, py::arg("request") = py::none(),
           "Queues a Request, or the one that the keyword arguments describe.")
      .def("submit", submit, py::arg("request") = py::none(),
           "The same from any thread, also while another one steps.")
      .def(
          "score",
          [](Handle& self, const std::vector<TokenId>& prompt,
             const std::vector<TokenId>& continuation) {
            const py::gil_scoped_release unlock;
            return self.score(prompt, continuation);
          },
          py::arg("prompt"), py::arg("continuation"),
          "The logprob of each token of `continuation`, were it to follow `prompt`.")
      .def("step", &step, "Computes one batch; returns how many sequences are not finished.")
      .def(
          "finish", [](Handle& self, SequenceHandle& sequence) { finish(self, {&sequence}); },
          py::arg("sequence"), "Steps until these are finished.")
      .def("finish", &finish, py::arg("sequences"))
      .def(
          "stream",
          [](std::shared_ptr<Handle> self, std::shared_ptr<SequenceHandle> sequence) {
            sequence->check_is_of(*self, "stream");
            return Stream{std::move(self), std::move(sequence)};
          },
          py::arg("sequence").none(false),
          "Yields a sequence's text as it comes, stepping as needed.")
      .def("clear_prefixes", [](Handle& self) { self.clear_prefixes(); })
      .def_property_readonly("counters", [](const Handle& self) { return self.counters(); })
      .def_property_readonly("model", [](const Handle& self) {
        return std::const_pointer_cast<pensive::Model>(self.model());
      });
}

}  // namespace bind
