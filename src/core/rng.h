#pragma once
#include <array>
#include <cstdint>

namespace hadal {

// Counter-based random numbers (Philox4x32-10): the n-th number of a stream is a pure function of
// (seed, stream, n), so a generator is saved as three integers and two streams never meet.
class Rng {
 public:
  struct State {
    uint64_t seed = 0;
    uint64_t stream = 0;
    uint64_t counter = 0;  // 32-bit numbers drawn so far
    bool operator==(const State&) const = default;
  };

  explicit Rng(uint64_t seed, uint64_t stream = 0) : state_{seed, stream, 0} {}
  explicit Rng(const State& state) : state_(state) {}
  const State& state() const { return state_; }

  uint32_t next_u32();
  uint64_t next_u64();
  double uniform();          // [0, 1), 53 bits
  int64_t below(int64_t n);  // uniform on 0 .. n-1, without modulo bias; n >= 1
  double normal();           // standard normal; draws four numbers each time (no hidden cache)

 private:
  State state_;
  std::array<uint32_t, 4> block_{};
  uint64_t block_index_ = ~uint64_t{0};
};

// Philox4x32-10 itself: the four numbers of block `index` of (seed, stream).
std::array<uint32_t, 4> philox(uint64_t seed, uint64_t stream, uint64_t index);

}  // namespace hadal
