#include "cli/bench_rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include "kernels/selftest.h"

namespace hadal {
namespace {

// Weights in panels are multiplied as int8, whatever the precision.
bool in_int8(const Transformer& model) {
  const auto& all = model.params().all();
  return std::any_of(all.begin(), all.end(), [](const Param& p) { return p.block_bytes > 0; });
}

double roof_now(const Transformer& model, const BenchRow& row) {
  if (row.decoding()) return read_roof();
  const Kernels& k = kernels();
  if (in_int8(model)) return arithmetic_roof(k.peak_int8);
  return arithmetic_roof(row.work.precision == Precision::kFp32 ? k.peak_fp32 : k.peak_bf16);
}

void forget_peak() {
  std::ofstream("/proc/self/clear_refs") << 5;
}

}  // namespace

int64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return 1024 * std::atoll(line.c_str() + 6);
  }
  return 0;
}

void measure(Transformer& model, BenchRow& row) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    const double before = roof_now(model, row);
    forget_peak();
    row.time = row.decoding() ? time_decode(model, row.work) : time_prefill(model, row.work);
    row.peak_bytes = std::max(row.peak_bytes, peak_memory());
    const double after = roof_now(model, row);
    row.roof = std::max(before, after);
    row.unstable = std::abs(before - after) > 0.1 * row.roof;
    if (!row.unstable) break;
  }
}

OrderedJson row_json(const BenchRow& row) {
  return {{"phase", row.phase},
          {"depth", row.work.depth},
          {"batch", row.work.batch},
          {"synthetic_cache", row.work.depth > 0},
          {"tokens_per_s", row.time.tokens_per_s},
          {"bytes_per_token", row.time.bytes_per_token},
          {"flops_per_token", row.time.flops_per_token},
          {"share_of_roof", row.share()},
          {row.decoding() ? "roof_bytes_per_s" : "roof_flops_per_s", row.roof},
          {"peak_rss_bytes", row.peak_bytes},
          {"unstable", row.unstable}};
}

void print_head() {
  fmt::print("{:<8}{:>8}{:>7}{:>12}{:>12}{:>11}{:>12}\n", "phase", "depth", "batch", "tokens/s",
             "MB/token", "of roof", "memory MB");
}

void print_row(const BenchRow& row) {
  fmt::print("{:<8}{:>8}{:>7}{:>12.1f}{:>12.1f}{:>10.0f}%{:>12.0f}{}{}\n", row.phase,
             row.work.depth, row.work.batch, row.time.tokens_per_s, row.time.bytes_per_token / 1e6,
             100 * row.share(), double(row.peak_bytes) / 1e6,
             row.work.depth > 0 ? "  synthetic cache" : "", row.unstable ? "  unstable" : "");
  std::fflush(stdout);
}

}  // namespace hadal
