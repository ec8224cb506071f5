#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/files.h"

namespace hadal {

// The safetensors format: eight bytes of header length, a JSON header, the tensors' bytes. Numbers
// are little-endian, as on every machine we build for.

inline constexpr int64_t kMaxSafetensorsHeader = 100'000'000;  // bytes, as the format's authors say

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // empty: one number

  int64_t size() const;   // numbers
  int64_t bytes() const;  // as stored
};

// "[2, 3]", for messages.
std::string shape_text(std::span<const int64_t> shape);

// A tensor of a file, and where its bytes are: [begin, end) from the start of the data.
struct TensorInfo : TensorSpec {
  int64_t begin = 0;
  int64_t end = 0;
};

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // in the order of their bytes
  std::map<std::string, std::string> metadata;
  int64_t data_begin = 0;  // from the start of the file
};

// Parses the header of the file whose bytes are `file`. Everything must hold: valid JSON without
// duplicate keys, known dtypes, shapes of positive integers that give the stated bytes, and
// tensors that cover the data exactly, without overlap, hole or rest. Else Error{kFormat}, which
// names `name` (the file), the tensor, the value found and what was expected.
SafetensorsHeader parse_header(std::span<const std::byte> file, const std::string& name);

// One file, opened and checked. Its numbers are only bytes here: model/weights.h reads them.
// Const members may be called from any threads at once.
class SafetensorsFile {
 public:
  // Error{kIo}: not a regular file (io/model_file.h), unreadable; Error{kFormat}: see parse_header.
  explicit SafetensorsFile(const fs::path& path);

  const fs::path& path() const { return file_.path(); }
  const std::vector<TensorInfo>& tensors() const { return header_.tensors; }
  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  const TensorInfo* find(std::string_view name) const;  // null when there is none
  // `PATH: tensor "NAME"`, for messages.
  std::string where(const TensorInfo& tensor) const;

  // The mapped bytes, aligned to nothing. Should another process cut the file short they read as
  // zeros: call check_intact() after each pass over them (core/files.h, MappedFile).
  std::span<const std::byte> view(const TensorInfo& tensor) const;
  void check_intact() const { file_.check_intact(); }
  // Copies bytes [offset, offset + out.size()) of the tensor through read(2): a file cut short
  // meanwhile is Error{kIo}.
  void read(const TensorInfo& tensor, int64_t offset, std::span<std::byte> out) const;

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::map<std::string_view, const TensorInfo*> by_name_;
};

// Writes one file; it appears whole in finish() or not at all (core/files.h, AtomicFile). All
// tensors are declared first. They lie in the file by falling size of their numbers, so that each
// is aligned, but are written in any order, each from its first byte on in pieces of any size.
class SafetensorsWriter {
 public:
  // Error{kInternal} for what the reader would refuse: a name twice, an empty shape dimension.
  SafetensorsWriter(const fs::path& path, const std::vector<TensorSpec>& tensors,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  // Appends to what tensor `name` has so far. Error{kInternal} beyond its declared size.
  void write(std::string_view name, std::span<const std::byte> bytes);
  // Error{kInternal} names a tensor that is not complete.
  void check_complete() const;
  void finish();  // checks it too

 private:
  struct Slot {
    int64_t next = 0, end = 0;  // in the file
  };
  AtomicFile file_;
  fs::path path_;
  std::map<std::string, Slot, std::less<>> slots_;
};

}  // namespace hadal
