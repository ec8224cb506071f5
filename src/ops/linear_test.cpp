#include "ops/linear.h"

#include <cmath>
#include <limits>

#include "core/dtype.h"
#include "ops/matrix_product.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using Bf16Matrix = Tensor<bf16, 2>;

// Rounds w to BF16, in place and as stored.
Bf16Matrix rounded(Matrix& w) {
  Bf16Matrix h({w.dim(0), w.dim(1)});
  for (int64_t i = 0; i < w.size(); ++i) {
    h.data()[i] = to_bf16(w.data()[i]);
    w.data()[i] = to_float(h.data()[i]);
  }
  return h;
}
WeightView view(const Matrix& w) {
  return w.view();
}
WeightView view(In2 w) {
  return w;
}
WeightView view(const Bf16Matrix& h) {
  return {DType::kBF16, h.data(), h.dim(0), h.dim(1)};
}

std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& w,
                              const std::vector<double>& bias, int64_t rows, int64_t k) {
  const auto n = int64_t(bias.size());
  std::vector<double> y;
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t i = 0; i < n; ++i) {
      double sum = bias[size_t(i)];
      for (int64_t j = 0; j < k; ++j) sum += w[size_t(i * k + j)] * x[size_t(t * k + j)];
      y.push_back(sum);
    }
  }
  return y;
}

TEST(LinearTest, AgreesWithDoubleReference) {
  for_each_family([] {
    for (int64_t rows : {0, 1, 5, 64, 257}) {
      for (int64_t k : {1, 15, 64, 300}) {
        for (int64_t n : {1, 7, 33, 270}) {
          const Matrix x = random_matrix(rows, k, 1), bias = random_matrix(1, n, 3);
          Matrix w = random_matrix(n, k, 2);
          const Bf16Matrix h = rounded(w);
          const auto want = reference(to_double(x), to_double(w), to_double(bias), rows, k);
          Matrix y = filled(rows, n, 9);
          linear(x, view(w), vec(bias), y, Precision::kFp32);
          ASSERT_TRUE(close(y, want, 3e-6)) << rows << " " << k << " " << n;
          Matrix from_bf16 = filled(rows, n, 9), decoded = filled(rows, n, 9);
          linear(x, view(h), vec(bias), from_bf16, Precision::kFp32);
          ASSERT_TRUE(same_bits(from_bf16, y));
          linear_decode(x, view(h), vec(bias), decoded);
          ASSERT_TRUE(close(decoded, want, 3e-6)) << rows << " " << k << " " << n;

          Matrix across = filled(rows, k, 9);
          linear_decode_across(y, view(h), across);
          std::vector<double> sums(size_t(rows * k));
          for (int64_t i = 0; i < rows * k * n; ++i) {
            const int64_t t = i / (k * n), j = i / n % k, at = i % n;
            sums[size_t(t * k + j)] += double(y.row(t)[at]) * w.row(at)[j];
          }
          ASSERT_TRUE(close(across, sums, 3e-6)) << rows << " " << k << " " << n;
        }
      }
    }
  });
}

TEST(LinearTest, BiasIsOptional) {
  for_each_family([] {
    const Matrix x = random_matrix(9, 20, 1), w = random_matrix(30, 20, 2);
    const Matrix zero = filled(1, 30, 0);
    Matrix with = filled(9, 30, 1), without = filled(9, 30, 1);
    linear(x, view(w), vec(zero), with, Precision::kFp32);
    linear(x, view(w), {}, without, Precision::kFp32);
    EXPECT_TRUE(same_bits(with, without));
    linear_decode(x, view(w), vec(zero), with);
    linear_decode(x, view(w), {}, without);
    EXPECT_TRUE(same_bits(with, without));
  });
}

// Operands rounded to nearest even, products exact, sums in FP32.
TEST(LinearTest, Bf16ArithmeticRoundsTheOperandsOnly) {
  for_each_family([] {
    Matrix x = random_matrix(40, 200, 1), w = random_matrix(30, 200, 2), y = filled(40, 30, 0);
    linear(x, view(w), {}, y, Precision::kBf16);
    rounded(x), rounded(w);
    const std::vector<double> none(30, 0.0);
    EXPECT_TRUE(close(y, reference(to_double(x), to_double(w), none, 40, 200), 1e-6));
  });
}

