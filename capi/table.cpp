#include "table.h"

#include "handles.h"

#define CALL(name, parameters, arguments) door::name,
#define TELL(type, name, parameters, arguments, otherwise) door::name,
#define DROP(name, parameters, arguments) door::name,

extern "C" PENSIVE_EXPORT const pensive_core_functions* pensive_core_table() {
  static const pensive_core_functions table = {
      sizeof(pensive_core_functions),
      PENSIVE_ABI_MAJOR,
      PENSIVE_ABI_MINOR,
      PENSIVE_VERSION,
#include "functions.h"
  };
  return &table;
}
