#include "ops/rmsnorm.h"

#include <array>

#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr float kEps = 0.1f;  // large, so that a kernel that forgets it fails

// The formula in double. x [T, D] row after row.
std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& gain) {
  const size_t columns = gain.size();
  std::vector<double> y(x.size());
  for (size_t t = 0; t < x.size() / columns; ++t) {
    double mean_square = 0;
    for (size_t d = 0; d < columns; ++d) {
      mean_square += x[t * columns + d] * x[t * columns + d] / double(columns);
    }
    for (size_t d = 0; d < columns; ++d) {
      y[t * columns + d] = gain[d] * x[t * columns + d] / std::sqrt(mean_square + kEps);
    }
  }
  return y;
}

TEST(Rmsnorm, MatchesTheFormulaInEveryFamily) {
  for_each_family([] {
    for (int64_t D : {1, 7, 16, 64, 130, 257}) {  // below, at and above every vector and unrolling
      const Matrix wide = random_matrix(40, D + 5, 1), gain = random_matrix(1, D, 2);
      const Matrix out = filled(40, D + 3, 7), inv_rms = filled(1, 40, 0);
      const In2 x = wide.view().cols(2, D + 2);
      const Out2 y = out.view().cols(1, D + 1);
      rmsnorm(x, vec(gain), kEps, y, vec(inv_rms));
      EXPECT_TRUE(close(y, reference(to_double(x), to_double(gain)), 2e-6)) << D;
      for (int64_t t = 0; t < 40; ++t) {
        EXPECT_EQ(out.row(t)[0], 7);
        EXPECT_EQ(out.row(t)[D + 1], 7);
        EXPECT_NEAR(inv_rms.data()[t] * gain.data()[0] * x.row(t)[0], y.row(t)[0], 1e-6);
      }
    }
  });
}

TEST(Rmsnorm, BackwardAddsTheGradient) {
  for_each_family([] {
    for (int64_t D : {1, 33, 70}) {
      const int64_t T = 35;  // more than one block of the gain's sum
      const Matrix wide_x = random_matrix(T, D + 5, 1), wide_w = random_matrix(T, D + 2, 2);
      const Matrix gain = random_matrix(1, D, 3), inv_rms = filled(1, T, 0), y = filled(T, D, 0);
      const In2 x = wide_x.view().cols(4, D + 4), w = wide_w.view().cols(1, D + 1);
      const Matrix wide_dx = filled(T, D + 4, 1), dgain = filled(1, D, -2);
      const Out2 dx = wide_dx.view().cols(3, D + 3);
      rmsnorm(x, vec(gain), kEps, y, vec(inv_rms));
      rmsnorm_backward(w, x, vec(gain), vec(inv_rms), dx, vec(dgain));

      std::vector<double> px = to_double(x), pg = to_double(gain), pw = to_double(w);
      const auto loss = [&] {
        const std::vector<double> out = reference(px, pg);
        double sum = 0;
        for (size_t i = 0; i < out.size(); ++i) sum += pw[i] * out[i];
        return sum;
      };
      EXPECT_TRUE(gradient_added(1, dx, px, loss, 1e-5, 300)) << D;
      EXPECT_TRUE(gradient_added(-2, dgain, pg, loss, 1e-5)) << D;
      for (int64_t t = 0; t < T; ++t) EXPECT_EQ(wide_dx.row(t)[2] + wide_dx.row(t)[D + 3], 2);
    }
  });
}

TEST(Rmsnorm, IsTheSameInPlaceAndForAnyNumberOfThreads) {
  for_each_family([] {
    const int64_t T = 130, D = 390;  // several tasks of rows and blocks
    const Matrix x = random_matrix(T, D, 1), gain = random_matrix(1, D, 2);
    const Matrix w = random_matrix(T, D, 3);
    const auto run = [&](int64_t threads) {
      ScopedThreads scope(threads);
      Matrix y = clone(x), inv_rms = filled(1, T, 0), dx = filled(T, D, 0), dgain = filled(1, D, 0);
      rmsnorm(y, vec(gain), kEps, y, vec(inv_rms));
      rmsnorm_backward(w, x, vec(gain), vec(inv_rms), dx, vec(dgain));
      return std::array{std::move(y), std::move(dx), std::move(dgain)};
    };
    const auto one = run(1);
    for (int64_t threads : {2, 3}) {
      const auto more = run(threads);
      for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], more[i])) << i;
    }
    const Matrix apart = filled(T, D, 0);
    rmsnorm(x, vec(gain), kEps, apart);
    EXPECT_TRUE(same_bits(one[0], apart));
  });
}

TEST(Rmsnorm, TakesNoTokens) {
  const Matrix none({0, 8}), gain = filled(1, 8, 1), inv_rms({1, 0}), dgain = filled(1, 8, 3);
  rmsnorm(none, vec(gain), kEps, none, vec(inv_rms));
  rmsnorm_backward(none, none, vec(gain), vec(inv_rms), none, vec(dgain));
  EXPECT_TRUE(same_bits(dgain, filled(1, 8, 3)));
}

TEST(Rmsnorm, RefusesWrongShapesBeforeWriting) {
  const Matrix x = filled(2, 8, 1), y = filled(2, 8, 5), gain = filled(1, 8, 1);
  const Matrix seven = filled(1, 7, 1), three = filled(1, 3, 1), two = filled(1, 2, 1);
  const Matrix narrow = filled(2, 7, 1), empty({2, 0});
  EXPECT_ERROR(rmsnorm(x, vec(seven), kEps, y), kShape,
               "rmsnorm: gain has 7 entries, expected 8, one for each column of x");
  EXPECT_ERROR(rmsnorm(x, vec(gain), kEps, narrow), kShape, "y is [2, 7] but x is [2, 8]");
  EXPECT_ERROR(rmsnorm(x, vec(gain), kEps, y, vec(three)), kShape, "inv_rms has 3 entries");
  EXPECT_ERROR(rmsnorm(empty, {}, kEps, empty), kShape, "x has no columns");
  EXPECT_ERROR(rmsnorm_backward(narrow, x, vec(gain), vec(two), y, vec(gain)), kShape, "dy is");
  EXPECT_ERROR(rmsnorm_backward(x, x, vec(gain), vec(two), narrow, vec(gain)), kShape, "dx is");
  EXPECT_ERROR(rmsnorm_backward(x, x, vec(seven), vec(two), y, vec(gain)), kShape, " gain has 7");
  EXPECT_ERROR(rmsnorm_backward(x, x, vec(gain), vec(two), y, vec(seven)), kShape, "dgain has 7");
  EXPECT_ERROR(rmsnorm_backward(x, x, vec(gain), {}, y, vec(gain)), kShape, "inv_rms has 0");
  EXPECT_TRUE(same_bits(y, filled(2, 8, 5)));
}

}  // namespace
}  // namespace hadal
