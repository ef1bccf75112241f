// How libpensive.so finds the rest of pensive.
#ifndef PENSIVE_OPEN_H
#define PENSIVE_OPEN_H
#include "table.h"

// The core's functions, opened on first use; null, with `status` and `error` told, where that
// fails.
const struct pensive_core_functions* pensive_core(int32_t* status, pensive_error** error);
// The same without trying to open: null while closed.
const struct pensive_core_functions* pensive_core_if_open(void);
// Fills the slot, if there is one, and returns `status`.
__attribute__((format(printf, 3, 4))) int32_t pensive_fail(pensive_error** error, int32_t status,
                                                           const char* format, ...);
#endif
