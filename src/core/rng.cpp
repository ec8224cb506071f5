#include "core/rng.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace hadal {

std::array<uint32_t, 4> philox(uint64_t seed, uint64_t stream, uint64_t index) {
  std::array<uint32_t, 4> c{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                            static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)};
  auto k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c[0], p1 = uint64_t{0xCD9E8D57u} * c[2];
    c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
         static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

uint32_t Rng::next_u32() {
  const uint64_t index = state_.counter / 4;
  if (index != block_index_) {
    block_ = philox(state_.seed, state_.stream, index);
    block_index_ = index;
  }
  return block_[state_.counter++ % 4];
}

uint64_t Rng::next_u64() {
  const uint64_t low = next_u32();
  return low | static_cast<uint64_t>(next_u32()) << 32;
}

double Rng::uniform() {
  return static_cast<double>(next_u64() >> 11) * 0x1p-53;
}

int64_t Rng::below(int64_t n) {
  HADAL_CHECK(n >= 1, kInternal, "Rng::below: n is ", n, ", expected at least 1");
  const auto bound = static_cast<uint64_t>(n);
  const uint64_t reject_from = ~uint64_t{0} - (~uint64_t{0} % bound + 1) % bound;
  uint64_t x = next_u64();
  while (x > reject_from) x = next_u64();
  return static_cast<int64_t>(x % bound);
}

double Rng::normal() {
  const double u = 1.0 - uniform();  // (0, 1]
  const double angle = 2 * std::numbers::pi * uniform();
  return std::sqrt(-2 * std::log(u)) * std::cos(angle);
}

}  // namespace hadal
