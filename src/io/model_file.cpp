#include "io/model_file.h"

#include <algorithm>
#include <system_error>

#include "core/error.h"

namespace hadal {
namespace {

bool is_hash(std::string_view text) {
  return (text.size() == 40 || text.size() == 64) &&
         text.find_first_not_of("0123456789abcdef") == text.npos;
}

// Where the link at `path` leads if it is one of the hub cache; empty otherwise. Folders on the way
// are the user's own choice and may be links.
fs::path hub_blob(const fs::path& path) {
  std::error_code error;
  const fs::path target = fs::read_symlink(path, error);
  if (error || target.parent_path() != fs::path("../../blobs")) return {};
  const std::string hash = target.filename().string();
  const fs::path parent = path.has_parent_path() ? path.parent_path() : fs::path(".");
  const fs::path revision = fs::canonical(parent, error);
  const fs::path snapshots = revision.parent_path(), entry = snapshots.parent_path();
  if (error || !is_hash(hash) || snapshots.filename() != "snapshots" ||
      !entry.filename().string().starts_with("models--")) {
    return {};
  }
  return entry / "blobs" / hash;
}

}  // namespace

InputFile open_model_file(const fs::path& path) {
  std::error_code ignored;
  if (fs::is_symlink(path, ignored)) {
    const fs::path blob = hub_blob(path);
    if (!blob.empty()) return InputFile(blob, InputFile::Links::kRefuse, path);
  }
  return InputFile(path, InputFile::Links::kRefuse);
}

std::string read_model_file(const fs::path& path, int64_t max_bytes) {
  return read_file(open_model_file(path), max_bytes);
}

std::string quote_name(std::string_view name) {
  constexpr size_t kLongest = 120;
  size_t end = std::min(name.size(), kLongest);
  while (end < name.size() && end > 0 && (static_cast<unsigned char>(name[end]) & 0xc0u) == 0x80u) {
    --end;
  }
  std::string text = "\"";
  for (const char c : name.substr(0, end)) {
    const auto byte = static_cast<unsigned char>(c);
    constexpr std::string_view kHex = "0123456789abcdef";
    if (byte < 0x20 || byte == 0x7f || c == '"' || c == '\\') {
      text += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15u]};
    } else {
      text += c;
    }
  }
  return text + (end < name.size() ? "...\"" : "\"");
}

}  // namespace hadal
