#include "ops/router.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "core/parallel.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using Scoring = RouterShape::Scoring;
using GroupScore = RouterShape::GroupScore;
using Choices = Tensor<int32_t, 2>;

// V3's kind of router, small: 4 groups of 4 experts, 2 groups, 3 experts a token.
RouterShape v3_shape() {
  RouterShape s;
  s.experts = 16;
  s.top_k = 3;
  s.groups = 4;
  s.top_groups = 2;
  s.routed_scaling_factor = 2.5f;
  return s;
}
// V2's: softmax, best of a group, not normalised.
RouterShape v2_shape() {
  RouterShape s = v3_shape();
  s.scoring = Scoring::kSoftmax;
  s.group_score = GroupScore::kMax;
  s.norm_topk_prob = false;
  s.routed_scaling_factor = 16;
  return s;
}
RouterShape plain_shape() {
  RouterShape s = v2_shape();
  s.groups = s.top_groups = 1;
  return s;
}
std::vector<RouterShape> all_shapes() {
  RouterShape one_group = v3_shape();
  one_group.top_groups = 1;
  RouterShape all_groups = v3_shape();
  all_groups.top_groups = 4;
  RouterShape softmax_normalised = v2_shape();
  softmax_normalised.norm_topk_prob = true;
  return {v3_shape(), v2_shape(), plain_shape(), one_group, all_groups, softmax_normalised};
}

// ---- the definition, by sorting, in double

std::vector<double> reference_scores(const std::vector<double>& logits, const RouterShape& shape) {
  std::vector<double> s(logits.size());
  const auto n = size_t(shape.experts);
  for (size_t t = 0; t < logits.size(); t += n) {
    double total = 0;
    for (size_t i = 0; i < n; ++i) total += std::exp(logits[t + i]);
    for (size_t i = 0; i < n; ++i) {
      s[t + i] = shape.scoring == Scoring::kSoftmax ? std::exp(logits[t + i]) / total
                                                    : 1 / (1 + std::exp(-logits[t + i]));
    }
  }
  return s;
}

// The indices of `values` from the best to the worst; the lower index first where equal.
std::vector<int32_t> ranked(const std::vector<float>& values) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int32_t a, int32_t b) { return values[size_t(a)] > values[size_t(b)]; });
  return order;
}

std::vector<int32_t> reference_choice(const float* scores, const float* bias,
                                      const RouterShape& shape) {
  const auto n = size_t(shape.experts), per_group = n / size_t(shape.groups);
  std::vector<float> biased(scores, scores + n), group_scores;
  for (size_t i = 0; bias != nullptr && i < n; ++i) biased[i] += bias[i];
  for (size_t g = 0; g < size_t(shape.groups); ++g) {
    std::vector<float> members(biased.begin() + int64_t(g * per_group),
                               biased.begin() + int64_t((g + 1) * per_group));
    std::sort(members.begin(), members.end(), std::greater<>());
    const bool two = shape.group_score == GroupScore::kTopTwoSum && shape.groups > 1;
    group_scores.push_back(two ? members[0] + members[1] : members[0]);
  }
  const std::vector<int32_t> groups = ranked(group_scores);
  for (size_t i = 0; i < n; ++i) {
    const auto end = groups.begin() + shape.top_groups;
    const bool allowed = std::find(groups.begin(), end, int32_t(i / per_group)) != end;
    if (!allowed) biased[i] = -INFINITY;
  }
  std::vector<int32_t> best = ranked(biased);
  best.resize(size_t(shape.top_k));
  return best;
}

double reference_gate(const std::vector<double>& s, size_t token,
                      const std::vector<int32_t>& chosen, size_t j, const RouterShape& shape) {
  const auto at = [&](int32_t e) { return s[token * size_t(shape.experts) + size_t(e)]; };
  double sum = 0;
  for (int32_t e : chosen) sum += at(e);
  return at(chosen[j]) / (shape.norm_topk_prob ? sum : 1) * double(shape.routed_scaling_factor);
}

// ---- scores

