#include "ops/activation.h"

#include <array>
#include <numbers>

#include "tests/support/testing.h"

namespace hadal {
namespace {

double silu(double z) {
  return z / (1 + std::exp(-z));
}
double gelu_of(double x) {
  return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
}
std::vector<double> times(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> y(a.size());
  for (size_t i = 0; i < a.size(); ++i) y[i] = a[i] * b[i];
  return y;
}
template <class Fn>
std::vector<double> each(std::vector<double> x, Fn fn) {
  for (double& v : x) v = fn(v);
  return x;
}
double sum(const std::vector<double>& x) {
  double s = 0;
  for (double v : x) s += v;
  return s;
}

// The columns [1, F + 1) of a matrix two wider, so that rows are strided and the edges can be
// checked.
struct Framed {
  Matrix wide;
  Framed(int64_t rows, int64_t columns, uint64_t stream, double scale)
      : wide(random_matrix(rows, columns + 2, stream, scale)) {}
  Framed(int64_t rows, int64_t columns, float value) : wide(filled(rows, columns + 2, value)) {}
  Out2 view() const { return wide.view().cols(1, wide.dim(1) - 1); }
  bool frame_is(float value) const {
    for (int64_t t = 0; t < wide.dim(0); ++t) {
      if (wide.row(t)[0] != value || wide.row(t)[wide.dim(1) - 1] != value) return false;
    }
    return true;
  }
};

TEST(Activation, ForwardMatchesTheFormulasInEveryFamily) {
  for_each_family([] {
    for (int64_t F : {1, 5, 16, 67}) {
      const Framed gate(9, F, 1, 4), up(9, F, 2, 1), y(9, F, 7.0f), z(9, F, 7.0f);
      const std::vector<double> g = to_double(gate.view()), u = to_double(up.view());
      swiglu(gate.view(), up.view(), y.view());
      EXPECT_TRUE(close(y.view(), times(each(g, silu), u), 1e-6)) << F;
      gelu(gate.view(), z.view());
      EXPECT_TRUE(close(z.view(), each(g, gelu_of), 1e-6)) << F;
      EXPECT_TRUE(y.frame_is(7) && z.frame_is(7));
      add(up.view(), z.view());
      add(up.view(), z.view());
      const std::vector<double> twice = times(u, std::vector<double>(u.size(), 2));
      std::vector<double> want = each(g, gelu_of);
      for (size_t i = 0; i < want.size(); ++i) want[i] += twice[i];
      EXPECT_TRUE(close(z.view(), want, 1e-6)) << F;
      EXPECT_TRUE(z.frame_is(7));
      fill_zero(z.view());
      EXPECT_TRUE(close(z.view(), std::vector<double>(want.size()), 0));
      EXPECT_TRUE(z.frame_is(7));
    }
  });
}

TEST(Activation, BackwardGivesTheGradient) {
  for_each_family([] {
    for (int64_t F : {1, 5, 67}) {
      const Framed gate(5, F, 1, 2), up(5, F, 2, 1), w(5, F, 3, 1);
      const Framed y(5, F, 7.0f), dgate(5, F, 1.0f), dup(5, F, -2.0f), dx(5, F, 3.0f);
      swiglu_backward(w.view(), gate.view(), up.view(), y.view(), dgate.view(), dup.view());
      gelu_backward(w.view(), gate.view(), dx.view());

      std::vector<double> pg = to_double(gate.view()), pu = to_double(up.view());
      const std::vector<double> pw = to_double(w.view());
      const auto swiglu_loss = [&] { return sum(times(pw, times(each(pg, silu), pu))); };
      const auto gelu_loss = [&] { return sum(times(pw, each(pg, gelu_of))); };
      EXPECT_TRUE(gradient_added(0, dgate.view(), pg, swiglu_loss, 1e-5)) << F;
      EXPECT_TRUE(gradient_added(0, dup.view(), pu, swiglu_loss, 1e-5)) << F;
      EXPECT_TRUE(close(y.view(), times(each(pg, silu), pu), 1e-6)) << F;
      EXPECT_TRUE(gradient_added(3, dx.view(), pg, gelu_loss, 1e-5)) << F;
      EXPECT_TRUE(y.frame_is(7) && dgate.frame_is(1) && dup.frame_is(-2) && dx.frame_is(3));
    }
  });
}

TEST(Activation, FarFromZeroIsFiniteAndRight) {
  for_each_family([] {
    const Matrix x({1, 8}), ones = filled(1, 8, 1), y = filled(1, 8, 7), zeros({1, 8});
    const std::array<float, 8> far{-1e4f, -100, -90, -20, 20, 90, 100, 1e4f};
    std::copy(far.begin(), far.end(), x.data());
    const std::vector<double> straight = each(to_double(x), [](double v) { return v > 0 ? v : 0; });
    swiglu(x, ones, y);
    EXPECT_TRUE(close(y, straight, 1e-7));
    gelu(x, y);
    EXPECT_TRUE(close(y, straight, 1e-7));
    const std::vector<double> step = each(straight, [](double v) { return v > 0 ? 1 : 0; });
    const Matrix dgate({1, 8}), dup({1, 8}), dx({1, 8});
    swiglu_backward(ones, x, ones, y, dgate, dup);
    EXPECT_TRUE(close(y, straight, 1e-7));
    EXPECT_TRUE(close(dgate, step, 1e-6));
    EXPECT_TRUE(close(dup, straight, 1e-6));
    gelu_backward(ones, x, dx);
    EXPECT_TRUE(close(dx, step, 1e-6));
  });
}

TEST(Activation, IsTheSameInPlaceAndForAnyNumberOfThreads) {
  for_each_family([] {
    const int64_t T = 130, F = 390;
    const Matrix gate = random_matrix(T, F, 1), up = random_matrix(T, F, 2);
    const Matrix w = random_matrix(T, F, 3);
    const auto run = [&](int64_t threads) {
      ScopedThreads scope(threads);
      Matrix a = clone(gate), b = clone(up), c = clone(gate), d = clone(up);
      Matrix y({T, F}), dgate({T, F}), dup({T, F}), dx = filled(T, F, 0);
      swiglu(a, up, a);
      swiglu(gate, b, b);
      gelu(c, c);
      add(gate, d);
      swiglu_backward(w, gate, up, y, dgate, dup);
      gelu_backward(w, gate, dx);
      return std::array{std::move(a), std::move(b),     std::move(c),   std::move(d),
                        std::move(y), std::move(dgate), std::move(dup), std::move(dx)};
    };
    const auto one = run(1);
    for (int64_t threads : {2, 3}) {
      const auto more = run(threads);
      for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], more[i])) << i;
    }
    const Matrix apart = filled(T, F, 7);
    swiglu(gate, up, apart);
    EXPECT_TRUE(same_bits(one[0], apart));
    EXPECT_TRUE(same_bits(one[1], apart));
    gelu(gate, apart);
    EXPECT_TRUE(same_bits(one[2], apart));
    ScopedThreads scope(3);
    fill_zero(apart);
    EXPECT_TRUE(same_bits(apart, filled(T, F, 0)));
  });
}

