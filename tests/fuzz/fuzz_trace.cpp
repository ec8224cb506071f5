// libFuzzer target: the requests of a trace, JSON lines.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "infer/trace.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    double before = 0;
    for (const hadal::TraceRequest& r :
         hadal::parse_trace({reinterpret_cast<const char*>(data), size}, "fuzz")) {
      if (r.arrival_s < before || r.prompt_tokens < 1 || r.output_tokens < 1) std::abort();
      before = r.arrival_s;
    }
  } catch (const hadal::Error& e) {
    if (e.kind() != hadal::ErrorKind::kFormat) std::abort();
  }
  return 0;
}