TEST(Router, ScoresAreTheFormulaInEveryFamily) {
  for_each_family([] {
    for (RouterShape shape : {v3_shape(), v2_shape()}) {
      for (int64_t n : {1, 3, 16, 67}) {
        shape.experts = n;
        shape.groups = shape.top_groups = shape.top_k = 1;
        const Matrix wide = random_matrix(9, n + 3, 1, 3), out = filled(9, n + 2, 7);
        const In2 logits = wide.view().cols(2, n + 2);
        const Out2 scores = out.view().cols(1, n + 1);
        router_scores(logits, shape, scores);
        EXPECT_TRUE(close(scores, reference_scores(to_double(logits), shape), 1e-6)) << n;
        for (int64_t t = 0; t < 9; ++t) EXPECT_EQ(out.row(t)[0] + out.row(t)[n + 1], 14);
        const Matrix in_place = clone(logits);
        router_scores(in_place, shape, in_place);
        EXPECT_TRUE(same_bits(in_place, scores));
      }
    }
  });
}

TEST(Router, ScoresOfLargeLogitsAreFinite) {
  for_each_family([] {
    RouterShape shape = plain_shape();
    shape.experts = 3;
    const Matrix logits({1, 3}), scores({1, 3});
    logits.data()[0] = 1e4f, logits.data()[1] = 9999, logits.data()[2] = -1e4f;
    router_scores(logits, shape, scores);
    const double e = std::exp(-1.0);
    EXPECT_TRUE(close(scores, std::array{1 / (1 + e), e / (1 + e), 0.0}, 1e-6));
    shape.scoring = Scoring::kSigmoid;
    router_scores(logits, shape, scores);
    EXPECT_TRUE(close(scores, std::array{1.0, 1.0, 0.0}, 1e-6));
  });
}

TEST(Router, ScoresBackwardAddsTheGradient) {
  for_each_family([] {
    for (RouterShape shape : {v3_shape(), v2_shape()}) {
      const Matrix logits = random_matrix(5, 16, 1), wide_w = random_matrix(5, 18, 2);
      const In2 w = wide_w.view().cols(1, 17);
      const Matrix scores({5, 16}), wide = filled(5, 18, 1);
      const Out2 dlogits = wide.view().cols(1, 17);
      router_scores(logits, shape, scores);
      router_scores_backward(w, scores, shape, dlogits);
      std::vector<double> p = to_double(logits), pw = to_double(w);
      const auto loss = [&] {
        const std::vector<double> s = reference_scores(p, shape);
        return std::inner_product(s.begin(), s.end(), pw.begin(), 0.0);
      };
      EXPECT_TRUE(gradient_added(1, dlogits, p, loss, 1e-5));
      for (int64_t t = 0; t < 5; ++t) EXPECT_EQ(wide.row(t)[0] + wide.row(t)[17], 2);
    }
  });
}

// ---- the choice

// Biases from small to so negative that all biased scores are below zero, where a mask of 0 would
// let in experts of groups that were not chosen.
TEST(Router, ChoiceAndGatesAreTheDefinition) {
  for (const RouterShape& shape : all_shapes()) {
    for (float shift : {0.0f, -5.0f, 5.0f}) {
      const int64_t T = 200, n = shape.experts;
      const Matrix wide = random_matrix(T, n + 2, 1), bias = random_matrix(1, n, 2, 0.2);
      for (int64_t i = 0; i < n; ++i) bias.data()[i] += shift;
      const Out2 scores = wide.view().cols(1, n + 1);
      router_scores(scores, shape, scores);
      Choices experts({T, shape.top_k});
      const Matrix out = filled(T, shape.top_k + 2, 7);
      const Out2 gates = out.view().cols(1, shape.top_k + 1);
      router_select(scores, vec(bias), shape, experts, gates);
      const std::vector<double> s = to_double(scores);
      int64_t biased_choices = 0;
      for (int64_t t = 0; t < T; ++t) {
        const auto want = reference_choice(scores.row(t), bias.data(), shape);
        biased_choices += want != reference_choice(scores.row(t), nullptr, shape);
        for (int64_t j = 0; j < shape.top_k; ++j) {
          EXPECT_EQ(experts.row(t)[j], want[size_t(j)]) << t << ", " << j;
          EXPECT_NEAR(gates.row(t)[j], reference_gate(s, size_t(t), want, size_t(j), shape), 1e-5);
        }
        EXPECT_EQ(out.row(t)[0] + out.row(t)[shape.top_k + 1], 14);
      }
      EXPECT_GT(biased_choices, T / 10);  // the bias matters
    }
  }
}