TEST(Activation, TakesNoTokens) {
  const Matrix none({0, 4});
  swiglu(none, none, none);
  swiglu_backward(none, none, none, none, none, none);
  gelu(none, none);
  gelu_backward(none, none, none);
  add(none, none);
  fill_zero(none);
}

TEST(Activation, RefusesWrongShapesBeforeWriting) {
  const Matrix a = filled(2, 4, 1), y = filled(2, 4, 5), bad = filled(2, 3, 1);
  EXPECT_ERROR(swiglu(a, bad, y), kShape, "swiglu: up is [2, 3] but gate is [2, 4]");
  EXPECT_ERROR(swiglu(a, a, bad), kShape, "swiglu: y is [2, 3]");
  EXPECT_ERROR(swiglu_backward(bad, a, a, y, y, y), kShape, "dy is [2, 3]");
  EXPECT_ERROR(swiglu_backward(a, a, bad, y, y, y), kShape, "up is [2, 3]");
  EXPECT_ERROR(swiglu_backward(a, a, a, bad, y, y), kShape, "y is [2, 3]");
  EXPECT_ERROR(swiglu_backward(a, a, a, y, bad, y), kShape, "dgate is [2, 3]");
  EXPECT_ERROR(swiglu_backward(a, a, a, y, y, bad), kShape, "dup is [2, 3]");
  EXPECT_ERROR(gelu(a, bad), kShape, "gelu: y is [2, 3] but x is [2, 4]");
  EXPECT_ERROR(gelu_backward(bad, a, y), kShape, "dy is [2, 3]");
  EXPECT_ERROR(gelu_backward(a, a, bad), kShape, "dx is [2, 3]");
  EXPECT_ERROR(add(a, bad), kShape, "add: y is [2, 3] but x is [2, 4]");
  EXPECT_TRUE(same_bits(y, filled(2, 4, 5)));
}

}  // namespace
}  // namespace hadal
