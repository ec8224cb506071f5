// Products with E4M3 and FP16 weights as they lie in a file: matrix-vector, and packed by gemm.
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/dtype.h"
#include "kernels/testing.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr float kFp8Canary = -77;

// Every code but NaN, in rows that are further apart than they are long.
struct Codes {
  int64_t rows, cols, stride, across;
  std::vector<uint8_t> codes;
  std::vector<float> scales;

  Codes(int64_t n, int64_t k, uint64_t stream)
      : rows(n),
        cols(k),
        stride(k + 3),
        across((k + 127) / 128),
        codes(size_t(n * stride), 0x7f),
        scales(size_t((n + 127) / 128 * across)) {
    Rng rng(7, stream);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < k; ++j) {
        uint8_t& code = codes[size_t(i * stride + j)];
        do code = static_cast<uint8_t>(rng.next_u64());
        while ((code & 0x7f) == 0x7f);
      }
    }
    for (float& s : scales) s = static_cast<float>(0.001 + 0.01 * rng.uniform());
  }
  float code(int64_t i, int64_t j) const { return to_float(e4m3{codes[size_t(i * stride + j)]}); }
  float number(int64_t i, int64_t j) const {
    return code(i, j) * scales[size_t(i / 128 * across + j / 128)];
  }
};

// y of rows [r0, r1) of x and [i0, i1) of w.
Matrix run(const Kernels& table, const Codes& w, const Matrix& x, int64_t i0, int64_t i1,
           int64_t r0, int64_t r1) {
  Matrix y = filled(r1 - r0, i1 - i0 + 4, kFp8Canary);
  Fp8Product p{
      w.codes.data() + i0 * w.stride, w.stride, i1 - i0, w.cols, w.scales.data(), w.across, i0};
  p.x = x.row(r0);
  p.x_stride = x.dim(1);
  p.rows = r1 - r0;
  p.y = y.data();
  p.y_stride = y.dim(1);
  std::vector<float> workspace(size_t(p.workspace() + 1), kFp8Canary);
  table.fp8_product(p, workspace.data());
  EXPECT_EQ(workspace.back(), kFp8Canary);
  for (int64_t r = 0; r < r1 - r0; ++r) {
    for (int64_t i = i1 - i0; i < i1 - i0 + 4; ++i) EXPECT_EQ(y.row(r)[i], kFp8Canary);
  }
  return clone(In2(y).cols(0, i1 - i0));
}

// Half a unit of BF16 where a family has dots of BF16: x times the scale is rounded to it.
double allowed(const Kernels& table, int64_t k) {
  const bool dots = std::string_view(table.family) == "avx512_bf16";
  return (dots ? 0x1p-8 : 0x1p-24) + 0x1p-24 * double(k + 6);
}

TEST(Fp8Product, AgreesWithDoubleReference) {
  for_each_tested_family([](const Kernels& table, bool emulated) {
    for (int64_t k : {0, 1, 3, 16, 31, 63, 64, 65, 128, 129, 200, 300, 1100}) {
      for (int64_t n : {1, 2, 5, 8, 131}) {
        for (int64_t rows : {1, 2, 3, 4, 7, 16, 19}) {
          if (k * n * rows > (emulated ? 20'000 : 400'000)) continue;
          const Codes w(n, k, uint64_t(k * n));
          const Matrix x = random_matrix(rows, k + 5, 2);
          const Matrix y = run(table, w, x, 0, n, 0, rows);
          for (int64_t r = 0; r < rows; ++r) {
            for (int64_t i = 0; i < n; ++i) {
              double want = 0, size = 0;
              for (int64_t j = 0; j < k; ++j) {
                const double product = double(w.number(i, j)) * double(x.row(r)[j]);
                want += product, size += std::abs(product);
              }
              ASSERT_LE(std::abs(y.row(r)[i] - want), allowed(table, k) * size + 1e-30)
                  << n << "x" << k << " row " << r << " of " << rows << ", " << i;
            }
          }
        }
      }
    }
  });
}