TEST(Router, ChoosesWithoutABias) {
  const RouterShape shape = v3_shape();
  const Matrix scores = random_matrix(50, 16, 3), gates({50, 3}), zero({1, 16}), same({50, 3});
  router_scores(scores, shape, scores);
  Choices experts({50, 3}), again({50, 3});
  router_select(scores, {}, shape, experts, gates);
  router_select(scores, vec(zero), shape, again, same);
  EXPECT_TRUE(same_bits(gates, same));
  for (int64_t i = 0; i < experts.size(); ++i) EXPECT_EQ(experts.data()[i], again.data()[i]);
}

// Group 0 has the best expert, group 1 the best pair; the rest is far below.
TEST(Router, GroupScoreIsThePairOrTheBest) {
  RouterShape shape;
  shape.experts = 6;
  shape.top_k = 1;
  shape.groups = 3;
  shape.top_groups = 1;
  const std::array<float, 6> values{0.9f, 0.1f, 0.6f, 0.5f, 0.2f, 0.2f};
  const Matrix scores({1, 6}), gates({1, 1});
  std::copy(values.begin(), values.end(), scores.data());
  Choices experts({1, 1});
  router_select(scores, {}, shape, experts, gates);
  EXPECT_EQ(experts.data()[0], 2);
  shape.group_score = GroupScore::kMax;
  router_select(scores, {}, shape, experts, gates);
  EXPECT_EQ(experts.data()[0], 0);
}

TEST(Router, TiesGoToTheLowerIndex) {
  RouterShape shape = v3_shape();
  const Matrix scores = filled(1, 16, 0.5f), gates({1, 3});
  Choices experts({1, 3});
  const auto choose = [&] {
    router_select(scores, {}, shape, experts, gates);
    return std::vector<int32_t>(experts.data(), experts.data() + 3);
  };
  EXPECT_EQ(choose(), (std::vector<int32_t>{0, 1, 2}));
  scores.data()[14] = scores.data()[15] = 0.75f;  // group 3 is best; groups 0 and 2 tie
  scores.data()[9] = scores.data()[2] = 0.625f;
  EXPECT_EQ(choose(), (std::vector<int32_t>{14, 15, 2}));
  shape.top_groups = 4;
  EXPECT_EQ(choose(), (std::vector<int32_t>{14, 15, 2}));
}

TEST(Router, GatesOfVanishingScoresAreFinite) {
  const RouterShape shape = v3_shape();
  const Matrix scores = filled(1, 16, 0), gates = filled(1, 3, 7);
  Choices experts({1, 3});
  router_select(scores, {}, shape, experts, gates);
  EXPECT_TRUE(same_bits(gates, filled(1, 3, 0)));
}

TEST(Router, RefusesNanNamingTheFirstToken) {
  const RouterShape shape = v3_shape();
  const Matrix scores = random_matrix(3000, 16, 1), gates({3000, 3}), bias({1, 16});
  Choices experts({3000, 3});
  scores.row(2990)[15] = scores.row(2100)[0] = scores.row(1234)[7] = NAN;
  for (int64_t threads : {1, 2, 3}) {
    ScopedThreads scope(threads);
    EXPECT_ERROR(router_select(scores, vec(bias), shape, experts, gates), kNumbers,
                 "a score of token 1234 is NaN");
  }
  bias.data()[3] = NAN;
  EXPECT_ERROR(router_select(scores, vec(bias), shape, experts, gates), kNumbers,
               "a score of token 0 is NaN");
}

