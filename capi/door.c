// libpensive.so: every public function hands its arguments to the core, unchanged.
#include <stdlib.h>
#include <string.h>

#include "open.h"

#define CALL(name, parameters, arguments)                                     \
  int32_t pensive_##name parameters {                                         \
    int32_t status = PENSIVE_OK;                                              \
    const struct pensive_core_functions* core = pensive_core(&status, error); \
    return core ? core->name arguments : status;                              \
  }
#define TELL(type, name, parameters, arguments, otherwise)              \
  type pensive_##name parameters {                                      \
    const struct pensive_core_functions* core = pensive_core_if_open(); \
    return core ? core->name arguments : (otherwise);                   \
  }
#define DROP(name, parameters, arguments)                               \
  void pensive_##name parameters {                                      \
    const struct pensive_core_functions* core = pensive_core_if_open(); \
    if (core) core->name arguments;                                     \
  }
#include "functions.h"
#undef CALL
#undef TELL
#undef DROP

const char* pensive_version(void) { return PENSIVE_VERSION; }

const char* pensive_status_name(int32_t status) {
  static const char* const names[] = {
      "ok",   "invalid_argument", "unsupported", "corrupt_file", "not_found",
      "io",   "out_of_memory",    "device",      "cancelled",    "deadline",
      "busy", "abi_mismatch",     "internal"};
  const size_t count = sizeof names / sizeof *names;
  return status >= 0 && (size_t)status < count ? names[status] : "unknown";
}

int32_t pensive_error_status(const pensive_error* error) {
  return error ? error->status : PENSIVE_OK;
}
const char* pensive_error_message(const pensive_error* error) {
  return error ? error->message : "";
}
void pensive_error_free(pensive_error* error) { free(error); }
void pensive_free(void* memory) { free(memory); }

int32_t pensive_check_abi(uint32_t major, uint32_t minor, pensive_error** error) {
  if (error) *error = NULL;
  if (major == PENSIVE_ABI_MAJOR && minor <= PENSIVE_ABI_MINOR) return PENSIVE_OK;
  return pensive_fail(error, PENSIVE_ABI_MISMATCH,
                      "expected a program made for version %d.%d of the C door or older; found one "
                      "made for %u.%u (pensive_check_abi)",
                      PENSIVE_ABI_MAJOR, PENSIVE_ABI_MINOR, major, minor);
}

uint32_t pensive_struct_size(const char* name) {
#define SIZE(type) \
  { #type, sizeof(type) }
  static const struct {
    const char* name;
    uint32_t size;
  } sizes[] = {SIZE(pensive_open_options),
               SIZE(pensive_log),
               SIZE(pensive_model_options),
               SIZE(pensive_model_info),
               SIZE(pensive_chat),
               SIZE(pensive_budget_options),
               SIZE(pensive_continue_options),
               SIZE(pensive_margin_brake_options),
               SIZE(pensive_moment),
               SIZE(pensive_action),
               SIZE(pensive_probe_reply),
               SIZE(pensive_guide_callbacks),
               SIZE(pensive_engine_options),
               SIZE(pensive_memory_plan),
               SIZE(pensive_markers),
               SIZE(pensive_request),
               SIZE(pensive_engine_counters),
               SIZE(pensive_event),
               SIZE(pensive_trace),
               SIZE(pensive_trace_action),
               SIZE(pensive_measure_options),
               SIZE(pensive_measures),
               SIZE(pensive_problem),
               SIZE(pensive_response),
               SIZE(pensive_judge_callbacks),
               SIZE(pensive_length_options),
               SIZE(pensive_grader_callbacks),
               SIZE(pensive_problems),
               SIZE(pensive_prompting),
               SIZE(pensive_train_options),
               SIZE(pensive_train_report),
               SIZE(pensive_problem_fields),
               SIZE(pensive_exam_options),
               SIZE(pensive_exam_result),
               SIZE(pensive_exam_sample),
               SIZE(pensive_exam_share),
               SIZE(pensive_exam_scaling_result),
               SIZE(pensive_exam_difference),
               SIZE(pensive_guide_info),
               SIZE(pensive_exported),
               SIZE(pensive_serve_options),
               SIZE(pensive_listener),
               SIZE(pensive_server_counters)};
#undef SIZE
  for (size_t i = 0; name && i < sizeof sizes / sizeof *sizes; ++i)
    if (strcmp(name, sizes[i].name) == 0) return sizes[i].size;
  return 0;
}
