// libFuzzer target: the header of a safetensors file, given as the bytes of the whole file.
#include <cstdint>
#include <cstdlib>

#include "core/error.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto file = std::as_bytes(std::span(data, size));
  try {
    const hadal::SafetensorsHeader header = hadal::parse_header(file, "fuzz");
    // What was accepted must lie in the file, end to end.
    auto next = header.data_begin;
    for (const hadal::TensorInfo& t : header.tensors) {
      if (t.bytes() < 1 || t.end - t.begin != t.bytes()) std::abort();
      if (header.data_begin + t.begin != next) std::abort();
      next = header.data_begin + t.end;
    }
    if (next != static_cast<int64_t>(size)) std::abort();
  } catch (const hadal::Error& e) {
    if (e.kind() != hadal::ErrorKind::kFormat) std::abort();
  }
  return 0;
}
