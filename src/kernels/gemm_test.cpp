#include <algorithm>
#include <bit>
#include <limits>
#include <string_view>

#include "core/dtype.h"
#include "kernels/testing.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr uint32_t kNanCanary = 0x7fc0ca11;  // a NaN: whoever reads it spoils the result

struct GemmCase {
  GemmOp op;
  int64_t m, n, k;
  bool a_bf16 = false, b_bf16 = false, bf16_arithmetic = false, gather = false;
  std::string name() const {
    return str(op == GemmOp::kNT   ? "NT "
               : op == GemmOp::kNN ? "NN "
                                   : "TN ",
               m, "x", n, "x", k, a_bf16 ? " A bf16" : "", b_bf16 ? " B bf16" : "",
               bf16_arithmetic ? " bf16 arithmetic" : "", gather ? " gathered" : "");
  }
};

// A stored matrix with strided rows, in either type, and the list that picks its rows.
struct StoredMatrix {
  std::vector<float> f;
  std::vector<bf16> h;
  std::vector<int32_t> rows;
  int64_t stride;
  bool is_bf16;

  StoredMatrix(int64_t n_rows, int64_t n_cols, bool in_bf16, bool gather, uint64_t stream)
      : stride(n_cols + 3), is_bf16(in_bf16) {
    Rng rng(7, stream);
    const int64_t stored_rows = gather ? n_rows + 5 : n_rows;
    f.assign(size_t(stored_rows * stride), std::bit_cast<float>(kNanCanary));
    for (int64_t i = 0; i < stored_rows; ++i) {
      for (int64_t j = 0; j < n_cols; ++j) {
        const float x = float(rng.normal());
        f[size_t(i * stride + j)] = in_bf16 ? to_float(to_bf16(x)) : x;
      }
    }
    h.resize(f.size());
    for (size_t i = 0; i < f.size(); ++i) h[i] = to_bf16(f[i]);
    for (int64_t i = 0; gather && i < n_rows; ++i) rows.push_back(int32_t(rng.below(stored_rows)));
  }
  GemmOperand operand() const {
    return {is_bf16 ? static_cast<const void*>(h.data()) : f.data(), stride, is_bf16,
            rows.empty() ? nullptr : rows.data()};
  }
  float& at(int64_t i, int64_t j) {
    return f[size_t((rows.empty() ? i : rows[size_t(i)]) * stride + j)];
  }
  void set(int64_t i, int64_t j, float x) {
    at(i, j) = x;
    h[size_t(&at(i, j) - f.data())] = to_bf16(x);
  }
};

struct GemmProblem {
  GemmCase c;
  StoredMatrix a, b;
  explicit GemmProblem(const GemmCase& which)
      : c(which),
        a(c.op == GemmOp::kTN ? c.k : c.m, c.op == GemmOp::kTN ? c.m : c.k, c.a_bf16, c.gather, 1),
        b(c.op == GemmOp::kNT ? c.n : c.k, c.op == GemmOp::kNT ? c.k : c.n, c.b_bf16, c.gather, 2) {
  }
  float a_at(int64_t i, int64_t p) { return c.op == GemmOp::kTN ? a.at(p, i) : a.at(i, p); }
  float b_at(int64_t p, int64_t j) { return c.op == GemmOp::kNT ? b.at(j, p) : b.at(p, j); }
  Gemm gemm(int64_t i0, int64_t i1, int64_t j0, int64_t j1) const {
    Gemm g{.op = c.op, .m = i1 - i0, .n = j1 - j0, .k = c.k, .a = a.operand(), .b = b.operand()};
    g.bf16_arithmetic = c.bf16_arithmetic;
    shift(g.a, c.op != GemmOp::kTN, i0);
    shift(g.b, c.op == GemmOp::kNT, j0);
    return g;
  }
  static void shift(GemmOperand& x, bool by_rows, int64_t n) {
    if (by_rows && x.rows != nullptr) {
      x.rows += n;
    } else {
      x.data = static_cast<const char*>(x.data) + n * (by_rows ? x.stride : 1) * (x.bf16 ? 2 : 4);
    }
  }
};

