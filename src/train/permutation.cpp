#include "train/permutation.h"

#include <bit>

#include "core/rng.h"

namespace hadal {
namespace {

constexpr uint64_t kRounds = 6;

}  // namespace

Permutation::Permutation(int64_t n, uint64_t seed, uint64_t stream)
    : n_(n), seed_(seed), stream_(stream) {
  if (n > 1) half_bits_ = static_cast<int>(std::bit_width(static_cast<uint64_t>(n - 1)) + 1) / 2;
}

uint64_t Permutation::network(uint64_t x) const {
  const uint64_t mask = (uint64_t{1} << half_bits_) - 1;
  uint64_t left = x >> half_bits_, right = x & mask;
  for (uint64_t round = 0; round < kRounds; ++round) {
    const uint64_t mixed = left ^ (philox(seed_, stream_, round << half_bits_ | right)[0] & mask);
    left = right;
    right = mixed;
  }
  return left << half_bits_ | right;
}

int64_t Permutation::operator()(int64_t i) const {
  if (half_bits_ == 0) return i;
  auto x = static_cast<uint64_t>(i);
  do {
    x = network(x);
  } while (x >= static_cast<uint64_t>(n_));
  return static_cast<int64_t>(x);
}

}  // namespace hadal
