#include <cmath>

#include "core/dtype.h"
#include "ops/linear.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

// Experts with no row, one row, and far more rows than the others.
struct Experts {
  static constexpr int64_t kTokens = 40, kIn = 33, kOut = 21;
  std::vector<int64_t> offsets;
  std::vector<int32_t> tokens;
  Matrix x = random_matrix(kTokens, kIn, 1), dy;
  std::vector<Matrix> w;
  std::vector<WeightView> views;

  explicit Experts(const std::vector<int64_t>& counts = {3, 0, 1, 90, 17, 0}) : offsets{0} {
    for (int64_t c : counts) offsets.push_back(offsets.back() + c);
    Rng rng(5);
    for (int64_t s = 0; s < slots(); ++s) tokens.push_back(int32_t(rng.below(kTokens)));
    for (size_t e = 0; e < counts.size(); ++e) {
      w.push_back(random_matrix(kOut, kIn, 10 + e));
      views.emplace_back(w.back().view());
    }
    dy = random_matrix(slots(), kOut, 2);
  }
  int64_t slots() const { return offsets.back(); }
  ExpertRows rows() const { return {{tokens.data(), {slots()}}, offsets}; }
  ExpertRows by_slot() const { return {{}, offsets}; }
  int64_t expert_of(int64_t s) const {
    int64_t e = 0;
    while (offsets[size_t(e) + 1] <= s) ++e;
    return e;
  }
};

// Row by row through the plain Linear.
TEST(GroupedLinearTest, HasTheBitsOfOneLinearPerRow) {
  for_each_family([] {
    const Experts m;
    for (Precision precision : {Precision::kFp32, Precision::kBf16}) {
      Matrix y = filled(m.slots(), m.kOut, 5), decoded = filled(m.slots(), m.kOut, 5);
      grouped_linear(m.x, m.rows(), m.views, y, precision);
      grouped_linear_decode(m.x, m.rows(), m.views, decoded);
      for (int64_t s = 0; s < m.slots(); ++s) {
        Matrix one = filled(1, m.kOut, 0);
        const In2 row = In2(m.x).rows(m.tokens[size_t(s)], m.tokens[size_t(s)] + 1);
        linear(row, m.views[size_t(m.expert_of(s))], {}, one, precision);
        ASSERT_TRUE(same_bits(one, In2(y).rows(s, s + 1))) << "slot " << s;
        linear_decode(row, m.views[size_t(m.expert_of(s))], {}, one);
        ASSERT_TRUE(same_bits(one, In2(decoded).rows(s, s + 1))) << "slot " << s;
      }
    }
  });
}

TEST(GroupedLinearTest, WithoutTokensASlotTakesItsOwnRow) {
  for_each_family([] {
    const Experts m;
    Matrix x = filled(m.slots(), m.kIn, 0);
    for (int64_t s = 0; s < m.slots(); ++s) {
      std::copy_n(m.x.row(m.tokens[size_t(s)]), m.kIn, x.row(s));
    }
    const ExpertRows plain{{}, m.offsets};
    Matrix listed = filled(m.slots(), m.kOut, 5), direct = filled(m.slots(), m.kOut, 6);
    grouped_linear(m.x, m.rows(), m.views, listed, Precision::kFp32);
    grouped_linear(x, plain, m.views, direct, Precision::kFp32);
    EXPECT_TRUE(same_bits(listed, direct));
    grouped_linear_decode(m.x, m.rows(), m.views, listed);
    grouped_linear_decode(x, plain, m.views, direct);
    EXPECT_TRUE(same_bits(listed, direct));
  });
}

TEST(GroupedLinearTest, Bf16Weights) {
  for_each_family([] {
    Experts m;
    std::vector<Tensor<bf16, 2>> stored;
    std::vector<WeightView> views;
    for (Matrix& w : m.w) {
      stored.emplace_back(std::array<int64_t, 2>{m.kOut, m.kIn});
      for (int64_t i = 0; i < w.size(); ++i) {
        stored.back().data()[i] = to_bf16(w.data()[i]);
        w.data()[i] = to_float(stored.back().data()[i]);
      }
      views.emplace_back(DType::kBF16, stored.back().data(), m.kOut, m.kIn);
    }
    Matrix a = filled(m.slots(), m.kOut, 5), b = filled(m.slots(), m.kOut, 6);
    grouped_linear(m.x, m.rows(), m.views, a, Precision::kFp32);
    grouped_linear(m.x, m.rows(), views, b, Precision::kFp32);
    EXPECT_TRUE(same_bits(a, b));
    grouped_linear_decode(m.x, m.rows(), m.views, a);
    grouped_linear_decode(m.x, m.rows(), views, b);
    EXPECT_TRUE(same_bits(a, b));
  });
}

