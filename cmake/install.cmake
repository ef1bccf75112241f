# Install and export: headers, the three libraries, the command, and find_package(pensive).
include(GNUInstallDirs)
