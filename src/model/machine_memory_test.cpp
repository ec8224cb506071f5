#include "model/machine_memory.h"

#include "tests/support/testing.h"

namespace hadal {
namespace {

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  write_file_atomically(path, text);
}

class MachineMemoryTest : public testing::Test {
 protected:
  MachineMemoryTest() {
    write(proc_ / "meminfo", "MemTotal:  1000 kB\nMemFree:  1 kB\nMemAvailable:  700 kB\n");
  }
  MachineMemory memory() const { return machine_memory(proc_, groups_); }
  const fs::path folder_ = scratch_dir(), proc_ = folder_ / "proc", groups_ = folder_ / "groups";
};

TEST(MachineMemory, IsThere) {
  const MachineMemory here = machine_memory();
  EXPECT_GT(here.available, 0);
  EXPECT_GE(here.total, here.available);
}

TEST_F(MachineMemoryTest, IsTheMachinesWithoutLimits) {
  EXPECT_EQ(memory().total, 1'024'000);
  EXPECT_EQ(memory().available, 716'800);
  write(proc_ / "self/cgroup", "0::/jobs/one\n");
  write(groups_ / "jobs/one/memory.max", "max\n");
  EXPECT_EQ(memory().total, 1'024'000);
  EXPECT_EQ(memory().available, 716'800);
}

TEST_F(MachineMemoryTest, TheLowestLimitOnTheWayUpCounts) {
  write(proc_ / "self/cgroup", "0::/jobs/one\n");
  write(groups_ / "jobs/one/memory.max", "600000\n");
  write(groups_ / "jobs/one/memory.current", "100000\n");
  EXPECT_EQ(memory().total, 600'000);
  EXPECT_EQ(memory().available, 500'000);
  write(groups_ / "jobs/memory.max", "400000\n");
  write(groups_ / "jobs/memory.current", "300000\n");
  EXPECT_EQ(memory().total, 400'000);
  EXPECT_EQ(memory().available, 100'000);
  write(groups_ / "jobs/memory.stat", "anon 1\ninactive_file 50000\nactive_file 30000\n");
  EXPECT_EQ(memory().available, 180'000) << "pages of files can be had";
  write(groups_ / "jobs/memory.current", "900000\n");
  EXPECT_EQ(memory().available, 0);
}

TEST_F(MachineMemoryTest, ReadsVersionOneToo) {
  write(proc_ / "self/cgroup", "9:name=systemd:/\n4:memory:/jobs\n1:cpu:/\n");
  write(groups_ / "memory/jobs/memory.limit_in_bytes", "600000\n");
  write(groups_ / "memory/jobs/memory.usage_in_bytes", "300000\n");
  write(groups_ / "memory/jobs/memory.stat", "inactive_file 7\ntotal_inactive_file 100000\n");
  EXPECT_EQ(memory().total, 600'000);
  EXPECT_EQ(memory().available, 400'000);
}

// A container sees its group's files at the root, whatever its path is called outside.
TEST_F(MachineMemoryTest, PathsThatAreNotSeenAreSkipped) {
  write(proc_ / "self/cgroup", "0::/outside/name\n");
  write(groups_ / "memory.max", "500000\n");
  write(groups_ / "memory.current", "200000\n");
  EXPECT_EQ(memory().total, 500'000);
  EXPECT_EQ(memory().available, 300'000);
}

}  // namespace
}  // namespace hadal