TEST(GroupedLinearTest, BackwardAddsTheGradient) {
  for_each_family([] {
    const Experts m({2, 0, 5, 1});
    std::vector<double> gathered;  // x by slot: what dx is the gradient of
    for (int64_t s = 0; s < m.slots(); ++s) {
      for (int64_t j = 0; j < m.kIn; ++j) gathered.push_back(m.x.row(m.tokens[size_t(s)])[j]);
    }
    std::vector<std::vector<double>> w;
    for (const Matrix& one : m.w) w.push_back(to_double(one));
    const auto loss = [&] {
      double sum = 0;
      for (int64_t s = 0; s < m.slots(); ++s) {
        for (int64_t i = 0; i < m.kOut; ++i) {
          for (int64_t j = 0; j < m.kIn; ++j) {
            sum += double(m.dy.row(s)[i]) * w[size_t(m.expert_of(s))][size_t(i * m.kIn + j)] *
                   gathered[size_t(s * m.kIn + j)];
          }
        }
      }
      return sum;
    };
    Matrix dx = filled(m.slots(), m.kIn, 3);
    std::vector<Matrix> dw;
    std::vector<Out2> dw_views;
    for (size_t e = 0; e < m.w.size(); ++e) {
      dw.push_back(filled(m.kOut, m.kIn, -2));
      dw_views.push_back(dw.back());
    }
    grouped_linear_backward(m.dy, m.by_slot(), m.x, m.rows(), m.views, dx, dw_views,
                            Precision::kFp32);
    EXPECT_TRUE(gradient_added(3, dx, gathered, loss));
    for (size_t e = 0; e < m.w.size(); ++e) {
      EXPECT_TRUE(gradient_added(-2, dw[e], w[e], loss, 1e-4, 200)) << "expert " << e;
    }
    // Each alone, the other skipped.
    Matrix dx_alone = filled(m.slots(), m.kIn, 3);
    grouped_linear_backward(m.dy, m.by_slot(), m.x, m.rows(), m.views, dx_alone, {},
                            Precision::kFp32);
    EXPECT_TRUE(same_bits(dx, dx_alone));
    // Added to zeros, and set where nothing was.
    Matrix added = filled(m.slots(), m.kIn, 0), set = filled(m.slots(), m.kIn, std::nanf(""));
    grouped_linear_backward(m.dy, m.by_slot(), m.x, m.rows(), m.views, added, {}, Precision::kFp32);
    grouped_linear_backward(m.dy, m.by_slot(), m.x, m.rows(), m.views, set, {}, Precision::kFp32,
                            Gradient::kSet);
    EXPECT_TRUE(same_bits(added, set));
    std::vector<Matrix> dw_alone;
    for (size_t e = 0; e < m.w.size(); ++e) {
      dw_alone.push_back(filled(m.kOut, m.kIn, -2));
      dw_views[e] = dw_alone.back();
    }
    grouped_linear_backward(m.dy, m.by_slot(), m.x, m.rows(), m.views, {}, dw_views,
                            Precision::kFp32);
    for (size_t e = 0; e < m.w.size(); ++e) EXPECT_TRUE(same_bits(dw[e], dw_alone[e]));
  });
}

TEST(GroupedLinearTest, BackwardTakesListedRowsOfDy) {
  for_each_family([] {
    const Experts m;
    const Matrix dy = random_matrix(m.kTokens, m.kOut, 3), x = random_matrix(m.slots(), m.kIn, 4);
    Matrix gathered({m.slots(), m.kOut});
    for (int64_t s = 0; s < m.slots(); ++s) {
      std::copy_n(dy.row(m.tokens[size_t(s)]), m.kOut, gathered.row(s));
    }
    const auto run = [&](In2 d, ExpertRows rows) {
      std::vector<Matrix> out;
      out.push_back(filled(m.slots(), m.kIn, 1));
      std::vector<Out2> dw;
      for (size_t e = 0; e < m.w.size(); ++e) {
        out.push_back(filled(m.kOut, m.kIn, 1));
        dw.push_back(out.back());
      }
      grouped_linear_backward(d, rows, x, m.by_slot(), m.views, out[0], dw, Precision::kBf16);
      return out;
    };
    const auto listed = run(dy, m.rows()), by_slot = run(gathered, m.by_slot());
    for (size_t i = 0; i < listed.size(); ++i) EXPECT_TRUE(same_bits(listed[i], by_slot[i])) << i;
  });
}

