# Flags for every file. Only src/kernels may add an instruction set to these (HadalKernels.cmake).

if(NOT CMAKE_CXX_COMPILER_LAUNCHER)
  find_program(HADAL_CCACHE ccache)
  if(HADAL_CCACHE)
    set(CMAKE_CXX_COMPILER_LAUNCHER ${HADAL_CCACHE})
  endif()
endif()

set(CMAKE_CXX_FLAGS_RELEASE "-O2 -DNDEBUG")

# A build from nothing spends half of its time on headers, the same ones for every file: files of a
# folder are compiled together, so names in unnamed namespaces are unlike throughout a folder. OFF
# for the quickest build after a change of one file.
option(HADAL_TOGETHER "Compile up to eight files of a folder as one" ON)
if(HADAL_TOGETHER)
  set(CMAKE_UNITY_BUILD ON)
  set(CMAKE_UNITY_BUILD_BATCH_SIZE 8)
endif()

add_compile_options(-ffp-contract=off -fno-math-errno)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  set(HADAL_X86 ON)
  add_compile_options(-march=x86-64-v2)
endif()

if(HADAL_SANITIZE)
  set(flags -fsanitize=${HADAL_SANITIZE} -fno-sanitize-recover=all -fno-omit-frame-pointer)
  add_compile_options(${flags})
  add_link_options(${flags})
endif()
if(HADAL_SANITIZE OR CMAKE_BUILD_TYPE STREQUAL "Debug")
  add_compile_definitions(_GLIBCXX_ASSERTIONS)
endif()

# Not -Wconversion: int64_t sizes meet size_t in every line. -Wfloat-conversion is the part of it
# that finds bugs in numerical code. Tests may narrow in literals.
set(HADAL_TEST_WARNINGS -Wall -Wextra -Wshadow)
set(HADAL_WARNINGS ${HADAL_TEST_WARNINGS} -Wpedantic -Wundef -Wold-style-cast -Wnon-virtual-dtor
    -Woverloaded-virtual -Wfloat-conversion)
# It warns of types from unnamed namespaces in headers, and files compiled together are included.
if(HADAL_TOGETHER AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  list(APPEND HADAL_WARNINGS -Wno-subobject-linkage)
  list(APPEND HADAL_TEST_WARNINGS -Wno-subobject-linkage)
endif()
if(HADAL_WERROR)
  list(APPEND HADAL_WARNINGS -Werror)
  list(APPEND HADAL_TEST_WARNINGS -Werror)
endif()
