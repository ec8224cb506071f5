#include <algorithm>
#include <bit>
#include <limits>

#include "core/dtype.h"
#include "kernels/testing.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr float kGemvCanary = -77;

struct GemvProblem {
  int64_t n, k, rows;
  bool in_bf16;
  Matrix w, x;
  Tensor<bf16, 2> h;
  GemvProblem(int64_t n_rows, int64_t length, int64_t x_rows, bool bf)
      : n(n_rows),
        k(length),
        rows(x_rows),
        in_bf16(bf),
        w(random_matrix(n, k + 3, 1)),
        x(random_matrix(rows, k + 5, 2)),
        h({n, k + 3}) {
    for (int64_t i = 0; i < w.size(); ++i) {
      h.data()[i] = to_bf16(w.data()[i]);
      if (bf) w.data()[i] = to_float(h.data()[i]);
    }
    // Beside the rows lies what would spoil the result.
    const float nan = std::numeric_limits<float>::quiet_NaN();
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = k; j < k + 3; ++j) w.row(i)[j] = nan, h.row(i)[j] = to_bf16(nan);
    }
    for (int64_t r = 0; r < rows; ++r) std::fill_n(x.row(r) + k, 5, nan);
  }
};

// y of rows [r0, r1) of x and [i0, i1) of w, as [r1 - r0, i1 - i0].
Matrix run(const Kernels& table, const GemvProblem& p, int64_t i0, int64_t i1, int64_t r0,
           int64_t r1, const Matrix* start = nullptr) {
  Matrix y = filled(r1 - r0, i1 - i0 + 4, kGemvCanary);
  for (int64_t r = 0; start != nullptr && r < r1 - r0; ++r) {
    std::copy_n(start->row(r), i1 - i0, y.row(r));
  }
  const void* w = p.in_bf16 ? static_cast<const void*>(p.h.row(i0)) : p.w.row(i0);
  table.gemv(w, p.in_bf16 ? Stored::kBF16 : Stored::kF32, p.k + 3, i1 - i0, p.k, p.x.row(r0),
             p.k + 5, r1 - r0, y.data(), i1 - i0 + 4, start != nullptr);
  for (int64_t r = 0; r < r1 - r0; ++r) {
    for (int64_t i = i1 - i0; i < i1 - i0 + 4; ++i) EXPECT_EQ(y.row(r)[i], kGemvCanary);
  }
  return clone(In2(y).cols(0, i1 - i0));
}

TEST(GemvTest, AgreesWithDoubleReference) {
  for_each_tested_family([](const Kernels& table, bool emulated) {
    for (int64_t k : {0, 1, 3, 15, 16, 17, 31, 32, 33, 64, 100, 256, 257, 1000}) {
      for (int64_t n : {1, 2, 3, 5, 8, 17}) {
        for (int64_t rows : {1, 2, 3, 4, 5, 16, 19}) {
          if (emulated && k * n * rows > 50'000) continue;
          for (bool in_bf16 : {false, true}) {
            const GemvProblem p(n, k, rows, in_bf16);
            const Matrix start = random_matrix(rows, n, 3);
            const Matrix y = run(table, p, 0, n, 0, rows);
            const Matrix onto = run(table, p, 0, n, 0, rows, &start);
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t i = 0; i < n; ++i) {
                double want = 0, size = 0;
                for (int64_t j = 0; j < k; ++j) {
                  const double product = double(p.w.row(i)[j]) * p.x.row(r)[j];
                  want += product, size += std::abs(product);
                }
                ASSERT_LE(std::abs(y.row(r)[i] - want), 0x1p-24 * double(k + 4) * size)
                    << n << "x" << k << " row " << r << " of " << rows << ", " << i;
                ASSERT_EQ(onto.row(r)[i], start.row(r)[i] + y.row(r)[i]);
              }
            }
          }
        }
      }
    }
  });
}

TEST(GemvTest, ARowSeesNeitherTheOtherRowsNorTheOtherWeights) {
  for_each_tested_family([](const Kernels& table, bool) {
    for (bool in_bf16 : {false, true}) {
      const GemvProblem p(23, in_bf16 ? 119 : 4200, 16, in_bf16);
      const Matrix all = run(table, p, 0, 23, 0, 16);
      Rng rng(4);
      for (int repeat = 0; repeat < 40; ++repeat) {
        const int64_t i0 = rng.below(23), i1 = i0 + 1 + rng.below(23 - i0);
        const int64_t r0 = rng.below(16), r1 = r0 + 1 + rng.below(16 - r0);
        ASSERT_TRUE(same_bits(run(table, p, i0, i1, r0, r1), In2(all).rows(r0, r1).cols(i0, i1)))
            << i0 << ".." << i1 << " of w, " << r0 << ".." << r1 << " of x";
      }
    }
  });
}

