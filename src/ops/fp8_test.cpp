#include "ops/fp8.h"

#include <algorithm>
#include <bit>
#include <limits>

#include "ops/linear.h"
#include "quant/fp8.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

// ---- the rules of FP8 products in plain loops: quantisation by the codec of checkpoints, sums in
// the order of kernels/gemm_fp8.inl.

constexpr int64_t kFp8Tile = 128;

struct Coded {
  int64_t rows, cols;
  BlockShape tile;
  std::vector<std::byte> codes;
  Matrix scales;

  Coded(In2 x, BlockShape shape) : rows(x.dim(0)), cols(x.dim(1)), tile(shape) {
    codes.resize(size_t(rows * cols));
    scales = Matrix({blocks(rows, tile.rows), blocks(cols, tile.cols)});
    encode_fp8(x, {codes.data(), scales, tile});
  }
  float value(int64_t r, int64_t c) const {
    return to_float(e4m3{std::to_integer<uint8_t>(codes[size_t(r * cols + c)])});
  }
  float scale(int64_t r, int64_t c) const { return scales.row(r / tile.rows)[c / tile.cols]; }
};

// c + sum over k of a(i, k) b(j, k), where `a_at(k)` gives {code's number, scale}.
template <class A, class B>
float product(int64_t k, float c, A a_at, B b_at) {
  for (int64_t t = 0; t < k; t += kFp8Tile) {
    float sum = 0;
    const int64_t end = std::min(k, t + kFp8Tile);
    for (int64_t p = t; p < end; p += 2) {
      if (p + 1 < end) sum += a_at(p + 1).first * b_at(p + 1).first;
      sum += a_at(p).first * b_at(p).first;
    }
    c += a_at(t).second * b_at(t).second * sum;
  }
  return c;
}

void plain_forward(In2 x, In2 w, Out2 y) {
  const Coded a(x, {1, 128}), b(w, {128, 128});
  for (int64_t i = 0; i < y.dim(0); ++i) {
    for (int64_t j = 0; j < y.dim(1); ++j) {
      y.row(i)[j] = product(
          x.dim(1), 0,
          [&](int64_t k) {
            return std::pair{a.value(i, k), a.scale(i, k)};
          },
          [&](int64_t k) {
            return std::pair{b.value(j, k), b.scale(j, k)};
          });
    }
  }
}

void plain_dx(In2 dy, In2 w, Out2 dx, bool blocks_of_dy) {
  const Coded a(dy, blocks_of_dy ? BlockShape{128, 128} : BlockShape{1, 128}), b(w, {128, 128});
  for (int64_t i = 0; i < dx.dim(0); ++i) {
    for (int64_t j = 0; j < dx.dim(1); ++j) {
      dx.row(i)[j] = product(
          dy.dim(1), dx.row(i)[j],
          [&](int64_t k) {
            return std::pair{a.value(i, k), a.scale(i, k)};
          },
          [&](int64_t k) {
            return std::pair{b.value(k, j), b.scale(k, j)};
          });
    }
  }
}

void plain_dw(In2 dy, In2 x, Out2 dw, bool blocks_of_dy) {
  const Coded a(dy, blocks_of_dy ? BlockShape{128, 128} : BlockShape{128, 1}), b(x, {128, 1});
  for (int64_t i = 0; i < dw.dim(0); ++i) {
    for (int64_t j = 0; j < dw.dim(1); ++j) {
      dw.row(i)[j] = product(
          dy.dim(0), dw.row(i)[j],
          [&](int64_t k) {
            return std::pair{a.value(k, i), a.scale(k, i)};
          },
          [&](int64_t k) {
            return std::pair{b.value(k, j), b.scale(k, j)};
          });
    }
  }
}

// Numbers of many sizes; some rows and columns are zero.
Matrix uneven_matrix(int64_t rows, int64_t cols, uint64_t stream) {
  Matrix x = random_matrix(rows, cols, stream);
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      x.row(r)[c] *= std::ldexp(1.0f, int(r % 11) - int(c % 13));
      if (r % 17 == 3 || c == 5 || (c < 128 && r % 5 == 1)) x.row(r)[c] = 0;
    }
  }
  return x;
}

struct Shape {
  int64_t t, n, k;
};
constexpr Shape kShapes[] = {{1, 1, 1}, {7, 5, 130}, {130, 129, 64}, {40, 200, 300}, {300, 33, 20}};

