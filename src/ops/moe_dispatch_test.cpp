#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "ops/router.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

using Choices = Tensor<int32_t, 2>;
using Slots = Tensor<int32_t, 1>;

// Each token's experts: distinct, in no order; expert 2 of each 5 never chosen.
Choices random_choices(int64_t rows, int64_t top_k, int64_t experts) {
  Choices choices({rows, top_k});
  Rng rng(11);
  for (int64_t t = 0; t < rows; ++t) {
    std::vector<int32_t> left;
    for (int32_t e = 0; e < experts; ++e) {
      if (e % 5 != 2) left.push_back(e);
    }
    for (int64_t j = 0; j < top_k; ++j) {
      const auto at = rng.below(int64_t(left.size()));
      choices.row(t)[j] = left[size_t(at)];
      left.erase(left.begin() + at);
    }
  }
  return choices;
}

struct Dispatch {
  std::vector<int64_t> offsets;
  Slots tokens, slot_of;
  Dispatch(const Choices& choices, int64_t experts)
      : offsets(size_t(experts + 1), -7), tokens({choices.size()}), slot_of({choices.size()}) {
    sort_by_expert(choices, offsets, tokens, slot_of);
  }
};

TEST(SortByExpert, IsStableAndComplete) {
  const int64_t T = 50, K = 3, E = 12;
  const Choices choices = random_choices(T, K, E);
  const Dispatch d(choices, E);
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> tokens;
  for (int32_t e = 0; e < E; ++e) {  // by definition: expert after expert, tokens in order
    for (int64_t t = 0; t < T; ++t) {
      for (int64_t j = 0; j < K; ++j) {
        if (choices.row(t)[j] != e) continue;
        EXPECT_EQ(d.slot_of.data()[t * K + j], int64_t(tokens.size()));
        tokens.push_back(int32_t(t));
      }
    }
    offsets.push_back(int64_t(tokens.size()));
  }
  EXPECT_EQ(d.offsets, offsets);
  EXPECT_EQ(std::vector<int32_t>(d.tokens.data(), d.tokens.data() + T * K), tokens);
}

TEST(SortByExpert, TakesNoTokensAndStridedRows) {
  std::vector<int64_t> offsets(4, -1);
  sort_by_expert(Choices({0, 2}), offsets, {}, {});
  EXPECT_EQ(offsets, std::vector<int64_t>(4, 0));

  offsets.assign(2, -1);  // one expert
  std::vector<int32_t> one(2, -1), other(2, -1);
  sort_by_expert(Choices({2, 1}), offsets, {one.data(), {2}}, {other.data(), {2}});
  EXPECT_EQ(offsets, (std::vector<int64_t>{0, 2}));
  EXPECT_EQ(one, (std::vector<int32_t>{0, 1}));
  EXPECT_EQ(other, one);

  offsets.assign(4, -1);
  Choices wide({2, 4});
  const std::array<int32_t, 8> values{9, 2, 0, 9, 9, 1, 2, 9};
  std::copy(values.begin(), values.end(), wide.data());
  Slots tokens({4}), slot_of({4});
  sort_by_expert(wide.view().cols(1, 3), offsets, tokens, slot_of);
  EXPECT_EQ(offsets, (std::vector<int64_t>{0, 1, 2, 4}));
  EXPECT_EQ(std::vector<int32_t>(tokens.data(), tokens.data() + 4),
            (std::vector<int32_t>{0, 1, 0, 1}));
  EXPECT_EQ(std::vector<int32_t>(slot_of.data(), slot_of.data() + 4),
            (std::vector<int32_t>{2, 0, 1, 3}));
}

TEST(SortByExpert, RefusesWrongShapes) {
  Choices choices({2, 2});
  Slots four({4}), three({3});
  std::vector<int64_t> offsets(4), none;
  EXPECT_ERROR(sort_by_expert(choices, none, four, four), kShape, "offsets has 0 entries");
  EXPECT_ERROR(sort_by_expert(choices, offsets, three, four), kShape, "tokens has 3 entries");
  EXPECT_ERROR(sort_by_expert(choices, offsets, four, three), kShape, "slot_of has 3 entries");
  choices.row(1)[0] = 3;
  EXPECT_ERROR(sort_by_expert(choices, offsets, four, four), kShape, "expert 3 of token 1");
  choices.row(1)[0] = -1;
  EXPECT_ERROR(sort_by_expert(choices, offsets, four, four), kShape, "expert -1 of token 1");
}

