#pragma once
#include <cstdint>

namespace hadal {

// An order of 0 .. n-1, drawn from (seed, stream), that takes no memory: place i of it is a pure
// function. A Feistel network of Philox rounds permutes the next power of four; what falls outside
// is sent through again until it lies inside (at most four times on average).
class Permutation {
 public:
  explicit Permutation(int64_t n = 0) : n_(n) {}  // the order as it is
  Permutation(int64_t n, uint64_t seed, uint64_t stream);

  int64_t size() const { return n_; }
  int64_t operator()(int64_t i) const;  // 0 <= i < n

 private:
  uint64_t network(uint64_t x) const;

  int64_t n_ = 0;
  int half_bits_ = 0;  // 0: the order as it is
  uint64_t seed_ = 0, stream_ = 0;
};

}  // namespace hadal
