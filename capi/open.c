// Finds libtorch, checks its version, then opens the core, which needs it.
#define _GNU_SOURCE
#include "open.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROOM = PATH_MAX + 64 };

static pthread_mutex_t opening = PTHREAD_MUTEX_INITIALIZER;
static const struct pensive_core_functions* opened;  // written once, under `opening`

int32_t pensive_fail(pensive_error** error, int32_t status, const char* format, ...) {
  if (!error) return status;
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  *error = length < 0 ? NULL : malloc(sizeof **error + (size_t)length);
  if (!*error) return status;
  (*error)->status = status;
  va_start(arguments, format);
  vsnprintf((*error)->message, (size_t)length + 1, format, arguments);
  va_end(arguments);
  return status;
}

// The folder that a loaded object lies in, without links; empty where it cannot be told.
static void folder_of(const void* symbol, char folder[PATH_MAX]) {
  Dl_info info;
  char* slash = NULL;
  if (dladdr(symbol, &info) && info.dli_fname && realpath(info.dli_fname, folder))
    slash = strrchr(folder, '/');
  if (slash)
    *slash = '\0';
  else
    folder[0] = '\0';
}

typedef uint64_t (*torch_version_function)(void);

// Two copies of torch in one process would share their symbols by chance.
static int32_t check_same(const char* wanted, const char* found, pensive_error** error) {
  char path[ROOM];
  char real[PATH_MAX];
  if (!wanted) return PENSIVE_OK;
  snprintf(path, sizeof path, "%s/libtorch_cpu.so", wanted);
  if (realpath(path, real)) {
    *strrchr(real, '/') = '\0';
    if (strcmp(real, found) == 0) return PENSIVE_OK;
  }
  return pensive_fail(error, PENSIVE_ABI_MISMATCH,
                      "expected libtorch of %s; found another one already loaded from %s "
                      "(pensive_open)",
                      wanted, found);
}

static void* find_torch(const char* wanted, pensive_error** error, int32_t* status) {
  char here[PATH_MAX];
  char path[ROOM];
  void* torch = dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_NOLOAD);
  if (torch) return torch;
  if (wanted) {
    snprintf(path, sizeof path, "%s/libtorch_cpu.so", wanted);
    torch = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  } else {
    static const char* const places[] = {".", "torch/lib", "../torch/lib", "../../torch/lib"};
    folder_of((const void*)&opened, here);
    for (size_t i = 0; !torch && *here && i < sizeof places / sizeof *places; ++i) {
      snprintf(path, sizeof path, "%s/%s/libtorch_cpu.so", here, places[i]);
      torch = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (!torch) torch = dlopen("libtorch_cpu.so", RTLD_NOW | RTLD_LOCAL);
  }
  if (!torch) {
    const char* why = dlerror();
    *status = pensive_fail(error, PENSIVE_NOT_FOUND,
                           "expected libtorch_cpu.so of torch %s; found none: %s (%s)",
                           PENSIVE_TORCH_VERSION, why ? why : "no reason given",
                           wanted ? wanted : "name its folder in pensive_open_options");
  }
  return torch;
}

static int32_t check_torch(void* torch, const char* wanted, pensive_error** error) {
  char found[PATH_MAX];
  int major = 0;
  int minor = 0;
  torch_version_function version = NULL;
  *(void**)&version = dlsym(torch, "aoti_torch_abi_version");
  if (!version)
    return pensive_fail(error, PENSIVE_ABI_MISMATCH,
                        "expected libtorch %s; found one that does not tell its version "
                        "(aoti_torch_abi_version)",
                        PENSIVE_TORCH_VERSION);
  folder_of(*(void**)&version, found);
  const int32_t status = check_same(wanted, found, error);
  if (status != PENSIVE_OK) return status;
  major = (int)(version() >> 56);
  minor = (int)(version() >> 48 & 0xff);
  char text[32];
  snprintf(text, sizeof text, "%d.%d", major, minor);
  if (strcmp(text, PENSIVE_TORCH_VERSION) == 0) return PENSIVE_OK;
  return pensive_fail(error, PENSIVE_ABI_MISMATCH, "expected torch %s; found torch %s (%s)",
                      PENSIVE_TORCH_VERSION, text, found);
}

static int32_t open_core(const struct pensive_core_functions** core, pensive_error** error) {
  char here[PATH_MAX];
  char path[ROOM];
  folder_of((const void*)&opened, here);
  snprintf(path, sizeof path, "%s/libpensive-core.so", here);
  void* library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char* why = dlerror();
    return pensive_fail(error, PENSIVE_NOT_FOUND,
                        "expected libpensive-core.so beside libpensive.so; found that it does not "
                        "open: %s (%s)",
                        why ? why : "no reason given", path);
  }
  pensive_core_table_function table = NULL;
  *(void**)&table = dlsym(library, PENSIVE_CORE_TABLE);
  const struct pensive_core_functions* found = table ? table() : NULL;
  if (!found || found->size != sizeof *found || found->abi_major != PENSIVE_ABI_MAJOR ||
      found->abi_minor != PENSIVE_ABI_MINOR || strcmp(found->version, PENSIVE_VERSION) != 0)
    return pensive_fail(error, PENSIVE_ABI_MISMATCH,
                        "expected libpensive-core.so %s of the same build; found %s (%s)",
                        PENSIVE_VERSION, found ? found->version : "one without a table", path);
  *core = found;
  return PENSIVE_OK;
}

static int32_t open_with(const char* wanted, pensive_error** error) {
  int32_t status = PENSIVE_OK;
  const struct pensive_core_functions* core = NULL;
  void* torch = find_torch(wanted, error, &status);
  if (torch) status = check_torch(torch, wanted, error);
  if (status == PENSIVE_OK && !opened) status = open_core(&core, error);
  if (core) __atomic_store_n(&opened, core, __ATOMIC_RELEASE);
  return status;
}

const struct pensive_core_functions* pensive_core_if_open(void) {
  return __atomic_load_n(&opened, __ATOMIC_ACQUIRE);
}

const struct pensive_core_functions* pensive_core(int32_t* status, pensive_error** error) {
  const struct pensive_core_functions* core = pensive_core_if_open();
  if (core) return core;
  *status = pensive_open(NULL, error);
  return pensive_core_if_open();
}

int32_t pensive_open(const pensive_open_options* options, pensive_error** error) {
  if (error) *error = NULL;
  if (options && (options->struct_size != sizeof *options || options->reserved != 0))
    return pensive_fail(error, PENSIVE_INVALID_ARGUMENT,
                        "expected a struct of %zu bytes with reserved 0; found %u and %u "
                        "(pensive_open_options)",
                        sizeof *options, options->struct_size, options->reserved);
  pthread_mutex_lock(&opening);
  const int32_t status = open_with(options ? options->torch_folder : NULL, error);
  pthread_mutex_unlock(&opening);
  return status;
}
