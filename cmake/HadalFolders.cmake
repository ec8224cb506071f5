# One static library, one test and one benchmark executable per folder of src/; then the programs
# and the tests that cross folders. Sources are found by name: x_test.cpp and x_bench.cpp beside
# x.cpp, kernels/isa*.cpp apart (HadalKernels.cmake).

set(HADAL_FUZZED core io text model)  # folders that read what comes from outside

set(HADAL_LIBRARIES "")         # every hadal_<folder> there is, from the bottom up
set(HADAL_TEST_EXECUTABLES "")  # in the order in which ./test runs them

set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/layers.txt)
file(STRINGS ${CMAKE_SOURCE_DIR}/src/layers.txt layers REGEX "^[a-z]")

function(hadal_add_tests name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  if(NOT GTest_FOUND OR NOT arg_SOURCES)
    return()
  endif()
  add_executable(${name} ${arg_SOURCES})
  # -O1: a third less time to compile, and what takes long in tests is the program.
  target_compile_options(${name} PRIVATE ${HADAL_TEST_WARNINGS} $<$<CONFIG:Release>:-O1>)
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_compile_definitions(${name} PRIVATE HADAL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  if(TARGET hadal_test_support)
    target_link_libraries(${name} PRIVATE hadal_test_support)
  endif()
  target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gmock_main)
  set(HADAL_TEST_EXECUTABLES ${HADAL_TEST_EXECUTABLES} ${name} PARENT_SCOPE)
endfunction()

function(hadal_add_bench name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  if(NOT benchmark_FOUND OR NOT arg_SOURCES)
    return()
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_compile_options(${name} PRIVATE ${HADAL_TEST_WARNINGS})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE ${arg_LINK} benchmark::benchmark_main)
endfunction()

# tests/support: what tests share. An archive, so a folder's tests link only the helpers they use.
file(GLOB_RECURSE support CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/support/*.cpp)
list(FILTER support EXCLUDE REGEX "_test\\.cpp$")
if(GTest_FOUND AND support)
  add_library(hadal_test_support STATIC ${support})
  target_include_directories(hadal_test_support PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/src)
  target_compile_definitions(hadal_test_support PRIVATE HADAL_SOURCE_DIR="${CMAKE_SOURCE_DIR}")
  target_compile_options(hadal_test_support PRIVATE ${HADAL_TEST_WARNINGS})
  target_link_libraries(hadal_test_support PUBLIC GTest::gmock ${HADAL_EXTERNAL_core})
endif()

foreach(line IN LISTS layers)
  string(REGEX MATCH "^([a-z]+): *(.*)$" matched "${line}")
  set(folder ${CMAKE_MATCH_1})
  separate_arguments(below UNIX_COMMAND "${CMAKE_MATCH_2}")
  set(dir ${CMAKE_SOURCE_DIR}/src/${folder})

  file(GLOB_RECURSE sources CONFIGURE_DEPENDS ${dir}/*.cpp)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${dir}/*.h)
  set(tests ${sources})
  list(FILTER tests INCLUDE REGEX "_test\\.cpp$")
  set(benches ${sources})
  list(FILTER benches INCLUDE REGEX "_bench\\.cpp$")
  list(FILTER sources EXCLUDE REGEX "(_test|_bench)\\.cpp$|/kernels/isa[^/]*\\.cpp$")
  if(NOT sources AND NOT headers)
    continue()
  endif()

  set(link ${HADAL_EXTERNAL_${folder}})
  foreach(other IN LISTS below)
    if(TARGET hadal_${other})
      list(APPEND link hadal_${other})
    endif()
  endforeach()

  if(folder STREQUAL "cli")
    # All but main.cpp is a library too, so that the commands can be tested.
    set(main ${sources})
    list(FILTER main INCLUDE REGEX "/cli/main\\.cpp$")
    list(FILTER sources EXCLUDE REGEX "/cli/main\\.cpp$")
    list(APPEND link hadal_version)
  endif()

  if(sources)
    add_library(hadal_${folder} STATIC ${sources})
    target_compile_options(hadal_${folder} PRIVATE ${HADAL_WARNINGS})
    if(HADAL_FUZZ AND folder IN_LIST HADAL_FUZZED)
      target_compile_options(hadal_${folder} PRIVATE -fsanitize=fuzzer-no-link)
    endif()
    set(scope PUBLIC)
  else()
    add_library(hadal_${folder} INTERFACE)
    set(scope INTERFACE)
  endif()
  target_include_directories(hadal_${folder} ${scope} ${CMAKE_SOURCE_DIR}/src)
  target_link_libraries(hadal_${folder} ${scope} ${link})
  list(APPEND HADAL_LIBRARIES hadal_${folder})

  hadal_add_tests(${folder}_tests SOURCES ${tests} LINK hadal_${folder})
  hadal_add_bench(${folder}_bench SOURCES ${benches} LINK hadal_${folder})
  if(folder STREQUAL "cli" AND main)
    add_executable(hadal ${main})
    target_compile_options(hadal PRIVATE ${HADAL_WARNINGS})
    target_link_libraries(hadal PRIVATE hadal_cli)
  endif()
endforeach()

# From the top down, so that each archive stands before those it needs.
set(all_libraries ${HADAL_LIBRARIES})
list(REVERSE all_libraries)

# tests/reference: the model once more, in plain double precision. Of the program it takes headers
# alone.
file(GLOB reference CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/reference/*.cpp)
if(GTest_FOUND AND reference)
  add_library(hadal_reference STATIC ${reference})
  target_include_directories(hadal_reference PUBLIC ${CMAKE_SOURCE_DIR} ${CMAKE_SOURCE_DIR}/src)
  target_compile_options(hadal_reference PRIVATE ${HADAL_TEST_WARNINGS})
  target_link_libraries(hadal_reference PUBLIC hadal_core)
endif()

foreach(kind golden conformance e2e)
  file(GLOB_RECURSE tests CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/${kind}/*.cpp)
  set(link ${all_libraries})
  if(TARGET hadal_reference)
    list(PREPEND link hadal_reference)
  endif()
  hadal_add_tests(${kind}_tests SOURCES ${tests} LINK ${link})
  if(TARGET ${kind}_tests AND TARGET hadal)
    add_dependencies(${kind}_tests hadal)
    target_compile_definitions(${kind}_tests PRIVATE HADAL_BINARY="$<TARGET_FILE:hadal>")
  endif()
endforeach()

file(GLOB programs CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/bench/*.cpp)
foreach(program IN LISTS programs)
  cmake_path(GET program STEM name)
  add_executable(${name} ${program})
  target_compile_options(${name} PRIVATE ${HADAL_TEST_WARNINGS})
  target_link_libraries(${name} PRIVATE ${all_libraries})
endforeach()

file(GLOB fuzz_targets CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/tests/fuzz/fuzz_*.cpp)
if(HADAL_FUZZ)
  foreach(target IN LISTS fuzz_targets)
    cmake_path(GET target STEM name)
    add_executable(${name} ${target})
    target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
    target_link_libraries(${name} PRIVATE ${all_libraries})
    target_link_options(${name} PRIVATE -fsanitize=fuzzer)
  endforeach()
endif()

# What ./test runs, one executable a line.
list(JOIN HADAL_TEST_EXECUTABLES "\n" lines)
file(WRITE ${CMAKE_BINARY_DIR}/test_executables.txt "${lines}\n")
