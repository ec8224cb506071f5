#pragma once
#include <string>
#include <string_view>

#include "io/safetensors.h"

namespace hadal {

// parse_header for the JSON part alone, followed by `data_bytes` bytes of data: what the reader
// reads and what the writer checks its own header with.
SafetensorsHeader parse_header_text(std::string_view text, int64_t data_bytes,
                                    const std::string& name);

}  // namespace hadal
