// The emulated 512-bit Vec against what AVX-512 hardware gave: tools/record_vectors.sh.
#define HADAL_EMULATED 1
#define HADAL_EMULATED_BF16 1
#include "kernels/vec.h"

#include <bit>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "kernels/testing.h"
#include "kernels/vec_probes.h"
#include "tests/support/testing.h"

namespace {

using Recorded = std::map<std::string, std::vector<std::vector<uint32_t>>>;

Recorded recorded_vectors() {
  std::ifstream file(hadal::source_dir() / "src/kernels/testdata/vec_avx512.txt");
  Recorded all;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("#")) continue;
    std::istringstream in(line);
    std::string name;
    in >> name >> std::hex;
    std::vector<uint32_t> lanes;
    for (uint32_t bits; in >> bits;) lanes.push_back(bits);
    all[name].push_back(lanes);
  }
  return all;
}

bool is_nan(uint32_t bits) {
  return (bits & 0x7fffffffu) > 0x7f800000u;
}
// Which NaN comes out of two depends on the order of a compiler's operands.
bool makes_nans(const std::string& name) {
  static const std::set<std::string> kArithmetic{
      "add",  "add_halves", "sub",  "mul",  "div",     "fma", "fma_cancels",
      "sqrt", "scale_pow2", "vexp", "tanh", "sigmoid", "sum"};
  return kArithmetic.contains(name) || name.starts_with("dot_bf16");
}

TEST(VecEmulatedTest, GivesWhatHardwareGave) {
  Recorded recorded = recorded_vectors();
  for_each_probe([&](const std::string& name, auto run) {
    const auto& vectors = recorded[name];
    ASSERT_EQ(vectors.size(), size_t(kProbeVectors)) << name << ": run tools/record_vectors.sh";
    for (int i = 0; i < kProbeVectors; ++i) {
      Probe probe{uint64_t(i)};
      run(probe);
      ASSERT_EQ(vectors[size_t(i)].size(), 16u) << name;
      for (size_t lane = 0; lane < 16; ++lane) {
        const uint32_t got = std::bit_cast<uint32_t>(probe.out[lane]);
        const uint32_t want = vectors[size_t(i)][lane];
        EXPECT_TRUE(got == want || (makes_nans(name) && is_nan(got) && is_nan(want)))
            << name << " vector " << i << " lane " << lane << std::hex << ": got " << got
            << ", hardware " << want;
      }
    }
    recorded.erase(name);
  });
  for (const auto& [name, vectors] : recorded) ADD_FAILURE() << name << " is recorded, not probed";
}

// Not a test of ours: says which families the tests of this run executed, and how.
TEST(VecEmulatedTest, ReportsHowEveryFamilyRan) {
  std::map<std::string, std::string> how;
  for (std::string_view built : hadal::built_families()) how[std::string(built)] = "";
  for (const hadal::TestedFamily& f : hadal::tested_families()) {
    std::string& said = how[f.table->family];
    said += (said.empty() ? "run " : " and ") + std::string(f.emulated ? "emulated" : "natively");
  }
  for (const auto& [family, said] : how) {
    std::printf("kernel family %s: %s\n", family.c_str(), said.c_str());
    RecordProperty(family, said);
    EXPECT_TRUE(!said.empty() || family == "avx2") << family << " was not run at all";
    if (said.empty()) std::printf("kernel family %s: not run, this CPU lacks it\n", family.c_str());
  }
}

}  // namespace
