# Install and export: headers, the libraries, the command, and find_package(pensive).
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

install(DIRECTORY include/pensive DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} FILES_MATCHING PATTERN "*.h")
install(TARGETS pensive-core EXPORT pensive-targets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(TARGET pensive-cuda)
  install(TARGETS pensive-cuda LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
endif()
if(TARGET pensive-command)
  install(TARGETS pensive-command RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()
install(EXPORT pensive-targets NAMESPACE pensive:: FILE pensive-config.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pensive)
set_target_properties(pensive-core PROPERTIES EXPORT_NAME core)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/pensive-config-version.cmake
                                 COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/pensive-config-version.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/pensive)

# The notices of what is compiled in, made anew when that changes; a licence that is not permissive stops the build.
find_package(Python3 COMPONENTS Interpreter REQUIRED)
set(notices ${PROJECT_BINARY_DIR}/THIRD_PARTY_NOTICES.txt)
add_custom_command(OUTPUT ${notices} DEPENDS cmake/notices.py lib/text/door/Cargo.toml lib/text/door/Cargo.lock
  COMMAND ${Python3_EXECUTABLE} ${PROJECT_SOURCE_DIR}/cmake/notices.py --cargo ${CARGO} --out ${notices}
          --manifest ${PROJECT_SOURCE_DIR}/lib/text/door/Cargo.toml
  COMMENT "Collecting third-party notices" VERBATIM)
add_custom_target(pensive_notices ALL DEPENDS ${notices})
add_dependencies(pensive_notices pensive_door_build)  # which fetches the crates
install(FILES LICENSE README.md ${notices} DESTINATION ${CMAKE_INSTALL_DOCDIR})
