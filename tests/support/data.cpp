#include "tests/support/data.h"

#include <cstdlib>

namespace hadal {

std::filesystem::path data_dir() {
  if (const char* dir = std::getenv("HADAL_DATA"); dir != nullptr && *dir != '\0') return dir;
  return std::filesystem::path(HADAL_SOURCE_DIR).parent_path() / "shared" / "data";
}

std::string missing_data(const std::string& name) {
  const std::filesystem::path path = data_dir() / name;
  if (std::filesystem::exists(path)) return {};
  return "no test data at " + path.string() + " (HADAL_DATA names the folder)";
}

}  // namespace hadal
