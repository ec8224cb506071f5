#include "train/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "core/parallel.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

// One matrix beyond a task's size, a norm, a router bias without a gradient.
struct AdamWFixture {
  Params params;
  Param *matrix, *norm, *bias;

  AdamWFixture() {
    matrix = params.add("a.weight", {301, 127}, ParamGroup::kMatrix);
    norm = params.add("norm.weight", {13}, ParamGroup::kNorm);
    bias = params.add("bias", {4}, ParamGroup::kRouterBias);
    params.allocate_training();
    params.initialise(3, 0.5);
  }
  void fill_gradients(uint64_t stream) {
    for (Param* p : {matrix, norm}) {
      Rng rng(9, stream++);
      for (int64_t i = 0; i < p->size(); ++i) p->gradient[i] = static_cast<float>(rng.normal());
    }
  }
};

// The formula of the paper (Loshchilov & Hutter), in double.
struct Reference {
  std::vector<double> w, m, v;
  explicit Reference(const Param& p) : w(p.vec().data(), p.vec().data() + p.size()) {
    m.resize(w.size());
    v.resize(w.size());
  }
  void step(const Param& p, double scale, double lr, double decay, const AdamWOptions& o, int t) {
    for (size_t i = 0; i < w.size(); ++i) {
      const double g = scale * double(p.gradient[i]);
      m[i] = o.beta1 * m[i] + (1 - o.beta1) * g;
      v[i] = o.beta2 * v[i] + (1 - o.beta2) * g * g;
      const double m_hat = m[i] / (1 - std::pow(o.beta1, t));
      const double v_hat = v[i] / (1 - std::pow(o.beta2, t));
      w[i] -= lr * (m_hat / (std::sqrt(v_hat) + o.eps) + decay * w[i]);
    }
  }
  testing::AssertionResult matches(const Param& p) const {
    return close(In2(p.vec().data(), {1, p.size()}), w, 2e-6);
  }
};

TEST(AdamW, FollowsTheReferenceInDouble) {
  AdamWFixture f;
  const AdamWOptions options{
      .beta1 = 0.9, .beta2 = 0.95, .eps = 1e-6, .clip = 2.0, .decay = {.matrix = 0.3}};
  AdamW optimizer(f.params, options);
  Reference matrix(*f.matrix), norm(*f.norm);
  for (int t = 1; t <= 5; ++t) {
    f.fill_gradients(static_cast<uint64_t>(10 * t));
    if (t == 4) f.matrix->gradient[7] = 1e4f;
    const double size = gradient_norm(f.params);
    const double scale = size > options.clip ? options.clip / size : 1;
    const double lr = 0.01 * t;
    matrix.step(*f.matrix, scale, lr, 0.3, options, t);
    norm.step(*f.norm, scale, lr, 0, options, t);
    optimizer.step(lr, size);
    ASSERT_TRUE(matrix.matches(*f.matrix)) << "after update " << t;
    ASSERT_TRUE(norm.matches(*f.norm)) << "after update " << t;
  }
  EXPECT_EQ(optimizer.updates(), 5);
  EXPECT_TRUE(optimizer.first_moment(*f.bias).empty());
}

TEST(AdamW, ClipsOnlyAboveTheLimit) {
  for (const double clip : {0.0, 1e9}) {
    AdamWFixture plain, clipped;
    plain.fill_gradients(1);
    clipped.fill_gradients(1);
    AdamW a(plain.params, {.clip = 0}), b(clipped.params, {.clip = clip});
    a.step(0.1, gradient_norm(plain.params));
    b.step(0.1, gradient_norm(clipped.params));
    EXPECT_TRUE(same_bits(In2(plain.matrix->vec().data(), {301, 127}),
                          In2(clipped.matrix->vec().data(), {301, 127})));
  }
}

TEST(AdamW, OnlyMatricesDecayUnlessToldOtherwise) {
  const WeightDecay standard, all{1, 2, 3, 4, 5, 6};
  EXPECT_EQ(standard.of(ParamGroup::kMatrix), 0.1);
  for (const ParamGroup g : {ParamGroup::kEmbedding, ParamGroup::kHead, ParamGroup::kRouter,
                             ParamGroup::kNorm, ParamGroup::kBias, ParamGroup::kRouterBias}) {
    EXPECT_EQ(standard.of(g), 0);
  }
  EXPECT_EQ(all.of(ParamGroup::kEmbedding), 2);
  EXPECT_EQ(all.of(ParamGroup::kBias), 6);
  EXPECT_EQ(all.of(ParamGroup::kRouterBias), 0);

  AdamWFixture f;
  f.fill_gradients(1);
  Reference norm(*f.norm);
  AdamWOptions options{.clip = 0};
  options.decay.norm = 0.5;
  AdamW optimizer(f.params, options);
  norm.step(*f.norm, 1, 0.1, 0.5, options, 1);
  optimizer.step(0.1, gradient_norm(f.params));
  EXPECT_TRUE(norm.matches(*f.norm));
}

