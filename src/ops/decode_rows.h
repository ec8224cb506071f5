#pragma once
// Internal to ops/: matrix-vector products of one thread with weights as they lie (FP32, BF16,
// FP16, E4M3 with scales). Shapes are checked by the caller.
#include "core/tensor.h"
#include "kernels/kernels.h"

namespace hadal {

// y = x W^T. Each weight is read once for every 16 rows of x; a row of y depends on its row of x
// alone.
void decode_rows(const Kernels& kernel, In2 x, const WeightView& w, Out2 y);
// y = x W.
void decode_across(const Kernels& kernel, In2 x, const WeightView& w, Out2 y);

}  // namespace hadal