struct Moe {
  static constexpr int64_t T = 21, E = 7, D = 37;
  int64_t K;
  Choices choices = random_choices(T, K, E);
  Dispatch d{choices, E};
  Matrix wide_out = random_matrix(T * K, D + 3, 1), wide_gates = random_matrix(T, K + 2, 2);
  In2 expert_out = wide_out.view().cols(2, D + 2), gates = wide_gates.view().cols(1, K + 1);
  Matrix wide_w = random_matrix(T, D + 1, 3);
  In2 w = wide_w.view().cols(0, D);
  explicit Moe(int64_t top_k) : K(top_k) {}
};

TEST(MoeCombine, AddsTheGatedSum) {
  for_each_family([] {
    for (int64_t top_k : {1, 3}) {
      const Moe m(top_k);
      const Matrix y = filled(m.T, m.D + 2, 0.5f);
      moe_combine(m.expert_out, m.d.slot_of, m.gates, y.view().cols(1, m.D + 1));

      std::vector<double> po = to_double(m.expert_out), pg = to_double(m.gates);
      const auto combined = [&] {
        std::vector<double> sum(size_t(m.T * m.D), 0.5);
        for (int64_t i = 0; i < m.T * m.K; ++i) {
          const int64_t slot = m.d.slot_of.data()[i];
          for (int64_t c = 0; c < m.D; ++c) {
            sum[size_t(i / m.K * m.D + c)] += pg[size_t(i)] * po[size_t(slot * m.D + c)];
          }
        }
        return sum;
      };
      EXPECT_TRUE(close(y.view().cols(1, m.D + 1), combined(), 1e-6));
      for (int64_t t = 0; t < m.T; ++t) EXPECT_EQ(y.row(t)[0] + y.row(t)[m.D + 1], 1);
    }
  });
}

// y[t] = sum_j g[slot] W h[slot], h = silu(gate) up, with one W for all: u = W^T dy, and the loss
// is sum_slot g[slot] u[slot] . h[slot].
TEST(MoeSwiglu, BackwardGivesTheGradientOfGatesAndOfWhatTheyWeigh) {
  for_each_family([] {
    for (int64_t width : {1, 8, 37}) {
      const int64_t S = 9;
      const Matrix u = random_matrix(S, width, 1), gate = random_matrix(S, width, 2);
      const Matrix up = random_matrix(S, width, 3), g = random_matrix(1, S, 4);
      const Matrix dg = filled(1, S, -2), h = filled(S, width, 7);
      const Matrix dgate = filled(S, width, 7), dup = filled(S, width, 7);
      moe_swiglu_backward(u, In1(g.data(), {S}), gate, up, Out1(dg.data(), {S}), h, dgate, dup);

      std::vector<double> pg = to_double(g), pgate = to_double(gate), pup = to_double(up);
      const auto weighed = [&](size_t i) {
        return pg[i / size_t(width)] * pgate[i] / (1 + std::exp(-pgate[i])) * pup[i];
      };
      const auto loss = [&] {
        double sum = 0;
        for (size_t i = 0; i < pup.size(); ++i) sum += double(u.data()[i]) * weighed(i);
        return sum;
      };
      EXPECT_TRUE(gradient_added(-2, dg, pg, loss, 1e-5)) << width;
      EXPECT_TRUE(gradient_added(0, dgate, pgate, loss, 1e-5)) << width;
      EXPECT_TRUE(gradient_added(0, dup, pup, loss, 1e-5)) << width;
      std::vector<double> want(pup.size());
      for (size_t i = 0; i < want.size(); ++i) want[i] = weighed(i);
      EXPECT_TRUE(close(h, want, 1e-6)) << width;
    }
  });
}

// <gather(x), w> = <x, gather_backward(w)>, where gather(x)[slot] = x[tokens[slot]].
TEST(MoeGather, BackwardIsTheAdjoint) {
  for_each_family([] {
    for (int64_t top_k : {1, 3}) {
      const Moe m(top_k);
      const Matrix dx = filled(m.T, m.D + 2, 1);
      moe_gather_backward(m.expert_out, m.d.slot_of, m.K, dx.view().cols(1, m.D + 1));
      std::vector<double> want(size_t(m.T * m.D), 1);
      for (int64_t slot = 0; slot < m.T * m.K; ++slot) {
        for (int64_t c = 0; c < m.D; ++c) {
          want[size_t(m.d.tokens.data()[slot] * m.D + c)] += double(m.expert_out.row(slot)[c]);
        }
      }
      EXPECT_TRUE(close(dx.view().cols(1, m.D + 1), want, 1e-6));
      for (int64_t t = 0; t < m.T; ++t) EXPECT_EQ(dx.row(t)[0] + dx.row(t)[m.D + 1], 2);
    }
  });
}

