#pragma once
#include <cstdint>

#include "core/arena.h"
#include "ops/linear.h"

namespace hadal {

// Rows that a forward leaves for the backward, in the memory that the pass's precision asks for:
// as they are, or, in FP8 training, smaller (V3 report, sec. 3.3.3).
class SavedRows {
 public:
  enum class As {
    kFp8,   // E4M3 in tiles of 1 x 128: inputs of Linears and of SwiGLU
    kE5m6,  // 12 bits, power-of-two scales: the input of the Linear after attention
    kBf16,  // what the report keeps in BF16: inputs of norms, of the gate, of the combination
  };

  SavedRows() = default;
  // Keeps x for a backward. Unless `precision` is FP8, x itself, which must stay as it is until
  // then; else a copy in `saved`, and x is free.
  SavedRows(In2 x, As as, Precision precision, Arena& saved);

  // What was kept: x itself, or decoded into `scratch`.
  In2 get(Arena& scratch) const;
  int64_t bytes() const;  // of the copy; 0 when there is none

 private:
  In2 x_;
  As as_ = As::kFp8;
  int64_t rows_ = 0, cols_ = 0;
  uint8_t* codes_ = nullptr;  // null: x_ itself
  float* scales_ = nullptr;
};

// Where a forward writes rows that will be kept `as`: into `saved` when they stay there as they
// are, else into `scratch`.
inline Arena& arena_for(Precision precision, Arena& saved, Arena& scratch) {
  return is_fp8(precision) ? scratch : saved;
}

}  // namespace hadal