// As a forward keeps rows and training keeps weights: what the products would round to anyway.
TEST(LinearTest, OperandsKeptInBf16GiveTheSameBits) {
  for_each_family([] {
    const Matrix x = random_matrix(70, 131, 1), w = random_matrix(90, 131, 2);
    const Matrix dy = random_matrix(70, 90, 3);
    Matrix rounded_x = clone(x), rounded_w = clone(w);
    const Bf16Matrix kept_x = rounded(rounded_x), kept_w = rounded(rounded_w);
    const WeightView short_x(DType::kBF16, kept_x.data(), 70, 131);
    const WeightView short_w(DType::kBF16, kept_w.data(), 90, 131);
    const auto run = [&](WeightView x_in, WeightView w_in) {
      std::vector<Matrix> out;
      out.push_back(filled(70, 90, 0));
      out.push_back(filled(70, 131, 1));
      out.push_back(filled(90, 131, 1));
      linear(x_in, w_in, {}, out[0], Precision::kBf16);
      linear_backward(dy, x_in, w_in, out[1], out[2], {}, Precision::kBf16);
      return out;
    };
    const auto want = run(x, w), got = run(short_x, short_w);
    for (size_t i = 0; i < want.size(); ++i) EXPECT_TRUE(same_bits(got[i], want[i])) << i;
  });
}

TEST(LinearTest, StridedRows) {
  for_each_family([] {
    const Matrix wide_x = random_matrix(50, 90, 1), wide_w = random_matrix(40, 90, 2);
    const In2 x = In2(wide_x).cols(11, 74), w = In2(wide_w).cols(3, 66);
    Matrix wide_y = filled(50, 60, -5), y = filled(50, 40, 0), decoded = filled(50, 40, 0);
    linear(x, view(w), {}, wide_y.view().cols(10, 50), Precision::kFp32);
    linear(clone(x), view(clone(w)), {}, y, Precision::kFp32);
    EXPECT_TRUE(same_bits(In2(wide_y).cols(10, 50), y));
    EXPECT_TRUE(same_bits(In2(wide_y).cols(0, 10), filled(50, 10, -5)));
    EXPECT_TRUE(same_bits(In2(wide_y).cols(50, 60), filled(50, 10, -5)));
    linear_decode(clone(x), view(clone(w)), {}, decoded);
    linear_decode(x, view(w), {}, wide_y.view().cols(10, 50));
    EXPECT_TRUE(same_bits(In2(wide_y).cols(10, 50), decoded));
  });
}

TEST(LinearTest, ARowDependsOnItsOwnRowAlone) {
  for_each_family([] {
    for (Precision precision : {Precision::kFp32, Precision::kBf16}) {
      Matrix x = random_matrix(300, 65, 1);
      const Matrix w = random_matrix(100, 65, 2);
      Matrix all = filled(300, 100, 0), one = filled(1, 100, 0), decoded = filled(16, 100, 0);
      linear(x, view(w), {}, all, precision);
      linear_decode(In2(x).rows(0, 16), view(w), {}, decoded);
      for (int64_t t : {0, 3, 15, 299}) {
        linear(In2(x).rows(t, t + 1), view(w), {}, one, precision);
        EXPECT_TRUE(same_bits(one, In2(all).rows(t, t + 1))) << "row " << t;
        if (t >= 16) continue;
        linear_decode(In2(x).rows(t, t + 1), view(w), {}, one);
        EXPECT_TRUE(same_bits(one, In2(decoded).rows(t, t + 1))) << "row " << t;
      }
    }
  });
}

