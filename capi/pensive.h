/* pensive.h: the C door of pensive.
 *
 * C99 and C++11. Link with -lpensive, which needs nothing but libc: it looks for libtorch when it
 * is first used, checks its version, and answers with an error where there is none (c/base.h).
 *
 * How every function works
 *   - What can fail returns an int32_t status, 0 for success, and takes a `pensive_error **error`
 *     as its last argument: null, or a slot that receives the reason. Nothing is thread-local.
 *   - PENSIVE_OWN marks what the caller must free: handles with their own pensive_x_free(), plain
 *     memory (texts, arrays) with pensive_free(). Freeing null is allowed.
 *   - Structs begin with `uint32_t struct_size`; start from PENSIVE_X_INIT. Zero means default.
 *     A pointer to options may be null: all defaults.
 *   - Texts are UTF-8. A text with a size may hold zero bytes; PENSIVE_ZERO_TERMINATED as its size
 *     asks for strlen(). What is returned is terminated by a zero byte that its size does not
 * count.
 *   - What is not understood is refused: unknown bits, unknown constants, a larger struct whose
 *     unknown tail is not zero.
 *
 * Each file below says which threads may use its types.
 */
#ifndef PENSIVE_H
#define PENSIVE_H
#include "pensive/c/base.h"
#include "pensive/c/engine.h"
#include "pensive/c/exam.h"
#include "pensive/c/guides.h"
#include "pensive/c/judge.h"
#include "pensive/c/model.h"
#include "pensive/c/serve.h"
#include "pensive/c/text.h"
#include "pensive/c/think.h"
#include "pensive/c/trace.h"
#include "pensive/c/train.h"
#endif
