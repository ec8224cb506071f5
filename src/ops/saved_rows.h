#pragma once
#include <cstdint>

#include "core/arena.h"
#include "ops/linear.h"

namespace hadal {

// Rows that a forward leaves for the backward, as the pass's precision asks: FP32 as they are; in
// BF16 training all rounded to BF16; in FP8 training smaller still (V3 report, sec. 3.3.3).
class SavedRows {
 public:
  enum class As {  // in FP8 training
    kFp8,          // E4M3 in tiles of 1 x 128: inputs of Linears and of SwiGLU
    kE5m6,         // 12 bits, power-of-two scales: the input of the Linear after attention
    kBf16,  // what the report keeps in BF16: inputs of norms, of the gate, of the combination
  };

  SavedRows() = default;
  // Keeps x for a backward. In FP32 x itself, which must stay as it is until then; else a copy in
  // `saved`, and x is free once the forward has read operand().
  SavedRows(In2 x, As as, Precision precision, Arena& saved);
  // Room for rows that keep() fills; not in FP32.
  SavedRows(int64_t rows, int64_t cols, As as, Precision precision, Arena& saved);
  void keep(int64_t first, In2 rows) const;

  // x as a product of the forward reads it: the copy in BF16 if there is one, for it is what the
  // product would round to.
  WeightView operand() const { return as_ == As::kBf16 && codes_ != nullptr ? bf16_rows() : x_; }
  // As a product of the backward reads it: as it is kept, or decoded into `scratch`.
  WeightView operand(Arena& scratch) const;
  // In FP32: x itself, or decoded into `scratch`; some of the rows, or decoded into `memory`.
  In2 get(Arena& scratch) const;
  In2 get(int64_t begin, int64_t end, Out2 memory) const;
  int64_t bytes() const;  // of the copy; 0 when there is none

 private:
  WeightView bf16_rows() const { return {DType::kBF16, codes_, rows_, cols_}; }

  In2 x_;
  As as_ = As::kFp8;
  int64_t rows_ = 0, cols_ = 0;
  uint8_t* codes_ = nullptr;  // null: x_ itself
  float* scales_ = nullptr;
};

// Where a forward writes rows that will be kept: into `saved` when they stay there as they are,
// else into `scratch`.
inline Arena& arena_for(Precision precision, Arena& saved, Arena& scratch) {
  return precision == Precision::kFp32 ? saved : scratch;
}

}  // namespace hadal
