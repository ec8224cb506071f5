#include "train/balance.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

TEST(Balance, BiasMovesAgainstTheLoadAndRestsAtTheMean) {
  // mean 3
  const MoeLoad load{0, {5, 3, 1, 3}};
  Matrix bias = filled(1, 4, 0.5f);
  update_bias(load, 0.125, vec(bias));
  EXPECT_EQ(bias.data()[0], 0.375f);
  EXPECT_EQ(bias.data()[1], 0.5f);
  EXPECT_EQ(bias.data()[2], 0.625f);
  EXPECT_EQ(bias.data()[3], 0.5f);
}

// The mean is 4/3: no count is equal to it, and rounding it would make 1 a tie.
TEST(Balance, MeanIsNotRounded) {
  const MoeLoad load{0, {2, 1, 1}};
  Matrix bias = filled(1, 3, 0);
  update_bias(load, 1, vec(bias));
  EXPECT_EQ(bias.data()[0], -1.0f);
  EXPECT_EQ(bias.data()[1], 1.0f);
  EXPECT_EQ(bias.data()[2], 1.0f);
}

// One token more or less in 2^40 still decides: a float would not see it.
TEST(Balance, CountsAreExact) {
  const int64_t many = int64_t{1} << 40;
  const MoeLoad load{0, {many + 1, many - 1, many}};
  Matrix bias = filled(1, 3, 0);
  update_bias(load, 1, vec(bias));
  EXPECT_EQ(bias.data()[0], -1.0f);
  EXPECT_EQ(bias.data()[1], 1.0f);
  EXPECT_EQ(bias.data()[2], 0.0f);
}

TEST(Balance, LoadsAddUpOverMicroBatches) {
  std::vector<MoeLoad> total;
  const std::vector<MoeLoad> first{{1, {1, 2}}, {2, {0, 3}}}, second{{1, {4, 0}}, {2, {2, 2}}};
  add_loads(first, total);
  add_loads(second, total);
  EXPECT_EQ(total[0].counts, (std::vector<int64_t>{5, 2}));
  EXPECT_EQ(total[1].counts, (std::vector<int64_t>{2, 5}));
  EXPECT_NEAR(max_violation(total[0]), 5 / 3.5 - 1, 1e-12);
  EXPECT_NEAR(worst_violation(total), 5 / 3.5 - 1, 1e-12);
  const std::vector<MoeLoad> other{{1, {1, 2}}};
  EXPECT_ERROR(add_loads(other, total), kInternal, "MoE layers");
}

TEST(Balance, EachLayerHasItsOwnBias) {
  Params params;
  Param* one = params.add("one", {2}, ParamGroup::kRouterBias, 1);
  Param* two = params.add("two", {2}, ParamGroup::kRouterBias, 2);
  Param* gain = params.add("norm.weight", {2}, ParamGroup::kNorm, 1);
  params.allocate_training();
  const std::vector<MoeLoad> loads{{1, {9, 1}}, {2, {1, 9}}};
  update_biases(params, loads, 0.5);
  EXPECT_EQ(one->vec().data()[0], -0.5f);
  EXPECT_EQ(two->vec().data()[0], 0.5f);
  EXPECT_EQ(gain->vec().data()[0], 0.0f);
  update_biases(params, loads, 0);
  EXPECT_EQ(one->vec().data()[0], -0.5f);
}

TEST(Balance, NothingCountedIsNoViolation) {
  EXPECT_EQ(max_violation({0, {0, 0}}), 0);
  EXPECT_EQ(worst_violation({}), 0);
}

}  // namespace
}  // namespace hadal