TEST(Fp8Product, ARowSeesNeitherTheOtherRowsNorTheOtherWeights) {
  for_each_tested_family([](const Kernels& table, bool emulated) {
    const int64_t n = 290, k = emulated ? 70 : 1100, rows = 18;
    const Codes w(n, k, 3);
    const Matrix x = random_matrix(rows, k, 4);
    const Matrix all = run(table, w, x, 0, n, 0, rows);
    Rng rng(4);
    for (int repeat = 0; repeat < 30; ++repeat) {
      const int64_t i0 = rng.below(n), i1 = i0 + 1 + rng.below(n - i0);
      const int64_t r0 = rng.below(rows), r1 = r0 + 1 + rng.below(rows - r0);
      ASSERT_TRUE(same_bits(run(table, w, x, i0, i1, r0, r1), In2(all).rows(r0, r1).cols(i0, i1)))
          << i0 << ".." << i1 << " of w, " << r0 << ".." << r1 << " of x";
    }
  });
}

// Large and small numbers of x and scales: codes are decoded too small where bits are moved.
TEST(Fp8Product, HasRoomForLargeAndSmallNumbers) {
  for_each_tested_family([](const Kernels& table, bool) {
    Codes w(3, 64, 5);
    Matrix x = random_matrix(1, 64, 6);
    for (const float size : {1e-12f, 1e12f}) {
      for (float& s : w.scales) s = size;
      for (const float of_x : {1e-6f, 1e6f}) {
        Matrix scaled({1, 64});
        for (int64_t j = 0; j < 64; ++j) scaled.row(0)[j] = of_x * x.row(0)[j];
        const Matrix y = run(table, w, scaled, 0, 3, 0, 1);
        for (int64_t i = 0; i < 3; ++i) {
          double want = 0, sum = 0;
          for (int64_t j = 0; j < 64; ++j) {
            const double product = double(w.number(i, j)) * double(scaled.row(0)[j]);
            want += product, sum += std::abs(product);
          }
          ASSERT_LE(std::abs(y.row(0)[i] - want), allowed(table, 64) * sum);
        }
      }
    }
  });
}

TEST(Fp8Product, NanStaysInItsRow) {
  for_each_tested_family([](const Kernels& table, bool) {
    const Codes w(6, 70, 8);
    Matrix x = random_matrix(5, 70, 9);
    const Matrix clean = run(table, w, x, 0, 6, 0, 5);
    x.row(3)[69] = std::numeric_limits<float>::quiet_NaN();
    const Matrix dirty = run(table, w, x, 0, 6, 0, 5);
    for (int64_t i = 0; i < 6; ++i) {
      EXPECT_TRUE(std::isnan(dirty.row(3)[i]));
      EXPECT_EQ(dirty.row(2)[i], clean.row(2)[i]);
      EXPECT_EQ(dirty.row(4)[i], clean.row(4)[i]);
    }
  });
}

TEST(Fp8Product, EmulatedFamiliesHaveTheBitsOfTheRealOnes) {
  int compared = 0;
  for (const Kernels* real : available_kernels()) {
    const std::string_view family = real->family;
    const bool dots = family == "avx512_bf16";
    if (family != "avx512" && !dots) continue;
    const Codes w(150, 203, 11);
    const Matrix x = random_matrix(7, 203, 12);
    EXPECT_TRUE(same_bits(
        run(*real, w, x, 0, 150, 0, 7),
        run(dots ? kAvx512Bf16EmulatedKernels : kAvx512EmulatedKernels, w, x, 0, 150, 0, 7)));
    ++compared;
  }
  if (compared == 0) GTEST_SKIP() << "this CPU has no AVX-512: emulated only";
}

