// Server and Job.
#include <algorithm>
#include <chrono>
#include <optional>

#include "bind.h"

namespace bind {

namespace {

using pensive::Job;

// Waiting for a thread whose listeners want the interpreter's lock needs that lock to be free.
class ServerHandle {
 public:
  ServerHandle(std::shared_ptr<pensive::Engine> engine, int max_queued)
      : engine_(std::move(engine)), server_(pensive::serve(*engine_, {max_queued})) {}
  ServerHandle(const ServerHandle&) = delete;
  ServerHandle& operator=(const ServerHandle&) = delete;
  ~ServerHandle() {
    const py::gil_scoped_release unlock;
    server_.reset();
  }
  pensive::Server& operator*() const { return *server_; }
  pensive::Server* operator->() const { return server_.get(); }
  const pensive::Engine& engine() const { return *engine_; }

 private:
  std::shared_ptr<pensive::Engine> engine_;
  std::unique_ptr<pensive::Server> server_;
};

pensive::JobListener listener_of(const py::object& callable) {
  if (callable.is_none()) return {};
  if (!PyCallable_Check(callable.ptr())) refuse("a callable", shown(callable), "listener");
  return [kept = Kept(callable)](Job& job, std::span<const pensive::TextEvent> events,
                                 bool is_finished) {
    const py::gil_scoped_acquire lock;
    const std::vector<pensive::TextEvent> list(events.begin(), events.end());
    try {
      kept.get()(job, list, is_finished);
    } catch (py::error_already_set& error) {
      error.discard_as_unraisable("a listener of pensive.Server");
      job.cancel();
    }
  };
}

bool wait(const Job& job, std::optional<double> seconds) {
  constexpr double moment = 0.1;  // between looks for Ctrl-C
  const auto start = std::chrono::steady_clock::now();
  for (;;) {
    const std::chrono::duration<double> past = std::chrono::steady_clock::now() - start;
    const double left = seconds ? *seconds - past.count() : moment;
    bool is_finished = false;
    {
      const py::gil_scoped_release unlock;
      is_finished = job.wait_for(std::min(left, moment));
    }
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (is_finished || left <= 0) return is_finished;
  }
}

}  // namespace

void add_serve(py::module_& module) {
  using pensive::ServerCounters;
  py::class_<ServerCounters>(module, "ServerCounters")
      .def_readonly("queued", &ServerCounters::queued)
      .def_readonly("running", &ServerCounters::running)
      .def_readonly("submitted", &ServerCounters::submitted)
      .def_readonly("refused", &ServerCounters::refused)
      .def_readonly("finished", &ServerCounters::finished)
      .def_readonly("cancelled", &ServerCounters::cancelled)
      .def_readonly("expired", &ServerCounters::expired)
      .def_readonly("failed", &ServerCounters::failed)
      .def_readonly("engine", &ServerCounters::engine);
  py::class_<Job>(module, "Job", "One request in the hands of a Server.")
      .def_property_readonly("finished", &Job::finished)
      .def("wait", &wait, py::arg("seconds") = py::none(),
           "Waits for its end; whether it came in time.")
      .def("take_events", &Job::take_events, "Text since the last call, as a list of TextEvent.")
      .def("cancel", &Job::cancel)
      .def_property_readonly(
          "trace", [](const Job& job) -> const pensive::Trace& { return job.trace(); },
          py::return_value_policy::reference_internal, "What happened, once it is finished.");
  using Handle = ServerHandle;
  py::class_<Handle, std::shared_ptr<Handle>>(
      module, "Server", "Steps an engine on a thread of its own for whoever submits.")
      .def(py::init<std::shared_ptr<pensive::Engine>, int>(), py::arg("engine").none(false),
           py::kw_only(), py::arg("max_queued") = pensive::ServeOptions{}.max_queued)
      .def(
          "submit",
          [](Handle& self, const py::object& request, const py::object& listener,
             const py::kwargs& fields) {
            const auto wanted = request_of(request, fields, *self.engine().model()->tokenizer());
            return self->submit(wanted, listener_of(listener));
          },
          py::arg("request") = py::none(), py::arg("listener") = py::none(),
          "Queues a request. A listener is called with job, events, is_finished.")
      .def(
          "drain", [](Handle& self) { self->drain(); }, py::call_guard<py::gil_scoped_release>())
      .def(
          "stop", [](Handle& self) { self->stop(); }, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("counters", [](const Handle& self) { return self->counters(); })
      .def("__enter__", [](std::shared_ptr<Handle> self) { return self; })
      .def("__exit__", [](Handle& self, const py::args&) {
        const py::gil_scoped_release unlock;
        self->stop();
      });
}

}  // namespace bind
