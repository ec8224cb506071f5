#include "core/files.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

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

class Descriptor {
 public:
  // O_NONBLOCK: opening a FIFO must not wait for a writer; it has no effect on regular files.
  explicit Descriptor(const fs::path& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
    if (fd_ < 0) fail("open", path);
    struct stat info {};
    if (::fstat(fd_, &info) != 0) {
      ::close(fd_);
      fail("stat", path);
    }
    if (!S_ISREG(info.st_mode)) {
      ::close(fd_);
      throw Error(ErrorKind::kIo,
                  str(path.string(), " is ", kind_of(info.st_mode), ", expected a regular file"));
    }
    size_ = info.st_size;
  }
  ~Descriptor() { ::close(fd_); }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int fd() const { return fd_; }
  int64_t size() const { return size_; }

 private:
  int fd_;
  int64_t size_ = 0;
};

void sync_folder(const fs::path& folder) {
  const fs::path target = folder.empty() ? fs::path(".") : folder;
  const int fd = ::open(target.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail("open folder", target);
  const int result = ::fsync(fd);
  ::close(fd);
  if (result != 0) fail("sync folder", target);
}

}  // namespace

std::string read_file(const fs::path& path, int64_t max_bytes) {
  const Descriptor file(path);
  HADAL_CHECK(file.size() <= max_bytes, kIo, path.string(), " has ", file.size(),
              " bytes, expected at most ", max_bytes);
  std::string text(static_cast<size_t>(file.size()), '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t got = ::read(file.fd(), text.data() + done, text.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("read", path);
    if (got == 0) break;  // it shrank meanwhile: what is there is the file
    done += static_cast<size_t>(got);
  }
  text.resize(done);
  return text;
}

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const Descriptor file(path);
  size_ = file.size();
  if (size_ == 0) return;
  void* p = ::mmap(nullptr, static_cast<size_t>(size_), PROT_READ, MAP_SHARED, file.fd(), 0);
  if (p == MAP_FAILED) fail("map", path);
  data_ = static_cast<const std::byte*>(p);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
}

AtomicFile::AtomicFile(const fs::path& path)
    : path_(path), temporary_(str(path.string(), ".tmp-", ::getpid())) {
  fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd_ < 0) fail("create", temporary_);
}

AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t put = ::write(fd_, bytes.data(), bytes.size());
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail("write", temporary_);
    bytes = bytes.subspan(static_cast<size_t>(put));
    written_ += put;
  }
}

void AtomicFile::write(std::string_view text) {
  write(std::as_bytes(std::span(text.data(), text.size())));
}

void AtomicFile::commit() {
  if (::fsync(fd_) != 0) fail("sync", temporary_);
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail("rename to", path_);
  ::close(fd_);
  fd_ = -1;
  sync_folder(path_.parent_path());
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  HADAL_CHECK(!error, kIo, "cannot create folder ", path.string(), ": ", error.message());
}

}  // namespace hadal