TEST(Fp8LinearTest, HasTheBitsOfThePlainRules) {
  for_each_family([] {
    for (const Shape& s : kShapes) {
      for (Precision precision : {Precision::kFp8, Precision::kFp8Blocks}) {
        const bool blocks_of_dy = precision == Precision::kFp8Blocks;
        const Matrix x = uneven_matrix(s.t, s.k, 1), w = uneven_matrix(s.n, s.k, 2);
        const Matrix dy = uneven_matrix(s.t, s.n, 3);
        Matrix y = filled(s.t, s.n, 7), want_y = filled(s.t, s.n, 0);
        linear(x, w.view(), {}, y, precision);
        plain_forward(x, w, want_y);
        ASSERT_TRUE(same_bits(y, want_y)) << s.t << " " << s.n << " " << s.k;

        Matrix dx = random_matrix(s.t, s.k, 4), dw = random_matrix(s.n, s.k, 5);
        const Matrix want_dx = clone(dx), want_dw = clone(dw);
        linear_backward(dy, x, w.view(), dx, dw, {}, precision);
        plain_dx(dy, w, want_dx, blocks_of_dy);
        plain_dw(dy, x, want_dw, blocks_of_dy);
        ASSERT_TRUE(same_bits(dx, want_dx)) << s.t << " " << s.n << " " << s.k;
        ASSERT_TRUE(same_bits(dw, want_dw)) << s.t << " " << s.n << " " << s.k;
      }
    }
  });
}

// Each alone, rows with a stride, bias.
TEST(Fp8LinearTest, PartsAndStrides) {
  const Matrix wide = uneven_matrix(40, 150, 1), w = uneven_matrix(30, 140, 2);
  const Matrix dy = uneven_matrix(40, 30, 3), bias = random_matrix(1, 30, 4);
  const In2 x = In2(wide).cols(3, 143);
  const Matrix dense = clone(x);
  Matrix a = filled(40, 30, 0), b = filled(40, 30, 0);
  linear(x, w.view(), vec(bias), a, Precision::kFp8);
  linear(dense, w.view(), {}, b, Precision::kFp8);
  for (int64_t i = 0; i < 40; ++i) {
    for (int64_t j = 0; j < 30; ++j) EXPECT_EQ(a.row(i)[j], b.row(i)[j] + bias.row(0)[j]);
  }
  Matrix dx = filled(40, 140, 1), dw = filled(30, 140, 1), db = filled(1, 30, 0);
  linear_backward(dy, x, w.view(), dx, dw, vec(db), Precision::kFp8);
  Matrix dx_alone = filled(40, 140, 1), dw_alone = filled(30, 140, 1);
  linear_backward(dy, dense, w.view(), dx_alone, {}, {}, Precision::kFp8);
  linear_backward(dy, dense, w.view(), {}, dw_alone, {}, Precision::kFp8);
  EXPECT_TRUE(same_bits(dx, dx_alone));
  EXPECT_TRUE(same_bits(dw, dw_alone));
  for (int64_t j = 0; j < 30; ++j) {
    double sum = 0;
    for (int64_t i = 0; i < 40; ++i) sum += double(dy.row(i)[j]);
    EXPECT_NEAR(db.row(0)[j], sum, 1e-3);
  }
}

TEST(Fp8LinearTest, IsCloseToTheExactProduct) {
  const Matrix x = random_matrix(64, 512, 1), w = random_matrix(96, 512, 2);
  Matrix exact = filled(64, 96, 0), got = filled(64, 96, 0);
  linear(x, w.view(), {}, exact, Precision::kFp32);
  linear(x, w.view(), {}, got, Precision::kFp8);
  double error = 0, norm = 0;
  for (int64_t i = 0; i < exact.size(); ++i) {
    error += std::pow(double(got.data()[i] - exact.data()[i]), 2);
    norm += std::pow(double(exact.data()[i]), 2);
  }
  // An E4M3 number is off by up to 2^-4, about 2.6% root mean square; of two operands, 3.7%.
  EXPECT_LT(std::sqrt(error / norm), 0.045);
  EXPECT_GT(std::sqrt(error / norm), 0.02);
}

TEST(Fp8LinearTest, WhatIsNotFiniteBecomesNanWhereItsTileIsRead) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                    -std::numeric_limits<float>::infinity()}) {
    Matrix x = random_matrix(20, 200, 1);
    const Matrix w = random_matrix(10, 200, 2);
    x.row(4)[150] = bad;
    Matrix y = filled(20, 10, 0);
    linear(x, w.view(), {}, y, Precision::kFp8);
    for (int64_t i = 0; i < 20; ++i) {
      for (int64_t j = 0; j < 10; ++j) EXPECT_EQ(std::isfinite(y.row(i)[j]), i != 4);
    }
    Matrix dw = filled(10, 200, 0);
    linear_backward(random_matrix(20, 10, 3), x, w.view(), {}, dw, {}, Precision::kFp8);
    for (int64_t i = 0; i < 10; ++i) {
      for (int64_t j = 0; j < 200; ++j) EXPECT_EQ(std::isfinite(dw.row(i)[j]), j != 150);
    }
  }
}

