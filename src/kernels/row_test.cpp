// Kernels on rows of every length about the vector's, in every family and over the emulated Vec.
// What they compute is tested with the operations that use them.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string_view>

#include "core/rng.h"
#include "kernels/testing.h"

namespace hadal {
namespace {

// n random numbers after one of another row (so none is aligned), then a sentinel.
struct Row {
  std::vector<float> memory;
  int64_t n;
  Row(int64_t length, uint64_t stream, float scale = 1)
      : memory(size_t(length) + 2, 77), n(length) {
    Rng rng(5, stream);
    for (int64_t i = 0; i < n; ++i) data()[i] = scale * float(rng.normal());
  }
  float* data() { return memory.data() + 1; }
  bool sentinels_stand() const { return memory.front() == 77 && memory.back() == 77; }
};

// All that the row kernels make of one set of rows of n numbers; fails when one writes elsewhere.
std::vector<float> outputs(const Kernels& k, int64_t n) {
  Row a(n, 1), b(n, 2), c(n, 3), big(n, 4, 30), y(n, 5), z(n, 6), u(n, 7), two(2, 8);
  Row heads(5 * n, 9), cos(n, 10), sin(n, 11);  // 2 heads of 2n numbers, n apart
  std::vector<float> out{k.dot(a.data(), b.data(), n), k.row_max(a.data(), n)};
  const auto take = [&](Row& row) {
    EXPECT_TRUE(row.sentinels_stand());
    out.insert(out.end(), row.data(), row.data() + row.n);
  };
  out.push_back(k.exp_row(big.data(), 50, y.data(), n));
  take(y);
  k.sigmoid_row(big.data(), y.data(), n);
  take(y);
  k.scale_row(1.5f, y.data(), n);
  take(y);
  k.add_row(a.data(), y.data(), n);
  take(y);
  k.add_scaled_row(-2.5f, b.data(), y.data(), n);
  take(y);
  if (n > 0) {
    out.push_back(k.rmsnorm_row(a.data(), b.data(), 0.1f, y.data(), n));
    take(y);
    k.rmsnorm_backward_row(c.data(), a.data(), b.data(), 0.7f, y.data(), z.data(), n);
    take(y), take(z);
    k.layernorm_row(a.data(), b.data(), c.data(), 0.1f, y.data(), two.data(), n);
    take(y), take(two);
    k.layernorm_backward_row(c.data(), a.data(), b.data(), two.data(), y.data(), z.data(), u.data(),
                             n);
    take(y), take(z), take(u);
  }
  k.swiglu_row(big.data(), a.data(), y.data(), n);
  take(y);
  out.push_back(
      k.swiglu_backward_row(c.data(), 0.3f, big.data(), a.data(), y.data(), z.data(), u.data(), n));
  take(y), take(z), take(u);
  k.gelu_row(a.data(), y.data(), n);
  take(y);
  k.gelu_backward_row(c.data(), a.data(), y.data(), n);
  take(y);
  Row w(n, 12), m(n, 13), v(n, 14), mean(n, 15);
  for (int64_t i = 0; i < n; ++i) v.data()[i] *= v.data()[i];
  k.adamw_row({.scale = 0.5f, .step = 0.1f, .decay = 0.01f}, a.data(), w.data(), m.data(), v.data(),
              n);
  take(w), take(m), take(v);
  k.average_row(0.25f, a.data(), mean.data(), n);
  take(mean);
  k.rope_adjacent(heads.data(), cos.data(), sin.data(), -1, n, 2, 3 * n);
  take(heads);
  k.rope_halves(heads.data(), cos.data(), sin.data(), 1, n, 2, 3 * n);
  take(heads);
  return out;
}

TEST(RowKernels, AgreeInEveryFamily) {
  for_each_tested_family([](const Kernels& k, bool) {
    for (int64_t n = 0; n <= 150; n += n < 70 ? 1 : 16) {
      const std::vector<float> want = outputs(kScalarKernels, n), got = outputs(k, n);
      ASSERT_EQ(got.size(), want.size());
      for (size_t i = 0; i < want.size(); ++i) {
        if (std::isinf(want[i])) {  // the largest of nothing
          EXPECT_EQ(got[i], want[i]);
        } else {
          EXPECT_NEAR(got[i], want[i], 2e-5 * (1 + std::abs(want[i]))) << n << " at " << i;
        }
      }
    }
  });
}

// Where this CPU has AVX-512, its results are the emulation's, bit for bit.
TEST(RowKernels, EmulationIsExact) {
  for (const TestedFamily& emulated : tested_families()) {
    if (!emulated.emulated) continue;
    bool found = false;
    for (const Kernels* native : available_kernels()) {
      if (std::string_view(native->family) != emulated.table->family) continue;
      found = true;
      for (int64_t n : {1, 15, 16, 17, 64, 100, 257}) {
        EXPECT_EQ(outputs(*native, n), outputs(*emulated.table, n)) << native->family << ", " << n;
      }
    }
    if (!found) GTEST_SKIP() << "skipped: this CPU has no " << emulated.table->family;
  }
}

TEST(RowKernels, SumsAreTheDefinition) {
  for_each_tested_family([](const Kernels& k, bool) {
    for (int64_t n : {0, 1, 2, 15, 16, 17, 63, 64, 65, 100, 1000}) {
      Row a(n, 1), b(n, 2), y(n, 3);
      double dot = 0, exp_sum = 0;
      float largest = -std::numeric_limits<float>::infinity();
      for (int64_t i = 0; i < n; ++i) {
        dot += double(a.data()[i]) * b.data()[i];
        exp_sum += std::exp(double(a.data()[i]) - 0.5);
        largest = std::max(largest, a.data()[i]);
      }
      EXPECT_NEAR(k.dot(a.data(), b.data(), n), dot, 1e-6 * double(n + 1)) << n;
      EXPECT_EQ(k.row_max(a.data(), n), largest) << n;
      EXPECT_NEAR(k.exp_row(a.data(), 0.5f, y.data(), n), exp_sum, 1e-6 * (1 + exp_sum)) << n;
      for (int64_t i = 0; i < n; ++i) {
        EXPECT_NEAR(y.data()[i], std::exp(double(a.data()[i]) - 0.5), 1e-6 * y.data()[i]) << n;
      }
    }
  });
}

TEST(RowKernels, NanIsPassedOverByMaxAndKeptByExp) {
  for_each_tested_family([](const Kernels& k, bool) {
    for (int64_t n : {1, 16, 40, 100}) {
      for (int64_t at = 0; at < n; at += 7) {
        Row a(n, 1), y(n, 2);
        for (int64_t i = 0; i < n; ++i) a.data()[i] = -5 - float(i);
        const float want = at > 0 ? -5 : n > 1 ? -6 : -std::numeric_limits<float>::infinity();
        a.data()[at] = NAN;
        EXPECT_EQ(k.row_max(a.data(), n), want);
        EXPECT_TRUE(std::isnan(k.exp_row(a.data(), 0, y.data(), n)));
      }
    }
  });
}

}  // namespace
}  // namespace hadal
