#include "ops/layernorm.h"

#include <array>

#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr float kLayerEps = 0.1f;  // large, so that a kernel that forgets it fails

// The formula in double. x [T, D] row after row.
std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& gain,
                              const std::vector<double>& bias) {
  const size_t columns = gain.size();
  std::vector<double> y(x.size());
  for (size_t t = 0; t < x.size(); t += columns) {
    double mean = 0, variance = 0;
    for (size_t d = 0; d < columns; ++d) mean += x[t + d] / double(columns);
    for (size_t d = 0; d < columns; ++d) {
      variance += (x[t + d] - mean) * (x[t + d] - mean) / double(columns);
    }
    for (size_t d = 0; d < columns; ++d) {
      y[t + d] = gain[d] * (x[t + d] - mean) / std::sqrt(variance + kLayerEps) + bias[d];
    }
  }
  return y;
}

// Normal numbers about 3: a norm that forgets the mean fails.
Matrix off_centre(int64_t rows, int64_t columns, uint64_t stream) {
  Matrix x = random_matrix(rows, columns, stream);
  for (int64_t i = 0; i < x.size(); ++i) x.data()[i] += 3;
  return x;
}

TEST(Layernorm, MatchesTheFormulaInEveryFamily) {
  for_each_family([] {
    for (int64_t D : {1, 7, 16, 64, 130, 257}) {  // below, at and above every vector and unrolling
      const Matrix wide = off_centre(40, D + 5, 1), out = filled(40, D + 3, 7);
      const Matrix gain = random_matrix(1, D, 2), bias = random_matrix(1, D, 3);
      const Matrix wide_stats = filled(40, 5, 7);
      const In2 x = wide.view().cols(2, D + 2);
      const Out2 y = out.view().cols(1, D + 1), stats = wide_stats.view().cols(1, 3);
      layernorm(x, vec(gain), vec(bias), kLayerEps, y, stats);
      const std::vector<double> xs = to_double(x);
      EXPECT_TRUE(close(y, reference(xs, to_double(gain), to_double(bias)), 3e-6)) << D;
      for (int64_t t = 0; t < 40; ++t) {
        double mean = 0;
        for (int64_t d = 0; d < D; ++d) mean += xs[size_t(t * D + d)] / double(D);
        EXPECT_NEAR(stats.row(t)[0], mean, 2e-6);
        EXPECT_EQ(out.row(t)[0], 7);
        EXPECT_EQ(out.row(t)[D + 1], 7);
        EXPECT_EQ(wide_stats.row(t)[0], 7);
        EXPECT_EQ(wide_stats.row(t)[3], 7);
      }
    }
  });
}

TEST(Layernorm, BackwardAddsTheGradient) {
  for_each_family([] {
    for (int64_t D : {2, 33, 70}) {
      const int64_t T = 35;  // more than one block of the gain's sum
      const Matrix wide_x = off_centre(T, D + 5, 1), wide_w = random_matrix(T, D + 2, 2);
      const Matrix gain = random_matrix(1, D, 3), bias = random_matrix(1, D, 4);
      const Matrix stats = filled(T, 2, 0), y = filled(T, D, 0);
      const In2 x = wide_x.view().cols(4, D + 4), w = wide_w.view().cols(1, D + 1);
      const Matrix wide_dx = filled(T, D + 4, 1), dgain = filled(1, D, -2), dbias = filled(1, D, 3);
      const Out2 dx = wide_dx.view().cols(3, D + 3);
      layernorm(x, vec(gain), vec(bias), kLayerEps, y, stats);
      layernorm_backward(w, x, vec(gain), stats, dx, vec(dgain), vec(dbias));

      std::vector<double> px = to_double(x), pg = to_double(gain), pb = to_double(bias);
      const std::vector<double> pw = to_double(w);
      const auto loss = [&] {
        const std::vector<double> out = reference(px, pg, pb);
        double sum = 0;
        for (size_t i = 0; i < out.size(); ++i) sum += pw[i] * out[i];
        return sum;
      };
      EXPECT_TRUE(gradient_added(1, dx, px, loss, 1e-5, 300)) << D;
      EXPECT_TRUE(gradient_added(-2, dgain, pg, loss, 1e-5)) << D;
      EXPECT_TRUE(gradient_added(3, dbias, pb, loss, 1e-5)) << D;
      for (int64_t t = 0; t < T; ++t) EXPECT_EQ(wide_dx.row(t)[2] + wide_dx.row(t)[D + 3], 2);
    }
  });
}