// The same numbers in FP32: fp16 and codes are widened exactly, so the same bits come out.
TEST(StoredRows, FP16AndCodesGiveTheBitsOfTheSameFloats) {
  for_each_tested_family([](const Kernels& table, bool) {
    for (int64_t n : {1, 5, 9}) {
      for (int64_t k : {1, 17, 40, 131}) {
        const Codes w(n, k, uint64_t(n + k));
        Matrix h32({n, k}), c32({n, k});
        Tensor<fp16, 2> h({n, k});
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t j = 0; j < k; ++j) {
            h.row(i)[j] = to_fp16(j % 7 == 3 ? 1e-6f * w.code(i, j) : w.code(i, j));
            h32.row(i)[j] = to_float(h.row(i)[j]);
            c32.row(i)[j] = w.code(i, j);
          }
        }
        const Matrix x = random_matrix(3, std::max(n, k), 5);
        Matrix got({3, n}), want({3, n});
        table.gemv(h.data(), Stored::kF16, k, n, k, x.data(), x.dim(1), 3, got.data(), n, false);
        table.gemv(h32.data(), Stored::kF32, k, n, k, x.data(), x.dim(1), 3, want.data(), n, false);
        EXPECT_TRUE(same_bits(got, want)) << n << " x " << k;
        Matrix across({3, k}), across32({3, k});
        const auto compare = [&](const void* stored, Stored how, int64_t stride,
                                 const Matrix& floats) {
          table.gemv_across(
              {stored, how, stride, n, k, x.data(), x.dim(1), 0, 3, across.data(), k});
          table.gemv_across(
              {floats.data(), Stored::kF32, k, n, k, x.data(), x.dim(1), 0, 3, across32.data(), k});
          EXPECT_TRUE(same_bits(across, across32)) << n << " x " << k;
        };
        compare(h.data(), Stored::kF16, k, h32);
        compare(w.codes.data(), Stored::kE4M3, w.stride, c32);
      }
    }
  });
}

void multiply(const Kernels& table, Gemm g, Matrix& c) {
  g.c = c.data();
  g.c_stride = c.dim(1);
  const Buffer workspace(table.gemm_workspace(g));
  table.gemm(g, workspace.data());
}

TEST(StoredRows, GemmPacksTheBitsOfTheSameFloats) {
  for_each_tested_family([](const Kernels& table, bool emulated) {
    for (int64_t k : {1, 5, 64, 131, 300, 700}) {
      for (int64_t n : {1, 13, 33, 260}) {
        const int64_t m = emulated ? 3 : 17;
        if (emulated && n * k > 40'000) continue;
        const Codes w(n, k, uint64_t(n * k));
        Matrix h32({n, k}), c32({n, k});
        Tensor<fp16, 2> h({n, k});
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t j = 0; j < k; ++j) {
            h.row(i)[j] = to_fp16(w.number(i, j));
            h32.row(i)[j] = to_float(h.row(i)[j]);
            c32.row(i)[j] = w.number(i, j);
          }
        }
        const Matrix a = random_matrix(m, k, 5);
        for (const bool bf16_arithmetic : {false, true}) {
          Gemm g{.op = GemmOp::kNT, .m = m, .n = n, .k = k, .a = {a.data(), k}};
          g.bf16_arithmetic = bf16_arithmetic;
          const auto compare = [&](const GemmOperand& stored, const Matrix& floats) {
            Matrix got({m, n}), want({m, n});
            g.b = stored;
            multiply(table, g, got);
            g.b = {floats.data(), k};
            multiply(table, g, want);
            EXPECT_TRUE(same_bits(got, want)) << n << " x " << k << " " << bf16_arithmetic;
          };
          GemmOperand half{h.data(), k};
          half.fp16 = true;
          compare(half, h32);
          GemmOperand codes{w.codes.data(), w.stride};
          codes.codes = true;
          codes.scales = {w.scales.data(), w.across, 1, 128, 0};
          compare(codes, c32);
        }
      }
    }
  });
}

}  // namespace
}  // namespace hadal
