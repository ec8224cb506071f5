#pragma once
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace hadal {

namespace fs = std::filesystem;

// A regular file open for reading. Directories, FIFOs, devices and sockets are refused with
// Error{kIo}; a symbolic link at the end of the path is followed, or refused if asked.
class InputFile {
 public:
  enum class Links { kFollow, kRefuse };

  // `known_as` stands in messages where it is not empty.
  explicit InputFile(const fs::path& path, Links links = Links::kFollow,
                     const fs::path& known_as = {});
  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;
  const fs::path& path() const { return path_; }
  int64_t size() const { return size_; }  // bytes, when it was opened
  int64_t size_now() const;
  int fd() const { return fd_; }
  // Fills `out` with the bytes from `offset` on. Reads through the descriptor, not a mapping, so a
  // file that was cut short meanwhile is Error{kIo}, never a signal. From any threads at once.
  void read_at(int64_t offset, std::span<std::byte> out) const;

 private:
  fs::path path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

// The whole file as text. Error{kIo} names the path and the system's reason; a file larger than
// `max_bytes` is refused before it is read.
std::string read_file(const fs::path& path, int64_t max_bytes = int64_t{1} << 31);
std::string read_file(const InputFile& file, int64_t max_bytes);

// A regular file mapped read-only. When another process cuts it short, the lost pages read as zeros
// instead of ending this process (a SIGBUS handler, installed with the first mapping, sees to it;
// faults elsewhere go to the handler that was there before). So whoever computes with mapped bytes
// calls check_intact() afterwards, once a pass, and discards the result if it throws.
class MappedFile {
 public:
  explicit MappedFile(const fs::path& path) : MappedFile(InputFile(path)) {}
  explicit MappedFile(InputFile file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const { return {data_, static_cast<size_t>(file_.size())}; }
  const fs::path& path() const { return file_.path(); }
  const InputFile& file() const { return file_; }
  void check_intact() const;  // Error{kIo} if the file is shorter than it was

 private:
  InputFile file_;
  const std::byte* data_ = nullptr;
  size_t slot_ = 0;  // in the handler's table
};

// Asks the system to have these mapped bytes in memory soon, and does not wait for it. Only a hint.
void read_ahead(std::span<const std::byte> mapped);

// A file that appears whole or not at all: bytes go to PATH.tmp-PID-N, commit() syncs it, renames
// it over PATH and syncs the folder. Without commit() the destructor removes it. A PATH that is a
// directory, FIFO or device is refused: the rename would replace it.
class AtomicFile {
 public:
  explicit AtomicFile(const fs::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::span<const std::byte> bytes);  // after all that was written before
  void write(std::string_view text);
  void write_at(int64_t offset, std::span<const std::byte> bytes);
  int64_t written() const { return written_; }  // bytes so far, whatever their place
  void commit();

 private:
  fs::path path_, temporary_;
  int fd_ = -1;
  int64_t written_ = 0;
};

void write_file_atomically(const fs::path& path, std::string_view text);

// What a folder holds, sorted by name. Error{kIo} with the system's reason.
std::vector<fs::path> list_folder(const fs::path& folder);

// Creates the folder and its parents, and syncs the folders that hold them; Error{kIo} with the
// system's reason.
void make_folder(const fs::path& path);
// What is not there is removed already. Links are removed, never followed.
void remove_file(const fs::path& path);
void remove_folder(const fs::path& folder);  // with all that is in it
// Within one folder, which is synced. `to` does not exist, or is an empty folder.
void rename_folder(const fs::path& from, const fs::path& to);
int64_t free_bytes(const fs::path& path);  // of the file system that holds it

// A file that grows at its end, for logs: what write() took is in the system's hands, what sync()
// saw is on the disk. Of one writer.
class AppendFile {
 public:
  explicit AppendFile(const fs::path& path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  void write(std::string_view text);
  void sync();

 private:
  fs::path path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

// FOLDER/lock, locked while this lives; the system lets go of it however the process ends.
// Error{kIo} names the process that has it. The file stays: to remove it would let two hold it.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  fs::path path_;
  int fd_ = -1;
};

}  // namespace hadal
