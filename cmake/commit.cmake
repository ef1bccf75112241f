# cmake -DSOURCE=… -DHEADER=… -P commit.cmake: writes the commit of a checkout, "+" for one that was edited.
cmake_minimum_required(VERSION 3.25)
set(commit unknown)
find_program(GIT git)
if(GIT AND EXISTS ${SOURCE}/.git)
  execute_process(COMMAND ${GIT} describe --always --abbrev=12 --exclude=* --dirty=+
                  WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE
                  RESULT_VARIABLE failed ERROR_QUIET)
  if(NOT failed)
    set(commit ${found})
  endif()
endif()
file(CONFIGURE OUTPUT ${HEADER} CONTENT "#define PENSIVE_COMMIT \"@commit@\"\n" @ONLY)