TEST(Router, SelectBackwardAddsTheGradient) {
  for (const RouterShape& shape : all_shapes()) {
    const int64_t T = 6;
    const Matrix scores = random_matrix(T, 16, 1), gates({T, 3}), wide_w = random_matrix(T, 5, 2);
    const Matrix wide = filled(T, 18, 1);
    const In2 w = wide_w.view().cols(1, 4);
    const Out2 dscores = wide.view().cols(1, 17);
    router_scores(scores, shape, scores);
    Choices experts({T, 3});
    router_select(scores, {}, shape, experts, gates);
    router_select_backward(w, scores, experts, shape, dscores);
    std::vector<double> p = to_double(scores);
    const auto loss = [&] {
      double sum = 0;
      for (int64_t t = 0; t < T; ++t) {
        const std::vector<int32_t> chosen(experts.row(t), experts.row(t) + 3);
        for (size_t j = 0; j < 3; ++j) {
          sum += double(w.row(t)[j]) * reference_gate(p, size_t(t), chosen, j, shape);
        }
      }
      return sum;
    };
    EXPECT_TRUE(gradient_added(1, dscores, p, loss, 1e-5));
    for (int64_t t = 0; t < T; ++t) EXPECT_EQ(wide.row(t)[0] + wide.row(t)[17], 2);
  }
}

TEST(Router, IsTheSameForAnyNumberOfThreads) {
  for_each_family([] {
    for (const RouterShape& shape : {v3_shape(), v2_shape()}) {
      const int64_t T = 5000;
      const Matrix logits = random_matrix(T, 16, 1), w = random_matrix(T, 3, 2);
      const auto run = [&](int64_t threads) {
        ScopedThreads scope(threads);
        Matrix scores({T, 16}), gates({T, 3}), dscores({T, 16}), dlogits({T, 16});
        Choices experts({T, 3});
        router_scores(logits, shape, scores);
        router_select(scores, {}, shape, experts, gates);
        router_select_backward(w, scores, experts, shape, dscores);
        router_scores_backward(dscores, scores, shape, dlogits);
        return std::array{std::move(scores), std::move(gates), std::move(dscores),
                          std::move(dlogits)};
      };
      const auto one = run(1);
      for (int64_t threads : {2, 3}) {
        const auto more = run(threads);
        for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], more[i])) << i;
      }
    }
  });
}

TEST(Router, TakesNoTokens) {
  const RouterShape shape = v3_shape();
  const Matrix scores({0, 16}), gates({0, 3});
  const Choices experts({0, 3});
  router_scores(scores, shape, scores);
  router_select(scores, {}, shape, experts, gates);
  router_select_backward(gates, scores, experts, shape, scores);
  router_scores_backward(scores, scores, shape, scores);
}

TEST(Router, RefusesImpossibleShapes) {
  const Matrix scores({2, 16}), gates({2, 3});
  const Choices experts({2, 3});
  const auto refused = [&](auto change, const char* text) {
    RouterShape shape = v3_shape();
    change(shape);
    EXPECT_ERROR(router_scores(scores, shape, scores), kConfig, text);
    EXPECT_ERROR(router_select(scores, {}, shape, experts, gates), kConfig, text);
    EXPECT_ERROR(router_select_backward(gates, scores, experts, shape, scores), kConfig, text);
    EXPECT_ERROR(router_scores_backward(scores, scores, shape, scores), kConfig, text);
    EXPECT_ERROR(sequence_balance_loss(scores, shape, 1, 1, 1, {}), kConfig, text);
    EXPECT_ERROR(batch_balance_loss(scores, experts, shape, 1, 1, {}), kConfig, text);
  };
  refused([](RouterShape& s) { s.experts = 0; }, "0 experts cannot be split into 4 groups");
  refused([](RouterShape& s) { s.groups = 3; }, "16 experts cannot be split into 3 groups");
  refused([](RouterShape& s) { s.groups = 0; }, "0 groups");
  refused([](RouterShape& s) { s.top_groups = 5; }, "topk_group is 5, expected 1 .. 4");
  refused([](RouterShape& s) { s.top_groups = 0; }, "topk_group is 0");
  refused([](RouterShape& s) { s.top_k = 9; },
          "num_experts_per_tok is 9, expected 1 .. 8, the experts of 2 groups");
  refused([](RouterShape& s) { s.top_k = 0; }, "num_experts_per_tok is 0");
  refused([](RouterShape& s) { s.groups = 16, s.top_groups = 8; }, "groups of one expert");
}

