#include "ops/layernorm.h"

#include "kernels/kernels.h"
#include "ops/rows.h"

namespace hadal {
namespace {

void check_stats(const char* op, In2 stats, int64_t rows) {
  HADAL_CHECK(stats.dim(0) == rows && stats.dim(1) == 2, kShape, op, ": stats is [", stats.dim(0),
              ", ", stats.dim(1), "], expected [", rows, ", 2]");
}

}  // namespace

void layernorm(In2 x, In1 gain, In1 bias, float eps, Out2 y, Out2 stats) {
  HADAL_CHECK(x.dim(1) > 0, kShape, "layernorm: x has no columns");
  check_length("layernorm", "gain", gain, x.dim(1), "column of x");
  check_length("layernorm", "bias", bias, x.dim(1), "column of x");
  check_same_shape("layernorm", "y", y, "x", x);
  if (!stats.empty()) check_stats("layernorm", stats, x.dim(0));
  const Kernels& k = kernels();
  parallel_for(x.dim(0), task_grain(x.dim(1)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float unwanted[2];
      k.layernorm_row(x.row(t), gain.data(), bias.data(), eps, y.row(t),
                      stats.empty() ? unwanted : stats.row(t), x.dim(1));
    }
  });
}

void layernorm_backward(In2 dy, In2 x, In1 gain, In2 stats, Out2 dx, Out1 dgain, Out1 dbias) {
  HADAL_CHECK(x.dim(1) > 0, kShape, "layernorm_backward: x has no columns");
  check_same_shape("layernorm_backward", "dy", dy, "x", x);
  check_same_shape("layernorm_backward", "dx", dx, "x", x);
  check_length("layernorm_backward", "gain", gain, x.dim(1), "column of x");
  check_length("layernorm_backward", "dgain", dgain, x.dim(1), "column of x");
  check_length("layernorm_backward", "dbias", dbias, x.dim(1), "column of x");
  check_stats("layernorm_backward", stats, x.dim(0));
  const Kernels& k = kernels();
  add_row_sums(x.dim(0), std::array{dgain, dbias}, [&](int64_t begin, int64_t end, auto partials) {
    for (int64_t t = begin; t < end; ++t) {
      k.layernorm_backward_row(dy.row(t), x.row(t), gain.data(), stats.row(t), dx.row(t),
                               partials[0], partials[1], x.dim(1));
    }
  });
}

}  // namespace hadal
