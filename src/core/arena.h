#pragma once
#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace hadal {

// The stack of one pass: hands out 64-byte aligned memory in order and takes it back in reverse.
// Grows by chunks that are kept for the next pass; memory handed out is NOT zeroed.
// Not thread-safe: one arena belongs to one caller.
class Arena {
 public:
  explicit Arena(int64_t chunk_bytes = int64_t{16} << 20) : chunk_bytes_(chunk_bytes) {}

  template <class T>
  View<T, 1> make(int64_t n) {
    return {static_cast<T*>(allocate(detail::array_bytes({{n}}, sizeof(T)))), {n}};
  }
  template <class T>
  View<T, 2> make(int64_t rows, int64_t cols) {
    return {static_cast<T*>(allocate(detail::array_bytes({{rows, cols}}, sizeof(T)))),
            {rows, cols}};
  }
  Out1 floats(int64_t n) { return make<float>(n); }
  Out2 floats(int64_t rows, int64_t cols) { return make<float>(rows, cols); }
  Out2 zeros(int64_t rows, int64_t cols);

  // Bytes in use now, and the most that ever were.
  int64_t used() const { return used_; }
  int64_t peak() const { return peak_; }
  // Takes everything back. Several chunks become one: between them lay ends that nothing fitted
  // into.
  void reset();

  // Takes back, when it ends, all that was handed out since it began.
  class Scope {
   public:
    explicit Scope(Arena& arena);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    size_t chunk_;
    int64_t offset_, used_;
  };

 private:
  void* allocate(int64_t bytes);

  int64_t chunk_bytes_;
  std::vector<Buffer> chunks_;
  size_t chunk_ = 0;    // index of the chunk being filled
  int64_t offset_ = 0;  // bytes used in it
  int64_t used_ = 0;
  int64_t peak_ = 0;
};

}  // namespace hadal
