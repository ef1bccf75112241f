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
install(FILES LICENSE README.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
