// What the rows of selftest_*.cpp share.
#pragma once
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "core/rng.h"
#include "kernels/kernels.h"
#include "kernels/selftest.h"

namespace hadal::selftest_detail {

using Floats = std::vector<float>;
constexpr double kRounding = 0x1p-24;  // of one FP32 operation, relative
constexpr int64_t kLengths[] = {1, 3, 16, 17, 67, 200};

inline Floats numbers(int64_t n, uint64_t stream, double scale = 1) {
  Rng rng(2024, stream);
  Floats x(static_cast<size_t>(n));
  for (float& v : x) v = static_cast<float>(scale * rng.normal());
  return x;
}
inline std::vector<bf16> to_bf16_row(const Floats& x) {
  std::vector<bf16> h;
  for (float v : x) h.push_back(to_bf16(v));
  return h;
}

// Numbers as they are stored, and what they are then.
struct StoredNumbers {
  std::vector<uint8_t> bytes;
  Floats values;
};
inline StoredNumbers stored_numbers(const Floats& x, Stored stored) {
  StoredNumbers all;
  const auto put = [&](const auto& as_stored, float value) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&as_stored);
    all.bytes.insert(all.bytes.end(), bytes, bytes + sizeof as_stored);
    all.values.push_back(value);
  };
  for (float v : x) {
    if (stored == Stored::kF32) put(v, v);
    if (stored == Stored::kBF16) put(to_bf16(v), to_float(to_bf16(v)));
    if (stored == Stored::kF16) put(to_fp16(v), to_float(to_fp16(v)));
    if (stored == Stored::kE4M3) put(to_e4m3(v), to_float(to_e4m3(v)));
  }
  return all;
}

// The largest error as a share of what is allowed; infinite once something is not a number.
class Worst {
 public:
  void see(double got, double want, double allowed) {
    const double share = std::abs(got - want) / allowed;
    if (!(share <= worst_)) worst_ = std::isnan(share) ? INFINITY : share;
  }
  // For functions of a few operations: relative to the number, or to 1 when it is smaller.
  void see_close(double got, double want, double times = 1) {
    see(got, want, times * 5e-6 * (1 + std::abs(want)));
  }
  double value() const { return worst_; }

 private:
  double worst_ = 0;
};

template <class Fn>
double over_lengths(Fn fn) {
  Worst worst;
  for (int64_t n : kLengths) fn(n, numbers(n, 1), numbers(n, 2), worst);
  return worst.value();
}

// A row of kernel_checks(), in the order of Kernels.
#define HADAL_KERNEL_CHECK(entry, function)    \
  KernelCheck {                                \
#entry, offsetof(Kernels, entry), function \
  }

double check_fp8_codes(const Kernels& table);
double check_fp8_numbers(const Kernels& table);
double check_fp8_product(const Kernels& table);
double check_bf16_rows(const Kernels& table);
double check_e5m6(const Kernels& table);
double check_code_row(const Kernels& table);
double check_panel_product(const Kernels& table);
double check_attention_part(const Kernels& table);
double check_attention_few_part(const Kernels& table);
double check_attention_gradient(const Kernels& table);

}  // namespace hadal::selftest_detail
