#include "kernels/selftest.h"

#include <cstdlib>
#include <filesystem>
#include <set>

#include "kernels/attention.h"
#include "kernels/testing.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

TEST(SelftestTest, EveryKernelHasOneRowInTheOrderOfTheTable) {
  // Kernels is the family's name and then function pointers only.
  const size_t entry = sizeof(&check_kernels);
  size_t expected = offsetof(Kernels, gemm_workspace);
  for (const KernelCheck& check : kernel_checks()) {
    EXPECT_EQ(check.offset, expected) << check.name << ": a row is missing before it, or it is "
                                      << "not in its place; see selftest_checks.cpp";
    expected = check.offset + entry;
  }
  EXPECT_EQ(expected, sizeof(Kernels)) << "the last kernels have no row";
}

TEST(SelftestTest, NoEntryIsEmpty) {
  for_each_tested_family([](const Kernels& table, bool) {
    for (const KernelCheck& check : kernel_checks()) {
      void* entry = nullptr;
      std::memcpy(&entry, reinterpret_cast<const char*>(&table) + check.offset, sizeof entry);
      EXPECT_NE(entry, nullptr) << check.name;
    }
  });
}

TEST(SelftestTest, EveryKernelAgreesWithItsReference) {
  for_each_tested_family([](const Kernels& table, bool) {
    const Kernels* one[] = {&table};
    for (const KernelResult& result : check_kernels(one)) {
      EXPECT_TRUE(result.ok()) << result.kernel << " errs by " << result.worst
                               << " times what is allowed";
    }
  });
}

// A kernel that is slightly wrong is named. A table of wrong kernels: each is another one's
// function of the same type, or right but for one element.
TEST(SelftestTest, NamesTheKernelThatDisagrees) {
  Kernels broken = kScalarKernels;
  broken.add_row = [](const float* x, float* y, int64_t n) noexcept {
    kScalarKernels.add_row(x, y, n - (n == 67 ? 1 : 0));  // forgets the last of 67
  };
  broken.swiglu_row = [](const float* gate, const float* up, float* y, int64_t n) noexcept {
    kScalarKernels.swiglu_row(gate, up, y, n);
    for (int64_t i = 0; i < n; ++i) y[i] *= 1.0001f;
  };
  broken.gemm = [](const Gemm& g, void* workspace) noexcept {
    Gemm rounded = g;
    rounded.bf16_arithmetic = true;
    kScalarKernels.gemm(rounded, workspace);
  };
  broken.row_max = [](const float*, int64_t) noexcept { return NAN; };
  broken.rope_halves = kScalarKernels.rope_adjacent;
  broken.attention_gradient = [](const AttentionGradient& task, float* workspace) noexcept {
    AttentionGradient bare = task;
    bare.dims.scale *= 1.001f;
    kScalarKernels.attention_gradient(bare, workspace);
  };
  const std::set<std::string_view> expected{"add_row",        "swiglu_row",  "gemm",
                                            "gemm_workspace",  // one check for both
                                            "row_max",        "rope_halves", "attention_gradient"};
  std::set<std::string_view> named;
  SelftestReport report;
  const Kernels* tables[] = {&broken};
  report.kernels = check_kernels(tables);
  for (const KernelResult& result : report.kernels) {
    if (!result.ok()) named.insert(result.kernel);
  }
  EXPECT_EQ(named, expected);
  ASSERT_NE(report.failure(), nullptr);
  EXPECT_EQ(report.failure()->kernel, "gemm_workspace");
  EXPECT_EQ(report.failure()->family, "scalar");
}

TEST(SelftestTest, ReportsFamiliesAndRoofs) {
  const SelftestReport report =
      selftest({.read_bytes = 1 << 20, .repeats = 1, .seconds_of_arithmetic = 0.001});
  EXPECT_EQ(report.failure(), nullptr);
  EXPECT_EQ(report.built.size(), built_families().size());
  EXPECT_EQ(report.usable.size(), available_kernels().size());
  EXPECT_EQ(report.usable[0], "scalar");
  EXPECT_EQ(report.chosen, kernels().family);
  EXPECT_EQ(report.kernels.size(), report.usable.size() * kernel_checks().size());
  EXPECT_EQ(report.threads, num_threads());
  ASSERT_EQ(report.roofs.reads.size(), 4u);
  for (const ReadRate& read : report.roofs.reads) {
    EXPECT_GT(read.gigabytes_per_second.one_thread, 0);
    EXPECT_LE(read.gigabytes_per_second.all_threads, report.roofs.read_gb_per_s.all_threads);
  }
  for (const Rate& rate :
       {report.roofs.fp32_gflops, report.roofs.bf16_gflops, report.roofs.int8_gops}) {
    EXPECT_GT(rate.one_thread, 0);  // however slow: a thousandth of a second, perhaps emulated
    EXPECT_GT(rate.all_threads, 0);
    EXPECT_LT(rate.one_thread, 5'000) << "no core computes so fast: the arithmetic was not done";
  }
}

TEST(DispatchTest, TablesComeFromScalarToTheBest) {
  const auto tables = available_kernels();
  const auto built = built_families();
  ASSERT_FALSE(tables.empty());
  EXPECT_EQ(tables[0], &kScalarKernels);
  for (size_t i = 0; i < tables.size(); ++i) EXPECT_EQ(tables[i]->family, built[i]);
}

// Not under qemu-user, where the kernel is not told how to run what is emulated.
bool can_start_itself() {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string command = "'" + program + "' --gtest_list_tests >/dev/null 2>&1";
  return std::system(command.c_str()) == 0;
}

// The choice is made once a process, so each is made in a child.
TEST(DispatchTest, EnvironmentForcesAFamily) {
  if (!can_start_itself()) GTEST_SKIP() << "a child of this program cannot be started";
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const auto choose = [](const char* isa) {
    ::setenv("HADAL_ISA", isa, 1);
    try {
      std::fprintf(stderr, "chose %s", kernels().family);
    } catch (const Error& e) {
      std::fprintf(stderr, "%s", e.what());
      std::exit(e.kind() == ErrorKind::kUsage ? 3 : 4);
    }
    std::exit(0);
  };
  EXPECT_EXIT(choose("scalar"), testing::ExitedWithCode(0), "chose scalar");
  EXPECT_EXIT(choose("nonsense"), testing::ExitedWithCode(3),
              "HADAL_ISA=nonsense is no kernel family; this CPU runs scalar");
  for (std::string_view built : built_families().subspan(available_kernels().size())) {
    EXPECT_EXIT(choose(std::string(built).c_str()), testing::ExitedWithCode(3),
                "this CPU cannot run it");
  }
}

TEST(DispatchTest, AScopePutsTheTableBack) {
  const Kernels* before = &kernels();
  {
    const ScopedKernels scope(kScalarKernels);
    EXPECT_EQ(&kernels(), &kScalarKernels);
  }
  EXPECT_EQ(&kernels(), before);
}

}  // namespace
}  // namespace hadal
