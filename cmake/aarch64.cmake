# Cross-compilation for aarch64 with Debian's compiler; tools/aarch64.sh makes the sysroot.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
set(HADAL_SYSROOT ${CMAKE_CURRENT_LIST_DIR}/../build/aarch64-sysroot)
cmake_path(NORMAL_PATH HADAL_SYSROOT)
set(CMAKE_FIND_ROOT_PATH ${HADAL_SYSROOT})
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)
# Libraries that only other libraries of the sysroot need.
set(CMAKE_EXE_LINKER_FLAGS_INIT -Wl,-rpath-link,${HADAL_SYSROOT}/usr/lib/aarch64-linux-gnu)