// C of a block, whose neighbours in memory must stay untouched, as must all around the workspace.
Matrix run(const Kernels& table, Gemm g, const Matrix* start = nullptr) {
  const int64_t gap = 5, bytes = table.gemm_workspace(g);
  EXPECT_EQ(bytes % 64, 0);
  Tensor<uint32_t, 1> workspace({bytes / 4 + 16});
  std::fill_n(workspace.data(), workspace.size(), kNanCanary);
  Matrix c({g.m, g.n + gap});
  std::fill_n(reinterpret_cast<uint32_t*>(c.data()), c.size(), kNanCanary);
  for (int64_t i = 0; start != nullptr && i < g.m; ++i) std::copy_n(start->row(i), g.n, c.row(i));
  g.accumulate = start != nullptr;
  g.c = c.data();
  g.c_stride = g.n + gap;
  table.gemm(g, workspace.data());
  for (int64_t i = 0; i < 16; ++i) EXPECT_EQ(workspace.data()[bytes / 4 + i], kNanCanary);
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = g.n; j < g.n + gap; ++j) {
      EXPECT_EQ(std::bit_cast<uint32_t>(c.row(i)[j]), kNanCanary) << "written beside C";
    }
  }
  return clone(In2(c).cols(0, g.n));
}

// |c - exact| <= (k + 2) / 2^24 * sum |a b|: no order of summation does worse in FP32.
void expect_close(GemmProblem& p, const Matrix& c, const Matrix* start = nullptr) {
  const auto used = [&](float x) { return double(p.c.bf16_arithmetic ? to_float(to_bf16(x)) : x); };
  for (int64_t i = 0; i < p.c.m; ++i) {
    for (int64_t j = 0; j < p.c.n; ++j) {
      double want = start == nullptr ? 0 : start->row(i)[j], size = std::abs(want);
      for (int64_t q = 0; q < p.c.k; ++q) {
        const double product = used(p.a_at(i, q)) * used(p.b_at(q, j));
        want += product;
        size += std::abs(product);
      }
      const double bound = 0x1p-24 * double(p.c.k + 2) * size;
      ASSERT_LE(std::abs(c.row(i)[j] - want), bound)
          << "c[" << i << ", " << j << "] of " << p.c.name();
    }
  }
}

std::vector<GemmCase> variants(GemmOp op, int64_t m, int64_t n, int64_t k) {
  std::vector<GemmCase> all;
  for (int i = 0; i < 16; ++i) {
    all.push_back({op, m, n, k, (i & 1) != 0, (i & 2) != 0, (i & 4) != 0, (i & 8) != 0});
  }
  return all;
}

constexpr GemmOp kOps[] = {GemmOp::kNT, GemmOp::kNN, GemmOp::kTN};
constexpr int64_t kSizes[] = {1, 3, 7, 15, 16, 17, 64, 100, 257};

