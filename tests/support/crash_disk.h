// A disk whose every operation is remembered, so that it can be said what would be left of it if
// the machine stopped; and one that fails when it is told to.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/disk.h"
#include "core/files.h"

namespace hadal {

// Syncs nothing for real: what a test writes need not last.
class QuickDisk : public Disk {
 public:
  int sync(int /*fd*/) override { return 0; }
  int sync_folder(const Path& /*path*/) override { return 0; }
};

// Does what it is told, in `root`, but syncs nothing for real; calls `on_change` after every
// operation. Beside the real folder it keeps a model of it: what is there, and what is certain to
// be there after a power failure. A file's bytes are certain once it is synced; a name is certain
// once its folder is.
class CrashDisk : public Disk {
 public:
  explicit CrashDisk(const fs::path& root);  // what is in root already is certain

  // What a crash leaves of that which is not certain.
  enum class Left {
    kAll,      // the process was killed, the machine went on
    kNothing,  // the worst that a power failure may do
    kNames,    // names reached the disk, bytes did not: empty files
    kZeros,    // names and sizes did, bytes did not
    kSome,     // each folder and file by the flip of a coin; of a file, a part
  };
  // Files by their paths; a folder is a path that ends in a slash.
  using Contents = std::map<std::string, std::string>;
  // What would be left now. `seed` is for kSome.
  Contents left(Left left, uint64_t seed) const;
  static void put(const Contents& contents, const fs::path& folder);  // into a new folder

  int64_t operations() const { return operations_; }
  int64_t writes() const { return writes_; }  // of them; there are many
  bool last_was_write() const { return last_was_write_; }
  std::function<void()> on_change = [] {};

  int open(const Path& path, int flags) override;
  ssize_t write(int fd, std::span<const std::byte> bytes, int64_t offset) override;
  int truncate(int fd, int64_t size) override;
  int sync(int fd) override;
  int sync_folder(const Path& path) override;
  int rename(const Path& from, const Path& to) override;
  int remove_file(const Path& path) override;
  int make_folder(const Path& path) override;
  int remove_folder(const Path& path) override;

 private:
  struct Node {
    bool folder = false;
    std::string bytes, certain_bytes;
    std::map<std::string, std::shared_ptr<Node>> names, certain_names;
  };
  using NodePtr = std::shared_ptr<Node>;
  static NodePtr scan(const fs::path& path);
  NodePtr at(const fs::path& path) const;
  NodePtr parent(const fs::path& path) const { return at(path.parent_path()); }
  int done(int result, bool write = false);  // counts it

  fs::path root_;
  NodePtr tree_;
  std::map<int, NodePtr> open_;
  int64_t operations_ = 0, writes_ = 0;
  bool last_was_write_ = false;
};

// Operation number `fails_at` (0: the first) fails with `reason`, and every one after it that could
// fill a disk, if `for_good`. Of a write that fails, half is written. Syncs nothing for real.
class FailingDisk : public Disk {
 public:
  FailingDisk(int64_t fails_at, int reason, bool for_good)
      : fails_at_(fails_at), reason_(reason), for_good_(for_good) {}
  bool failed() const { return operations_ > fails_at_; }
  // The operation that failed may do so unnoticed: it removed something.
  bool was_removal() const { return was_removal_; }

  int open(const Path& path, int flags) override;
  ssize_t write(int fd, std::span<const std::byte> bytes, int64_t offset) override;
  int sync(int fd) override;
  int sync_folder(const Path& path) override;
  int rename(const Path& from, const Path& to) override;
  int remove_file(const Path& path) override;
  int make_folder(const Path& path) override;
  int remove_folder(const Path& path) override;

 private:
  bool fails(bool removal = false);

  int64_t fails_at_;
  int reason_;
  bool for_good_;
  int64_t operations_ = 0;
  bool was_removal_ = false;
};

}  // namespace hadal
