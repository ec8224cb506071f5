#include "kernels/selftest.h"

#include <algorithm>

#include "core/parallel.h"

namespace hadal {

std::vector<KernelResult> check_kernels(std::span<const Kernels* const> tables) {
  std::vector<KernelResult> results;
  for (const Kernels* table : tables) {
    for (const KernelCheck& check : kernel_checks()) {
      results.push_back({table->family, check.name, check.worst(*table)});
    }
  }
  return results;
}

const KernelResult* SelftestReport::failure() const {
  const auto it =
      std::find_if(kernels.begin(), kernels.end(), [](const KernelResult& r) { return !r.ok(); });
  return it == kernels.end() ? nullptr : &*it;
}

SelftestReport selftest(const RoofOptions& options) {
  SelftestReport report;
  const auto built = built_families();
  report.built.assign(built.begin(), built.end());
  for (const Kernels* table : available_kernels()) report.usable.emplace_back(table->family);
  report.chosen = kernels().family;
  report.kernels = check_kernels(available_kernels());
  report.threads = num_threads();
  report.roofs = measure_roofs(options);
  return report;
}

}  // namespace hadal
