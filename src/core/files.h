#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace hadal {

namespace fs = std::filesystem;

// The whole file as text. Error{kIo} names the path and the system's reason; a file larger than
// `max_bytes` is refused before it is read.
std::string read_file(const fs::path& path, int64_t max_bytes = int64_t{1} << 31);

// A regular file mapped read-only. Directories, FIFOs and devices are refused with Error{kIo}.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(size_)}; }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
  const std::byte* data_ = nullptr;
  int64_t size_ = 0;
};

// A file that appears whole or not at all: bytes go to PATH.tmp-PID, commit() syncs it, renames it
// over PATH and syncs the folder. Without commit() the destructor removes it.
class AtomicFile {
 public:
  explicit AtomicFile(const fs::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  int64_t written() const { return written_; }
  void commit();

 private:
  fs::path path_, temporary_;
  int fd_ = -1;
  int64_t written_ = 0;
};

void write_file_atomically(const fs::path& path, std::string_view text);

// Creates the folder and its parents; Error{kIo} with the system's reason.
void make_folder(const fs::path& path);

}  // namespace hadal
