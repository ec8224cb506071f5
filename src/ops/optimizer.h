#pragma once
#include "core/dtype.h"
#include "core/tensor.h"
#include "kernels/kernels.h"

namespace hadal {

// One update of AdamW (train/adamw.h) of n numbers: gradient g, weights w, moments m and v, the
// latter in FP32 or in BF16, rounded to nearest even. The same bits in every family of kernels; in
// the calling thread. Error{kShape} when the lengths differ.
void adamw_update(const AdamWRow& u, In1 g, Out1 w, Out1 m, Out1 v);
void adamw_update(const AdamWRow& u, In1 g, Out1 w, View<bf16, 1> m, View<bf16, 1> v);

// y = x rounded to nearest even, likewise.
void round_to_bf16(In1 x, View<bf16, 1> y);

// y += share * (x - y), likewise.
void average_update(float share, In1 x, Out1 y);

}  // namespace hadal