TEST(GroupedLinearTest, SameBitsForAnyNumberOfThreads) {
  for_each_family([] {
    const Experts m({700, 0, 5, 300, 1, 90});
    std::vector<Matrix> first;
    for (int64_t threads : {1, 2, 5}) {
      const ScopedThreads scope(threads);
      std::vector<Matrix> got;
      got.push_back(filled(m.slots(), m.kOut, 0));
      grouped_linear(m.x, m.rows(), m.views, got[0], Precision::kBf16);
      got.push_back(filled(m.slots(), m.kOut, 0));
      grouped_linear_decode(m.x, m.rows(), m.views, got[1]);
      got.push_back(filled(m.slots(), m.kIn, 1));
      std::vector<Out2> dw;
      for (size_t e = 0; e < m.w.size(); ++e) {
        got.push_back(filled(m.kOut, m.kIn, 1));
        dw.push_back(got.back());
      }
      grouped_linear_backward(m.dy, m.by_slot(), m.x, m.rows(), m.views, got[2], dw,
                              Precision::kFp32);
      if (threads == 1) first = std::move(got);
      for (size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(same_bits(got[i], first[i])) << i;
    }
  });
}

TEST(GroupedLinearTest, NoRowsAtAll) {
  const Experts m({0, 0});
  Matrix y({0, m.kOut});
  grouped_linear(m.x, m.rows(), m.views, y, Precision::kFp32);
  grouped_linear_decode(m.x, m.rows(), m.views, y);
  grouped_linear_backward(y, m.by_slot(), m.x, m.rows(), m.views, Matrix({0, m.kIn}), {},
                          Precision::kFp32);
}

TEST(GroupedLinearTest, NamesTheWrongShape) {
  Experts m({2, 1});
  Matrix y = filled(3, m.kOut, 7);
  const auto run = [&] { grouped_linear(m.x, m.rows(), m.views, y, Precision::kFp32); };
  m.tokens[2] = int32_t(m.kTokens);
  EXPECT_ERROR(run(), kShape, "tokens[2] is 40, expected a row of x below 40");
  m.tokens[2] = -1;
  EXPECT_ERROR(run(), kShape, "tokens[2] is -1");
  EXPECT_ERROR(grouped_linear_decode(m.x, m.rows(), m.views, y), kShape, "tokens[2] is -1");
  m.tokens[2] = 0;
  m.offsets = {0, 4, 3};
  EXPECT_ERROR(run(), kShape, "offsets fall from 4 to 3 at expert 1");
  m.offsets = {1, 2, 3};
  EXPECT_ERROR(run(), kShape, "does not start at 0");
  m.offsets = {0, 1, 2, 3};
  EXPECT_ERROR(run(), kShape, "w has 2 matrices for 3 experts");
  m.offsets = {0, 2, 3};
  m.tokens.push_back(0);
  EXPECT_ERROR(
      grouped_linear(m.x, {{m.tokens.data(), {4}}, m.offsets}, m.views, y, Precision::kFp32),
      kShape, "tokens has 4 entries, expected 3");
  EXPECT_ERROR(grouped_linear(m.x, {{}, m.offsets}, m.views, y, Precision::kFp32), kShape,
               "x has 40 rows, expected one for each of 3 slots");
  EXPECT_ERROR(grouped_linear(m.x, m.rows(), m.views, filled(2, m.kOut, 0), Precision::kFp32),
               kShape, "y is [2, 21], expected [3, 21]");
  const Matrix other = random_matrix(m.kOut, m.kIn + 1, 1);
  m.views[1] = other.view();
  EXPECT_ERROR(run(), kShape, "w[1] is [21, 34], expected the shape of w[0], [21, 33]");
  m.views[1] = m.w[1].view();
  std::vector<Out2> dw{m.w[0]};
  EXPECT_ERROR(
      grouped_linear_backward(y, m.by_slot(), m.x, m.rows(), m.views, {}, dw, Precision::kFp32),
      kShape, "dw has 1 matrices for 2 experts");
  const std::vector<int64_t> others{0, 1, 3};
  dw = {m.w[0], m.w[1]};
  EXPECT_ERROR(
      grouped_linear_backward(y, {{}, others}, m.x, m.rows(), m.views, {}, dw, Precision::kFp32),
      kShape, "other offsets");
  EXPECT_TRUE(same_bits(y, filled(3, m.kOut, 7)));  // nothing was written
}

}  // namespace
}  // namespace hadal
