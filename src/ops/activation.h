#pragma once
#include "core/tensor.h"

namespace hadal {

// SwiGLU's product: y = silu(gate) * up, silu(z) = z / (1 + exp(-z)).
// Shapes [T, F] all. y may be gate or up. Threads split over T.
void swiglu(In2 gate, In2 up, Out2 y);
// Sets dgate and dup, which nothing else adds to, and y: it is computed again, never kept (V3
// report, sec. 3.3.3).
void swiglu_backward(In2 dy, In2 gate, In2 up, Out2 y, Out2 dgate, Out2 dup);

// GELU in GPT-2's tanh form: y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))). y may be x.
void gelu(In2 x, Out2 y);
void gelu_backward(In2 dy, In2 x, Out2 dx);

// y += x, and y = 0. Shapes [T, D].
void add(In2 x, Out2 y);
void fill_zero(Out2 y);

}  // namespace hadal
