# src/kernels/isa*.cpp, compiled once per CPU family: the only code that may use more than the
# base instruction set. One call of hadal_kernel_family per family; see src/kernels/README.md.
#
# A family's objects see
#   HADAL_FAMILY_NAME   "avx2"          what HADAL_ISA and `hadal selftest` call it
#   HADAL_FAMILY_TABLE  kAvx2Kernels    the table that the objects define
#   HADAL_EMULATED=1                    only in emulated families: Vec of this family's shape in
#                                       plain C++, for machines that cannot run the real one
# Their inline functions must not become the program's only copy, hence the check for weak symbols.

# -O3 in a release, for families only: emulated ones would take ten times as long to compile, and
# all of them under sanitizers minutes.
set(family_optimisation $<$<CONFIG:Release>:-O3>)
set(emulated_optimisation $<$<CONFIG:Release>:-Og>)

file(GLOB isa_sources CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/kernels/isa*.cpp)

function(hadal_kernel_family name table)
  cmake_parse_arguments(arg "EMULATED" "" "FLAGS;DEFINES" ${ARGN})
  if(NOT isa_sources OR (arg_EMULATED AND NOT GTest_FOUND))
    return()
  endif()
  set(library hadal_kernels)
  set(target hadal_kernels_${name})
  set(optimisation ${family_optimisation})
  if(arg_EMULATED)
    set(optimisation ${emulated_optimisation})
    set(library hadal_kernels_emulated)
    string(APPEND target _emulated)
    list(APPEND arg_DEFINES HADAL_EMULATED=1)
  endif()

  add_library(${target} OBJECT ${isa_sources})
  target_include_directories(${target} PRIVATE ${CMAKE_SOURCE_DIR}/src)
  target_compile_options(${target} PRIVATE ${HADAL_WARNINGS} ${optimisation} ${arg_FLAGS}
                         -fno-exceptions)
  target_compile_definitions(${target} PRIVATE HADAL_FAMILY_NAME="${name}"
                             HADAL_FAMILY_TABLE=${table} ${arg_DEFINES})
  # `function` makes weak symbols of type information; the others, five times the compilation for
  # what AddressSanitizer sees as well. That one's checks are calls: in line, five times it is again.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "Clang" AND HADAL_SANITIZE MATCHES "undefined")
    target_compile_options(${target} PRIVATE
                           -fno-sanitize=function,null,object-size,pointer-overflow
                           "SHELL:-mllvm -asan-instrumentation-with-call-threshold=0")
  endif()
  # GCC 12's AVX-512 intrinsics read deliberately undefined registers.
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND name MATCHES "^avx512" AND NOT arg_EMULATED)
    target_compile_options(${target} PRIVATE -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()

  set(checked ${CMAKE_BINARY_DIR}/${target}.checked)
  add_custom_command(OUTPUT ${checked}
    COMMAND ${CMAKE_SOURCE_DIR}/tools/check_isa_objects.sh ${CMAKE_NM} $<TARGET_OBJECTS:${target}>
    COMMAND ${CMAKE_COMMAND} -E touch ${checked}
    DEPENDS ${CMAKE_SOURCE_DIR}/tools/check_isa_objects.sh $<TARGET_OBJECTS:${target}>
    COMMENT "Checking ${target} for weak symbols" COMMAND_EXPAND_LISTS VERBATIM)
  target_sources(${library} PRIVATE $<TARGET_OBJECTS:${target}> ${checked})
endfunction()

if(TARGET hadal_kernels AND isa_sources)
  if(GTest_FOUND)
    add_library(hadal_kernels_emulated STATIC)
    target_include_directories(hadal_kernels_emulated PUBLIC ${CMAKE_SOURCE_DIR}/src)
    set_target_properties(hadal_kernels_emulated PROPERTIES LINKER_LANGUAGE CXX)
    if(TARGET kernels_tests)
      target_link_libraries(kernels_tests PRIVATE hadal_kernels_emulated)
    endif()
  endif()

  set(avx2 -mavx2 -mfma -mf16c)
  set(avx512 ${avx2} -mavx512f -mavx512bw -mavx512vl -mavx512dq)
  set(avx512_bf16 ${avx512} -mavx512bf16 -mavx512vnni -mavx512vbmi)

  hadal_kernel_family(scalar kScalarKernels)
  if(HADAL_X86)
    hadal_kernel_family(avx2 kAvx2Kernels FLAGS ${avx2})
    hadal_kernel_family(avx512 kAvx512Kernels FLAGS ${avx512})
    hadal_kernel_family(avx512_bf16 kAvx512Bf16Kernels FLAGS ${avx512_bf16})
  endif()
  hadal_kernel_family(avx512 kAvx512EmulatedKernels EMULATED)
  hadal_kernel_family(avx512_bf16 kAvx512Bf16EmulatedKernels EMULATED
                      DEFINES HADAL_EMULATED_BF16=1)
endif()
