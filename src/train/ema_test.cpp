#include "train/ema.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/testing.h"

namespace hadal {
namespace {

struct EmaFixture {
  Params params;
  Param *matrix, *bias;
  EmaFixture() {
    matrix = params.add("a.weight", {33, 7}, ParamGroup::kMatrix);
    bias = params.add("e_score_correction_bias", {5}, ParamGroup::kRouterBias);
    params.allocate_training();
  }
  // Another set of weights for every update.
  void set_weights(int64_t t) {
    for (Param* p : {matrix, bias}) {
      Rng rng(4, static_cast<uint64_t>(t));
      for (int64_t i = 0; i < p->size(); ++i) {
        p->vec_mut().data()[i] = static_cast<float>(rng.normal());
      }
    }
  }
};

TEST(Ema, FollowsItsFormulaInDouble) {
  for (const double decay : {0.5, 0.9}) {
    EmaFixture f;
    Ema ema(f.params, decay);
    std::vector<double> matrix(231), bias(5);
    for (int64_t t = 1; t <= 30; ++t) {
      ema.wait();
      f.set_weights(t);
      ema.follow(t);
      const double share = std::max(1 - decay, 10.0 / (9.0 + double(t)));
      const auto move = [&](std::vector<double>& to, const Param& p) {
        for (size_t i = 0; i < to.size(); ++i) to[i] += share * (p.vec().data()[i] - to[i]);
      };
      move(matrix, *f.matrix);
      move(bias, *f.bias);
      if (t == 1) {
        EXPECT_EQ(ema.of(*f.matrix).data()[3], f.matrix->vec().data()[3]);
      }
    }
    EXPECT_TRUE(close(In2(ema.of(*f.matrix).data(), {33, 7}), matrix, 1e-6)) << decay;
    EXPECT_TRUE(close(In2(ema.of(*f.bias).data(), {1, 5}), bias, 1e-6)) << decay;
  }
}

TEST(Ema, KnowsItsModelOnly) {
  EmaFixture f, other;
  Ema ema(f.params, 0.9);
  EXPECT_ERROR(ema.of(*other.matrix), kInternal, "another model");
}

}  // namespace
}  // namespace hadal
