#include "core/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/disk.h"
#include "core/error.h"

namespace hadal {
namespace {

[[noreturn]] void fail(std::string_view what, const fs::path& path) {
  const std::string reason = std::error_code(errno, std::generic_category()).message();
  throw Error(ErrorKind::kIo, str("cannot ", what, " ", path.string(), ": ", reason));
}

std::string_view kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  if (S_ISSOCK(mode)) return "a socket";
  return "not a regular file";
}

[[noreturn]] void refuse_kind(const fs::path& path, mode_t mode) {
  throw Error(ErrorKind::kIo,
              str(path.string(), " is ", kind_of(mode), ", expected a regular file"));
}

// One read, from `offset`, of as much as there is.
size_t read_some(int fd, const fs::path& path, int64_t offset, std::span<std::byte> out) {
  for (;;) {
    const ssize_t got = ::pread(fd, out.data(), out.size(), offset);
    if (got >= 0) return static_cast<size_t>(got);
    if (errno != EINTR) fail("read", path);
  }
}

// The folder of a path without one is this one.
fs::path folder_of(const fs::path& path) {
  const fs::path parent = path.parent_path();
  return parent.empty() ? fs::path(".") : parent;
}

void sync_folder(const fs::path& folder) {
  if (disk().sync_folder(folder) != 0) fail("sync folder", folder);
}

void write_all(int fd, const fs::path& path, std::span<const std::byte> bytes, int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t put = disk().write(fd, bytes, offset);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail("write", path);
    bytes = bytes.subspan(static_cast<size_t>(put));
    offset += put;
  }
}

fs::path temporary_name(const fs::path& path) {
  static std::atomic<int64_t> count{0};
  return str(path.string(), ".tmp-", ::getpid(), "-", count.fetch_add(1));
}

}  // namespace

std::string read_file(const fs::path& path, int64_t max_bytes) {
  return read_file(InputFile(path), max_bytes);
}

std::string read_file(const InputFile& file, int64_t max_bytes) {
  HADAL_CHECK(file.size() <= max_bytes, kIo, file.path().string(), " has ", file.size(),
              " bytes, expected at most ", max_bytes);
  std::string text(static_cast<size_t>(file.size()), '\0');
  const auto bytes = std::as_writable_bytes(std::span(text.data(), text.size()));
  size_t done = 0;
  while (done < text.size()) {
    const size_t got =
        read_some(file.fd(), file.path(), static_cast<int64_t>(done), bytes.subspan(done));
    if (got == 0) break;  // it shrank meanwhile: what is there is the file
    done += got;
  }
  text.resize(done);
  return text;
}

// O_NONBLOCK: opening a FIFO must not wait for a writer; it has no effect on regular files.
InputFile::InputFile(const fs::path& path, Links links, const fs::path& known_as)
    : path_(known_as.empty() ? path : known_as) {
  const int no_links = links == Links::kRefuse ? O_NOFOLLOW : 0;
  fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY | no_links);
  if (fd_ < 0 && errno == ELOOP && links == Links::kRefuse) {
    throw Error(ErrorKind::kIo,
                str(path_.string(), " is a symbolic link, expected a regular file"));
  }
  if (fd_ < 0) fail("open", path_);
  struct stat info {};
  const int result = ::fstat(fd_, &info);
  if (result != 0 || !S_ISREG(info.st_mode)) {
    const int reason = errno;
    ::close(fd_);
    errno = reason;
    if (result != 0) fail("stat", path_);
    refuse_kind(path_, info.st_mode);
  }
  size_ = info.st_size;
}

InputFile::~InputFile() {
  if (fd_ >= 0) ::close(fd_);
}

InputFile::InputFile(InputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {
}

int64_t InputFile::size_now() const {
  struct stat info {};
  if (::fstat(fd_, &info) != 0) fail("stat", path_);
  return info.st_size;
}

void InputFile::read_at(int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const size_t got = read_some(fd_, path_, offset, out);
    // The end is asked for, not taken for `offset`: another thread may read nearer to it.
    const int64_t wanted_end = offset + static_cast<int64_t>(out.size());
    HADAL_CHECK(got > 0, kIo, path_.string(), " ends at byte ", size_now(), ", expected at least ",
                wanted_end, " bytes");
    out = out.subspan(got);
    offset += static_cast<int64_t>(got);
  }
}

