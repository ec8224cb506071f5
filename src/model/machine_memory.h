#pragma once
#include <cstdint>

#include "core/files.h"

namespace hadal {

// Of this machine now, or of what the control groups of this process leave of it, as a container's
// do; 0 where it cannot be read. Pages of files count as free: they can be read again.
struct MachineMemory {
  int64_t total = 0, available = 0;  // bytes
};
// The folders are where Linux says it.
MachineMemory machine_memory(const fs::path& proc = "/proc",
                             const fs::path& cgroups = "/sys/fs/cgroup");

}  // namespace hadal
