# core/version.h in the build tree: project(VERSION) and `git describe`, refreshed by every build.
# Only what links hadal_version sees it, so that a commit recompiles next to nothing.

add_custom_target(hadal_version_header
  COMMAND ${CMAKE_COMMAND} -DSOURCE_DIR=${CMAKE_SOURCE_DIR} -DVERSION=${PROJECT_VERSION}
          -DOUTPUT=${CMAKE_BINARY_DIR}/generated/core/version.h
          -P ${CMAKE_SOURCE_DIR}/cmake/write_version.cmake
  BYPRODUCTS ${CMAKE_BINARY_DIR}/generated/core/version.h
  COMMENT "Refreshing core/version.h" VERBATIM)
add_library(hadal_version INTERFACE)
target_include_directories(hadal_version INTERFACE ${CMAKE_BINARY_DIR}/generated)
add_dependencies(hadal_version hadal_version_header)
