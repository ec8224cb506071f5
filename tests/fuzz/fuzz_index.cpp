// libFuzzer target: model.safetensors.index.json.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/error.h"
#include "io/checkpoint.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const hadal::CheckpointIndex index =
        hadal::parse_index({reinterpret_cast<const char*>(data), size}, "fuzz");
    // No accepted file name leads out of the folder.
    if (index.weight_map.empty()) std::abort();
    for (const auto& [tensor, file] : index.weight_map) {
      if (hadal::fs::path(file).filename() != file || !file.ends_with(".safetensors")) std::abort();
      if (file.find('\\') != file.npos || file.find('\0') != file.npos) std::abort();
    }
  } catch (const hadal::Error& e) {
    if (e.kind() != hadal::ErrorKind::kFormat) std::abort();
  }
  return 0;
}