TEST(LinearTest, SameBitsForAnyNumberOfThreads) {
  for_each_family([] {
    const Matrix x = random_matrix(700, 129, 1), w = random_matrix(520, 129, 2);
    const Matrix dy = random_matrix(700, 520, 3), bias = random_matrix(1, 520, 4);
    std::vector<Matrix> first;
    for (int64_t threads : {1, 2, 3, 7}) {
      const ScopedThreads scope(threads);
      std::vector<Matrix> got;
      got.push_back(filled(700, 520, 0));
      linear(x, view(w), vec(bias), got[0], Precision::kFp32);
      got.push_back(filled(3, 520, 0));
      linear_decode(In2(x).rows(0, 3), view(w), vec(bias), got[1]);
      got.push_back(filled(700, 129, 1));
      got.push_back(filled(520, 129, 1));
      got.push_back(filled(1, 520, 1));
      linear_backward(dy, x, view(w), got[2], got[3], vec(got[4]), Precision::kFp32);
      if (threads == 1) first = std::move(got);
      for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(same_bits(got[i], first[i])) << i;
    }
  });
}

TEST(LinearTest, BackwardAddsTheGradient) {
  for_each_family([] {
    const int64_t rows = 6, k = 9, n = 5;
    const Matrix x = random_matrix(rows, k, 1), w = random_matrix(n, k, 2);
    const Matrix bias = random_matrix(1, n, 3), dy = random_matrix(rows, n, 4);
    std::vector<double> px = to_double(x), pw = to_double(w), pb = to_double(bias);
    const std::vector<double> d = to_double(dy);
    const auto loss = [&] {
      const std::vector<double> y = reference(px, pw, pb, rows, k);
      double sum = 0;
      for (size_t i = 0; i < y.size(); ++i) sum += y[i] * d[i];
      return sum;
    };
    Matrix dx = filled(rows, k, 2), dw = filled(n, k, -1), dbias = filled(1, n, 0.5);
    linear_backward(dy, x, view(w), dx, dw, vec(dbias), Precision::kFp32);
    EXPECT_TRUE(gradient_added(2, dx, px, loss));
    EXPECT_TRUE(gradient_added(-1, dw, pw, loss));
    EXPECT_TRUE(gradient_added(0.5, dbias, pb, loss));
  });
}

TEST(LinearTest, BackwardSkipsWhatIsEmpty) {
  for_each_family([] {
    const Matrix x = random_matrix(20, 30, 1), w = random_matrix(10, 30, 2);
    const Matrix dy = random_matrix(20, 10, 3);
    Matrix dx = filled(20, 30, 0), dw = filled(10, 30, 0), dbias = filled(1, 10, 0);
    Matrix dx1 = filled(20, 30, 0), dw1 = filled(10, 30, 0), dbias1 = filled(1, 10, 0);
    linear_backward(dy, x, view(w), dx, dw, vec(dbias), Precision::kFp32);
    linear_backward(dy, {}, view(w), dx1, {}, {}, Precision::kFp32);
    linear_backward(dy, x, view(w), {}, dw1, {}, Precision::kFp32);
    linear_backward(dy, {}, view(w), {}, {}, vec(dbias1), Precision::kFp32);
    EXPECT_TRUE(same_bits(dx, dx1));
    EXPECT_TRUE(same_bits(dw, dw1));
    EXPECT_TRUE(same_bits(dbias, dbias1));
  });
}

TEST(LinearTest, BackwardSetsAGradientThatFindsNothing) {
  for_each_family([] {
    const Matrix x = random_matrix(70, 30, 1), w = random_matrix(300, 30, 2);
    const Matrix dy = random_matrix(70, 300, 3);
    for (Precision precision : {Precision::kFp32, Precision::kBf16, Precision::kFp8}) {
      Matrix added = filled(70, 30, 0), set = filled(70, 30, std::nanf(""));
      Matrix dw = filled(300, 30, 0), dw_again = filled(300, 30, 0);
      linear_backward(dy, x, view(w), added, dw, {}, precision);
      linear_backward(dy, x, view(w), set, dw_again, {}, precision, Gradient::kSet);
      EXPECT_TRUE(same_bits(added, set));
      EXPECT_TRUE(same_bits(dw, dw_again));
    }
  });
}

