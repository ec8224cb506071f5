#pragma once
#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace hadal {

// The calls that change what a disk holds. All files that are to last are written through the one
// in use, so that a test can put another in its place: one that records, or one that fails. Every
// call answers as the system's does: -1 and errno.
class Disk {
 public:
  using Path = std::filesystem::path;

  virtual ~Disk() = default;
  virtual int open(const Path& path, int flags);  // ::open for writing; flags as there
  virtual ssize_t write(int fd, std::span<const std::byte> bytes, int64_t offset);
  virtual int truncate(int fd, int64_t size);
  virtual int sync(int fd);
  virtual int sync_folder(const Path& path);  // its entries; 0 where that cannot be done
  virtual int rename(const Path& from, const Path& to);
  virtual int remove_file(const Path& path);
  virtual int make_folder(const Path& path);
  virtual int remove_folder(const Path& path);   // an empty one
  virtual int64_t free_bytes(const Path& path);  // of its file system, for this user
};

Disk& disk();

// Puts another in its place while it lives. For tests; not while another thread writes files.
class ScopedDisk {
 public:
  explicit ScopedDisk(Disk& other);
  ~ScopedDisk();
  ScopedDisk(const ScopedDisk&) = delete;
  ScopedDisk& operator=(const ScopedDisk&) = delete;

 private:
  Disk* before_;
};

}  // namespace hadal
