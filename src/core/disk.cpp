#include "core/disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <utility>

namespace hadal {
namespace {

constexpr mode_t kFileMode = 0644;
constexpr mode_t kFolderMode = 0777;  // less the umask

Disk& real_disk() {
  static Disk real;
  return real;
}

// Null: the real one.
Disk* g_disk = nullptr;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables): tests' own

}  // namespace

int Disk::open(const Path& path, int flags) {
  return ::open(path.c_str(), flags | O_CLOEXEC, kFileMode);
}

ssize_t Disk::write(int fd, std::span<const std::byte> bytes, int64_t offset) {
  return ::pwrite(fd, bytes.data(), bytes.size(), offset);
}

int Disk::truncate(int fd, int64_t size) {
  return ::ftruncate(fd, size);
}

int Disk::sync(int fd) {
  return ::fsync(fd);
}

int Disk::sync_folder(const Path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return errno == EACCES ? 0 : -1;  // may be written, not read
  const int result = ::fsync(fd);
  const int reason = errno;
  ::close(fd);
  errno = reason;
  // EINVAL: a file system that cannot sync folders, which is no failure of what was written.
  return result != 0 && reason != EINVAL ? -1 : 0;
}

int Disk::rename(const Path& from, const Path& to) {
  return ::rename(from.c_str(), to.c_str());
}

int Disk::remove_file(const Path& path) {
  return ::unlink(path.c_str());
}

int Disk::make_folder(const Path& path) {
  return ::mkdir(path.c_str(), kFolderMode);
}

int Disk::remove_folder(const Path& path) {
  return ::rmdir(path.c_str());
}

int64_t Disk::free_bytes(const Path& path) {
  struct statvfs info {};
  if (::statvfs(path.c_str(), &info) != 0) return -1;
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

Disk& disk() {
  return g_disk != nullptr ? *g_disk : real_disk();
}

ScopedDisk::ScopedDisk(Disk& other) : before_(std::exchange(g_disk, &other)) {
}

ScopedDisk::~ScopedDisk() {
  g_disk = before_;
}

}  // namespace hadal
