#include "model/machine_memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>

namespace hadal {
namespace {

// What a control group calls its figures: version 2, and version 1 beside it.
struct GroupFiles {
  const char *limit, *usage;
  const char *inactive, *active;  // pages of files, in memory.stat
};
constexpr GroupFiles kVersion1{"memory.limit_in_bytes", "memory.usage_in_bytes",
                               "total_inactive_file", "total_active_file"};
constexpr GroupFiles kVersion2{"memory.max", "memory.current", "inactive_file", "active_file"};

// A file of one number; none where there is no such file, or it says "max".
std::optional<int64_t> number_in(const fs::path& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;
}

// The number after a name, in a file of such lines.
int64_t number_after(const fs::path& path, const std::string& name) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    std::istringstream words(line);
    std::string first;
    int64_t value = 0;
    if (words >> first >> value && first == name) return value;
  }
  return 0;
}

// Every group from `path` up to the root may have a limit.
void apply_limits(const fs::path& root, const fs::path& path, const GroupFiles& files,
                  MachineMemory& memory) {
  for (fs::path at = path.relative_path();; at = at.parent_path()) {
    const fs::path group = root / at;
    if (const auto limit = number_in(group / files.limit)) {
      const fs::path stat = group / "memory.stat";
      const int64_t cached = number_after(stat, files.inactive) + number_after(stat, files.active);
      const int64_t used = number_in(group / files.usage).value_or(0) - cached;
      memory.total = std::min(memory.total, *limit);
      memory.available =
          std::clamp<int64_t>(*limit - std::max<int64_t>(used, 0), 0, memory.available);
    }
    if (at.empty()) return;
  }
}

}  // namespace

MachineMemory machine_memory(const fs::path& proc, const fs::path& cgroups) {
  constexpr int64_t kKilobyte = 1024;
  MachineMemory memory{kKilobyte * number_after(proc / "meminfo", "MemTotal:"),
                       kKilobyte * number_after(proc / "meminfo", "MemAvailable:")};
  // Lines are ID:CONTROLLERS:PATH; version 2 names no controllers.
  std::ifstream groups(proc / "self" / "cgroup");
  for (std::string line; std::getline(groups, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == line.npos || second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const fs::path path = line.substr(second + 1);
    if (controllers.empty()) apply_limits(cgroups, path, kVersion2, memory);
    if (controllers == "memory") apply_limits(cgroups / "memory", path, kVersion1, memory);
  }
  return memory;
}

}  // namespace hadal
