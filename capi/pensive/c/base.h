/* base: versions, opening the library, statuses, errors, memory, the log. */
#ifndef PENSIVE_C_BASE_H
#define PENSIVE_C_BASE_H
#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define PENSIVE_API __attribute__((visibility("default")))
#else
#define PENSIVE_API
#endif

/* The caller owns what this pointer receives. Expands to nothing. */
#define PENSIVE_OWN

/* As the size of a text that is passed in: it ends at its first zero byte. */
#define PENSIVE_ZERO_TERMINATED ((size_t)-1)

/* The version of this header. Within one major version functions, constants and struct members are
 * only ever added. */
#define PENSIVE_ABI_MAJOR 1
#define PENSIVE_ABI_MINOR 4

#ifdef __cplusplus
extern "C" {
#endif

/* What a call returns. The list only ever grows at its end. */
enum {
  PENSIVE_OK = 0,
  PENSIVE_INVALID_ARGUMENT = 1, /* something was passed that can never work */
  PENSIVE_UNSUPPORTED = 2,      /* understood, and not done by this build or this version */
  PENSIVE_CORRUPT_FILE = 3,     /* a file contradicts itself or its format */
  PENSIVE_NOT_FOUND = 4,        /* a file, a library, a token or a name that does not exist */
  PENSIVE_IO = 5,               /* the operating system refused to read or write */
  PENSIVE_OUT_OF_MEMORY = 6,    /* host or device memory, or pages of the cache */
  PENSIVE_DEVICE = 7,           /* the accelerator failed */
  PENSIVE_CANCELLED = 8,        /* the caller asked to stop */
  PENSIVE_DEADLINE = 9,         /* the caller's time was up */
  PENSIVE_BUSY = 10,            /* a queue was full, or another thread is stepping this engine */
  PENSIVE_ABI_MISMATCH = 11,    /* libtorch, or a part of pensive, is of another version */
  PENSIVE_INTERNAL = 12         /* a defect in pensive; please report it */
};

/* "ok", "invalid_argument", …; "unknown" for a number that is none of them. */
PENSIVE_API const char* pensive_status_name(int32_t status);

/* Why a call failed. A call that is given a slot sets it to null when it succeeds, and to an error
 * that the caller owns when it fails (null even then, if no memory was left for the error). What
 * the slot held before is overwritten, not freed. */
typedef struct pensive_error pensive_error;
PENSIVE_API int32_t pensive_error_status(const pensive_error* error); /* PENSIVE_OK for null */
/* "expected …; found … (where)". Lives as long as the error; "" for null. */
PENSIVE_API const char* pensive_error_message(const pensive_error* error);
PENSIVE_API void pensive_error_free(pensive_error* error);

/* Frees texts and arrays that a PENSIVE_OWN argument received. Null is allowed. */
PENSIVE_API void pensive_free(void* memory);

/* The release, such as "0.1.0". */
PENSIVE_API const char* pensive_version(void);

/* Whether this library serves a program compiled with that version of the header: the same major,
 * and a minor that is not newer. PENSIVE_ABI_MISMATCH otherwise. */
PENSIVE_API int32_t pensive_check_abi(uint32_t major, uint32_t minor, pensive_error** error);
/* Call this first: status = PENSIVE_START(&error). */
#define PENSIVE_START(error) pensive_check_abi(PENSIVE_ABI_MAJOR, PENSIVE_ABI_MINOR, error)

/* sizeof a struct of this header by its name ("pensive_request"), as the library was compiled; 0
 * for a name it does not know. Bindings in other languages check their own layouts with it. */
PENSIVE_API uint32_t pensive_struct_size(const char* name);

typedef struct pensive_open_options {
  uint32_t struct_size;
  uint32_t reserved;        /* 0 */
  const char* torch_folder; /* the folder that holds libtorch_cpu.so; null: looked for */
} pensive_open_options;
#define PENSIVE_OPEN_OPTIONS_INIT \
  { sizeof(pensive_open_options), 0, NULL }

/* Opens libtorch, checks that it is the version pensive was built with, and opens
 * libpensive-core.so, which lies beside libpensive.so. Without a folder libtorch is taken from
 * where the process has loaded it already; else from the folders "." "torch/lib" "../torch/lib" and
 * "../../torch/lib", seen from libpensive.so; else from where the system's loader finds it.
 *
 * Any first call that needs it does the same with no options, so this is needed only to name the
 * folder or to learn early. Once open it stays open, and opening again does nothing. Fails with
 * PENSIVE_NOT_FOUND or PENSIVE_ABI_MISMATCH, also where a torch is loaded from another folder than
 * the one named. After PENSIVE_NOT_FOUND trying again with another folder is allowed. Any thread.
 */
PENSIVE_API int32_t pensive_open(const pensive_open_options* options, pensive_error** error);

enum { PENSIVE_LOG_INFO = 0, PENSIVE_LOG_WARNING = 1 };

/* Receives lines of one model, engine or trainer; pensive itself never prints. `line` is called on
 * the thread that made the call being reported, never under a lock; its text ends with a zero byte,
 * not a newline, and lives for the duration of the call.
 *
 * Here as in every struct with `user` and `destroy`: when the call that was given the struct
 * succeeds, `user` belongs to pensive, which calls `destroy` (if not null) once, on any thread,
 * when nothing needs it any more. When the call fails, `user` stays the caller's. Callbacks may
 * cancel a sequence; they may not call anything else on the engine that is calling them. */
typedef struct pensive_log {
  uint32_t struct_size;
  uint32_t reserved; /* 0 */
  void* user;
  void (*line)(void* user, int32_t level, const char* text);
  void (*destroy)(void* user);
} pensive_log;
#define PENSIVE_LOG_INIT \
  { sizeof(pensive_log), 0, NULL, NULL, NULL }

#ifdef __cplusplus
}
#endif
#endif
