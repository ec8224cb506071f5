#include "ops/cross_entropy.h"

#include <algorithm>
#include <array>

#include "tests/support/testing.h"

namespace hadal {
namespace {

using Targets = Tensor<int32_t, 1>;

Targets random_targets(int64_t count, int64_t vocabulary) {
  Targets targets({count});
  Rng rng(3);
  for (int64_t t = 0; t < count; ++t) {
    targets.data()[t] = static_cast<int32_t>(rng.below(vocabulary));
  }
  return targets;
}

std::vector<double> reference_logits(const std::vector<double>& h, const std::vector<double>& w,
                                     size_t D) {
  const size_t T = h.size() / D, V = w.size() / D;
  std::vector<double> logits(T * V);
  for (size_t t = 0; t < T; ++t) {
    for (size_t v = 0; v < V; ++v) {
      for (size_t d = 0; d < D; ++d) logits[t * V + v] += h[t * D + d] * w[v * D + d];
    }
  }
  return logits;
}

// Sum of -log softmax(logits)[target] over the targets that count.
double reference_loss(const std::vector<double>& h, const std::vector<double>& w, size_t D,
                      const Targets& targets) {
  const std::vector<double> logits = reference_logits(h, w, D);
  const size_t V = w.size() / D;
  double loss = 0;
  for (size_t t = 0; t < size_t(targets.size()); ++t) {
    const int32_t target = targets.data()[t];
    if (target == kIgnored) continue;
    const auto row = logits.begin() + int64_t(t * V);
    const double largest = *std::max_element(row, row + int64_t(V));
    double sum = 0;
    for (size_t v = 0; v < V; ++v) sum += std::exp(row[int64_t(v)] - largest);
    loss += largest + std::log(sum) - row[target];
  }
  return loss;
}

TEST(CrossEntropy, LossAndGradientsAreTheDefinition) {
  for_each_family([] {
    for (int64_t V : {1, 3, 40, 530}) {  // 530: beyond one block of the search for the peak
      const int64_t T = 7, D = 5;
      const Matrix wide_h = random_matrix(T, D + 3, 1), wide_w = random_matrix(V, D + 2, 2);
      const In2 h = wide_h.view().cols(2, D + 2), w = wide_w.view().cols(1, D + 1);
      Targets targets = random_targets(T, V);
      targets.data()[1] = targets.data()[6] = kIgnored;
      const Matrix wide_dh = filled(T, D + 2, 1), wide_dw = filled(V, D + 2, -2);
      const Out2 dh = wide_dh.view().cols(1, D + 1), dw = wide_dw.view().cols(1, D + 1);
      Arena scratch;
      const float weight = 0.25f;
      const CrossEntropy got =
          linear_cross_entropy(h, w, targets, {weight, dh, dw}, Precision::kFp32, scratch);

      std::vector<double> ph = to_double(h), pw = to_double(w);
      const auto loss = [&] { return double(weight) * reference_loss(ph, pw, size_t(D), targets); };
      EXPECT_NEAR(got.loss_sum, loss() / double(weight), 1e-5) << V;
      EXPECT_EQ(got.count, 5);
      EXPECT_TRUE(gradient_added(1, dh, ph, loss, 1e-4)) << V;
      EXPECT_TRUE(gradient_added(-2, dw, pw, loss, 1e-4, 300)) << V;
      for (int64_t t = 0; t < T; ++t) EXPECT_EQ(wide_dh.row(t)[0] + wide_dh.row(t)[D + 1], 2);
      for (int64_t v = 0; v < V; ++v) EXPECT_EQ(wide_dw.row(v)[0] + wide_dw.row(v)[D + 1], -4);

      // Each output alone, and none: the same numbers.
      const Matrix dh_alone = filled(T, D, 1), dw_alone = filled(V, D, -2);
      linear_cross_entropy(h, w, targets, {weight, dh_alone, {}}, Precision::kFp32, scratch);
      linear_cross_entropy(h, w, targets, {weight, {}, dw_alone}, Precision::kFp32, scratch);
      EXPECT_TRUE(same_bits(dh_alone, dh));
      EXPECT_TRUE(same_bits(dw_alone, dw));
      const CrossEntropy none =
          linear_cross_entropy(h, w, targets, {weight, {}, {}}, Precision::kFp32, scratch);
      EXPECT_EQ(none.loss_sum, got.loss_sum);
      EXPECT_EQ(none.correct, got.correct);
      EXPECT_EQ(scratch.used(), 0);
    }
  });
}

// Rows whose logits are the rows themselves: w is the identity.
struct Straight {
  Matrix h, w;
  explicit Straight(const std::vector<std::vector<float>>& rows)
      : h({int64_t(rows.size()), int64_t(rows[0].size())}), w({h.dim(1), h.dim(1)}) {
    for (size_t t = 0; t < rows.size(); ++t) std::copy_n(rows[t].data(), w.dim(0), h.row(t));
    for (int64_t i = 0; i < w.dim(0); ++i) w.row(i)[i] = 1;
  }
  CrossEntropy run(const std::vector<int32_t>& values, Out2 dh = {}) const {
    Targets targets({h.dim(0)});
    std::copy(values.begin(), values.end(), targets.data());
    Arena scratch;
    return linear_cross_entropy(h, w.view(), targets, {1, dh, {}}, Precision::kFp32, scratch);
  }
  std::vector<int32_t> argmax() const {
    std::vector<int32_t> best(size_t(h.dim(0)), -7);
    Arena scratch;
    linear_argmax(h, w.view(), {best.data(), {h.dim(0)}}, Precision::kFp32, scratch);
    return best;
  }
};

TEST(CrossEntropy, LargeLogitsAreStable) {
  for_each_family([] {
    const Straight s({{1e4f, 1e4f, 0}, {-1e4f, -1e4f, -1e4f}, {1e4f, -1e4f, 0}, {1e4f, 9998, 0}});
    const Matrix dh({4, 3});
    const CrossEntropy sure = s.run({0, kIgnored, 0, 0}, dh);
    EXPECT_NEAR(sure.loss_sum, std::log(2) + std::log1p(std::exp(-2)), 1e-6);
    const double p = 1 / (1 + std::exp(-2));
    EXPECT_TRUE(close(
        dh, std::array{-0.5, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, p - 1, 1 - p, 0.0}, 1e-6));
    EXPECT_NEAR(s.run({2, 1, 1, 2}).loss_sum,
                1e4 + std::log(2) + std::log(3) + 2e4 + 1e4 + std::log1p(std::exp(-2)), 1e-3);
  });
}

TEST(CrossEntropy, CountsWhatIsArgMaxWithTiesToTheLowerId) {
  for_each_family([] {
    const Straight s(
        {{1, 5, 5}, {1, 5, 5}, {-3, -2, -2.5f}, {-3, -2, -2.5f}, {3, 4, 0}, {4, 1, 2}});
    const CrossEntropy got = s.run({1, 2, 1, 2, 0, kIgnored});
    EXPECT_EQ(got.correct, 2);
    EXPECT_EQ(got.count, 5);
    EXPECT_EQ(s.argmax(), (std::vector<int32_t>{1, 1, 1, 1, 1, 0}));
  });
}

TEST(CrossEntropy, ArgMaxFindsTheFirstPeakAnywhere) {
  for_each_family([] {
    for (int32_t peak : {0, 1, 511, 512, 700, 1023, 1024, 1049}) {
      std::vector<float> row(1050, -5.0f);
      row[size_t(peak)] = -4;
      row[1049] = -4;  // an equal later
      EXPECT_EQ(Straight({row}).argmax()[0], peak);
    }
  });
}

TEST(CrossEntropy, NanReachesTheLoss) {
  for_each_family([] {
    EXPECT_TRUE(std::isnan(Straight({{1, NAN, 2}}).run({0}).loss_sum));
    EXPECT_TRUE(std::isnan(Straight({{1, INFINITY, 2}}).run({0}).loss_sum));
  });
}

TEST(CrossEntropy, OfSeveralChunksIsTheSumAndNeverHoldsAllLogits) {
  const int64_t T = 520, V = 700, D = 9;  // 256 tokens a chunk
  const Matrix h = random_matrix(T, D, 1), w = random_matrix(V, D, 2);
  Targets targets = random_targets(T, V);
  targets.data()[300] = kIgnored;
  const std::vector<double> ph = to_double(h), pw = to_double(w);
  const std::vector<double> logits = reference_logits(ph, pw, D);
  std::vector<int64_t> peaks;
  int64_t want_correct = 0;
  for (int64_t t = 0; t < T; ++t) {
    const auto row = logits.begin() + t * V;
    peaks.push_back(std::max_element(row, row + V) - row);
    // Every third target is the arg max, so that there is something to count.
    if (t % 3 == 0 && t != 300) targets.data()[t] = int32_t(peaks.back());
    want_correct += targets.data()[t] == peaks.back();
  }
  const double want_loss = reference_loss(ph, pw, D, targets);
  std::vector<double> want_dh(size_t(T * D)), want_dw(size_t(V * D));
  for (int64_t t = 0; t < T; ++t) {
    if (targets.data()[t] == kIgnored) continue;
    double sum = 0;
    for (int64_t v = 0; v < V; ++v) sum += std::exp(logits[size_t(t * V + v)]);
    for (int64_t v = 0; v < V; ++v) {
      const double softmax = std::exp(logits[size_t(t * V + v)]) / sum;
      const double g = 0.5 * (softmax - (v == targets.data()[t]));
      for (int64_t d = 0; d < D; ++d) {
        want_dh[size_t(t * D + d)] += g * pw[size_t(v * D + d)];
        want_dw[size_t(v * D + d)] += g * ph[size_t(t * D + d)];
      }
    }
  }
  const auto run = [&](int64_t threads) {
    ScopedThreads scope(threads);
    Arena scratch(int64_t{1} << 16);
    Matrix dh({T, D}), dw({V, D}), numbers({1, 3}), best({1, T});
    const CrossEntropy r =
        linear_cross_entropy(h, w.view(), targets, {0.5f, dh, dw}, Precision::kFp32, scratch);
    EXPECT_LT(scratch.peak(), 300 * V * 4);
    EXPECT_GE(scratch.peak(), 256 * V * 4);
    numbers.data()[0] = float(r.loss_sum);
    numbers.data()[1] = float(r.correct);
    numbers.data()[2] = float(r.count);
    std::vector<int32_t> ids(size_t(T), -1);
    linear_argmax(h, w.view(), {ids.data(), {T}}, Precision::kFp32, scratch);
    std::copy(ids.begin(), ids.end(), best.data());
    return std::array{std::move(dh), std::move(dw), std::move(numbers), std::move(best)};
  };
  for_each_family([&] {
    const auto got = run(2);
    EXPECT_TRUE(close(got[0], want_dh, 2e-5));
    EXPECT_TRUE(close(got[1], want_dw, 2e-5));
    EXPECT_NEAR(got[2].data()[0] / want_loss, 1, 1e-6);
    EXPECT_NEAR(got[2].data()[1], want_correct, 1);  // rounding may turn a near tie
    EXPECT_EQ(got[2].data()[2], T - 1);
    int64_t agree = 0;
    for (int64_t t = 0; t < T; ++t) agree += got[3].data()[t] == float(peaks[size_t(t)]);
    EXPECT_GE(agree, T - 1);
  });
  const auto one = run(1);
  for (int64_t threads : {2, 3}) {
    const auto more = run(threads);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], more[i])) << i;
  }
}

