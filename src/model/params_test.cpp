#include "model/params.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/transformer.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

struct Moments {
  double mean = 0, deviation = 0;
};
Moments moments_of(const float* values, int64_t count, int64_t step = 1) {
  double sum = 0, squares = 0;
  for (int64_t i = 0; i < count; ++i) {
    const double x = values[i * step];
    sum += x;
    squares += x * x;
  }
  const double mean = sum / double(count);
  return {mean, std::sqrt(squares / double(count) - mean * mean)};
}

Params some_params() {
  Params params;
  params.add("model.embed_tokens.weight", {3000, 40}, ParamGroup::kEmbedding);
  params.add("a.weight", {600, 100}, ParamGroup::kMatrix);
  params.add("lm_head.weight", {500, 64}, ParamGroup::kHead);
  params.add("norm.weight", {40}, ParamGroup::kNorm);
  params.add("a.bias", {600}, ParamGroup::kBias);
  params.allocate_training();
  return params;
}
const float* values(const Params& params, size_t i) {
  return static_cast<const float*>(params.all()[i].value);
}

TEST(FirstWeights, normal_is_one_deviation_for_all) {
  Params params = some_params();
  params.initialise(5, 0.3);
  for (size_t i = 0; i < 3; ++i) {
    const Moments m = moments_of(values(params, i), params.all()[i].size());
    EXPECT_NEAR(m.mean, 0, 0.01);
    EXPECT_NEAR(m.deviation, 0.3, 0.01);
  }
  EXPECT_EQ(values(params, 3)[39], 1);
  EXPECT_EQ(values(params, 4)[599], 0);
}

// Matrices keep the size of what goes through them; a column of the embeddings varies about its
// part of the shared vector, which is as long as what is a token's own.
TEST(FirstWeights, scaled_looks_at_the_inputs) {
  Params params = some_params();
  params.initialise(5, 0.5, FirstWeights::kScaled);
  EXPECT_NEAR(moments_of(values(params, 1), 60000).deviation, 0.1, 0.003);
  EXPECT_NEAR(moments_of(values(params, 2), 32000).deviation, 0.125, 0.004);
  double shared = 0;
  for (int64_t c = 0; c < 40; ++c) {
    const Moments m = moments_of(values(params, 0) + c, 3000, 40);
    EXPECT_NEAR(m.deviation, 0.5, 0.04);
    shared += m.mean * m.mean / 40;
  }
  EXPECT_NEAR(std::sqrt(shared), 0.5, 0.2);
  EXPECT_EQ(values(params, 3)[39], 1);
  EXPECT_EQ(values(params, 4)[599], 0);
}

}  // namespace
}  // namespace hadal
