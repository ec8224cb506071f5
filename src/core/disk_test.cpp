#include "core/disk.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <memory>

#include "core/files.h"
#include "tests/support/crash_disk.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using Left = CrashDisk::Left;
constexpr Left kEvery[] = {Left::kAll, Left::kNothing, Left::kNames, Left::kZeros, Left::kSome};

std::string left_of(const CrashDisk& disk, Left left, const std::string& name, uint64_t seed = 0) {
  const CrashDisk::Contents contents = disk.left(left, seed);
  const auto found = contents.find("/" + name);
  return found == contents.end() ? "none" : found->second;
}

TEST(Disk, AnAtomicFileIsTheOldOrTheNewOneWhateverACrashLeaves) {
  const fs::path root = scratch_dir();
  write_file_atomically(root / "f", "old");
  CrashDisk disk(root);
  uint64_t seed = 0;
  disk.on_change = [&] {
    for (const Left left : kEvery) {
      const std::string text = left_of(disk, left, "f", ++seed);
      EXPECT_TRUE(text == "old" || text == "new text") << text;
    }
  };
  const ScopedDisk scope(disk);
  write_file_atomically(root / "f", "new text");
  EXPECT_EQ(disk.operations(), 5) << "open, write, sync, rename, sync of the folder";
  for (const Left left : kEvery) EXPECT_EQ(left_of(disk, left, "f"), "new text");
}

// The model of a crash must be able to lose something, or the tests that use it would say nothing.
TEST(Disk, WhatIsNotSyncedIsLost) {
  const fs::path root = scratch_dir();
  write_file_atomically(root / "f", "old,");
  CrashDisk disk(root);
  const ScopedDisk scope(disk);
  AppendFile file(root / "f");
  file.write("new");
  EXPECT_EQ(left_of(disk, Left::kAll, "f"), "old,new");
  EXPECT_EQ(left_of(disk, Left::kNothing, "f"), "old,");
  EXPECT_EQ(left_of(disk, Left::kZeros, "f"), std::string(7, '\0'));
  file.sync();
  for (const Left left : kEvery) EXPECT_EQ(left_of(disk, left, "f"), "old,new");
  disk.rename(root / "f", root / "g");
  EXPECT_EQ(left_of(disk, Left::kNothing, "f"), "old,new");
  EXPECT_EQ(left_of(disk, Left::kNames, "g"), "old,new");
  disk.sync_folder(root);
  EXPECT_EQ(left_of(disk, Left::kNothing, "f"), "none");
  EXPECT_EQ(left_of(disk, Left::kNothing, "g"), "old,new");
}

TEST(Disk, FoldersLastOnceTheyAreMade) {
  const fs::path root = scratch_dir();
  CrashDisk disk(root);
  const ScopedDisk scope(disk);
  make_folder(root / "a" / "b");
  write_file_atomically(root / "a" / "b" / "f", "text");
  for (const Left left : kEvery) EXPECT_EQ(left_of(disk, left, "a/b/f"), "text");
  remove_folder(root / "a");
  EXPECT_FALSE(fs::exists(root / "a"));
}

TEST(Files, FoldersAreRemovedWithoutFollowingLinks) {
  const fs::path root = scratch_dir();
  write_file_atomically(root / "kept", "text");
  make_folder(root / "gone" / "deeper");
  fs::create_symlink(root, root / "gone" / "deeper" / "link");
  remove_folder(root / "gone");
  EXPECT_FALSE(fs::exists(root / "gone"));
  EXPECT_EQ(read_file(root / "kept"), "text");
  remove_folder(root / "gone");
  remove_file(root / "gone");
  FailingDisk broken(0, EIO, false);
  const ScopedDisk scope(broken);
  EXPECT_ERROR(remove_file(root / "kept"), kIo, "kept: Input/output error");
}

TEST(Files, ALineIsAddedAtTheEnd) {
  const fs::path path = scratch_dir() / "log";
  for (const char* line : {"one\n", "two\n"}) AppendFile(path).write(line);
  EXPECT_EQ(read_file(path), "one\ntwo\n");
  FailingDisk full(1, ENOSPC, true);
  const ScopedDisk scope(full);
  AppendFile file(path);
  EXPECT_ERROR(file.write("three\n"), kIo, "log: No space left on device");
}

TEST(FolderLock, NamesWhoHoldsIt) {
  const fs::path folder = scratch_dir();
  auto lock = std::make_unique<FolderLock>(folder);
  const std::string holder = "is in use by process " + std::to_string(::getpid());
  EXPECT_ERROR(FolderLock(folder), kIo, holder + ", which holds " + (folder / "lock").string());
  lock.reset();
  lock = std::make_unique<FolderLock>(folder);
  EXPECT_ERROR(FolderLock(folder), kIo, holder);
  EXPECT_ERROR(FolderLock(folder / "none"), kIo, "lock: No such file or directory");
}

}  // namespace
}  // namespace hadal
