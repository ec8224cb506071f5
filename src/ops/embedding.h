#pragma once
#include "core/tensor.h"

namespace hadal {

// y[t] = w[ids[t]]. ids [T] in 0 .. V-1 (Error{kShape} naming the id otherwise); w [V, D] FP32,
// BF16 or FP16; y [T, D] FP32.
void embedding(Ids ids, WeightView w, Out2 y);
// dw[ids[t]] += dy[t], in token order, whatever the number of threads.
void embedding_backward(Ids ids, In2 dy, Out2 dw);

}  // namespace hadal
