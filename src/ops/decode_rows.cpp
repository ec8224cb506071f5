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

// A scale belongs to 128 rows and columns of w: x times the block's scales in the place of x.
void multiply_scales(In2 x, const WeightView& w, float* scaled) {
  static_assert(kFp8BlockCols == kAcrossBlock);
  for (int64_t r = 0; r < x.dim(0); ++r) {
    for (int64_t j = 0; j < w.cols; j += kFp8BlockCols) {
      for (int64_t i = 0; i < x.dim(1); ++i) {
        const int64_t block = (w.scale_row + i) / kFp8BlockRows;
        *scaled++ = w.scales[block * w.scale_stride() + j / kFp8BlockCols] * x.row(r)[i];
      }
    }
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
  AcrossProduct p{w.data, stored(w.dtype), w.row_stride, w.rows, w.cols};
  p.x = x.data();
  p.x_stride = x.row_stride();
  p.rows = x.dim(0);
  p.y = y.data();
  p.y_stride = y.row_stride();
  if (w.dtype == DType::kF8E4M3) {
    const int64_t k = x.dim(1), blocks = (w.cols + kFp8BlockCols - 1) / kFp8BlockCols;
    float* scaled = workspace(p.rows * blocks * k);
    multiply_scales(x, w, scaled);
    p.x = scaled;
    p.x_stride = blocks * k;
    p.x_block = k;
  }
  kernel.gemv_across(p);
}

}  // namespace hadal
