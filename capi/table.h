// What passes between libpensive.so (C) and libpensive-core.so (C++). Not installed: the two are
// always of one build, which `version` and `size` make sure of.
#ifndef PENSIVE_TABLE_H
#define PENSIVE_TABLE_H
#include "pensive.h"

// Made with malloc() by either library, freed by libpensive.so.
struct pensive_error {
  int32_t status;
  char message[1];  // as long as needed
};

#define CALL(name, parameters, arguments) int32_t(*name) parameters;
#define TELL(type, name, parameters, arguments, otherwise) type(*name) parameters;
#define DROP(name, parameters, arguments) void(*name) parameters;
struct pensive_core_functions {
  uint32_t size;  // of this struct
  uint32_t abi_major;
  uint32_t abi_minor;
  const char* version;
#include "functions.h"
};
#undef CALL
#undef TELL
#undef DROP

// The one C symbol of the core.
#define PENSIVE_CORE_TABLE "pensive_core_table"
typedef const struct pensive_core_functions* (*pensive_core_table_function)(void);

#endif