TEST(GemmTest, AgreesWithDoubleReference) {
  for_each_tested_family([](const Kernels& table, bool emulated) {
    Rng rng(3);
    const auto pick = [&] { return kSizes[rng.below(std::size(kSizes))]; };
    for (GemmOp op : kOps) {
      for (const GemmCase& c : variants(op, 0, 0, 0)) {
        for (int repeat = 0; repeat < (emulated ? 2 : 8); ++repeat) {
          GemmCase sized = c;
          sized.m = pick(), sized.n = pick(), sized.k = pick();
          if (sized.m * sized.n * sized.k > (emulated ? 300'000 : 2'000'000)) continue;
          GemmProblem p(sized);
          expect_close(p, run(table, p.gemm(0, sized.m, 0, sized.n)));
          if (testing::Test::HasFatalFailure()) return;
        }
      }
    }
  });
}

TEST(GemmTest, AgreesBeyondEveryBlockSize) {
  for_each_tested_family([](const Kernels& table, bool emulated) {
    const int64_t big = emulated ? 2 : 9;
    const GemmCase cases[] = {
        {GemmOp::kNT, 1700, big, 3},          {GemmOp::kNN, big, 1100, 5},
        {GemmOp::kTN, big, 3, 1100},          {GemmOp::kNN, 1700, 530, 2},
        {GemmOp::kNT, big, 2, 1030, 0, 0, 1}, {GemmOp::kTN, 1, big, 1030, 1, 1, 1}};
    for (const GemmCase& c : cases) {
      GemmProblem p(c);
      expect_close(p, run(table, p.gemm(0, c.m, 0, c.n)));
      if (testing::Test::HasFatalFailure()) return;
    }
  });
}

TEST(GemmTest, AccumulatesOntoC) {
  for_each_tested_family([](const Kernels& table, bool) {
    for (GemmOp op : kOps) {
      for (int64_t k : {0, 1, 40, 300}) {
        GemmProblem p({op, 19, 37, k, false, true});
        const Gemm g = p.gemm(0, 19, 0, 37);
        const Matrix start = random_matrix(19, 37, 9), sum = run(table, g, &start);
        expect_close(p, sum, &start);
        if (k > 256) continue;  // one block of k: exactly start + product
        const Matrix product = run(table, g);
        for (int64_t i = 0; i < sum.size(); ++i) {
          ASSERT_EQ(sum.data()[i], start.data()[i] + product.data()[i]);
        }
      }
    }
  });
}

TEST(GemmTest, NothingToSumIsZeroOrUnchanged) {
  for_each_tested_family([](const Kernels& table, bool) {
    GemmProblem p({GemmOp::kNT, 5, 6, 0});
    EXPECT_TRUE(same_bits(run(table, p.gemm(0, 5, 0, 6)), filled(5, 6, 0)));
    const Matrix start = random_matrix(5, 6, 1);
    EXPECT_TRUE(same_bits(run(table, p.gemm(0, 5, 0, 6), &start), start));
    GemmProblem empty({GemmOp::kNT, 0, 0, 4});
    run(table, empty.gemm(0, 0, 0, 0));
  });
}

TEST(GemmTest, EveryBlockOfCHasTheSameBits) {
  for_each_tested_family([](const Kernels& table, bool emulated) {
    Rng rng(5);
    for (GemmOp op : kOps) {
      for (bool in_bf16 : {false, true}) {
        const int64_t m = 43, n = emulated ? 70 : 600, k = emulated ? 70 : 601;
        GemmProblem p({op, m, n, k, in_bf16, false, in_bf16, true});
        const Matrix whole = run(table, p.gemm(0, m, 0, n));
        for (int repeat = 0; repeat < 12; ++repeat) {
          const int64_t i0 = rng.below(m), i1 = i0 + 1 + rng.below(m - i0);
          const int64_t j0 = rng.below(n), j1 = j0 + 1 + rng.below(n - j0);
          const Matrix block = run(table, p.gemm(i0, i1, j0, j1));
          ASSERT_TRUE(same_bits(block, In2(whole).rows(i0, i1).cols(j0, j1)))
              << p.c.name() << " rows " << i0 << ".." << i1 << " columns " << j0 << ".." << j1;
        }
      }
    }
  });
}

// From here on they are many in every family.
constexpr int64_t kManyRows = 260;

// Families with dots of BF16 take few rows of x on a way of their own: ends of its tiles and
// blocks.
TEST(GemmTest, FewRowsHaveTheBitsOfMany) {
  const auto check = [](const Kernels& table, const GemmCase& c,
                        std::initializer_list<int64_t> few) {
    GemmProblem p(c);
    const Matrix start = random_matrix(c.m, c.n, 4);
    const Matrix whole = run(table, p.gemm(0, c.m, 0, c.n));
    const Matrix sum = run(table, p.gemm(0, c.m, 0, c.n), &start);
    for (const int64_t rows : few) {
      const int64_t i0 = rows % 7, i1 = i0 + rows, j0 = rows % 3, j1 = c.n - rows % 20;
      const Gemm g = p.gemm(i0, i1, j0, j1);
      ASSERT_TRUE(same_bits(run(table, g), In2(whole).rows(i0, i1).cols(j0, j1)))
          << c.name() << " " << rows << " rows";
      const Matrix part = clone(In2(start).rows(i0, i1).cols(j0, j1));
      ASSERT_TRUE(same_bits(run(table, g, &part), In2(sum).rows(i0, i1).cols(j0, j1)))
          << c.name() << " " << rows << " rows onto C";
    }
  };
  for_each_tested_family([&](const Kernels& table, bool emulated) {
    // Without dots of BF16 few rows take no path of their own, and emulated ones are slow.
    const bool dots = std::string_view(table.family) == "avx512_bf16";
    const int64_t most_k = !dots ? 3 : emulated ? 77 : 2100;
    for (const int64_t k : {3, 77, 520, 2100}) {
      for (const GemmCase& c : variants(GemmOp::kNT, kManyRows, 43, k)) {
        if (!c.bf16_arithmetic || k > most_k || (c.gather && k > (emulated ? 3 : 77))) continue;
        check(table, c, {1, 8, 15, 16, 17, 33, 41, 64, 73, 100, 105, 128});
      }
    }
    check(table, {GemmOp::kNT, kManyRows, 700, 9, true, true, true}, {129, 140, 170});
  });
}

// Also: zeros that pad a block never meet an infinity.
TEST(GemmTest, NanAndInfinityStayInTheirRowAndColumn) {
  for_each_tested_family([](const Kernels& table, bool) {
    for (GemmOp op : kOps) {
      for (const GemmCase& c : variants(op, 17, 35, 21)) {
        if (c.gather) continue;  // a row listed twice would spread them
        GemmProblem p(c);
        const Matrix clean = run(table, p.gemm(0, c.m, 0, c.n));
        op == GemmOp::kTN ? p.a.set(20, 16, kNan) : p.a.set(16, 20, kNan);
        op == GemmOp::kNT ? p.b.set(34, 20, kInf) : p.b.set(20, 34, kInf);
        const Matrix dirty = run(table, p.gemm(0, c.m, 0, c.n));
        for (int64_t i = 0; i < c.m; ++i) {
          for (int64_t j = 0; j < c.n; ++j) {
            const float got = dirty.row(i)[j];
            if (i == 16) {
              ASSERT_TRUE(std::isnan(got)) << c.name() << " [" << i << ", " << j << "] " << got;
            } else if (j == 34) {
              ASSERT_TRUE(std::isinf(got)) << c.name() << " [" << i << ", " << j << "] " << got;
            } else {
              ASSERT_EQ(got, clean.row(i)[j]) << c.name() << " [" << i << ", " << j << "]";
            }
          }
        }
      }
    }
  });
}

TEST(GemmTest, EmulatedFamiliesHaveTheBitsOfTheRealOnes) {
  int compared = 0;
  for (const Kernels* real : available_kernels()) {
    const std::string_view family = real->family;
    const bool bf16_dot = family == "avx512_bf16";
    if (family != "avx512" && !bf16_dot) continue;
    const Kernels& emulated = bf16_dot ? kAvx512Bf16EmulatedKernels : kAvx512EmulatedKernels;
    for (GemmOp op : kOps) {
      for (const int64_t m : {int64_t{17}, kManyRows}) {
        for (const GemmCase& c : variants(op, m, 35, m == 17 ? 530 : 10)) {
          GemmProblem p(c);
          p.a.set(3, 3, 1e-39f);
          p.b.set(5, 5, 3e38f);
          ASSERT_TRUE(
              same_bits(run(*real, p.gemm(0, c.m, 0, c.n)), run(emulated, p.gemm(0, c.m, 0, c.n))))
              << real->family << " " << c.name();
          ++compared;
        }
      }
    }
  }
  if (compared == 0) GTEST_SKIP() << "this CPU has no AVX-512: emulated only";
}

}  // namespace
}  // namespace hadal
