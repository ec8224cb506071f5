#pragma once
// Internal to ops/: what attention.cpp and paged_attention.cpp share.
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "core/parallel.h"
#include "kernels/attention.h"
#include "ops/attention.h"

namespace hadal {

inline int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}

inline void check_dims(const char* op, const AttentionShape& s) {
  HADAL_CHECK(s.heads > 0 && s.kv_heads > 0 && s.heads % s.kv_heads == 0, kShape, op, ": ",
              s.kv_heads, " key heads do not divide ", s.heads, " heads");
  HADAL_CHECK(s.qk_dim > 0 && s.v_dim > 0, kShape, op, ": heads of ", s.qk_dim, " and ", s.v_dim,
              " numbers, expected at least 1");
  HADAL_CHECK(s.scale > 0 && std::isfinite(s.scale), kShape, op, ": scale is ", s.scale,
              ", expected a positive number");
}

inline void check_shape(const char* op, const char* name, In2 x, int64_t rows, int64_t columns) {
  HADAL_CHECK(x.dim(0) == rows && x.dim(1) == columns, kShape, op, ": ", name, " is [", x.dim(0),
              ", ", x.dim(1), "], expected [", rows, ", ", columns, "]");
}

inline AttentionDims dims_of(const AttentionShape& s) {
  return {s.qk_dim, s.v_dim, s.scale};
}

template <class T>
AttentionHeads<T> heads_of(View<T, 2> x, int64_t row, int64_t first_head, int64_t head_numbers) {
  return {x.row(row) + first_head * head_numbers, x.row_stride()};
}

// Scratch of the threads that may work at once.
class Workspaces {
 public:
  Workspaces(Arena& scratch, int64_t floats)
      : floats_(round_up(floats, 16)), all_(scratch.floats(num_threads() * floats_)) {}
  float* mine() const { return all_.data() + thread_index() * floats_; }

 private:
  int64_t floats_;
  Out1 all_;
};

// Columns of a task, of so many in all: large tasks read keys less often, but every thread should
// have some. A multiple of the columns that kernels take together.
inline int64_t block_columns(int64_t all) {
  constexpr int64_t kPanel = 48;
  return std::clamp(all / (8 * num_threads()) / kPanel * kPanel, kPanel, kAttentionColumns);
}

}  // namespace hadal
