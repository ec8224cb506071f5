#include "ops/decode_rows.h"

#include <algorithm>
#include <vector>

namespace hadal {
namespace {

Stored stored(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return Stored::kBF16;
    case DType::kF16:
      return Stored::kF16;
    case DType::kF8E4M3:
      return Stored::kE4M3;
    default:
      return Stored::kF32;
  }
}

// Kept by each thread, so that a step allocates nothing.
float* workspace(int64_t floats) {
  static thread_local Buffer memory;
  const int64_t bytes = floats * int64_t{sizeof(float)};
  if (bytes > memory.bytes()) memory = Buffer(bytes);
  return reinterpret_cast<float*>(memory.data());
}

// A scale belongs to 128 rows and columns of w: columns are taken by the block, and x times the
// block's scales in the place of x.
void codes_across(const Kernels& kernel, In2 x, const WeightView& w, Out2 y) {
  const int64_t rows = x.dim(0), k = x.dim(1);
  const Out2 scaled(workspace(rows * k), {rows, k});
  const auto* codes = static_cast<const std::byte*>(w.data);
  for (int64_t j = 0; j < w.cols; j += kFp8BlockCols) {
    for (int64_t i = 0; i < k; ++i) {
      const int64_t block = (w.scale_row + i) / kFp8BlockRows;
      const float scale = w.scales[block * w.scale_stride() + j / kFp8BlockCols];
      for (int64_t r = 0; r < rows; ++r) scaled.row(r)[i] = scale * x.row(r)[i];
    }
    kernel.gemv_across(codes + j, Stored::kE4M3, w.row_stride, k,
                       std::min(kFp8BlockCols, w.cols - j), scaled.data(), k, rows, y.data() + j,
                       y.row_stride());
  }
}

}  // namespace

void decode_rows(const Kernels& kernel, In2 x, const WeightView& w, Out2 y) {
  if (w.dtype != DType::kF8E4M3) {
    kernel.gemv(w.data, stored(w.dtype), w.row_stride, w.rows, w.cols, x.data(), x.row_stride(),
                x.dim(0), y.data(), y.row_stride(), false);
    return;
  }
  Fp8Product p{static_cast<const uint8_t*>(w.data), w.row_stride, w.rows, w.cols};
  p.scales = w.scales;
  p.scale_stride = w.scale_stride();
  p.first_row = w.scale_row;
  p.x = x.data();
  p.x_stride = x.row_stride();
  p.rows = x.dim(0);
  p.y = y.data();
  p.y_stride = y.row_stride();
  kernel.fp8_product(p, workspace(p.workspace()));
}

void decode_across(const Kernels& kernel, In2 x, const WeightView& w, Out2 y) {
  if (w.dtype == DType::kF8E4M3) return codes_across(kernel, x, w, y);
  kernel.gemv_across(w.data, stored(w.dtype), w.row_stride, w.rows, w.cols, x.data(),
                     x.row_stride(), x.dim(0), y.data(), y.row_stride());
}

}  // namespace hadal
