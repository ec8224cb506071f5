#include "train/permutation.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <vector>

namespace hadal {
namespace {

std::vector<int64_t> all_of(const Permutation& order) {
  std::vector<int64_t> out;
  for (int64_t i = 0; i < order.size(); ++i) out.push_back(order(i));
  return out;
}

TEST(Permutation, HasEveryNumberOnce) {
  for (const int64_t n : {0, 1, 2, 3, 4, 5, 16, 17, 1000, 4096, 65537}) {
    std::vector<int64_t> order = all_of(Permutation(n, 7, 3));
    std::sort(order.begin(), order.end());
    EXPECT_EQ(order, all_of(Permutation(n))) << n;
  }
}

TEST(Permutation, DependsOnSeedAndStream) {
  const auto order = all_of(Permutation(100, 1, 1));
  EXPECT_EQ(order, all_of(Permutation(100, 1, 1)));
  EXPECT_NE(order, all_of(Permutation(100, 2, 1)));
  EXPECT_NE(order, all_of(Permutation(100, 1, 2)));
  EXPECT_NE(order, all_of(Permutation(100)));
}

// Each of the 24 orders of four things comes about as often as the others, and so does each number
// at each place of a longer order: chi-squared, far beyond what chance allows if it were not so.
TEST(Permutation, OrdersAreEquallyLikely) {
  constexpr int kDraws = 12000;
  std::map<std::vector<int64_t>, int> orders;
  constexpr int64_t kLong = 37;
  std::vector<int> at(kLong * kLong);
  for (uint64_t stream = 0; stream < kDraws; ++stream) {
    ++orders[all_of(Permutation(4, 5, stream))];
    const Permutation longer(kLong, 9, stream);
    for (int64_t i = 0; i < kLong; ++i) ++at[static_cast<size_t>(i * kLong + longer(i))];
  }
  EXPECT_EQ(orders.size(), 24u);
  double chi = 0;
  for (const auto& [order, n] : orders) chi += (n - 500.0) * (n - 500.0) / 500;
  EXPECT_LT(chi, 70);  // 23 degrees of freedom: beyond 70 once in a million
  const double expected = double(kDraws) / kLong;
  chi = 0;
  for (const int n : at) chi += (n - expected) * (n - expected) / expected;
  EXPECT_LT(chi, 36 * 36 + 6 * 51);  // 36^2 degrees of freedom, six standard deviations
}

}  // namespace
}  // namespace hadal
