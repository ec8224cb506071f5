#pragma once
#include "core/tensor.h"

namespace hadal {

// Layer normalisation of every token, the GPT layout's norm, for comparison with RMSNorm:
//   y[t,d] = gain[d] * (x[t,d] - mean[t]) * inv_std[t] + bias[d],  inv_std = 1 / sqrt(var_d(x[t]) +
//   eps)
//
// Shapes    x, y [T, D]; gain, bias [D]; stats [T, 2] = (mean, inv_std). T may be 0, D may not.
// Saves     stats for the backward; pass {} when serving.
// Aliasing  y may be x.
// Threads   split over T; the same bits for any number of threads.
// Errors    Error{kShape} before anything is written.
void layernorm(In2 x, In1 gain, In1 bias, float eps, Out2 y, Out2 stats = {});

// Adds dL/dx, dL/dgain, dL/dbias. No aliasing.
void layernorm_backward(In2 dy, In2 x, In1 gain, In2 stats, Out2 dx, Out1 dgain, Out1 dbias);

}  // namespace hadal
