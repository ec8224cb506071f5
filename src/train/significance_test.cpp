#include "train/significance.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/rng.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

// The 5% and 1% points of printed tables.
TEST(Significance, StudentsTable) {
  const struct {
    double t, freedom, p;
  } rows[] = {{12.706, 1, 0.05}, {4.303, 2, 0.05}, {2.776, 4, 0.05},  {2.228, 10, 0.05},
              {63.657, 1, 0.01}, {9.925, 2, 0.01}, {2.576, 1e6, 0.01}};
  for (const auto& row : rows) {
    EXPECT_NEAR(student_two_sided(row.t, row.freedom), row.p, 5e-5) << row.t << " " << row.freedom;
    EXPECT_EQ(student_two_sided(-row.t, row.freedom), student_two_sided(row.t, row.freedom));
  }
  EXPECT_EQ(student_two_sided(0, 3), 1);
  // One degree of freedom is Cauchy's distribution.
  for (const double t : {0.1, 1.0, 7.0}) {
    EXPECT_NEAR(student_two_sided(t, 1), 1 - 2 * std::atan(t) / M_PI, 1e-12);
  }
}

TEST(Significance, TheSeedFallsOut) {
  // Seeds differ by much, b from a by little but always the same way.
  const std::vector<double> a{1.0, 2.0, 3.0}, b{1.1, 2.12, 3.09};
  const PairedTest test = paired_test(a, b);
  EXPECT_NEAR(test.mean, 0.31 / 3, 1e-12);
  EXPECT_NEAR(test.spread, 0.0152753, 1e-6);
  EXPECT_NEAR(test.p, 0.0072, 1e-4);  // t = 11.717 with 2 degrees of freedom
  EXPECT_EQ(paired_test(b, a).p, test.p);
}

TEST(Significance, NoNoiseAndNoPairsProveNothing) {
  const std::vector<double> a{1.0, 2.0}, same{1.0, 2.0}, one{1.0}, other{5.0};
  EXPECT_EQ(paired_test(a, same).p, 1);
  EXPECT_EQ(paired_test(one, other).p, 1);
  EXPECT_EQ(paired_test({}, {}).p, 1);
  EXPECT_ERROR(paired_test(a, one), kUsage, "2 and 1 results");
}

TEST(Significance, ManyTestsAreCorrectedTogether) {
  EXPECT_EQ(holm(std::vector<double>{0.01, 0.04, 0.015}), (std::vector<double>{0.03, 0.04, 0.03}));
  EXPECT_EQ(holm(std::vector<double>{0.9, 0.6}), (std::vector<double>{1, 1}));
  EXPECT_TRUE(holm({}).empty());
}

// What it promises: of comparisons of the same with the same, 5% come out below 0.05.
TEST(Significance, FalseAlarmsAreAsRareAsSaid) {
  Rng rng(1);
  constexpr int kTrials = 20000;
  for (const size_t pairs : {2u, 3u, 8u}) {
    int alarms = 0;
    for (int trial = 0; trial < kTrials; ++trial) {
      std::vector<double> a(pairs), b(pairs);
      for (size_t i = 0; i < pairs; ++i) {
        a[i] = rng.normal();
        b[i] = rng.normal();
      }
      alarms += paired_test(a, b).p < 0.05 ? 1 : 0;
    }
    EXPECT_NEAR(double(alarms) / kTrials, 0.05, 0.006) << pairs;
  }
}

}  // namespace
}  // namespace hadal
