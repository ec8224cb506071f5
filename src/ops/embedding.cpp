#include "ops/embedding.h"

#include "kernels/kernels.h"
#include "ops/rows.h"

namespace hadal {
namespace {

void check_ids(const char* op, Ids ids, int64_t vocabulary) {
  for (int64_t t = 0; t < ids.dim(0); ++t) {
    const int32_t id = ids.data()[t];
    if (id < 0 || id >= vocabulary) [[unlikely]] {
      throw Error(ErrorKind::kShape, str(op, ": id ", id, " of token ", t,
                                         " is outside the vocabulary 0 .. ", vocabulary - 1));
    }
  }
}

}  // namespace

void embedding(Ids ids, WeightView w, Out2 y) {
  check_length("embedding", "ids", ids, y.dim(0), "row of y");
  HADAL_CHECK(y.dim(1) == w.cols, kShape, "embedding: y has ", y.dim(1), " columns but w has ",
              w.cols);
  HADAL_CHECK(w.dtype == DType::kF32 || w.dtype == DType::kBF16 || w.dtype == DType::kF16, kShape,
              "embedding: w is ", dtype_name(w.dtype), ", expected F32, BF16 or F16");
  check_ids("embedding", ids, w.rows);
  parallel_for(ids.dim(0), task_grain(w.cols), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int64_t first = ids.data()[t] * w.row_stride;
      if (w.dtype == DType::kF32) {
        std::copy_n(static_cast<const float*>(w.data) + first, w.cols, y.row(t));
      } else if (w.dtype == DType::kBF16) {
        const bf16* row = static_cast<const bf16*>(w.data) + first;
        for (int64_t d = 0; d < w.cols; ++d) y.row(t)[d] = to_float(row[d]);
      } else {
        const fp16* row = static_cast<const fp16*>(w.data) + first;
        for (int64_t d = 0; d < w.cols; ++d) y.row(t)[d] = to_float(row[d]);
      }
    }
  });
}

void embedding_backward(Ids ids, In2 dy, Out2 dw) {
  check_length("embedding_backward", "ids", ids, dy.dim(0), "row of dy");
  HADAL_CHECK(dy.dim(1) == dw.dim(1), kShape, "embedding_backward: dy has ", dy.dim(1),
              " columns but dw has ", dw.dim(1));
  check_ids("embedding_backward", ids, dw.dim(0));
  const Kernels& k = kernels();
  // Tasks own columns and walk the tokens in order: a token that comes twice is added twice.
  parallel_for(dw.dim(1), std::max<int64_t>(64, task_grain(ids.dim(0))),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = 0; t < ids.dim(0); ++t) {
                   k.add_row(dy.row(t) + begin, dw.row(ids.data()[t]) + begin, end - begin);
                 }
               });
}

}  // namespace hadal