TEST(Layernorm, IsTheSameInPlaceAndForAnyNumberOfThreads) {
  for_each_family([] {
    const int64_t T = 130, D = 390;  // several tasks of rows and blocks
    const Matrix x = off_centre(T, D, 1), gain = random_matrix(1, D, 2);
    const Matrix bias = random_matrix(1, D, 3), w = random_matrix(T, D, 4);
    const auto run = [&](int64_t threads) {
      ScopedThreads scope(threads);
      Matrix y = clone(x), stats = filled(T, 2, 0), dx = filled(T, D, 0);
      Matrix dgain = filled(1, D, 0), dbias = filled(1, D, 0);
      layernorm(y, vec(gain), vec(bias), kLayerEps, y, stats);
      layernorm_backward(w, x, vec(gain), stats, dx, vec(dgain), vec(dbias));
      return std::array{std::move(y), std::move(stats), std::move(dx), std::move(dgain),
                        std::move(dbias)};
    };
    const auto one = run(1);
    for (int64_t threads : {2, 3}) {
      const auto more = run(threads);
      for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], more[i])) << i;
    }
    const Matrix apart = filled(T, D, 0);
    layernorm(x, vec(gain), vec(bias), kLayerEps, apart);
    EXPECT_TRUE(same_bits(one[0], apart));
  });
}

TEST(Layernorm, TakesNoTokens) {
  const Matrix none({0, 8}), ones = filled(1, 8, 1), stats({0, 2});
  const Matrix dgain = filled(1, 8, 3), dbias = filled(1, 8, 4);
  layernorm(none, vec(ones), vec(ones), kLayerEps, none, stats);
  layernorm_backward(none, none, vec(ones), stats, none, vec(dgain), vec(dbias));
  EXPECT_TRUE(same_bits(dgain, filled(1, 8, 3)));
  EXPECT_TRUE(same_bits(dbias, filled(1, 8, 4)));
}

TEST(Layernorm, RefusesWrongShapesBeforeWriting) {
  const Matrix x = filled(2, 8, 1), y = filled(2, 8, 5), narrow = filled(2, 7, 1);
  const Matrix eight = filled(1, 8, 1), seven = filled(1, 7, 1);
  const Matrix stats = filled(2, 2, 1), three = filled(2, 3, 1), empty({2, 0});
  const Out1 g = vec(eight), bad = vec(seven);
  EXPECT_ERROR(layernorm(x, bad, g, kLayerEps, y), kShape,
               "layernorm: gain has 7 entries, expected 8");
  EXPECT_ERROR(layernorm(x, g, bad, kLayerEps, y), kShape, "bias has 7 entries");
  EXPECT_ERROR(layernorm(x, g, g, kLayerEps, narrow), kShape, "y is [2, 7] but x is [2, 8]");
  EXPECT_ERROR(layernorm(x, g, g, kLayerEps, y, three), kShape, "stats is [2, 3], expected [2, 2]");
  EXPECT_ERROR(layernorm(empty, {}, {}, kLayerEps, empty), kShape, "x has no columns");
  EXPECT_ERROR(layernorm_backward(narrow, x, g, stats, y, g, g), kShape, "dy is");
  EXPECT_ERROR(layernorm_backward(x, x, g, stats, narrow, g, g), kShape, "dx is");
  EXPECT_ERROR(layernorm_backward(x, x, bad, stats, y, g, g), kShape, " gain has 7");
  EXPECT_ERROR(layernorm_backward(x, x, g, stats, y, bad, g), kShape, "dgain has 7");
  EXPECT_ERROR(layernorm_backward(x, x, g, stats, y, g, bad), kShape, "dbias has 7");
  EXPECT_ERROR(layernorm_backward(x, x, g, {}, y, g, g), kShape, "stats is [0, 0]");
  EXPECT_TRUE(same_bits(y, filled(2, 8, 5)));
}

}  // namespace
}  // namespace hadal
