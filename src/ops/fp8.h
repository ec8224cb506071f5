#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "kernels/kernels.h"
#include "ops/linear.h"
#include "quant/formats.h"

namespace hadal {

// Matrices as FP8 products read them (V3 report, sec. 3.3.2): E4M3 codes, dense and row-major, and
// one scale a tile. Codes and scales are the same bits for any family and number of threads, and
// those of encode_fp8 (quant/fp8.h). A tile with a number that is not finite has the scale NaN, and
// so has every result that reads it.
inline constexpr BlockShape kFp8Row{1, 128};     // activations and their gradients, K across
inline constexpr BlockShape kFp8Column{128, 1};  // the same for Wgrad, where K is tokens

struct Fp8View {
  const uint8_t* codes = nullptr;
  int64_t rows = 0, cols = 0;
  const float* scales = nullptr;  // [ceil(rows / tile.rows), ceil(cols / tile.cols)]
  BlockShape tile;

  // As a matrix of a GEMM whose lanes are the rows, or the columns: tiles are 128 of the other.
  GemmOperand lanes_are_rows() const;
  GemmOperand lanes_are_columns() const;
};

// The owner of some matrices in FP8: memory is kept from one use to the next.
class Fp8Matrices {
 public:
  // The rows of x of each expert as a matrix: tiles begin anew with each. tile: kFp8Row, kFp8Column
  // or kFp8Block.
  void encode(In2 x, ExpertRows rows, BlockShape tile);
  void encode(In2 x, BlockShape tile);  // all of x as one
  // Weights in 128 x 128 blocks. Error{kShape} for one that is not FP32.
  void encode_weights(std::span<const WeightView> w);

  const Fp8View& operator[](int64_t i) const { return views_[static_cast<size_t>(i)]; }

 private:
  struct Band;
  void place();
  void encode_bands(const std::vector<Band>& bands);

  std::vector<Fp8View> views_;
  Buffer codes_, scales_;
};

// The operands of dx = dy W and dW = dy^T x, for each expert of its rows of dy and x.
class Fp8Backward {
 public:
  void encode_for_dx(In2 dy, ExpertRows dy_rows, std::span<const WeightView> w, bool blocks_of_dy);
  void encode_for_dw(In2 dy, ExpertRows dy_rows, In2 x, ExpertRows x_rows, bool blocks_of_dy);
  GemmOperand dx_dy(int64_t e) const { return dy_for_dx_[e].lanes_are_rows(); }
  GemmOperand dx_w(int64_t e) const { return w_[e].lanes_are_columns(); }
  GemmOperand dw_dy(int64_t e) const { return dy_for_dw_[e].lanes_are_columns(); }
  GemmOperand dw_x(int64_t e) const { return x_[e].lanes_are_columns(); }

 private:
  Fp8Matrices w_, dy_for_dx_, dy_for_dw_, x_;
};

}  // namespace hadal
