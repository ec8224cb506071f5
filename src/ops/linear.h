#pragma once
#include <span>
#include <string_view>

#include "core/tensor.h"

namespace hadal {

// Arithmetic of a Linear's three GEMMs. kBf16: operands are rounded to BF16 (nearest even),
// products are summed in FP32, whatever the operands are stored as.
// kFp8 (V3 report, sec. 3.3): operands become E4M3 codes with a scale for each tile, from its
// largest magnitude (ops/fp8.h): weights 128 x 128; x and dy 1 x 128 for y and dx, 128 x 1 for dW,
// where a tile is of the tokens of one expert. Sums as in kernels/gemm_fp8.inl: the same bits in
// every family of kernels. w is FP32, or rounded before, as x of linear and dy of dx may be.
// kFp8Blocks: the same with dy in blocks of 128 x 128, what the report found to diverge.
enum class Precision { kFp32, kBf16, kFp8, kFp8Blocks };
constexpr bool is_fp8(Precision p) {
  return p == Precision::kFp8 || p == Precision::kFp8Blocks;
}
// Whether the CPU has dots of BF16, so that kBf16 is twice as fast as kFp32.
bool bf16_is_native();
// By name: fp32, bf16, fp8. Error{kUsage} names the known ones.
Precision find_precision(std::string_view name);
// What stays above FP8: embedding, head, the projection of MTP.
constexpr Precision above_fp8(Precision p) {
  return is_fp8(p) ? Precision::kBf16 : p;
}

// y = x W^T + bias, the prompt's and the training path.
//
// Weights in FP16, and E4M3 with scales, are taken as the numbers they are: the same bits as with
// those in FP32. Weights in panels (int8, int4) have arithmetic of their own, whatever `precision`
// says: x becomes int8 in groups of 32, products are exact (ops/panel_linear.h). linear and
// linear_decode give the same bits then.
//
// Shapes    x [T, K] FP32 or, with plain weights and unless the precision is FP8, BF16; w [N, K]
// FP32, BF16, FP16, E4M3 or in panels; bias [N] or {}; y [T, N]. T may be 0. Rows may be strided.
// Numbers   a row of y depends on its row of x alone, bit for bit. Aliasing  none. Threads blocks
// of y; the same bits for any number of threads. Errors    Error{kShape} before anything is
// written.
void linear(WeightView x, WeightView w, In1 bias, Out2 y, Precision precision);

// What a gradient finds in its place: something that it is added to, or nothing yet.
enum class Gradient { kAdd, kSet };

// Adds dL/dx to dx (or sets it), dL/dW to dw, dL/dbias to dbias, each unless empty. x and w as
// above.
void linear_backward(In2 dy, WeightView x, WeightView w, Out2 dx, Out2 dw, Out1 dbias,
                     Precision precision, Gradient to_dx = Gradient::kAdd);

// y = x W^T + bias by matrix-vector kernels: generated tokens. Reads each weight once for all T
// rows (T small); FP32 arithmetic on FP32, BF16 or FP16 weights; with E4M3 weights x times a scale
// is rounded, to BF16 in the family with dots of BF16. A row depends on its row of x alone.
void linear_decode(In2 x, WeightView w, In1 bias, Out2 y);

// y = x W, w [K, N] with x [T, K]: what linear_decode is for W^T.
void linear_decode_across(In2 x, WeightView w, Out2 y);

// ---- the same for many experts at once (V3 report, sec. 2.1.2; no token is ever dropped)

// Which rows go to which expert: slot s in [offsets[e], offsets[e+1]) belongs to expert e and takes
// row tokens[s] of x; with tokens empty, row s itself.
struct ExpertRows {
  Ids tokens;                        // [S] or {}
  std::span<const int64_t> offsets;  // [E + 1], offsets[0] = 0, offsets[E] = S
};

// y[s] = W_e x[tokens[s]] for the expert e of slot s. x [T, K]; w: E matrices [N, K]; y [S, N].
void grouped_linear(WeightView x, ExpertRows rows, std::span<const WeightView> w, Out2 y,
                    Precision precision);
// dy by dy_rows, x by x_rows, of the same offsets. dx [S, K] is by slot ({} to skip); dw: E
// matrices [N, K] (adds; empty span to skip, x may be {} then).
void grouped_linear_backward(WeightView dy, ExpertRows dy_rows, WeightView x, ExpertRows x_rows,
                             std::span<const WeightView> w, Out2 dx, std::span<const Out2> dw,
                             Precision precision, Gradient to_dx = Gradient::kAdd);
// Matrix-vector form for generated tokens: reads each chosen expert once.
void grouped_linear_decode(In2 x, ExpertRows rows, std::span<const WeightView> w, Out2 y);

}  // namespace hadal
