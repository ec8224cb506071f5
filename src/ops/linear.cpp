#include "ops/linear.h"

#include <algorithm>
#include <array>

#include "core/parallel.h"
#include "kernels/kernels.h"
#include "ops/decode_rows.h"
#include "ops/fp8.h"
#include "ops/matrix_product.h"
#include "ops/panel_linear.h"
#include "ops/rows.h"

namespace hadal {
namespace {

void check_forward(const char* op, WeightView x, WeightView w, In1 bias, Out2 y) {
  check_any_weight(op, "w", w);
  check_size(op, "x", x, x.rows, w.cols);
  check_size(op, "y", y, x.rows, w.rows);
  if (!bias.empty()) check_length(op, "bias", bias, w.rows, "row of w");
}

void add_column_sums(In2 dy, Out1 sums) {
  const Kernels& kernel = kernels();
  add_row_sums(dy.dim(0), std::array{sums}, [&](int64_t begin, int64_t end, const auto& partial) {
    for (int64_t t = begin; t < end; ++t) kernel.add_row(dy.row(t), partial[0], dy.dim(1));
  });
}

}  // namespace

bool bf16_is_native() {
  return has_bf16_dots();
}

Precision find_precision(std::string_view name) {
  if (name == "fp32") return Precision::kFp32;
  if (name == "bf16") return Precision::kBf16;
  if (name == "fp8") return Precision::kFp8;
  throw Error(ErrorKind::kUsage,
              str("precision \"", name, "\" is unknown; expected fp32, bf16 or fp8"));
}

void linear(WeightView x, WeightView w, In1 bias, Out2 y, Precision precision) {
  check_forward("linear", x, w, bias, y);
  if (in_panels(w)) return panel_linear(x, w, bias, y);
  Product product{.gemm = {.op = GemmOp::kNT, .m = x.rows, .n = w.rows, .k = w.cols}};
  static thread_local Fp8Matrices rounded_x, rounded_w;
  if (is_fp8(precision)) {
    rounded_w.round_weights({&w, 1});
    product.gemm.a = lanes_are_rows(rounded_x.round(x, kFp8Row));
    product.gemm.b = lanes_are_rows(rounded_w[0]);
  } else {
    product.gemm.a = operand(x);
    product.gemm.b = operand(w);
  }
  product.gemm.c = y.data();
  product.gemm.c_stride = y.row_stride();
  product.gemm.bf16_arithmetic = precision == Precision::kBf16;
  product.bias = bias.data();
  run_products({&product, 1});
}

void linear_backward(In2 dy, WeightView x, WeightView w, Out2 dx, Out2 dw, Out1 dbias,
                     Precision precision, Gradient to_dx) {
  check_weight("linear_backward", "w", w);
  check_size("linear_backward", "dy", dy, dy.dim(0), w.rows);
  if (!dx.empty()) check_size("linear_backward", "dx", dx, dy.dim(0), w.cols);
  if (!dw.empty()) {
    check_size("linear_backward", "x", x, dy.dim(0), w.cols);
    check_size("linear_backward", "dw", dw, w.rows, w.cols);
  }
  if (!dbias.empty()) check_length("linear_backward", "dbias", dbias, w.rows, "row of w");

  std::array<Product, 2> products;
  size_t count = 0;
  const auto add = [&](GemmOp op, int64_t m, int64_t k, GemmOperand a, GemmOperand b, Out2 c) {
    Gemm& g = products[count++].gemm;
    g = {.op = op, .m = m, .n = w.cols, .k = k, .a = a, .b = b};
    g.c = c.data();
    g.c_stride = c.row_stride();
    g.accumulate = true;
    g.bf16_arithmetic = precision == Precision::kBf16;
  };
  static thread_local Fp8Matrices rounded_w, dy_for_dx, dy_for_dw, rounded_x;
  const bool fp8 = is_fp8(precision), blocks_of_dy = precision == Precision::kFp8Blocks;
  if (!dx.empty()) {
    if (fp8) rounded_w.round_weights({&w, 1});
    add(GemmOp::kNN, dy.dim(0), w.rows,
        fp8 ? lanes_are_rows(dy_for_dx.round(dy, blocks_of_dy ? kFp8Block : kFp8Row)) : operand(dy),
        fp8 ? lanes_are_columns(rounded_w[0]) : operand(w), dx);
    products[0].gemm.accumulate = to_dx == Gradient::kAdd;
  }
  if (!dw.empty()) {
    add(GemmOp::kTN, w.rows, dy.dim(0),
        fp8 ? lanes_are_columns(dy_for_dw.round(dy, blocks_of_dy ? kFp8Block : kFp8Column))
            : operand(dy),
        fp8 ? lanes_are_columns(rounded_x.round(x, kFp8Column)) : operand(x), dw);
  }
  run_products({products.data(), count});
  if (!dbias.empty()) add_column_sums(dy, dbias);
}

void linear_decode(In2 x, WeightView w, In1 bias, Out2 y) {
  check_forward("linear_decode", x, w, bias, y);
  if (in_panels(w)) return panel_linear(x, w, bias, y);
  if (x.dim(0) == 0) return;
  const Kernels& kernel = kernels();
  const int64_t row_bytes = std::max<int64_t>(1, w.cols * dtype_size(w.dtype));
  parallel_for(w.rows, std::max<int64_t>(1, kSmallestRead / row_bytes),
               [&](int64_t begin, int64_t end) {
                 decode_rows(kernel, x, w.row_range(begin, end), y.cols(begin, end));
                 for (int64_t t = 0; !bias.empty() && t < x.dim(0); ++t) {
                   kernel.add_row(bias.data() + begin, y.row(t) + begin, end - begin);
                 }
               });
}

void linear_decode_across(In2 x, WeightView w, Out2 y) {
  check_stored_weight("linear_decode_across", "w", w);
  check_size("linear_decode_across", "x", x, x.dim(0), w.rows);
  check_size("linear_decode_across", "y", y, x.dim(0), w.cols);
  decode_across(kernels(), x, w, y);
}

}  // namespace hadal