TEST(AdamW, RoundedWeightsFollowTheWeights) {
  AdamWFixture f;
  f.params.round_weights(Precision::kBf16);
  AdamW optimizer(f.params, {});
  f.fill_gradients(1);
  optimizer.step(0.1, gradient_norm(f.params));
  EXPECT_EQ(f.norm->rounded, nullptr);
  EXPECT_EQ(f.matrix->weight(Precision::kFp32).dtype, DType::kF32);
  const WeightView w = f.matrix->weight(Precision::kBf16);
  ASSERT_EQ(w.dtype, DType::kBF16);
  for (int64_t i = 0; i < f.matrix->size(); ++i) {
    ASSERT_EQ(static_cast<const bf16*>(w.data)[i].bits, to_bf16(f.matrix->vec().data()[i]).bits);
  }
}

double bf16_of(double x) {
  return double{to_float(to_bf16(static_cast<float>(x)))};
}

AdamWOptions kept_as(DType moments) {
  AdamWOptions options{.clip = 0};
  options.moments = moments;
  return options;
}

TEST(AdamW, Bf16MomentsFollowTheReferenceThatRoundsThem) {
  AdamWFixture f;
  const AdamWOptions options = kept_as(DType::kBF16);
  AdamW optimizer(f.params, options);
  EXPECT_EQ(2 * optimizer.bytes(), AdamW(f.params, {}).bytes());
  Reference norm(*f.norm);
  for (int t = 1; t <= 5; ++t) {
    f.fill_gradients(static_cast<uint64_t>(10 * t));
    norm.step(*f.norm, 1, 0.01, 0, options, t);
    optimizer.step(0.01, gradient_norm(f.params));
    ASSERT_TRUE(norm.matches(*f.norm)) << "after update " << t;
    // What is kept is rounded to nearest even; the update has used what was not.
    for (double& x : norm.m) x = bf16_of(x);
    for (double& x : norm.v) x = bf16_of(x);
    const auto first = optimizer.first_moment(*f.norm);
    ASSERT_EQ(first.size(), 2 * norm.m.size());
    for (size_t i = 0; i < norm.m.size(); ++i) {
      bf16 kept;
      std::memcpy(&kept, first.data() + 2 * i, sizeof kept);
      ASSERT_EQ(double{to_float(kept)}, norm.m[i]) << "after update " << t;
    }
  }
}

TEST(AdamW, EveryFamilyOfKernelsGivesTheSameBits) {
  for (const DType moments : {DType::kF32, DType::kBF16}) {
    const auto run = [&](AdamWFixture& f) {
      AdamW optimizer(f.params, kept_as(moments));
      for (uint64_t t = 1; t <= 3; ++t) {
        f.fill_gradients(t);
        optimizer.step(0.1, gradient_norm(f.params));
      }
    };
    AdamWFixture want;
    {
      const ScopedKernels scalar(kScalarKernels);
      run(want);
    }
    for_each_family([&] {
      AdamWFixture got;
      run(got);
      EXPECT_TRUE(same_bits(In2(got.matrix->vec().data(), {301, 127}),
                            In2(want.matrix->vec().data(), {301, 127})));
    });
  }
}

TEST(GradientNorm, IsTheSameBitsForAnyNumberOfThreads) {
  AdamWFixture f;
  f.fill_gradients(5);
  double sum = 0;
  for (const Param* p : {f.matrix, f.norm}) {
    for (int64_t i = 0; i < p->size(); ++i) sum += double(p->gradient[i]) * double(p->gradient[i]);
  }
  const double one = [&] {
    const ScopedThreads threads(1);
    return gradient_norm(f.params);
  }();
  EXPECT_NEAR(one, std::sqrt(sum), 1e-9 * std::sqrt(sum));
  for (int64_t n : {2, 3, 5}) {
    const ScopedThreads threads(n);
    EXPECT_EQ(gradient_norm(f.params), one) << n << " threads";
  }
}

TEST(AdamW, NormsOfTheLayersAreThoseOfTheWhole) {
  Params params;
  params.add("outside", {3, 5}, ParamGroup::kEmbedding);
  params.add("a", {40, 1000}, ParamGroup::kMatrix, 2);  // more than one block
  params.add("b", {7}, ParamGroup::kNorm, 2);
  params.add("c", {4, 4}, ParamGroup::kMatrix, 0);
  params.allocate_training();
  double outside = 0, second = 0, first = 0;
  for (const Param& p : params.all()) {
    for (int64_t i = 0; i < p.size(); ++i) {
      p.gradient[i] = 0.01f * float(i % 17 - 5);
      (p.layer < 0 ? outside : p.layer == 2 ? second : first) += std::pow(double(p.gradient[i]), 2);
    }
  }
  std::vector<double> layers{9, 9, 9, 9, 9, 9};  // what was there before goes
  EXPECT_EQ(gradient_norm(params, &layers), gradient_norm(params));
  ASSERT_EQ(layers.size(), 4u);
  EXPECT_NEAR(layers[0], std::sqrt(outside), 1e-9);
  EXPECT_NEAR(layers[1], std::sqrt(first), 1e-9);
  EXPECT_EQ(layers[2], 0);
  EXPECT_NEAR(layers[3], std::sqrt(second), 1e-6);
}

}  // namespace
}  // namespace hadal