TEST(Fp8LinearTest, NoRowsAndWrongTypes) {
  const Matrix w = random_matrix(10, 20, 2);
  const Matrix none({0, 20}), dy({0, 10});
  Matrix dw = filled(10, 20, 3);
  linear(none, w.view(), {}, dy, Precision::kFp8);
  linear_backward(dy, none, w.view(), Matrix({0, 20}), dw, {}, Precision::kFp8);
  EXPECT_TRUE(same_bits(dw, filled(10, 20, 3)));
  const Tensor<bf16, 2> h({10, 20});
  const WeightView stored(DType::kBF16, h.data(), 10, 20);
  EXPECT_ERROR(linear(none, stored, {}, dy, Precision::kFp8), kShape,
               "a weight is of type BF16, expected F32");
}

// ---- experts: each of them as a Linear of its own rows

struct Fp8Experts {
  std::vector<int64_t> offsets;
  std::vector<int32_t> tokens;
  Matrix x = uneven_matrix(150, 140, 1), dy;
  std::vector<Matrix> w;
  std::vector<WeightView> views;

  Fp8Experts() : offsets{0} {
    Rng rng(5);
    for (int64_t count : {3, 0, 200, 128, 1}) offsets.push_back(offsets.back() + count);
    for (int64_t s = 0; s < offsets.back(); ++s) tokens.push_back(int32_t(rng.below(150)));
    for (uint64_t e = 0; e + 1 < offsets.size(); ++e) w.push_back(uneven_matrix(30, 140, 10 + e));
    for (const Matrix& one : w) views.emplace_back(one.view());
    dy = uneven_matrix(offsets.back(), 30, 2);
  }
  ExpertRows rows() const { return {{tokens.data(), {offsets.back()}}, offsets}; }
  Matrix gathered() const {
    Matrix all({offsets.back(), 140});
    for (int64_t s = 0; s < offsets.back(); ++s) {
      std::copy_n(x.row(tokens[size_t(s)]), 140, all.row(s));
    }
    return all;
  }
};

struct Results {
  Matrix y, dx;
  std::vector<Matrix> dw;
  std::vector<Out2> dw_views() const { return {dw.begin(), dw.end()}; }
  explicit Results(const Fp8Experts& m)
      : y(filled(m.offsets.back(), 30, 9)), dx(random_matrix(m.offsets.back(), 140, 4)) {
    for (size_t e = 0; e < m.w.size(); ++e) dw.push_back(random_matrix(30, 140, 20 + e));
  }
};

void expect_same(const Results& a, const Results& b) {
  EXPECT_TRUE(same_bits(a.y, b.y));
  EXPECT_TRUE(same_bits(a.dx, b.dx));
  for (size_t e = 0; e < a.dw.size(); ++e) EXPECT_TRUE(same_bits(a.dw[e], b.dw[e])) << e;
}

void run(const Fp8Experts& m, In2 x, ExpertRows rows, Results& r) {
  grouped_linear(x, rows, m.views, r.y, Precision::kFp8);
  grouped_linear_backward(m.dy, {{}, m.offsets}, x, rows, m.views, r.dx, r.dw_views(),
                          Precision::kFp8);
}

TEST(Fp8GroupedLinearTest, HasTheBitsOfALinearPerExpert) {
  const Fp8Experts m;
  const Matrix slots = m.gathered();
  for_each_family([&] {
    Results want(m), listed(m), direct(m);
    run(m, m.x, m.rows(), listed);
    run(m, slots, {{}, m.offsets}, direct);
    for (size_t e = 0; e < m.w.size(); ++e) {
      const int64_t begin = m.offsets[e], end = m.offsets[e + 1];
      linear(In2(slots).rows(begin, end), m.views[e], {}, Out2(want.y).rows(begin, end),
             Precision::kFp8);
      linear_backward(In2(m.dy).rows(begin, end), In2(slots).rows(begin, end), m.views[e],
                      Out2(want.dx).rows(begin, end), want.dw[e], {}, Precision::kFp8);
    }
    expect_same(listed, want);
    expect_same(direct, want);
  });
}

TEST(Fp8GroupedLinearTest, SameBitsForAnyNumberOfThreadsAndEveryFamily) {
  const Fp8Experts m;
  Results first(m);
  run(m, m.x, m.rows(), first);
  for_each_family([&] {
    for (int64_t threads : {1, 2, 5}) {
      const ScopedThreads scope(threads);
      Results now(m);
      run(m, m.x, m.rows(), now);
      expect_same(now, first);
    }
  });
}

}  // namespace
}  // namespace hadal
