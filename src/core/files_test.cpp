#include "core/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <numeric>

#include "tests/support/testing.h"

namespace hadal {
namespace {

size_t files_in(const fs::path& folder) {
  return static_cast<size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

std::string pattern(size_t n) {
  std::string text(n, '\0');
  for (size_t i = 0; i < n; ++i) text[i] = static_cast<char>('a' + i % 23);
  return text;
}

// Runs fn in a child process; its exit status.
template <class Fn>
int in_child(Fn fn) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    int code = 99;
    try {
      code = fn();
    } catch (...) {
    }
    ::_exit(code);
  }
  int status = 0;
  EXPECT_EQ(::waitpid(pid, &status, 0), pid);
  return status;
}

TEST(Files, what_is_written_is_read) {
  const fs::path folder = scratch_dir();
  for (const std::string& text : {std::string(), std::string("x"), pattern(300'000)}) {
    write_file_atomically(folder / "f", text);
    EXPECT_EQ(read_file(folder / "f"), text);
    EXPECT_EQ(files_in(folder), 1u) << "no temporary file stays";
  }
}

TEST(Files, reading_refuses_what_is_not_a_file_of_bounded_size) {
  const fs::path folder = scratch_dir();
  write_file_atomically(folder / "f", "12345");
  EXPECT_EQ(read_file(folder / "f", 5), "12345");
  EXPECT_ERROR(read_file(folder / "f", 4), kIo, "f has 5 bytes, expected at most 4");
  EXPECT_ERROR(read_file(folder / "none"), kIo, "none: No such file or directory");
  EXPECT_ERROR(read_file(folder), kIo, "is a directory, expected a regular file");
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_ERROR(read_file(folder / "fifo"), kIo, "fifo is a FIFO");  // and does not wait
  EXPECT_ERROR(read_file("/dev/null"), kIo, "/dev/null is a device");
}

TEST(InputFile, reads_pieces_and_refuses_links_when_asked) {
  const fs::path folder = scratch_dir();
  write_file_atomically(folder / "f", "0123456789");
  fs::create_symlink("f", folder / "link");
  const InputFile file(folder / "link");
  EXPECT_EQ(file.size(), 10);
  std::array<std::byte, 3> out{};
  file.read_at(4, out);
  EXPECT_EQ(out[0], std::byte{'4'});
  EXPECT_EQ(out[2], std::byte{'6'});
  EXPECT_ERROR(file.read_at(8, out), kIo, "ends at byte 10, expected at least 11 bytes");
  EXPECT_ERROR(InputFile(folder / "link", InputFile::Links::kRefuse), kIo,
               "link is a symbolic link, expected a regular file");
  EXPECT_NO_THROW(InputFile(folder / "f", InputFile::Links::kRefuse));
}

TEST(InputFile, a_file_cut_short_while_open_is_an_error) {
  const fs::path path = scratch_dir() / "f";
  write_file_atomically(path, pattern(10'000));
  const InputFile file(path);
  fs::resize_file(path, 100);
  std::array<std::byte, 200> out{};
  EXPECT_ERROR(file.read_at(0, out), kIo, "ends at byte 100, expected at least 200 bytes");
  EXPECT_ERROR(file.read_at(5000, out), kIo, "ends at byte 100, expected at least 5200 bytes");
  EXPECT_EQ(file.size(), 10'000);
  EXPECT_EQ(file.size_now(), 100);
}

TEST(MappedFile, shows_the_bytes_of_a_regular_file) {
  const fs::path folder = scratch_dir();
  const std::string text = pattern(70'000);
  write_file_atomically(folder / "f", text);
  const MappedFile file(folder / "f");
  ASSERT_EQ(file.bytes().size(), text.size());
  EXPECT_EQ(std::memcmp(file.bytes().data(), text.data(), text.size()), 0);
  EXPECT_NO_THROW(file.check_intact());

  write_file_atomically(folder / "empty", "");
  EXPECT_TRUE(MappedFile(folder / "empty").bytes().empty());
  EXPECT_NO_THROW(MappedFile(folder / "empty").check_intact());
  EXPECT_ERROR(MappedFile{folder}, kIo, "is a directory");
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_ERROR(MappedFile{folder / "fifo"}, kIo, "is a FIFO");
  EXPECT_ERROR(MappedFile{"/dev/zero"}, kIo, "is a device");
}

TEST(MappedFile, a_file_cut_short_reads_as_zeros_and_says_so) {
  const fs::path folder = scratch_dir();
  const std::string text = pattern(1 << 20);
  for (const char* name : {"a", "b", "c"}) write_file_atomically(folder / name, text);
  const MappedFile a(folder / "a"), b(folder / "b"), c(folder / "c");
  fs::resize_file(folder / "b", 8192);
  int64_t sum = 0;
  for (std::byte x : b.bytes()) sum += std::to_integer<int>(x);  // would be SIGBUS
  EXPECT_EQ(sum, std::accumulate(text.begin(), text.begin() + 8192, int64_t{0}));
  EXPECT_ERROR(b.check_intact(), kIo, "was cut short to 8192 bytes while in use, expected 1048576");

  fs::resize_file(folder / "b", text.size());  // growing again does not bring the bytes back
  EXPECT_ERROR(b.check_intact(), kIo, "was cut short");
  for (const MappedFile* other : {&a, &c}) {
    EXPECT_NO_THROW(other->check_intact());
    EXPECT_EQ(std::memcmp(other->bytes().data(), text.data(), text.size()), 0);
  }
}

TEST(MappedFile, a_file_cut_within_its_last_page_is_noticed_without_a_fault) {
  const fs::path path = scratch_dir() / "f";
  write_file_atomically(path, pattern(3000));
  const MappedFile file(path);
  fs::resize_file(path, 1000);
  EXPECT_ERROR(file.check_intact(), kIo, "was cut short to 1000 bytes");
}

TEST(MappedFile, many_come_and_go) {
  const fs::path path = scratch_dir() / "f";
  write_file_atomically(path, "x");
  for (int i = 0; i < 5000; ++i) {  // more than the handler's table holds at once
    const MappedFile file(path);
    ASSERT_EQ(file.bytes()[0], std::byte{'x'});
  }
}

TEST(MappedFileDeathTest, faults_that_are_not_ours_still_end_the_process) {
  const fs::path path = scratch_dir() / "f";
  write_file_atomically(path, pattern(100'000));
  const MappedFile ours(path);
  EXPECT_DEATH(
      {
        const int fd = ::open(path.c_str(), O_RDONLY);
        const auto* p =
            static_cast<volatile char*>(::mmap(nullptr, 100'000, PROT_READ, MAP_SHARED, fd, 0));
        fs::resize_file(path, 10);
        std::exit(p[90'000]);
      },
      "");
}

TEST(AtomicFile, without_commit_nothing_happens) {
  const fs::path folder = scratch_dir();
  write_file_atomically(folder / "f", "old");
  {
    AtomicFile file(folder / "f");
    file.write("new");
    EXPECT_EQ(file.written(), 3);
    EXPECT_EQ(files_in(folder), 2u);
  }
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(files_in(folder), 1u);
}

TEST(AtomicFile, a_process_killed_while_writing_leaves_the_old_file) {
  const fs::path folder = scratch_dir();
  write_file_atomically(folder / "f", "old");
  const int status = in_child([&] {
    AtomicFile file(folder / "f");
    file.write(pattern(100'000));
    return ::kill(::getpid(), SIGKILL);
  });
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_EQ(read_file(folder / "f"), "old");
  write_file_atomically(folder / "f", "new");  // the leftover is in nobody's way
  EXPECT_EQ(read_file(folder / "f"), "new");
}

TEST(AtomicFile, a_full_disk_is_an_error_that_leaves_the_old_file) {
  const fs::path folder = scratch_dir();
  write_file_atomically(folder / "f", "old");
  const int status = in_child([&] {
    const rlimit limit{8192, 8192};  // stands for the full disk
    ::setrlimit(RLIMIT_FSIZE, &limit);
    ::signal(SIGXFSZ, SIG_IGN);
    try {
      write_file_atomically(folder / "f", pattern(100'000));
    } catch (const Error& e) {
      const std::string message = e.what();
      return e.kind() == ErrorKind::kIo && message.find("cannot write") == 0 &&
                     message.find("File too large") != std::string::npos
                 ? 0
                 : 1;
    }
    return 2;
  });
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_file(folder / "f"), "old");
  EXPECT_EQ(files_in(folder), 1u);
}

TEST(AtomicFile, never_replaces_what_is_not_a_file) {
  const fs::path folder = scratch_dir();
  EXPECT_ERROR(AtomicFile{folder}, kIo, "is a directory, expected a regular file");
  ASSERT_EQ(::mkfifo((folder / "fifo").c_str(), 0600), 0);
  EXPECT_ERROR(AtomicFile{folder / "fifo"}, kIo, "is a FIFO");
  EXPECT_ERROR(AtomicFile{"/dev/null"}, kIo, "/dev/null is a device");
  EXPECT_ERROR(AtomicFile{folder / "none" / "f"}, kIo, "No such file or directory");
  EXPECT_EQ(files_in(folder), 1u);
}

TEST(AtomicFile, a_rename_that_fails_is_an_error) {
  const fs::path folder = scratch_dir();
  AtomicFile file(folder / "f");
  file.write("new");
  fs::create_directory(folder / "f");
  EXPECT_ERROR(file.commit(), kIo, "cannot rename to");
}

TEST(AtomicFile, two_writers_of_one_path_do_not_mix) {
  const fs::path folder = scratch_dir();
  AtomicFile first(folder / "f"), second(folder / "f");
  first.write("first, longer");
  second.write("second");
  second.commit();
  EXPECT_EQ(read_file(folder / "f"), "second");
  first.commit();
  EXPECT_EQ(read_file(folder / "f"), "first, longer");
  EXPECT_ERROR(first.commit(), kInternal, "committed twice");
  EXPECT_ERROR(first.write("x"), kInternal, "written to after commit");
}

TEST(AtomicFile, writes_at_any_place) {
  const fs::path path = scratch_dir() / "f";
  AtomicFile file(path);
  const std::string b = "bb", a = "aaa";
  file.write_at(3, std::as_bytes(std::span(b)));
  file.write_at(0, std::as_bytes(std::span(a)));
  EXPECT_EQ(file.written(), 5);
  file.commit();
  EXPECT_EQ(read_file(path), "aaabb");
}

TEST(Files, list_folder_is_sorted_and_names_what_it_cannot_list) {
  const fs::path folder = scratch_dir();
  for (const char* name : {"b", "c", "a"}) write_file_atomically(folder / name, "");
  EXPECT_EQ(list_folder(folder), (std::vector<fs::path>{folder / "a", folder / "b", folder / "c"}));
  EXPECT_TRUE(list_folder(scratch_dir()).empty());
  EXPECT_ERROR(list_folder(folder / "none"), kIo, "none: No such file or directory");
  EXPECT_ERROR(list_folder(folder / "a"), kIo, "cannot list");
}

TEST(Files, make_folder_makes_parents_and_names_what_is_in_the_way) {
  const fs::path folder = scratch_dir();
  make_folder(folder / "a" / "b");
  make_folder(folder / "a" / "b");
  EXPECT_TRUE(fs::is_directory(folder / "a" / "b"));
  write_file_atomically(folder / "f", "");
  EXPECT_ERROR(make_folder(folder / "f" / "g"), kIo, "cannot create folder");
}

TEST(Files, read_ahead_brings_pages_into_memory) {
  const fs::path path = scratch_dir() / "f";
  constexpr size_t kPage = 4096, kPages = 64;
  write_file_atomically(path, std::string(kPages * kPage, 'x'));
  const MappedFile file{path};
  std::byte* const mapped = const_cast<std::byte*>(file.bytes().data());
  const auto resident = [&] {
    std::vector<unsigned char> pages(kPages);
    ::mincore(mapped, kPages * kPage, pages.data());
    return std::count_if(pages.begin(), pages.end(), [](auto p) { return (p & 1u) != 0; });
  };
  const auto drop = [&] { ::posix_fadvise(file.file().fd(), 0, 0, POSIX_FADV_DONTNEED); };
  const auto wait_for = [&](int64_t pages) {
    for (int i = 0; i < 2000 && resident() < pages; ++i) ::usleep(1000);
  };
  drop();
  if (resident() > 0) GTEST_SKIP() << "this file system keeps its pages";
  ::madvise(mapped, kPages * kPage, MADV_WILLNEED);
  wait_for(kPages);
  if (resident() == 0) GTEST_SKIP() << "this kernel reads nothing ahead, like an emulated one";
  drop();
  ASSERT_EQ(resident(), 0);
  // From the middle of a page to the middle of another: 33 pages.
  read_ahead(file.bytes().subspan(16 * kPage + 5, 32 * kPage));
  wait_for(33);
  EXPECT_GE(resident(), 33);
  EXPECT_LT(resident(), int(kPages)) << "and no others than asked, but for those of the last read";
  read_ahead({});
}

}  // namespace
}  // namespace hadal