TEST(CrossEntropy, LogitsOfALargeVocabularyComeInSmallerChunks) {
  const int64_t T = 130, V = 20000, D = 2;
  const Matrix h = random_matrix(T, D, 1), w = random_matrix(V, D, 2);
  const Targets targets = random_targets(T, V);
  Arena scratch(int64_t{1} << 16);
  const CrossEntropy got =
      linear_cross_entropy(h, w.view(), targets, {}, Precision::kFp32, scratch);
  EXPECT_LT(scratch.peak(), (int64_t{8} << 20) + 10'000);
  EXPECT_NEAR(got.loss_sum / reference_loss(to_double(h), to_double(w), D, targets), 1, 1e-6);
}

TEST(CrossEntropy, TakesBf16WeightsAndArithmetic) {
  const int64_t T = 20, V = 50, D = 16;
  const Matrix h = random_matrix(T, D, 1), w = random_matrix(V, D, 2), dh({T, D}), dw({V, D});
  Tensor<bf16, 2> half({V, D});
  for (int64_t i = 0; i < w.size(); ++i) half.data()[i] = to_bf16(w.data()[i]);
  const Matrix rounded_h({T, D}), rounded_w({V, D});
  for (int64_t i = 0; i < h.size(); ++i) rounded_h.data()[i] = to_float(to_bf16(h.data()[i]));
  for (int64_t i = 0; i < w.size(); ++i) rounded_w.data()[i] = to_float(half.data()[i]);
  const Targets targets = random_targets(T, V);
  for_each_family([&] {
    Arena scratch;
    const WeightView stored(DType::kBF16, half.data(), V, D);
    const CrossEntropy got =
        linear_cross_entropy(h, stored, targets, {}, Precision::kBf16, scratch);
    const double want =
        reference_loss(to_double(rounded_h), to_double(rounded_w), size_t(D), targets);
    EXPECT_NEAR(got.loss_sum, want, 1e-4);
    EXPECT_GT(
        std::abs(got.loss_sum - reference_loss(to_double(h), to_double(w), size_t(D), targets)),
        1e-3);
  });
}

TEST(CrossEntropy, TakesNoTokens) {
  const Matrix none({0, 4}), w = filled(3, 4, 1), dw = filled(3, 4, 5);
  Arena scratch;
  const CrossEntropy got =
      linear_cross_entropy(none, w.view(), {}, {1, none, dw}, Precision::kFp32, scratch);
  EXPECT_EQ(got.loss_sum, 0);
  EXPECT_EQ(got.count, 0);
  linear_argmax(none, w.view(), {}, Precision::kFp32, scratch);
  EXPECT_TRUE(same_bits(dw, filled(3, 4, 5)));
}

TEST(CrossEntropy, RefusesTargetsAndShapesBeforeWriting) {
  const Matrix h = filled(2, 4, 1), w = filled(3, 4, 1), narrow({2, 3}), d = filled(2, 4, 5);
  const Matrix dw = filled(3, 4, 5);
  Targets targets({2}), one({1});
  Arena scratch;
  const auto run = [&](In2 hidden, const Targets& to, Out2 dh, Out2 dweight) {
    return linear_cross_entropy(hidden, w.view(), to, {1, dh, dweight}, Precision::kFp32, scratch);
  };
  EXPECT_ERROR(run(narrow, targets, d, dw), kShape, "h has 3 columns but w has 4");
  EXPECT_ERROR(run(h, one, d, dw), kShape, "targets has 1 entries, expected 2");
  EXPECT_ERROR(run(h, targets, narrow, dw), kShape, "dh is [2, 3] but h is [2, 4]");
  EXPECT_ERROR(run(h, targets, d, narrow), kShape, "dw is [2, 3] but w is [3, 4]");
  EXPECT_ERROR(run(h, targets, d, Matrix({3, 3})), kShape, "dw is [3, 3] but w is [3, 4]");
  EXPECT_ERROR(run(h, targets, d, d), kShape, "dw is [2, 4] but w is [3, 4]");
  targets.data()[1] = 3;
  EXPECT_ERROR(run(h, targets, d, dw), kShape,
               "target 3 of token 1 is outside the vocabulary 0 .. 2 and not -1");
  targets.data()[0] = -2;
  EXPECT_ERROR(run(h, targets, d, dw), kShape, "target -2 of token 0");
  EXPECT_ERROR(linear_argmax(h, w.view(), one, Precision::kFp32, scratch), kShape,
               "best has 1 entries, expected 2");
  EXPECT_ERROR(linear_argmax(narrow, w.view(), targets, Precision::kFp32, scratch), kShape,
               "h has 3 columns but w has 4");
  EXPECT_ERROR(linear_argmax(h, Matrix({0, 4}).view(), targets, Precision::kFp32, scratch), kShape,
               "w has no rows");
  EXPECT_TRUE(same_bits(d, filled(2, 4, 5)));
  EXPECT_TRUE(same_bits(dw, filled(3, 4, 5)));
}

}  // namespace
}  // namespace hadal
