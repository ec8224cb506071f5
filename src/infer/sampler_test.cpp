#include "infer/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/testing.h"

namespace hadal {
namespace {

const std::vector<float> kLogits{1.0f, 3.0f, -2.0f, 2.5f, 3.0f, 0.0f};

// Pearson's statistic of 20,000 draws against softmax(logits / temperature) over `kept` ids.
double chi_square(const SamplingParams& params, const std::vector<int>& kept) {
  const int draws = 20000;
  std::vector<double> counts(kLogits.size()), p(kLogits.size());
  double total = 0;
  for (int id : kept) total += p[size_t(id)] = std::exp(kLogits[size_t(id)] / params.temperature);
  for (int i = 0; i < draws; ++i) {
    counts[size_t(sample_token(kLogits, 6, params, i))] += 1;
  }
  double statistic = 0;
  for (size_t id = 0; id < p.size(); ++id) {
    const double expected = draws * p[id] / total;
    if (expected == 0) {
      EXPECT_EQ(counts[id], 0) << "token " << id << " was cut off but drawn";
      continue;
    }
    statistic += (counts[id] - expected) * (counts[id] - expected) / expected;
  }
  return statistic;
}

TEST(sampler, greedy_takes_the_largest_and_the_lower_id_of_two) {
  EXPECT_EQ(sample_token(kLogits, 6, {.temperature = 0}, 7), 1);
  EXPECT_EQ(sample_token(kLogits, 1, {.temperature = 0}, 7), 0);  // ids beyond the vocabulary
}

TEST(sampler, draws_from_the_softmax) {
  // 0.9999 quantile of chi-square with 5 degrees of freedom: 25.7
  EXPECT_LT(chi_square({.temperature = 1, .seed = 1}, {0, 1, 2, 3, 4, 5}), 25.7);
  EXPECT_LT(chi_square({.temperature = 2.5, .seed = 2}, {0, 1, 2, 3, 4, 5}), 25.7);
}

TEST(sampler, cuts_by_k_p_and_share_of_the_best) {
  // 0.9999 quantiles: 15.1 with one, 18.4 with two degrees of freedom
  EXPECT_LT(chi_square({.temperature = 1, .top_k = 2, .seed = 3}, {1, 4}), 15.1);
  EXPECT_LT(chi_square({.temperature = 1, .top_k = 3, .seed = 4}, {1, 3, 4}), 18.4);
  // probabilities 0.048 0.357 0.002 0.217 0.357 0.018: the best two reach 0.715, three 0.932
  EXPECT_LT(chi_square({.temperature = 1, .top_p = 0.71, .seed = 5}, {1, 4}), 15.1);
  EXPECT_LT(chi_square({.temperature = 1, .top_p = 0.72, .seed = 6}, {1, 3, 4}), 18.4);
  EXPECT_LT(chi_square({.temperature = 1, .min_p = 0.6, .seed = 7}, {1, 3, 4}), 18.4);
}

TEST(sampler, is_a_function_of_seed_and_position) {
  int same = 0;
  for (int i = 0; i < 200; ++i) {
    const SamplingParams a{.seed = 8}, b{.seed = 9};
    EXPECT_EQ(sample_token(kLogits, 6, a, i), sample_token(kLogits, 6, a, i));
    same += sample_token(kLogits, 6, a, i) == sample_token(kLogits, 6, b, i) ? 1 : 0;
  }
  EXPECT_LT(same, 120);
}

TEST(sampler, refuses_what_cannot_be_sampled) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  EXPECT_ERROR(sample_token(std::vector<float>{0, nan}, 2, {}, 0), kFormat, "token 1 is NaN");
  EXPECT_ERROR(sample_token(std::vector<float>{-inf, -inf}, 2, {}, 0), kFormat, "no logit");
  EXPECT_ERROR(check_sampling({.temperature = -1}), kUsage, "temperature -1");
  EXPECT_ERROR(check_sampling({.top_k = -5}), kUsage, "top-k -5");
  EXPECT_ERROR(check_sampling({.top_p = 0}), kUsage, "top-p 0");
  EXPECT_ERROR(check_sampling({.min_p = 2}), kUsage, "min-p 2");
  EXPECT_ERROR(check_sampling({.temperature = nan}), kUsage, "temperature");
  EXPECT_ERROR(check_sampling({.presence_penalty = 2.5}), kUsage, "presence penalty 2.5");
  EXPECT_ERROR(check_sampling({.frequency_penalty = nan}), kUsage, "frequency penalty");
  EXPECT_ERROR(check_sampling({.repetition_penalty = 0}), kUsage, "repetition penalty 0");
  EXPECT_ERROR(check_sampling({.logit_bias = {{3, 101}}}), kUsage, "bias 101 of token 3");
  EXPECT_ERROR(check_sampling({.logit_bias = {{-3, 1}}}), kUsage, "token -3");
  EXPECT_ERROR(check_sampling({.logit_bias = std::vector<LogitBias>(5000)}), kUsage, "5000 logit");
}

TEST(sampler, penalties_and_biases_change_logits_as_they_say) {
  struct Case {
    SamplingParams params;
    std::vector<float> want;
  };
  // Token 0 was generated twice, 1 is in the prompt, 2 was generated once.
  const TokenCounts counts{{0, 2}, {1, 0}, {2, 1}, {77, 1}};
  const std::vector<Case> cases{
      {{}, kLogits},
      {{.presence_penalty = 0.5}, {0.5f, 3.0f, -2.5f, 2.5f, 3.0f, 0.0f}},
      {{.frequency_penalty = 0.5}, {0.0f, 3.0f, -2.5f, 2.5f, 3.0f, 0.0f}},
      {{.frequency_penalty = -1}, {3.0f, 3.0f, -1.0f, 2.5f, 3.0f, 0.0f}},
      {{.repetition_penalty = 2}, {0.5f, 1.5f, -4.0f, 2.5f, 3.0f, 0.0f}},
      {{.logit_bias = {{5, -100}, {0, 1}, {9, 3}}}, {2.0f, 3.0f, -2.0f, 2.5f, 3.0f, -100.0f}},
      {{.presence_penalty = 1, .repetition_penalty = 2, .logit_bias = {{0, 4}}},
       {3.5f, 1.5f, -5.0f, 2.5f, 3.0f, 0.0f}},
  };
  for (size_t i = 0; i < cases.size(); ++i) {
    std::vector<float> logits = kLogits;
    adjust_logits(logits, cases[i].params, counts);
    EXPECT_EQ(logits, cases[i].want) << "case " << i;
  }
}

TEST(sampler, logprobs_are_logarithms_of_the_softmax) {
  double sum = 0;
  for (float x : kLogits) sum += std::exp(x);
  const Logprobs all = token_logprobs(kLogits, 6, 3, 4);
  EXPECT_NEAR(all.token.logprob, 2.5 - std::log(sum), 1e-6);
  std::vector<int32_t> ids;
  for (const TokenLogprob& t : all.top) ids.push_back(t.id);
  EXPECT_EQ(ids, (std::vector<int32_t>{1, 4, 3, 0}));  // equal ones by id
  EXPECT_EQ(all.top[2].logprob, all.token.logprob);
  EXPECT_EQ(token_logprobs(kLogits, 2, 0, 9).top.size(), 2u);
  EXPECT_NEAR(token_logprobs(kLogits, 2, 0, 0).token.logprob, -std::log(1 + std::exp(2.0)), 1e-6);
  EXPECT_EQ(token_logprobs(kLogits, 2, 5, 0).token.logprob, -INFINITY);
}

}  // namespace
}  // namespace hadal
