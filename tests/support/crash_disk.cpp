#include "tests/support/crash_disk.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "core/error.h"
#include "core/rng.h"

namespace hadal {
namespace {

void write_plain(const fs::path& path, const std::string& bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  HADAL_CHECK(fd >= 0, kIo, "cannot create ", path.string());
  const ssize_t put = ::write(fd, bytes.data(), bytes.size());
  ::close(fd);
  HADAL_CHECK(put == static_cast<ssize_t>(bytes.size()), kIo, "cannot write ", path.string());
}

}  // namespace

CrashDisk::CrashDisk(const fs::path& root) : root_(root), tree_(scan(root)) {
}

CrashDisk::NodePtr CrashDisk::scan(const fs::path& path) {
  auto node = std::make_shared<Node>();
  node->folder = fs::is_directory(path);
  if (node->folder) {
    for (const fs::path& entry : list_folder(path)) node->names[entry.filename()] = scan(entry);
    node->certain_names = node->names;
  } else {
    node->bytes = node->certain_bytes = read_file(path);
  }
  return node;
}

CrashDisk::NodePtr CrashDisk::at(const fs::path& path) const {
  NodePtr node = tree_;
  const fs::path within = path.lexically_relative(root_);
  HADAL_CHECK(!within.empty() && *within.begin() != "..", kInternal, path.string(),
              " is outside of the recorded folder");
  for (const fs::path& part : within) {
    if (part != ".") node = node->names.at(part);
  }
  return node;
}

int CrashDisk::done(int result, bool write) {
  ++operations_;
  writes_ += write ? 1 : 0;
  last_was_write_ = write;
  on_change();
  return result;
}

int CrashDisk::open(const Path& path, int flags) {
  const int fd = Disk::open(path, flags);
  if (fd < 0) return fd;
  NodePtr& node = parent(path)->names[path.filename()];
  if (node == nullptr) node = std::make_shared<Node>();
  open_[fd] = node;
  return done(fd);
}

ssize_t CrashDisk::write(int fd, std::span<const std::byte> bytes, int64_t offset) {
  const ssize_t put = Disk::write(fd, bytes, offset);
  if (put < 0) return put;
  std::string& file = open_.at(fd)->bytes;
  const auto begin = static_cast<size_t>(offset), count = static_cast<size_t>(put);
  file.resize(std::max(file.size(), begin + count));
  std::copy_n(reinterpret_cast<const char*>(bytes.data()), count, file.data() + begin);
  done(0, true);
  return put;
}

int CrashDisk::truncate(int fd, int64_t size) {
  const int result = Disk::truncate(fd, size);
  open_.at(fd)->bytes.resize(static_cast<size_t>(size));
  return done(result);
}

int CrashDisk::sync(int fd) {
  open_.at(fd)->certain_bytes = open_.at(fd)->bytes;
  return done(0);
}

int CrashDisk::sync_folder(const Path& path) {
  const NodePtr node = at(path);
  node->certain_names = node->names;
  return done(0);
}

int CrashDisk::rename(const Path& from, const Path& to) {
  const int result = Disk::rename(from, to);
  if (result != 0) return result;
  const NodePtr node = at(from);
  parent(from)->names.erase(from.filename());
  parent(to)->names[to.filename()] = node;
  return done(0);
}

int CrashDisk::remove_file(const Path& path) {
  const int result = Disk::remove_file(path);
  if (result != 0) return result;
  parent(path)->names.erase(path.filename());
  return done(0);
}

int CrashDisk::make_folder(const Path& path) {
  const int result = Disk::make_folder(path);
  if (result != 0) return result;
  auto node = std::make_shared<Node>();
  node->folder = true;
  parent(path)->names[path.filename()] = node;
  return done(0);
}

int CrashDisk::remove_folder(const Path& path) {
  const int result = Disk::remove_folder(path);
  if (result != 0) return result;
  parent(path)->names.erase(path.filename());
  return done(0);
}

CrashDisk::Contents CrashDisk::left(Left left, uint64_t seed) const {
  Rng rng(seed, 0);
  const auto certain = [&] {
    return left == Left::kNothing || (left == Left::kSome && rng.below(2) == 0);
  };
  const auto bytes_left = [&](const Node& file) {
    if (left == Left::kAll || file.bytes == file.certain_bytes) return file.bytes;
    if (left == Left::kZeros) return std::string(file.bytes.size(), '\0');
    if (left == Left::kNames || certain()) return file.certain_bytes;
    return file.bytes.substr(0, rng.below(file.bytes.size() + 1));
  };
  Contents contents;
  const std::function<void(const Node&, const std::string&)> add = [&](const Node& folder,
                                                                       const std::string& path) {
    contents[path];
    for (const auto& [name, child] : certain() ? folder.certain_names : folder.names) {
      if (child->folder) {
        add(*child, path + name + "/");
      } else {
        contents[path + name] = bytes_left(*child);
      }
    }
  };
  add(*tree_, "/");
  return contents;
}

// A folder comes before what is in it.
void CrashDisk::put(const Contents& contents, const fs::path& folder) {
  for (const auto& [path, bytes] : contents) {
    if (path.ends_with('/')) {
      fs::create_directory(folder.string() + path.substr(0, path.size() - 1));
    } else {
      write_plain(folder.string() + path, bytes);
    }
  }
}

bool FailingDisk::fails(bool removal) {
  const int64_t number = operations_++;
  if (number == fails_at_) was_removal_ = removal;
  const bool now = number == fails_at_ || (for_good_ && !removal && number > fails_at_);
  if (now) errno = reason_;
  return now;
}

int FailingDisk::open(const Path& path, int flags) {
  return fails() ? -1 : Disk::open(path, flags);
}

ssize_t FailingDisk::write(int fd, std::span<const std::byte> bytes, int64_t offset) {
  if (!fails()) return Disk::write(fd, bytes, offset);
  Disk::write(fd, bytes.first(bytes.size() / 2), offset);
  errno = reason_;
  return -1;
}

int FailingDisk::sync(int /*fd*/) {
  return fails() ? -1 : 0;
}

int FailingDisk::sync_folder(const Path& /*path*/) {
  return fails() ? -1 : 0;
}

int FailingDisk::rename(const Path& from, const Path& to) {
  return fails() ? -1 : Disk::rename(from, to);
}

int FailingDisk::remove_file(const Path& path) {
  return fails(true) ? -1 : Disk::remove_file(path);
}

int FailingDisk::make_folder(const Path& path) {
  return fails() ? -1 : Disk::make_folder(path);
}

int FailingDisk::remove_folder(const Path& path) {
  return fails(true) ? -1 : Disk::remove_folder(path);
}

}  // namespace hadal