AtomicFile::AtomicFile(const fs::path& path) : path_(path), temporary_(temporary_name(path)) {
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) refuse_kind(path, info.st_mode);
  // A leftover of a process that had this number; O_EXCL so that no link planted here is followed.
  disk().remove_file(temporary_);
  fd_ = disk().open(temporary_, O_WRONLY | O_CREAT | O_EXCL);
  if (fd_ < 0) fail("create", temporary_);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  disk().remove_file(temporary_);
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  write_at(written_, bytes);
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::write_at(int64_t offset, std::span<const std::byte> bytes) {
  HADAL_CHECK(fd_ >= 0, kInternal, path_.string(), ": written to after commit");
  write_all(fd_, temporary_, bytes, offset);
  written_ += static_cast<int64_t>(bytes.size());
}

void AtomicFile::commit() {
  HADAL_CHECK(fd_ >= 0, kInternal, path_.string(), ": committed twice");
  if (disk().sync(fd_) != 0) fail("sync", temporary_);
  if (disk().rename(temporary_, path_) != 0) fail("rename to", path_);
  const int result = ::close(std::exchange(fd_, -1));
  if (result != 0) fail("close", path_);
  sync_folder(folder_of(path_));
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

std::vector<fs::path> list_folder(const fs::path& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    paths.push_back(it->path());
  }
  HADAL_CHECK(!error, kIo, "cannot list ", folder.string(), ": ", error.message());
  std::sort(paths.begin(), paths.end());
  return paths;
}

void make_folder(const fs::path& path) {
  std::error_code error;
  if (path.empty() || fs::is_directory(path, error)) return;
  const fs::path folder = path.has_filename() ? path : path.parent_path();
  make_folder(folder.parent_path());
  // EEXIST: another process was faster, or something that is no folder is in the way.
  if (disk().make_folder(folder) != 0 && !(errno == EEXIST && fs::is_directory(folder, error))) {
    fail("create folder", folder);
  }
  sync_folder(folder_of(folder));
}

void remove_file(const fs::path& path) {
  if (disk().remove_file(path) != 0 && errno != ENOENT) fail("remove", path);
}

void remove_folder(const fs::path& folder) {
  std::error_code error;
  if (!fs::exists(fs::symlink_status(folder, error))) return;
  for (const fs::path& path : list_folder(folder)) {
    const bool is_folder = fs::is_directory(fs::symlink_status(path, error));
    is_folder ? remove_folder(path) : remove_file(path);
  }
  if (disk().remove_folder(folder) != 0) fail("remove", folder);
}

void rename_folder(const fs::path& from, const fs::path& to) {
  if (disk().rename(from, to) != 0) fail("rename", from);
  sync_folder(folder_of(to));
}

int64_t free_bytes(const fs::path& path) {
  const int64_t bytes = disk().free_bytes(path);
  if (bytes < 0) fail("ask for the free space of", path);
  return bytes;
}

AppendFile::AppendFile(const fs::path& path)
    : path_(path), fd_(disk().open(path, O_WRONLY | O_CREAT)) {
  if (fd_ < 0) fail("open", path_);
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd_);
    refuse_kind(path_, info.st_mode);
  }
  size_ = info.st_size;
}

AppendFile::~AppendFile() {
  ::close(fd_);
}

void AppendFile::write(std::string_view text) {
  write_all(fd_, path_, std::as_bytes(std::span(text.data(), text.size())), size_);
  size_ += static_cast<int64_t>(text.size());
}

void AppendFile::sync() {
  if (disk().sync(fd_) != 0) fail("sync", path_);
}

FolderLock::FolderLock(const fs::path& folder) : path_(folder / "lock") {
  fd_ = disk().open(path_, O_RDWR | O_CREAT | O_NOFOLLOW);
  if (fd_ < 0) fail("create", path_);
  if (::flock(fd_, LOCK_EX | LOCK_NB) == 0) {
    const std::string pid = str(::getpid(), "\n");
    disk().truncate(fd_, 0);
    disk().write(fd_, std::as_bytes(std::span(pid.data(), pid.size())), 0);  // to be shown: no more
    return;
  }
  const int reason = errno;
  std::string holder(32, '\0');
  const ssize_t got = ::pread(fd_, holder.data(), holder.size(), 0);
  ::close(fd_);
  errno = reason;
  if (reason != EWOULDBLOCK) fail("lock", path_);
  holder.resize(got > 0 ? static_cast<size_t>(got) : 0);
  holder.resize(std::min(holder.size(), holder.find_first_not_of("0123456789")));
  throw Error(ErrorKind::kIo, str(folder.string(), " is in use by ",
                                  holder.empty() ? "another process" : "process " + holder,
                                  ", which holds ", path_.string()));
}

FolderLock::~FolderLock() {
  ::close(fd_);
}

}  // namespace hadal