TEST(GemvTest, NanStaysInItsRow) {
  for_each_tested_family([](const Kernels& table, bool) {
    GemvProblem p(9, 37, 6, false);
    const Matrix clean = run(table, p, 0, 9, 0, 6);
    p.x.row(4)[36] = std::numeric_limits<float>::quiet_NaN();
    p.w.row(8)[0] = std::numeric_limits<float>::infinity();
    const Matrix dirty = run(table, p, 0, 9, 0, 6);
    for (int64_t r = 0; r < 6; ++r) {
      for (int64_t i = 0; i < 9; ++i) {
        const float got = dirty.row(r)[i];
        if (r == 4) {
          EXPECT_TRUE(std::isnan(got));
        } else if (i == 8) {
          EXPECT_TRUE(std::isinf(got));
        } else {
          EXPECT_EQ(got, clean.row(r)[i]);
        }
      }
    }
  });
}

// y of rows [r0, r1) of x and columns [j0, j1) of w; x is as long as w has rows.
Matrix run_across(const Kernels& table, const GemvProblem& p, const Matrix& x, int64_t j0,
                  int64_t j1, int64_t r0, int64_t r1) {
  Matrix y = filled(r1 - r0, j1 - j0 + 4, kGemvCanary);
  const void* w = p.in_bf16 ? static_cast<const void*>(p.h.row(0) + j0) : p.w.row(0) + j0;
  table.gemv_across({w, p.in_bf16 ? Stored::kBF16 : Stored::kF32, p.k + 3, p.n, j1 - j0, x.row(r0),
                     x.dim(1), 0, r1 - r0, y.data(), j1 - j0 + 4});
  for (int64_t r = 0; r < r1 - r0; ++r) {
    for (int64_t j = j1 - j0; j < j1 - j0 + 4; ++j) EXPECT_EQ(y.row(r)[j], kGemvCanary);
  }
  return clone(In2(y).cols(0, j1 - j0));
}

TEST(GemvAcrossTest, AgreesWithDoubleReferenceWhateverSharesTheCall) {
  for_each_tested_family([](const Kernels& table, bool) {
    for (int64_t n : {0, 1, 2, 3, 4, 5, 8, 11}) {
      for (int64_t k : {1, 3, 15, 16, 17, 40}) {
        for (bool in_bf16 : {false, true}) {
          const GemvProblem p(n, k, 1, in_bf16);
          const Matrix x = random_matrix(5, n, 7);
          const Matrix all = run_across(table, p, x, 0, k, 0, 5);
          for (int64_t r = 0; r < 5; ++r) {
            for (int64_t j = 0; j < k; ++j) {
              double want = 0, size = 0;
              for (int64_t i = 0; i < n; ++i) {
                const double product = double(x.row(r)[i]) * p.w.row(i)[j];
                want += product, size += std::abs(product);
              }
              ASSERT_LE(std::abs(all.row(r)[j] - want), 0x1p-24 * double(n + 2) * size)
                  << n << "x" << k << " at " << r << ", " << j;
            }
          }
          ASSERT_TRUE(same_bits(run_across(table, p, x, k / 2, k, 2, 4),
                                In2(all).rows(2, 4).cols(k / 2, k)));
        }
      }
    }
  });
}

TEST(GemvAcrossTest, BlocksOfColumnsHaveTheirOwnRowsOfX) {
  for_each_tested_family([](const Kernels& table, bool) {
    for (int64_t k : {1, 6, 8}) {
      const int64_t n = 2 * kAcrossBlock + 9, rows = 2, blocks = 3;
      const Matrix w = random_matrix(k, n, 1), x = random_matrix(rows, blocks * k, 2);
      Matrix y({rows, n}), block({rows, n});
      table.gemv_across(
          {w.data(), Stored::kF32, n, k, n, x.data(), blocks * k, k, rows, y.data(), n});
      for (int64_t b = 0; b < blocks; ++b) {
        const int64_t j = b * kAcrossBlock;
        table.gemv_across({w.row(0) + j, Stored::kF32, n, k, std::min(kAcrossBlock, n - j),
                           x.row(0) + b * k, blocks * k, 0, rows, block.data() + j, n});
      }
      ASSERT_TRUE(same_bits(y, block)) << k;
    }
  });
}

TEST(GemvTest, EmulatedFamiliesHaveTheBitsOfTheRealOnes) {
  int compared = 0;
  for (const Kernels* real : available_kernels()) {
    const std::string_view family = real->family;
    const bool bf16_family = family == "avx512_bf16";
    if (family != "avx512" && !bf16_family) continue;
    for (bool in_bf16 : {false, true}) {
      const GemvProblem p(11, 203, 7, in_bf16);
      ASSERT_TRUE(same_bits(
          run(*real, p, 0, 11, 0, 7),
          run(bf16_family ? kAvx512Bf16EmulatedKernels : kAvx512EmulatedKernels, p, 0, 11, 0, 7)));
      ++compared;
    }
  }
  if (compared == 0) GTEST_SKIP() << "this CPU has no AVX-512: emulated only";
}

}  // namespace
}  // namespace hadal
