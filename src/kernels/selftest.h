#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/kernels.h"

namespace hadal {

// ---- is every kernel right on this CPU?

// One kernel of the table against a double-precision reference, on a few shapes. `worst` returns
// the largest error it met as a share of what is allowed: more than 1 is wrong. A new entry of
// Kernels needs a row here (a test says so).
struct KernelCheck {
  const char* name;  // of the entry
  size_t offset;     // of the entry in Kernels
  double (*worst)(const Kernels& table);
};
std::span<const KernelCheck> kernel_checks();

struct KernelResult {
  std::string_view family, kernel;
  double worst = 0;
  bool ok() const { return worst <= 1; }
};
// Every check on every one of the tables.
std::vector<KernelResult> check_kernels(std::span<const Kernels* const> tables);

// ---- what can this machine do at most?

struct Rate {
  double one_thread = 0, all_threads = 0;
};
struct ReadRate {
  int64_t streams = 0;  // a thread
  Rate gigabytes_per_second;
};
// The best of several runs each. A roof is what the hardware allows, so the best is the measure;
// other load on the machine lowers it.
struct Roofs {
  std::vector<ReadRate> reads;  // DRAM, huge pages, 1, 2, 4 and 8 far streams a thread
  Rate read_gb_per_s;           // the best of these, each for itself
  Rate fp32_gflops, bf16_gflops, int8_gops;
};
struct RoofOptions {
  int64_t read_bytes = int64_t{256} << 20;  // much more than the caches hold
  int64_t repeats = 7;
  double seconds_of_arithmetic = 0.02;  // each run
};
// Operations per second of one kind of arithmetic (kernels().peak_fp32, ...) on num_threads()
// threads: the best of options.repeats runs.
double arithmetic_roof(double (*peak)(int64_t) noexcept, const RoofOptions& options = {});
// Bytes per second that num_threads() threads read, with the best number of streams for each.
double read_roof(const RoofOptions& options = {});
// For kernels() with 1 and with num_threads() threads. About two seconds.
Roofs measure_roofs(const RoofOptions& options = {});

// ---- `hadal selftest`

struct SelftestReport {
  std::vector<std::string_view> built, usable;
  std::string_view chosen;
  std::vector<KernelResult> kernels;
  int64_t threads = 0;
  Roofs roofs;
  // The first kernel that disagrees with its reference, or null.
  const KernelResult* failure() const;
};
SelftestReport selftest(const RoofOptions& options = {});

}  // namespace hadal
