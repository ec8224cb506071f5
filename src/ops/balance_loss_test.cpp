#include <algorithm>
#include <array>
#include <numeric>

#include "ops/router.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using Choices = Tensor<int32_t, 2>;
constexpr int64_t kLossExperts = 8, kTopK = 2;

RouterShape shape_of() {
  RouterShape s;
  s.experts = kLossExperts;
  s.top_k = kTopK;
  s.groups = 4;  // a limit that the sequence-wise loss must not see
  s.top_groups = 1;
  return s;
}

Matrix random_scores(int64_t rows) {
  Matrix scores = random_matrix(rows, kLossExperts, 1);
  router_scores(scores, shape_of(), scores);
  return scores;
}

// alpha * sum_i f_i P_i of tokens [begin, end), given which tokens are counted for which expert.
template <class Counted>
double reference(const std::vector<double>& s, size_t begin, size_t end, double alpha,
                 Counted counted) {
  const double T = double(end - begin);
  double loss = 0;
  for (size_t i = 0; i < kLossExperts; ++i) {
    double f = 0, P = 0;
    for (size_t t = begin; t < end; ++t) {
      double sum = 0;
      for (size_t j = 0; j < kLossExperts; ++j) sum += s[t * kLossExperts + j];
      P += s[t * kLossExperts + i] / sum / T;
      f += kLossExperts / (kTopK * T) * counted(t, i);
    }
    loss += alpha * f * P;
  }
  return loss;
}

// 1 when fewer than K experts of all have a better score.
auto among_the_best(const std::vector<double>& s) {
  return [s](size_t t, size_t i) {
    int better = 0;
    for (size_t j = 0; j < kLossExperts; ++j) {
      const double a = s[t * kLossExperts + j], b = s[t * kLossExperts + i];
      better += a > b || (a == b && j < i);
    }
    return better < kTopK;
  };
}

TEST(BalanceLoss, SequenceWiseIsTheDefinitionAndAddsItsGradient) {
  const int64_t length = 7, sequences = 5;
  const double alpha = 0.3, weight = 0.25;
  const Matrix wide = filled(length * sequences, kLossExperts + 2, 0.5f);
  const Out2 scores = wide.view().cols(1, kLossExperts + 1);
  const Matrix values = random_scores(length * sequences), wide_d = clone(wide);
  for (int64_t t = 0; t < scores.dim(0); ++t)
    std::copy_n(values.row(t), kLossExperts, scores.row(t));
  for (int64_t i = 0; i < wide_d.size(); ++i) wide_d.data()[i] = 1;
  const Out2 dscores = wide_d.view().cols(1, kLossExperts + 1);

  std::vector<double> p = to_double(scores);
  const auto counted = among_the_best(p);  // f is constant while p moves
  const auto loss = [&] {
    double sum = 0;
    for (size_t s = 0; s < sequences; ++s) {
      sum += reference(p, s * length, (s + 1) * length, alpha, counted) / sequences;
    }
    return weight * sum;
  };
  const double got =
      sequence_balance_loss(scores, shape_of(), length, float(alpha), weight, dscores);
  EXPECT_NEAR(got, loss(), 1e-7);
  EXPECT_TRUE(gradient_added(1, dscores, p, loss, 1e-4));
  for (int64_t t = 0; t < 35; ++t) EXPECT_EQ(wide_d.row(t)[0] + wide_d.row(t)[kLossExperts + 1], 2);
  EXPECT_EQ(sequence_balance_loss(scores, shape_of(), length, float(alpha), weight, {}), got);
}

TEST(BalanceLoss, BatchWiseIsTheDefinitionAndAddsItsGradient) {
  const int64_t T = 30;
  const double alpha = 0.3, weight = 0.25;
  const Matrix scores = random_scores(T), dscores = filled(T, kLossExperts, 1), gates({T, kTopK});
  Choices experts({T, kTopK});
  router_select(scores, {}, shape_of(), experts, gates);  // with groups: not the best of all

  std::vector<double> p = to_double(scores);
  const auto counted = [&](size_t t, size_t i) {
    const int32_t* e = experts.row(int64_t(t));
    return e[0] == int64_t(i) || e[1] == int64_t(i);
  };
  const auto loss = [&] { return weight * reference(p, 0, T, alpha, counted); };
  const double got = batch_balance_loss(scores, experts, shape_of(), float(alpha), weight, dscores);
  EXPECT_NEAR(got, loss(), 1e-7);
  EXPECT_TRUE(gradient_added(1, dscores, p, loss, 1e-4));
  EXPECT_EQ(batch_balance_loss(scores, experts, shape_of(), float(alpha), weight, {}), got);
}

TEST(BalanceLoss, OfManyTokensIsTheDefinition) {
  for (int64_t T : {256, 513}) {  // blocks of tokens are summed apart: whole ones, and one token
    const Matrix scores = random_scores(T), dscores = filled(T, kLossExperts, 1);
    std::vector<double> p = to_double(scores);
    const auto counted = among_the_best(p);
    const auto loss = [&] { return reference(p, 0, size_t(T), 100, counted); };
    EXPECT_NEAR(sequence_balance_loss(scores, shape_of(), T, 100, 1, dscores), loss(), 1e-5);
    EXPECT_TRUE(gradient_added(1, dscores, p, loss, 1e-4, 40)) << T;

    RouterShape no_groups = shape_of();
    no_groups.groups = 1;
    const Matrix gates({T, kTopK});
    Choices experts({T, kTopK});
    router_select(scores, {}, no_groups, experts, gates);  // the best of all: the same counts
    EXPECT_NEAR(batch_balance_loss(scores, experts, no_groups, 100, 1, {}), loss(), 1e-5);
  }
}

