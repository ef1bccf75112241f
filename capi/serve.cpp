#include "pensive/engine.h"

#include "handles.h"

namespace door {

namespace {

pensive::JobListener listener_in(const pensive_listener& given, std::shared_ptr<User> user) {
  return [given, user = std::move(user)](
             pensive::Job& job, std::span<const pensive::TextEvent> events, bool is_finished) {
    for (const pensive::TextEvent& event : events) {
      const pensive_event to = event_out(event);
      if (given.on_text) given.on_text(given.user, &to);
    }
    if (!is_finished || !given.on_end) return;
    const pensive_trace to = trace_out(job.trace());
    given.on_end(given.user, &to);
  };
}

}  // namespace

int32_t server_new(pensive_engine* engine, const pensive_serve_options* options,
                   pensive_server** server, pensive_error** error) {
  return guard(error, [&] {
    auto*& slot = out(server, "server");
    const auto value = need(engine, "engine").value;
    const auto given = struct_in(options, "pensive_serve_options");
    pensive::ServeOptions wanted;
    wanted.max_queued = number_or(given.max_queued, wanted.max_queued);
    auto made = pensive::serve(*value, wanted);
    slot = new pensive_server{value, std::move(made)};
  });
}

void server_free(pensive_server* server) { delete server; }

int32_t server_submit(pensive_server* server, const pensive_request* request,
                      const pensive_listener* listener, pensive_job** job, pensive_error** error) {
  return guard(error, [&] {
    if (!listener || job) out(job, "job");
    pensive_server& to = need(server, "server");
    const auto wanted = request_in(&need(request, "request"));
    pensive::JobListener told;
    std::shared_ptr<User> user;
    if (listener) {
      const auto given = struct_in(listener, "pensive_listener");
      check_zero(given.reserved, "pensive_listener.reserved");
      user = std::make_shared<User>(given.user, given.destroy);
      told = listener_in(given, user);
    }
    // The job may have ended before this returns: from here on the user is ours.
    if (user) user->is_ours = true;
    try {
      pensive::Job made = to.value->submit(wanted, std::move(told));
      if (job) *job = new pensive_job{std::move(made)};
    } catch (...) {
      if (user) user->is_ours = false;
      throw;
    }
  });
}

int32_t server_drain(pensive_server* server, pensive_error** error) {
  return guard(error, [&] { need(server, "server").value->drain(); });
}

int32_t server_stop(pensive_server* server, pensive_error** error) {
  return guard(error, [&] { need(server, "server").value->stop(); });
}

int32_t server_get_counters(const pensive_server* server, pensive_server_counters* counters,
                            pensive_error** error) {
  return guard(error, [&] {
    const pensive::ServerCounters from = need(server, "server").value->counters();
    pensive_server_counters to{};
    to.queued = from.queued;
    to.running = from.running;
    to.submitted = from.submitted;
    to.refused = from.refused;
    to.finished = from.finished;
    to.cancelled = from.cancelled;
    to.expired = from.expired;
    to.failed = from.failed;
    struct_out(counters, to, "pensive_server_counters");
  });
}

int32_t job_finished(const pensive_job* job) { return !job || job->value.finished(); }

int32_t job_wait(const pensive_job* job, double seconds, int32_t* finished, pensive_error** error) {
  return guard(error, [&] {
    const bool is_finished = need(job, "job").value.wait_for(seconds);
    if (finished) *finished = is_finished;
  });
}

int32_t job_next_event(pensive_job* job, pensive_event* event, pensive_error** error) {
  return guard(error, [&] {
    pensive_job& from = need(job, "job");
    from.events.hand_out(from.value, event);
  });
}

int32_t job_get_trace(const pensive_job* job, pensive_trace* trace, pensive_error** error) {
  return guard(error, [&] {
    struct_out(trace, trace_out(need(job, "job").value.trace()), "pensive_trace");
  });
}

void job_cancel(pensive_job* job) {
  if (job) job->value.cancel();
}

void job_free(pensive_job* job) { delete job; }

}  // namespace door
