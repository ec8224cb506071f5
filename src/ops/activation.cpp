#include "ops/activation.h"

#include "kernels/kernels.h"
#include "ops/rows.h"

namespace hadal {
namespace {

// Calls row(t) for every row of a matrix of this shape, split over the threads.
template <class Row>
void for_each_row(int64_t rows, int64_t columns, Row row) {
  parallel_for(rows, task_grain(columns), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) row(t);
  });
}

}  // namespace

void swiglu(In2 gate, In2 up, Out2 y) {
  check_same_shape("swiglu", "up", up, "gate", gate);
  check_same_shape("swiglu", "y", y, "gate", gate);
  const Kernels& k = kernels();
  const int64_t n = gate.dim(1);
  for_each_row(gate.dim(0), n,
               [&](int64_t t) { k.swiglu_row(gate.row(t), up.row(t), y.row(t), n); });
}

void swiglu_backward(In2 dy, In2 gate, In2 up, Out2 y, Out2 dgate, Out2 dup) {
  check_same_shape("swiglu_backward", "dy", dy, "gate", gate);
  check_same_shape("swiglu_backward", "up", up, "gate", gate);
  check_same_shape("swiglu_backward", "y", y, "gate", gate);
  check_same_shape("swiglu_backward", "dgate", dgate, "gate", gate);
  check_same_shape("swiglu_backward", "dup", dup, "gate", gate);
  const Kernels& k = kernels();
  const int64_t n = gate.dim(1);
  for_each_row(gate.dim(0), n, [&](int64_t t) {
    k.swiglu_backward_row(dy.row(t), 1, gate.row(t), up.row(t), y.row(t), dgate.row(t), dup.row(t),
                          n);
  });
}

void gelu(In2 x, Out2 y) {
  check_same_shape("gelu", "y", y, "x", x);
  const Kernels& k = kernels();
  for_each_row(x.dim(0), x.dim(1), [&](int64_t t) { k.gelu_row(x.row(t), y.row(t), x.dim(1)); });
}

void gelu_backward(In2 dy, In2 x, Out2 dx) {
  check_same_shape("gelu_backward", "dy", dy, "x", x);
  check_same_shape("gelu_backward", "dx", dx, "x", x);
  const Kernels& k = kernels();
  for_each_row(x.dim(0), x.dim(1),
               [&](int64_t t) { k.gelu_backward_row(dy.row(t), x.row(t), dx.row(t), x.dim(1)); });
}

void add(In2 x, Out2 y) {
  check_same_shape("add", "y", y, "x", x);
  const Kernels& k = kernels();
  for_each_row(x.dim(0), x.dim(1), [&](int64_t t) { k.add_row(x.row(t), y.row(t), x.dim(1)); });
}

void fill_zero(Out2 y) {
  for_each_row(y.dim(0), y.dim(1), [&](int64_t t) { std::fill_n(y.row(t), y.dim(1), 0.0f); });
}

}  // namespace hadal
