#pragma once
#include <string>

#include "core/files.h"

namespace hadal {

// Opens a file of a model folder. A symbolic link is refused, except the kind that Hugging Face's
// hub cache consists of: models--*/snapshots/<revision>/NAME -> ../../blobs/<hash> of the same
// entry (docs/decisions/0001-symlinks.md). Error{kIo} names the file and what it is.
InputFile open_model_file(const fs::path& path);

// The same, whole, as text.
std::string read_model_file(const fs::path& path, int64_t max_bytes);

// A name from a file, for a message: in quotes, control characters escaped, cut at 120 bytes.
std::string quote_name(std::string_view name);

}  // namespace hadal
