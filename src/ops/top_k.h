#pragma once
// Internal to ops/: the choice of a token's experts, and the promises a RouterShape must keep.
#include <cstdint>

#include "ops/router.h"

namespace hadal {

// The k best of the values offered, best first; of equal ones the earlier offered comes first.
// `ids` and `values` have room for k.
class TopK {
 public:
  TopK(int32_t* ids, float* values, int64_t k) : ids_(ids), values_(values), k_(k) {}
  void offer(int32_t id, float value) {
    if (count_ == k_ && !(value > values_[k_ - 1])) return;
    int64_t at = count_ < k_ ? count_++ : k_ - 1;
    for (; at > 0 && value > values_[at - 1]; --at) {
      ids_[at] = ids_[at - 1], values_[at] = values_[at - 1];
    }
    ids_[at] = id, values_[at] = value;
  }

 private:
  int32_t* ids_;
  float* values_;
  int64_t k_;
  int64_t count_ = 0;
};

// Error{kConfig} unless top_k experts can be chosen as the shape says.
void check_router_shape(const char* op, const RouterShape& shape);
// Error{kShape} unless `experts` is [rows, top_k] of ids below shape.experts.
void check_experts(const char* op, View<const int32_t, 2> experts, int64_t rows,
                   const RouterShape& shape);
// Error{kShape} unless m is [rows, columns].
void check_matrix(const char* op, const char* name, In2 m, int64_t rows, int64_t columns);

}  // namespace hadal
