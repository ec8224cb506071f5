#include "ops/rmsnorm.h"

#include "kernels/kernels.h"
#include "ops/rows.h"

namespace hadal {

void rmsnorm(In2 x, In1 gain, float eps, Out2 y, Out1 inv_rms) {
  HADAL_CHECK(x.dim(1) > 0, kShape, "rmsnorm: x has no columns");
  check_length("rmsnorm", "gain", gain, x.dim(1), "column of x");
  check_same_shape("rmsnorm", "y", y, "x", x);
  if (!inv_rms.empty()) check_length("rmsnorm", "inv_rms", inv_rms, x.dim(0), "row of x");
  const Kernels& k = kernels();
  parallel_for(x.dim(0), task_grain(x.dim(1)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float r = k.rmsnorm_row(x.row(t), gain.data(), eps, y.row(t), x.dim(1));
      if (!inv_rms.empty()) inv_rms.data()[t] = r;
    }
  });
}

void rmsnorm_backward(In2 dy, In2 x, In1 gain, In1 inv_rms, Out2 dx, Out1 dgain) {
  HADAL_CHECK(x.dim(1) > 0, kShape, "rmsnorm_backward: x has no columns");
  check_same_shape("rmsnorm_backward", "dy", dy, "x", x);
  check_same_shape("rmsnorm_backward", "dx", dx, "x", x);
  check_length("rmsnorm_backward", "gain", gain, x.dim(1), "column of x");
  check_length("rmsnorm_backward", "dgain", dgain, x.dim(1), "column of x");
  check_length("rmsnorm_backward", "inv_rms", inv_rms, x.dim(0), "row of x");
  const Kernels& k = kernels();
  add_row_sums(x.dim(0), std::array{dgain}, [&](int64_t begin, int64_t end, auto partials) {
    for (int64_t t = begin; t < end; ++t) {
      k.rmsnorm_backward_row(dy.row(t), x.row(t), gain.data(), inv_rms.data()[t], dx.row(t),
                             partials[0], x.dim(1));
    }
  });
}

}  // namespace hadal
