#include "core/rng.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/support/testing.h"

namespace hadal {
namespace {

using Block = std::array<uint32_t, 4>;

// The known answers published with Random123 (philox4x32, 10 rounds). philox() takes the key as
// seed and the counter as (index, stream), low words first.
TEST(Philox, gives_the_published_answers) {
  EXPECT_EQ(philox(0, 0, 0), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  const uint64_t ones = ~uint64_t{0};
  EXPECT_EQ(philox(ones, ones, ones), (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  // The digits of pi: each word has its own place.
  EXPECT_EQ(philox(0x299f31d0a4093822, 0x0370734413198a2e, 0x85a308d3243f6a88),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Rng, draws_the_words_of_consecutive_blocks) {
  Rng rng(5, 9);
  for (uint64_t block = 0; block < 3; ++block) {
    for (uint32_t word : philox(5, 9, block)) EXPECT_EQ(rng.next_u32(), word);
  }
  EXPECT_EQ(rng.state(), (Rng::State{5, 9, 12}));
  Rng again(5, 9);
  const uint64_t low = philox(5, 9, 0)[0], high = philox(5, 9, 0)[1];
  EXPECT_EQ(again.next_u64(), low | high << 32);
}

TEST(Rng, a_saved_state_continues_with_the_same_numbers) {
  for (int drawn : {0, 1, 3, 4, 7}) {  // inside and at the edges of a block
    Rng rng(1, 2);
    for (int i = 0; i < drawn; ++i) rng.next_u32();
    Rng copy(rng.state());
    for (int i = 0; i < 20; ++i) ASSERT_EQ(copy.next_u32(), rng.next_u32());
    EXPECT_EQ(copy.normal(), rng.normal());
    EXPECT_EQ(copy.state(), rng.state());
  }
}

TEST(Rng, seeds_and_streams_differ) {
  EXPECT_NE(Rng(1, 0).next_u64(), Rng(2, 0).next_u64());
  EXPECT_NE(Rng(1, 0).next_u64(), Rng(1, 1).next_u64());
}

TEST(Rng, uniform_is_in_range_and_flat) {
  Rng rng(3);
  constexpr int kBins = 64, kDraws = 64'000;
  std::array<int, kBins> count{};
  for (int i = 0; i < kDraws; ++i) {
    const double u = rng.uniform();
    ASSERT_GE(u, 0);
    ASSERT_LT(u, 1);
    ++count[size_t(u * kBins)];
  }
  double chi2 = 0;
  for (int c : count) chi2 += std::pow(c - kDraws / kBins, 2) / (kDraws / kBins);
  EXPECT_LT(chi2, 117);  // 63 degrees of freedom: one seed in 30,000 would exceed it
}

TEST(Rng, below_has_no_modulo_bias) {
  // 2^64 is 8/3 of this n: without rejection the lowest third would have probability 3/8.
  Rng rng(4);
  const int64_t n = int64_t{3} << 61;
  int lowest_third = 0;
  constexpr int kDraws = 30'000;
  for (int i = 0; i < kDraws; ++i) {
    const int64_t x = rng.below(n);
    ASSERT_GE(x, 0);
    ASSERT_LT(x, n);
    lowest_third += x < n / 3 ? 1 : 0;
  }
  EXPECT_NEAR(double(lowest_third) / kDraws, 1. / 3, 0.012);  // 4 standard deviations: 0.011
}

TEST(Rng, below_reaches_every_number_of_a_small_range) {
  Rng rng(6);
  std::array<int, 5> count{};
  for (int i = 0; i < 5000; ++i) ++count[size_t(rng.below(5))];
  for (int c : count) EXPECT_NEAR(c, 1000, 130);
  EXPECT_EQ(rng.below(1), 0);
  EXPECT_ERROR(rng.below(0), kInternal, "n is 0, expected at least 1");
  EXPECT_ERROR(rng.below(-3), kInternal, "n is -3");
}

TEST(Rng, normal_has_the_moments_and_quantiles_of_a_normal) {
  Rng rng(8);
  std::vector<double> x(40'000);
  for (double& v : x) v = rng.normal();
  double mean = 0, square = 0, fourth = 0;
  for (double v : x) mean += v, square += v * v, fourth += v * v * v * v;
  const auto n = double(x.size());
  EXPECT_NEAR(mean / n, 0, 0.025);
  EXPECT_NEAR(square / n, 1, 0.035);
  EXPECT_NEAR(fourth / n, 3, 0.25);
  std::sort(x.begin(), x.end());
  EXPECT_NEAR(x[x.size() / 2], 0, 0.03);
  EXPECT_NEAR(x[size_t(n * 0.841345)], 1, 0.04);
  EXPECT_EQ(rng.state().counter, 4 * x.size()) << "four numbers each";
}

}  // namespace
}  // namespace hadal