TEST(Router, RefusesWrongShapes) {
  const RouterShape shape = v3_shape();
  const Matrix scores({2, 16}), gates({2, 3}), narrow({2, 15}), four({2, 4}), bias({1, 15});
  const Choices experts({2, 3}), two({2, 2}), one({1, 3}), bad({2, 3});
  EXPECT_ERROR(router_scores(narrow, shape, scores), kShape, "logits is [2, 15], expected [2, 16]");
  EXPECT_ERROR(router_scores(scores, shape, narrow), kShape, "scores is [2, 15]");
  EXPECT_ERROR(router_select(narrow, {}, shape, experts, gates), kShape, "scores is [2, 15]");
  EXPECT_ERROR(router_select(scores, {}, shape, two, gates), kShape, "experts is [2, 2]");
  EXPECT_ERROR(router_select(scores, {}, shape, one, gates), kShape,
               "experts is [1, 3], expected [2, 3]");
  EXPECT_ERROR(router_select(scores, {}, shape, experts, four), kShape, "gates is [2, 4]");
  EXPECT_ERROR(router_select(scores, vec(bias), shape, experts, gates), kShape,
               "bias has 15 entries, expected 16");
  EXPECT_ERROR(router_select_backward(four, scores, experts, shape, scores), kShape, "dgates is");
  EXPECT_ERROR(router_select_backward(gates, narrow, experts, shape, scores), kShape, "scores is");
  EXPECT_ERROR(router_select_backward(gates, scores, two, shape, scores), kShape,
               "experts is [2, 2], expected [2, 3]");
  EXPECT_ERROR(router_select_backward(gates, scores, one, shape, scores), kShape,
               "experts is [1, 3], expected [2, 3]");
  EXPECT_ERROR(router_select_backward(gates, scores, experts, shape, narrow), kShape, "dscores is");
  bad.row(1)[2] = 16;
  EXPECT_ERROR(router_select_backward(gates, scores, bad, shape, scores), kShape,
               "expert 16 of token 1 is outside 0 .. 15");
  bad.row(0)[0] = -1;
  EXPECT_ERROR(router_select_backward(gates, scores, bad, shape, scores), kShape,
               "expert -1 of token 0");
  EXPECT_ERROR(router_scores_backward(narrow, scores, shape, scores), kShape, "dscores is");
  EXPECT_ERROR(router_scores_backward(scores, narrow, shape, scores), kShape, "scores is");
  EXPECT_ERROR(router_scores_backward(scores, scores, shape, narrow), kShape, "dlogits is");
}

TEST(Router, EntropyOfScores) {
  constexpr int64_t kTokens = 200, kExperts = 16;
  const Matrix even = filled(kTokens, kExperts, 0.25f), sure = filled(kTokens, kExperts, 0);
  const Matrix mixed({kTokens, kExperts});
  double expected = 0;
  for (int64_t t = 0; t < kTokens; ++t) {
    double sum = 0;
    for (int64_t e = 0; e < kExperts; ++e) {
      mixed.row(t)[e] = float((t * 7 + e * e * 3) % 11) / 11;
      sum += double(mixed.row(t)[e]);
    }
    for (int64_t e = 0; e < kExperts; ++e) {
      const double p = double(mixed.row(t)[e]) / sum;
      if (p > 0) expected -= p * std::log(p);
    }
    if (t > 0) sure.row(t)[t % kExperts] = 0.7f;  // token 0 has no score at all
  }
  EXPECT_NEAR(score_entropy(even), kTokens * std::log(double(kExperts)), 1e-3);
  EXPECT_NEAR(score_entropy(sure), 0, 1e-3);
  EXPECT_NEAR(score_entropy(mixed), expected, 1e-4 * expected);
  const double all = score_entropy(mixed);
  const ScopedThreads one(1);
  EXPECT_EQ(score_entropy(mixed), all);
}

}  // namespace
}  // namespace hadal
