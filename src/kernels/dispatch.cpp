#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.h"
#include "kernels/kernels.h"

namespace hadal {
namespace {

std::vector<const Kernels*> detect() {
  std::vector<const Kernels*> found{&kScalarKernels};
#if defined(__x86_64__)
  __builtin_cpu_init();
  // Each family's CPUs have what the families before it need (and every AVX2 CPU has F16C).
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return found;
  found.push_back(&kAvx2Kernels);
  if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq")) {
    return found;
  }
  found.push_back(&kAvx512Kernels);
  if (__builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni") &&
      __builtin_cpu_supports("avx512vbmi")) {
    found.push_back(&kAvx512Bf16Kernels);
  }
#endif
  return found;
}

const std::vector<const Kernels*>& usable() {
  static const std::vector<const Kernels*> tables = detect();
  return tables;
}

#if defined(__x86_64__)
constexpr std::array<std::string_view, 4> kBuilt{"scalar", "avx2", "avx512", "avx512_bf16"};
#else
constexpr std::array<std::string_view, 1> kBuilt{"scalar"};
#endif

const Kernels* choose() {
  const char* wanted = std::getenv("HADAL_ISA");
  if (wanted == nullptr) return usable().back();
  std::string names;
  for (const Kernels* table : usable()) {
    if (std::string_view(table->family) == wanted) return table;
    names += std::string(names.empty() ? "" : ", ") + table->family;
  }
  for (std::string_view built : kBuilt) {
    HADAL_CHECK(built != wanted, kUsage, "HADAL_ISA=", wanted, ": this CPU cannot run it; it runs ",
                names);
  }
  throw Error(ErrorKind::kUsage,
              str("HADAL_ISA=", wanted, " is no kernel family; this CPU runs ", names));
}

// Of ScopedKernels; null outside of any.
const Kernels*& forced() noexcept {
  static const Kernels* table = nullptr;
  return table;
}

}  // namespace

const Kernels& kernels() {
  if (forced() != nullptr) return *forced();
  static const Kernels* const chosen = choose();
  return *chosen;
}

bool has_bf16_dots() {
#if defined(__x86_64__)
  return &kernels() == &kAvx512Bf16Kernels;
#else
  return false;
#endif
}

std::span<const Kernels* const> available_kernels() {
  return usable();
}

std::span<const std::string_view> built_families() {
  return kBuilt;
}

ScopedKernels::ScopedKernels(const Kernels& table) : previous_(forced()) {
  forced() = &table;
}

ScopedKernels::~ScopedKernels() {
  forced() = previous_;
}

}  // namespace hadal