// Both are alpha when every expert is chosen equally often with equal scores, and more otherwise:
// alpha * N_r / K_r when all tokens go one way with all their score.
TEST(BalanceLoss, IsLeastWhenTheLoadIsEven) {
  const Matrix even = filled(4, kLossExperts, 0.5f), skewed({4, kLossExperts});
  Choices each({4, kTopK}), same({4, kTopK});
  for (int32_t t = 0; t < 4; ++t) {
    each.row(t)[0] = 2 * t, each.row(t)[1] = 2 * t + 1;
    same.row(t)[0] = 0, same.row(t)[1] = 1;
    skewed.row(t)[0] = skewed.row(t)[1] = 1;
  }
  EXPECT_NEAR(batch_balance_loss(even, each, shape_of(), 0.5f, 1, {}), 0.5, 1e-9);
  EXPECT_NEAR(batch_balance_loss(skewed, same, shape_of(), 0.5f, 1, {}), 0.5 * 8 / 2, 1e-9);
  EXPECT_NEAR(sequence_balance_loss(skewed, shape_of(), 2, 0.5f, 1, {}), 0.5 * 8 / 2, 1e-9);
}

TEST(BalanceLoss, VanishingScoresGiveNoNan) {
  const Matrix zero({4, kLossExperts}), dscores({4, kLossExperts});
  EXPECT_EQ(sequence_balance_loss(zero, shape_of(), 2, 1, 1, dscores), 0);
  for (int64_t i = 0; i < dscores.size(); ++i) EXPECT_TRUE(std::isfinite(dscores.data()[i]));
}

TEST(BalanceLoss, IsTheSameForAnyNumberOfThreads) {
  const int64_t T = 1800;  // several blocks
  const Matrix scores = random_scores(T), gates({T, kTopK});
  Choices experts({T, kTopK});
  router_select(scores, {}, shape_of(), experts, gates);
  const auto run = [&](int64_t threads) {
    ScopedThreads scope(threads);
    Matrix a({T, kLossExperts}), b({T, kLossExperts}), c({T, kLossExperts}), losses({1, 3});
    losses.data()[0] = float(sequence_balance_loss(scores, shape_of(), 300, 1, 1, a));
    losses.data()[1] = float(sequence_balance_loss(scores, shape_of(), T, 1, 1, b));
    losses.data()[2] = float(batch_balance_loss(scores, experts, shape_of(), 1, 1, c));
    return std::array{std::move(a), std::move(b), std::move(c), std::move(losses)};
  };
  const auto one = run(1);
  EXPECT_FALSE(same_bits(one[0], one[1]));
  for (int64_t threads : {2, 3}) {
    const auto more = run(threads);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], more[i])) << i;
  }
}

TEST(BalanceLoss, OfNoTokensIsZero) {
  const Matrix none({0, kLossExperts});
  const Choices experts({0, kTopK});
  EXPECT_EQ(sequence_balance_loss(none, shape_of(), 4, 1, 1, none), 0);
  EXPECT_EQ(batch_balance_loss(none, experts, shape_of(), 1, 1, none), 0);
}

TEST(BalanceLoss, RefusesWrongShapesBeforeWriting) {
  const Matrix scores = filled(6, kLossExperts, 0.5f), d = filled(6, kLossExperts, 1);
  const Matrix narrow({6, 7});
  const Choices experts({6, kTopK}), five({5, kTopK}), bad({6, kTopK});
  const RouterShape shape = shape_of();
  EXPECT_ERROR(sequence_balance_loss(scores, shape, 4, 1, 1, d), kShape,
               "6 rows cannot be cut into sequences of 4");
  EXPECT_ERROR(sequence_balance_loss(scores, shape, 0, 1, 1, d), kShape, "sequences of 0");
  EXPECT_ERROR(sequence_balance_loss(narrow, shape, 3, 1, 1, d), kShape, "scores is [6, 7]");
  EXPECT_ERROR(sequence_balance_loss(scores, shape, 3, 1, 1, narrow), kShape, "dscores is [6, 7]");
  EXPECT_ERROR(batch_balance_loss(narrow, experts, shape, 1, 1, d), kShape, "scores is [6, 7]");
  EXPECT_ERROR(batch_balance_loss(scores, five, shape, 1, 1, d), kShape, "experts is [5, 2]");
  EXPECT_ERROR(batch_balance_loss(scores, experts, shape, 1, 1, narrow), kShape, "dscores is");
  bad.row(5)[1] = 8;
  EXPECT_ERROR(batch_balance_loss(scores, bad, shape, 1, 1, d), kShape, "expert 8 of token 5");
  EXPECT_TRUE(same_bits(d, filled(6, kLossExperts, 1)));
}

}  // namespace
}  // namespace hadal
