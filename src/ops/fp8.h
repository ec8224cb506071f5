#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "kernels/kernels.h"
#include "ops/linear.h"
#include "quant/fp8.h"

namespace hadal {

// Matrices as FP8 products read them (V3 report, sec. 3.3.2): E4M3 numbers stored as BF16, which
// holds them all, and one scale a tile. Both are the same bits for any family and number of
// threads: what codes and scales of encode_fp8 (quant/fp8.h) mean. A tile with a number that is not
// finite has the scale NaN, and so has every result that reads it.
inline constexpr BlockShape kFp8Row{1, 128};     // activations and their gradients, K across
inline constexpr BlockShape kFp8Column{128, 1};  // the same for Wgrad, where K is tokens

// A matrix with scales as one of a GEMM whose lanes are its rows, or its columns: tiles are 128 of
// the other.
GemmOperand lanes_are_rows(WeightView x);
GemmOperand lanes_are_columns(WeightView x);

// The owner of some rounded matrices: memory is kept from one use to the next.
class Fp8Matrices {
 public:
  // The rows of x of each expert as a matrix: tiles begin anew with each. tile: kFp8Row, kFp8Column
  // or kFp8Block.
  void round(In2 x, ExpertRows rows, BlockShape tile);
  // All of x as one; x itself when it is rounded in such tiles already.
  WeightView round(WeightView x, BlockShape tile);
  // Weights in 128 x 128 blocks, those that are not rounded already. Error{kShape} for one that is
  // neither that nor FP32.
  void round_weights(std::span<const WeightView> w);

  WeightView operator[](int64_t i) const { return views_[static_cast<size_t>(i)]; }

 private:
  struct Band;
  void add(int64_t rows, int64_t cols, BlockShape tile);
  void place();
  void round_bands(const std::vector<Band>& bands) const;

  std::vector<WeightView> views_;
  Buffer numbers_, scales_;
};

// A weight in 128 x 128 blocks: numbers as large as w, one scale a block.
void round_to_fp8(In2 w, bf16* numbers, float* scales);

}  // namespace hadal
