#include "ops/rope.h"

#include <array>
#include <numbers>

#include "tests/support/testing.h"

namespace hadal {
namespace {

using Type = RopeParams::Type;

Tensor<int32_t, 1> ids_of(const std::vector<int32_t>& values) {
  Tensor<int32_t, 1> ids({static_cast<int64_t>(values.size())});
  std::copy(values.begin(), values.end(), ids.data());
  return ids;
}

RopeParams v3_params() {
  RopeParams p;
  p.dim = 64;
  p.type = Type::kYarn;
  p.factor = 40;
  p.original_max_position = 4096;
  return p;
}

void expect_frequencies(const RopeParams& params, const std::vector<double>& want) {
  const std::vector<double> got = rope_frequencies(params, 0);
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_NEAR(got[i] / want[i], 1, 2e-6) << "pair " << i << ": " << got[i];
  }
}

// inv_freq as transformers 5.23's modeling_rope_utils.py computes it, in FP32.
TEST(Rope, FrequenciesAreThoseOfHuggingFace) {
  expect_frequencies(v3_params(), {1,
                                   0.749894202,
                                   0.562341332,
                                   0.421696514,
                                   0.316227764,
                                   0.237137362,
                                   0.177827939,
                                   0.133352146,
                                   0.100000001,
                                   0.0749894157,
                                   0.0562341288,
                                   0.0390069261,
                                   0.0268793609,
                                   0.0183781441,
                                   0.012447956,
                                   0.0083345091,
                                   0.00550000044,
                                   0.00356199732,
                                   0.00224936521,
                                   0.00137051346,
                                   0.000790569407,
                                   0.000414990413,
                                   0.00017782794,
                                   3.3338034e-05,
                                   2.49999994e-05,
                                   1.87473543e-05,
                                   1.40585325e-05,
                                   1.05424124e-05,
                                   7.90569447e-06,
                                   5.92843435e-06,
                                   4.44569832e-06,
                                   3.33380353e-06});
  RopeParams yarn = v3_params();
  yarn.dim = 16;
  expect_frequencies(yarn, {1, 0.316227764, 0.100000001, 0.0239147246, 0.00512499968,
                            0.000849862176, 2.49999994e-05, 7.90569447e-06});
  yarn.truncate = false;
  expect_frequencies(yarn, {1, 0.316227764, 0.100000001, 0.0277108587, 0.00552406255,
                            0.000722638157, 2.49999994e-05, 7.90569447e-06});
  yarn.truncate = true;
  yarn.factor = 4;
  yarn.original_max_position = 64;
  expect_frequencies(yarn, {1, 0.237170815, 0.049999997, 0.00790569466, 0.00249999994,
                            0.000790569466, 0.000250000012, 7.90569466e-05});
  yarn.original_max_position = 4;  // shorter than the fastest wave: an empty range
  expect_frequencies(yarn, {1, 0.079056941, 0.0250000004, 0.00790569466, 0.00249999994,
                            0.000790569466, 0.000250000012, 7.90569466e-05});
  RopeParams clamped = yarn;  // the range ends beyond the last number of the head
  clamped.dim = 4;
  clamped.theta = 10;
  clamped.original_max_position = 4096;
  clamped.beta_fast = 2000;
  expect_frequencies(clamped, {1, 0.237170815});
  RopeParams point = yarn;
  point.original_max_position = 4096;
  point.beta_fast = point.beta_slow = 3;
  point.truncate = false;
  expect_frequencies(point, {1, 0.316227764, 0.100000001, 0.0316227786, 0.00999999978,
                             0.000790569466, 0.000250000012, 7.90569466e-05});
  RopeParams linear;
  linear.dim = 16;
  linear.theta = 500;
  linear.type = Type::kLinear;
  linear.factor = 4;
  expect_frequencies(linear, {0.25, 0.114965819, 0.05286856, 0.0243123118, 0.0111803403,
                              0.00514142821, 0.00236435398, 0.00108727964});
  RopeParams llama3;
  llama3.dim = 32;
  llama3.theta = 500000;
  llama3.type = Type::kLlama3;
  llama3.factor = 8;
  llama3.original_max_position = 8192;
  expect_frequencies(
      llama3, {1, 0.440366626, 0.193922758, 0.0853971019, 0.0376060307, 0.0165604409, 0.00729266508,
               0.00321144611, 0.000524846022, 7.78465546e-05, 3.42810235e-05, 1.50962178e-05,
               6.64786967e-06, 2.92749974e-06, 1.28917316e-06, 5.6770881e-07});
}

TEST(Rope, YarnOfV3CorrectsPairs10To23) {
  RopeParams plain;
  plain.dim = 64;
  const std::vector<double> before = rope_frequencies(plain, 0);
  const std::vector<double> after = rope_frequencies(v3_params(), 0);
  for (size_t i = 0; i < 32; ++i) {
    // 1 keeps the frequency, 1/40 interpolates; the ramp between is straight.
    const double ramp = std::clamp((double(i) - 10) / 13, 0.0, 1.0);
    EXPECT_NEAR(after[i] / before[i], ramp / 40 + 1 - ramp, 1e-12) << i;
  }
}

TEST(Rope, GroupsCutTheSpectrumIntoBands) {
  for (Type type : {Type::kDefault, Type::kYarn, Type::kLlama3}) {
    RopeParams p = v3_params(), whole = p;
    p.type = whole.type = type;
    p.dim = 16;
    p.groups = 4;  // bands of one head four times as wide
    std::vector<double> bands;
    for (int64_t g = 0; g < 4; ++g) {
      for (double f : rope_frequencies(p, g)) bands.push_back(f);
    }
    EXPECT_EQ(bands, rope_frequencies(whole, 0));
  }
  RopeParams p;
  p.dim = 8;
  p.groups = 2;
  for (int64_t g : {0, 1}) {
    for (int64_t i = 0; i < 4; ++i) {
      EXPECT_NEAR(rope_frequencies(p, g)[size_t(i)], std::pow(10000, -(g + i / 4.0) / 2), 1e-12);
    }
  }
}

TEST(Rope, TableHoldsScaledCosAndSin) {
  RopeParams p = v3_params();
  p.groups = 2;
  p.attention_factor = 1.25;
  const RopeTable table(p, 300);
  EXPECT_EQ(table.positions(), 300);
  EXPECT_EQ(table.groups(), 2);
  EXPECT_EQ(table.dim(), 64);
  for (int64_t g : {0, 1}) {
    const std::vector<double> f = rope_frequencies(p, g);
    for (int64_t position : {0, 1, 77, 299}) {
      for (size_t i = 0; i < f.size(); ++i) {
        EXPECT_NEAR(table.cos(g, position)[i], 1.25 * std::cos(double(position) * f[i]), 1e-7);
        EXPECT_NEAR(table.sin(g, position)[i], 1.25 * std::sin(double(position) * f[i]), 1e-7);
      }
    }
  }
}

// The definition in double: pair i of a head is turned by position * f_i and scaled.
std::vector<double> reference(std::vector<double> x, int64_t columns,
                              const std::vector<int32_t>& positions, const RopeParams& params,
                              const RopeLayout& layout, bool back = false) {
  const int64_t half = params.dim / 2;
  for (size_t t = 0; t < positions.size(); ++t) {
    for (int64_t h = 0; h < layout.heads; ++h) {
      const int64_t group =
          layout.one_group >= 0 ? layout.one_group : h / (layout.heads / params.groups);
      const std::vector<double> f = rope_frequencies(params, group);
      for (int64_t i = 0; i < half; ++i) {
        const bool adjacent = layout.pairs == RopePairs::kAdjacent;
        const size_t head = t * size_t(columns) + size_t(layout.first + h * layout.head_stride);
        double& a = x[head + size_t(adjacent ? 2 * i : i)];
        double& b = x[head + size_t(adjacent ? 2 * i + 1 : i + half)];
        const double angle = positions[t] * f[size_t(i)] * (back ? -1 : 1);
        const double turned_a = a * std::cos(angle) - b * std::sin(angle);
        const double turned_b = a * std::sin(angle) + b * std::cos(angle);
        a = params.attention_factor * turned_a, b = params.attention_factor * turned_b;
      }
    }
  }
  return x;
}

TEST(Rope, TurnsTheHeadsOfTheLayoutAndNothingElse) {
  for_each_family([] {
    for (RopePairs pairs : {RopePairs::kAdjacent, RopePairs::kHalves}) {
      for (int64_t dim : {2, 6, 20, 64}) {
        for (int64_t one_group : {-1, 0, 1}) {
          RopeParams params;
          params.dim = dim;
          params.theta = 100;
          params.groups = 2;
          params.attention_factor = 1.5;
          const RopeTable table(params, 50);
          const RopeLayout layout{4, dim + 3, 2, pairs, one_group};  // as MLA's q: nope between
          const int64_t columns = 2 + 4 * (dim + 3);
          const std::vector<int32_t> at{0, 7, 49, 7, 1};
          const Matrix wide = random_matrix(5, columns + 4, 1);
          const Out2 x = wide.view().cols(3, columns + 3);
          const Matrix before = clone(wide);
          const std::vector<double> was = to_double(x);

          rope(x, ids_of(at), table, layout);
          EXPECT_TRUE(close(x, reference(was, columns, at, params, layout), 1e-6));
          const std::vector<double> now = to_double(x);
          rope_backward(x, ids_of(at), table, layout);
          EXPECT_TRUE(close(x, reference(now, columns, at, params, layout, true), 1e-6));

          for (int64_t t = 0; t < 5; ++t) {  // what lies before, between and after the heads
            for (int64_t c = 0; c < columns + 4; ++c) {
              const int64_t in_x = c - 3 - layout.first;
              const bool turned = in_x >= 0 && in_x < 4 * (dim + 3) && in_x % (dim + 3) < dim;
              if (!turned) {
                EXPECT_EQ(wide.row(t)[c], before.row(t)[c]);
              }
            }
          }
        }
      }
    }
  });
}

TEST(Rope, BackwardIsTheAdjoint) {
  for (RopePairs pairs : {RopePairs::kAdjacent, RopePairs::kHalves}) {
    RopeParams params;
    params.dim = 16;
    params.attention_factor = 1.3;  // the adjoint scales too; the inverse would not
    const RopeTable table(params, 100);
    const RopeLayout layout{3, 16, 0, pairs, -1};
    const auto positions = ids_of({3, 99, 50});
    const Matrix x = random_matrix(3, 48, 1), w = random_matrix(3, 48, 2);
    const Matrix turned_x = clone(x), turned_w = clone(w);
    rope(turned_x, positions, table, layout);
    rope_backward(turned_w, positions, table, layout);
    double left = 0, right = 0;
    for (int64_t i = 0; i < x.size(); ++i) {
      left += double(turned_x.data()[i]) * w.data()[i];
      right += double(x.data()[i]) * turned_w.data()[i];
    }
    EXPECT_GT(std::abs(left), 1);
    EXPECT_NEAR(left, right, 1e-4);
  }
}

double dot_of_first_rows(const Matrix& q, const Matrix& k) {
  double sum = 0;
  for (int64_t d = 0; d < q.dim(1); ++d) sum += double(q.row(0)[d]) * k.row(0)[d];
  return sum;
}

TEST(Rope, ScoresDependOnTheDistanceAlone) {
  RopeParams params;
  params.dim = 32;
  params.groups = 2;
  const RopeTable table(params, 400);
  for (RopePairs pairs : {RopePairs::kAdjacent, RopePairs::kHalves}) {
    for (int64_t group : {0, 1}) {
      const RopeLayout layout{1, 0, 0, pairs, group};
      const Matrix q = random_matrix(1, 32, 1), k = random_matrix(1, 32, 2);
      const auto score = [&](int32_t q_position, int32_t k_position) {
        const Matrix turned_q = clone(q), turned_k = clone(k);
        rope(turned_q, ids_of({q_position}), table, layout);
        rope(turned_k, ids_of({k_position}), table, layout);
        return dot_of_first_rows(turned_q, turned_k);
      };
      for (int32_t distance : {0, 1, 9, 60}) {
        EXPECT_NEAR(score(distance, 0), score(distance + 300, 300), 2e-4);
      }
      EXPECT_NEAR(score(5, 5), dot_of_first_rows(q, k), 1e-4);
      EXPECT_GT(std::abs(score(60, 0) - score(0, 0)), 0.01);
    }
  }
}

// DeepSeek's coordinates are Llama's in another order: the same scores.
TEST(Rope, AdjacentPairsAreHalvesPermuted) {
  RopeParams params;
  params.dim = 16;
  const RopeTable table(params, 10);
  const auto positions = ids_of({9});
  const Matrix adjacent = random_matrix(1, 16, 1), halves({1, 16});
  const auto permute = [](const Matrix& from, const Matrix& to) {
    for (int64_t i = 0; i < 8; ++i) {
      to.data()[i] = from.data()[2 * i];
      to.data()[i + 8] = from.data()[2 * i + 1];
    }
  };
  permute(adjacent, halves);
  rope(adjacent, positions, table, {1, 0, 0, RopePairs::kAdjacent, -1});
  rope(halves, positions, table, {1, 0, 0, RopePairs::kHalves, -1});
  const Matrix want({1, 16});
  permute(adjacent, want);
  EXPECT_TRUE(same_bits(halves, want));
}

TEST(Rope, IsTheSameForAnyNumberOfThreadsAndInEveryFamily) {
  RopeParams params = v3_params();
  params.groups = 2;
  const int64_t T = 130;
  std::vector<int32_t> at;
  for (int32_t t = 0; t < T; ++t) at.push_back(t * 7);
  for (RopePairs pairs : {RopePairs::kAdjacent, RopePairs::kHalves}) {
    const RopeLayout layout{4, 100, 20, pairs, -1};
    Matrix first;
    for_each_family([&] {
      for (int64_t threads : {1, 2, 3}) {
        ScopedThreads scope(threads);
        const RopeTable table(params, 1000);
        Matrix x = random_matrix(T, 420, 1);
        rope(x, ids_of(at), table, layout);
        rope_backward(x.view().rows(0, 50), ids_of({at.begin(), at.begin() + 50}), table, layout);
        if (first.empty())
          first = std::move(x);
        else
          EXPECT_TRUE(same_bits(x, first)) << threads;
      }
    });
  }
}

TEST(Rope, TakesNoTokens) {
  RopeParams params;
  params.dim = 4;
  const Matrix none({0, 4});
  rope(none, {}, RopeTable(params, 0), {});
  rope_backward(none, {}, RopeTable(params, 0), {});
}

TEST(Rope, TakesTheSmallestParameters) {
  RopeParams p = v3_params();
  p.dim = 2;
  p.theta = 1.5;
  p.original_max_position = 1;
  p.factor = 0.5;  // Hugging Face warns, and computes
  p.beta_fast = p.beta_slow = 0.25;
  p.attention_factor = 0.5;
  EXPECT_EQ(rope_frequencies(p, 0), std::vector<double>{1});
  EXPECT_EQ(RopeTable(p, 1).cos(0, 0)[0], 0.5f);
  p.type = Type::kLlama3;
  p.low_freq_factor = 0.25;
  p.high_freq_factor = 0.5;
  EXPECT_EQ(rope_frequencies(p, 0), std::vector<double>{2});  // slower than low: divided
}

TEST(Rope, RefusesImpossibleParameters) {
  const auto refused = [](auto change, const char* text) {
    RopeParams p = v3_params();
    change(p);
    EXPECT_ERROR(rope_frequencies(p, 0), kConfig, text);
    EXPECT_ERROR(RopeTable(p, 4), kConfig, text);
  };
  refused([](RopeParams& p) { p.dim = 7; }, "rope: dim is 7, expected an even number above 0");
  refused([](RopeParams& p) { p.dim = 0; }, "dim is 0");
  refused([](RopeParams& p) { p.dim = -2; }, "dim is -2");
  refused([](RopeParams& p) { p.theta = 1; }, "theta is 1, expected a number above 1");
  refused([](RopeParams& p) { p.theta = NAN; }, "theta is nan");
  refused([](RopeParams& p) { p.groups = 0; }, "groups is 0");
  refused([](RopeParams& p) { p.factor = 0; }, "factor is 0");
  refused([](RopeParams& p) { p.type = Type::kLinear, p.factor = -1; }, "factor is -1");
  refused([](RopeParams& p) { p.attention_factor = 0; }, "attention_factor is 0");
  refused([](RopeParams& p) { p.original_max_position = 0; },
          "original_max_position_embeddings is 0");
  refused([](RopeParams& p) { p.beta_slow = 0; }, "beta_slow 0");
  refused([](RopeParams& p) { p.beta_fast = 0.5; }, "beta_fast is 0.5");
  refused([](RopeParams& p) { p.type = Type::kLlama3, p.high_freq_factor = 1; },
          "high_freq_factor 1");
  refused([](RopeParams& p) { p.type = Type::kLlama3, p.low_freq_factor = 0; },
          "low_freq_factor is 0");
  EXPECT_ERROR(rope_frequencies(v3_params(), 1), kConfig, "group 1 of 1");
  EXPECT_ERROR(rope_frequencies(v3_params(), -1), kConfig, "group -1 of 1");
  EXPECT_ERROR(RopeTable(v3_params(), -1), kConfig, "-1 positions");
}

TEST(Rope, RefusesWrongLayoutsBeforeWriting) {
  RopeParams params;
  params.dim = 4;
  params.groups = 2;
  const RopeTable table(params, 10);
  const Matrix x = filled(2, 10, 1);
  const auto good = ids_of({1, 2});
  const RopePairs pairs = RopePairs::kAdjacent;
  const auto refused = [&](Ids positions, const RopeLayout& layout, const char* text) {
    EXPECT_ERROR(rope(x, positions, table, layout), kShape, text);
    EXPECT_ERROR(rope_backward(x, positions, table, layout), kShape, text);
  };
  refused(ids_of({1}), {2, 4, 0, pairs, -1}, "positions has 1 entries, expected 2");
  refused(ids_of({1, 10}), {2, 4, 0, pairs, -1}, "position 10 of row 1 is outside 0 .. 9");
  refused(ids_of({-1, 3}), {2, 4, 0, pairs, -1}, "position -1 of row 0 is outside 0 .. 9");
  refused(good, {2, 4, 3, pairs, -1}, "the heads end at column 11 but x has 10");
  refused(good, {2, 3, 0, pairs, -1}, "stride 3");
  refused(good, {0, 4, 0, pairs, -1}, "0 heads");
  refused(good, {2, 4, -1, pairs, -1}, "from column -1");
  refused(good, {2, 4, 0, pairs, 2}, "group 2 of a table of 2");
  refused(good, {1, 4, 0, pairs, -1}, "1 heads cannot be split into 2 groups");
  EXPECT_TRUE(same_bits(x, filled(2, 10, 1)));
}

}  // namespace
}  // namespace hadal
