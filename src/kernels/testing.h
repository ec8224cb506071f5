// For tests of kernels: every table there is.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "kernels/kernels.h"

namespace hadal {

// 512-bit bodies over the emulated Vec: they run anywhere. In kernels_tests only.
extern const Kernels kAvx512EmulatedKernels;
extern const Kernels kAvx512Bf16EmulatedKernels;

struct TestedFamily {
  const Kernels* table;
  bool emulated;
};

inline std::vector<TestedFamily> tested_families() {
  std::vector<TestedFamily> all;
  for (const Kernels* table : available_kernels()) all.push_back({table, false});
  all.push_back({&kAvx512EmulatedKernels, true});
  all.push_back({&kAvx512Bf16EmulatedKernels, true});
  return all;
}

// Runs fn(const Kernels&, bool emulated) for every family this CPU has and for the emulated ones;
// failures name the family.
template <class Fn>
void for_each_tested_family(Fn fn) {
  for (const TestedFamily& f : tested_families()) {
    SCOPED_TRACE(std::string("kernel family ") + f.table->family +
                 (f.emulated ? " (emulated)" : ""));
    fn(*f.table, f.emulated);
  }
}

}  // namespace hadal
