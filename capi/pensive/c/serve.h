/* serve: an engine that is stepped on a thread of its own, for whoever submits. */
#ifndef PENSIVE_C_SERVE_H
#define PENSIVE_C_SERVE_H
#include "base.h"
#include "engine.h"
#include "trace.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Steps an engine until it is drained or stopped; other calls to that engine give PENSIVE_BUSY
 * meanwhile. Keeps its engine alive. Any thread. */
typedef struct pensive_server pensive_server;

/* One request in its hands. It goes on when the handle is freed. Any thread, but one handle is one
 * reader's: next_event and get_trace lend memory until the next call with it. */
typedef struct pensive_job pensive_job;

typedef struct pensive_serve_options {
  uint32_t struct_size;
  int32_t max_queued; /* submitted and not yet begun; one more gets PENSIVE_BUSY; 0: 256 */
} pensive_serve_options;
#define PENSIVE_SERVE_OPTIONS_INIT \
  { sizeof(pensive_serve_options), 0 }

PENSIVE_API int32_t pensive_server_new(pensive_engine* engine, const pensive_serve_options* options,
                                       PENSIVE_OWN pensive_server** server, pensive_error** error);
/* Stops it first. Not from a listener. */
PENSIVE_API void pensive_server_free(pensive_server* server);

/* Is told of a job on the server's thread, under no lock. It may submit and cancel, but not wait,
 * drain, stop or call the engine. What it is given lives during the call. */
typedef struct pensive_listener {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  void* user;
  void (*on_text)(void* user, const pensive_event* event); /* may be null */
  void (*on_end)(void* user, const pensive_trace* trace);  /* once; may be null */
  void (*destroy)(void* user);                             /* when the job has ended; may be null */
} pensive_listener;
#define PENSIVE_LISTENER_INIT \
  { sizeof(pensive_listener), 0, NULL, NULL, NULL, NULL }

/* Checks and queues. `listener` may be null: then events are polled. `job` may be null with one. */
PENSIVE_API int32_t pensive_server_submit(pensive_server* server, const pensive_request* request,
                                          const pensive_listener* listener,
                                          PENSIVE_OWN pensive_job** job, pensive_error** error);
/* Takes no more, finishes what it has, ends. */
PENSIVE_API int32_t pensive_server_drain(pensive_server* server, pensive_error** error);
/* Takes no more, cancels what it has, ends. */
PENSIVE_API int32_t pensive_server_stop(pensive_server* server, pensive_error** error);

typedef struct pensive_server_counters {
  uint32_t struct_size;
  int32_t queued;
  int32_t running;
  int32_t reserved;
  int64_t submitted;
  int64_t refused;  /* with PENSIVE_BUSY */
  int64_t finished; /* for whatever reason; among them: */
  int64_t cancelled;
  int64_t expired; /* PENSIVE_STOP_DEADLINE */
  int64_t failed;  /* PENSIVE_STOP_ERROR */
} pensive_server_counters;
#define PENSIVE_SERVER_COUNTERS_INIT \
  { sizeof(pensive_server_counters), 0, 0, 0, 0, 0, 0, 0, 0, 0 }
PENSIVE_API int32_t pensive_server_get_counters(const pensive_server* server,
                                                pensive_server_counters* counters,
                                                pensive_error** error);

/* 1 when it has ended, 0 while it waits or runs; 1 for null. */
PENSIVE_API int32_t pensive_job_finished(const pensive_job* job);
/* Waits for its end, at most so long; `finished` (may be null) receives whether it came. */
PENSIVE_API int32_t pensive_job_wait(const pensive_job* job, double seconds, int32_t* finished,
                                     pensive_error** error);
/* As pensive_sequence_next_event(). */
PENSIVE_API int32_t pensive_job_next_event(pensive_job* job, pensive_event* event,
                                           pensive_error** error);
/* Of a job that has ended; lives as long as the handle. */
PENSIVE_API int32_t pensive_job_get_trace(const pensive_job* job, pensive_trace* trace,
                                          pensive_error** error);
PENSIVE_API void pensive_job_cancel(pensive_job* job);
PENSIVE_API void pensive_job_free(pensive_job* job);

#ifdef __cplusplus
}
#endif
#endif
