# Libraries from outside (Debian 12's packages; tools/packages.txt says what each is for) and the
# folder that uses each. Where CMake's own config files differ between versions, headers and
# libraries are looked up directly.

find_package(Threads REQUIRED)
find_package(fmt REQUIRED)
find_package(spdlog REQUIRED)
find_package(simdjson REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(CLI11 REQUIRED)

# hadal_find_library(zstd HEADER zstd.h LIBRARY zstd) makes the imported target hadal::zstd.
function(hadal_find_library name)
  cmake_parse_arguments(arg "" "HEADER;LIBRARY" "" ${ARGN})
  find_path(HADAL_${name}_INCLUDE ${arg_HEADER} REQUIRED)
  add_library(hadal::${name} INTERFACE IMPORTED GLOBAL)
  target_include_directories(hadal::${name} SYSTEM INTERFACE ${HADAL_${name}_INCLUDE})
  if(arg_LIBRARY)
    find_library(HADAL_${name}_LIBRARY ${arg_LIBRARY} REQUIRED)
    target_link_libraries(hadal::${name} INTERFACE ${HADAL_${name}_LIBRARY})
  endif()
endfunction()

hadal_find_library(zstd HEADER zstd.h LIBRARY zstd)
hadal_find_library(pcre2 HEADER pcre2.h LIBRARY pcre2-8)
target_compile_definitions(hadal::pcre2 INTERFACE PCRE2_CODE_UNIT_WIDTH=8)
hadal_find_library(edit HEADER histedit.h LIBRARY edit)
hadal_find_library(tomlplusplus HEADER toml++/toml.h)

set(HADAL_EXTERNAL_core Threads::Threads fmt::fmt spdlog::spdlog simdjson::simdjson
    nlohmann_json::nlohmann_json hadal::zstd)
set(HADAL_EXTERNAL_text hadal::pcre2)
set(HADAL_EXTERNAL_train hadal::tomlplusplus)
set(HADAL_EXTERNAL_cli CLI11::CLI11 hadal::edit)

if(HADAL_TESTS STREQUAL "AUTO")
  find_package(GTest QUIET)
elseif(HADAL_TESTS)
  find_package(GTest REQUIRED)
endif()
if(NOT GTest_FOUND)
  message(STATUS "Tests are not built (GoogleTest is not installed, or HADAL_TESTS=OFF)")
endif()

if(HADAL_BENCH STREQUAL "AUTO")
  find_package(benchmark QUIET)
elseif(HADAL_BENCH)
  find_package(benchmark REQUIRED)
endif()