// Three GEMMs, each with both operands rounded; BF16 weights as they are.
TEST(LinearTest, Bf16Backward) {
  for_each_family([] {
    Matrix x = random_matrix(70, 30, 1), w = random_matrix(20, 30, 2);
    Matrix dy = random_matrix(70, 20, 3);
    Matrix dx = filled(70, 30, 0), dw = filled(20, 30, 0), dx_stored = filled(70, 30, 0);
    linear_backward(dy, x, view(w), dx, dw, {}, Precision::kBf16);
    const Bf16Matrix h = rounded(w);
    linear_backward(dy, x, view(h), dx_stored, {}, {}, Precision::kBf16);
    EXPECT_TRUE(same_bits(dx, dx_stored));
    rounded(x), rounded(dy);
    std::vector<double> want_dx(70 * 30), want_dw(20 * 30);
    for (int64_t t = 0; t < 70; ++t) {
      for (int64_t i = 0; i < 20; ++i) {
        for (int64_t j = 0; j < 30; ++j) {
          want_dx[size_t(t * 30 + j)] += double(dy.row(t)[i]) * w.row(i)[j];
          want_dw[size_t(i * 30 + j)] += double(dy.row(t)[i]) * x.row(t)[j];
        }
      }
    }
    EXPECT_TRUE(close(dx, want_dx, 1e-6));
    EXPECT_TRUE(close(dw, want_dw, 1e-6));
  });
}

TEST(LinearTest, NamesTheWrongShape) {
  const Matrix x = random_matrix(4, 5, 1), w = random_matrix(3, 5, 2), bias = filled(1, 3, 0);
  Matrix y = filled(4, 3, 7);
  const Bf16Matrix h({3, 5});
  EXPECT_ERROR(linear(filled(4, 6, 0), view(w), {}, y, Precision::kFp32), kShape,
               "linear: x is [4, 6], expected [4, 5]");
  EXPECT_ERROR(linear(x, view(w), {}, filled(4, 4, 0), Precision::kFp32), kShape,
               "linear: y is [4, 4], expected [4, 3]");
  EXPECT_ERROR(linear(x, view(w), vec(filled(1, 2, 0)), y, Precision::kFp32), kShape,
               "bias has 2 entries, expected 3");
  EXPECT_ERROR(linear(x, WeightView(DType::kU8, h.data(), 3, 5), {}, y, Precision::kFp32), kShape,
               "w is of type U8");
  EXPECT_ERROR(linear_decode_across(y, view(w), filled(4, 4, 0)), kShape,
               "linear_decode_across: y is [4, 4], expected [4, 5]");
  EXPECT_ERROR(linear_decode(filled(4, 6, 0), view(w), {}, y), kShape,
               "linear_decode: x is [4, 6]");
  EXPECT_ERROR(linear_backward(filled(4, 2, 0), x, view(w), {}, {}, {}, Precision::kFp32), kShape,
               "dy is [4, 2], expected [4, 3]");
  EXPECT_ERROR(linear_backward(y, x, view(w), filled(3, 5, 0), {}, {}, Precision::kFp32), kShape,
               "dx is [3, 5], expected [4, 5]");
  EXPECT_ERROR(
      linear_backward(y, filled(3, 5, 0), view(w), {}, filled(3, 5, 0), {}, Precision::kFp32),
      kShape, "x is [3, 5], expected [4, 5]");
  EXPECT_ERROR(linear_backward(y, x, view(w), {}, filled(5, 3, 0), {}, Precision::kFp32), kShape,
               "dw is [5, 3], expected [3, 5]");
  EXPECT_ERROR(linear_backward(y, x, view(w), {}, {}, vec(filled(1, 5, 0)), Precision::kFp32),
               kShape, "dbias has 5 entries, expected 3");
  EXPECT_TRUE(same_bits(y, filled(4, 3, 7)));  // nothing was written
}

TEST(LinearTest, ThreadsKeepTheirPackingMemory) {
  const Matrix x = random_matrix(300, 300, 1), w = random_matrix(300, 300, 2);
  Matrix y = filled(300, 300, 0);
  linear(x, view(w), {}, y, Precision::kFp32);
  const int64_t held = packing_bytes();
  EXPECT_GT(held, 300 * 4);
  EXPECT_LT(held, num_threads() * (4 << 20));
  linear(x, view(w), {}, y, Precision::kFp32);
  EXPECT_LE(packing_bytes(), std::max<int64_t>(held, num_threads() * (2 << 20)));
}

}  // namespace
}  // namespace hadal
