set(git "")
if(EXISTS ${SOURCE_DIR}/.git)
  # No optional locks: a build must not disturb a commit under way.
  execute_process(COMMAND ${CMAKE_COMMAND} -E env GIT_OPTIONAL_LOCKS=0
                          git -C ${SOURCE_DIR} describe --always --dirty --tags
                  OUTPUT_VARIABLE git OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
set(text "#pragma once\n\nnamespace hadal {\n
inline constexpr const char* kVersion = \"${VERSION}\";
inline constexpr const char* kGitDescription = \"${git}\";  // empty outside a git checkout
\n}  // namespace hadal\n")
if(EXISTS ${OUTPUT})
  file(READ ${OUTPUT} old)
endif()
if(NOT "${old}" STREQUAL "${text}")
  file(WRITE ${OUTPUT} "${text}")
endif()