TEST(MoeDispatch, IsTheSameForAnyNumberOfThreads) {
  const int64_t T = 300, K = 4, E = 10, D = 150;
  const Dispatch d(random_choices(T, K, E), E);
  const Matrix out = random_matrix(T * K, D, 1), gates = random_matrix(T, K, 2);
  const Matrix u = random_matrix(T * K, D, 4), g = random_matrix(1, T * K, 6);
  const Matrix gate = random_matrix(T * K, D, 5), up = random_matrix(T * K, D, 7);
  for_each_family([&] {
    const auto run = [&](int64_t threads) {
      ScopedThreads scope(threads);
      Matrix y({T, D}), dx({T, D}), dg({1, T * K});
      Matrix h({T * K, D}), dgate({T * K, D}), dup({T * K, D});
      moe_combine(out, d.slot_of, gates, y);
      moe_swiglu_backward(u, In1(g.data(), {T * K}), gate, up, Out1(dg.data(), {T * K}), h, dgate,
                          dup);
      moe_gather_backward(out, d.slot_of, K, dx);
      return std::array{std::move(y),   std::move(h),  std::move(dgate),
                        std::move(dup), std::move(dg), std::move(dx)};
    };
    const auto one = run(1);
    for (int64_t threads : {2, 3}) {
      const auto more = run(threads);
      for (size_t i = 0; i < one.size(); ++i) EXPECT_TRUE(same_bits(one[i], more[i])) << i;
    }
  });
}

TEST(MoeDispatch, TakesNoTokens) {
  const Matrix none({0, 4}), gates({0, 2});
  moe_combine(none, {}, gates, none);
  moe_swiglu_backward(none, {}, none, none, {}, none, none, none);
  moe_gather_backward(none, {}, 2, none);
}

TEST(MoeDispatch, RefusesWrongShapesBeforeWriting) {
  const Matrix out = filled(4, 3, 1), gates = filled(2, 2, 1), y = filled(2, 3, 5);
  const Matrix narrow({2, 2}), narrow_out({4, 2});
  Slots good({4}), short_one({3}), bad({4});
  bad.data()[3] = 4;
  EXPECT_ERROR(moe_combine(out, short_one, gates, y), kShape,
               "slot_of has 3 entries, expected 2 tokens x 2");
  EXPECT_ERROR(moe_combine(out, bad, gates, y), kShape, "slot 4 of token 1 is outside 0 .. 3");
  EXPECT_ERROR(moe_combine(narrow_out, good, gates, y), kShape, "expert_out is [4, 2]");
  EXPECT_ERROR(moe_combine(out, good, Matrix({1, 2}), y), kShape, "gates is [1, 2]");
  EXPECT_ERROR(moe_combine(out, {}, Matrix({2, 0}), y), kShape, "top_k is 0");
  const In1 four(out.data(), {4}), two(out.data(), {2});
  const Out1 to_four(out.data(), {4}), to_two(out.data(), {2});
  const auto swiglu = [&](In1 g, In2 gate, In2 up, Out1 dg, Out2 h, Out2 dgate, Out2 dup) {
    moe_swiglu_backward(out, g, gate, up, dg, h, dgate, dup);
  };
  const Matrix to({4, 3}), bad_to({4, 2});
  EXPECT_ERROR(swiglu(two, out, out, to_four, to, to, to), kShape, "g has 2 entries");
  EXPECT_ERROR(swiglu(four, out, out, to_two, to, to, to), kShape, "dg has 2 entries");
  EXPECT_ERROR(swiglu(four, bad_to, out, to_four, to, to, to), kShape, "gate is [4, 2]");
  EXPECT_ERROR(swiglu(four, out, bad_to, to_four, to, to, to), kShape, "up is [4, 2]");
  EXPECT_ERROR(swiglu(four, out, out, to_four, bad_to, to, to), kShape, "h is [4, 2]");
  EXPECT_ERROR(swiglu(four, out, out, to_four, to, bad_to, to), kShape, "dgate is [4, 2]");
  EXPECT_ERROR(swiglu(four, out, out, to_four, to, to, bad_to), kShape, "dup is [4, 2]");
  EXPECT_ERROR(moe_gather_backward(out, bad, 2, y), kShape, "slot 4 of token 1");
  EXPECT_ERROR(moe_gather_backward(out, good, 3, y), kShape, "expected 2 tokens x 3");
  EXPECT_ERROR(moe_gather_backward(out, good, 0, y), kShape, "top_k is 0");
  EXPECT_ERROR(moe_gather_backward(narrow_out, good, 2, y), kShape, "dx_slots is [4, 2]");
  bad.data()[0] = -1;
  EXPECT_ERROR(moe_gather_backward(out, bad, 2, y), kShape, "slot -1 of token 0");
  EXPECT_TRUE(same_bits(y, filled(2, 3, 5)));
}

}  // namespace
}  // namespace hadal
