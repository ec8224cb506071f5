#pragma once
// Internal to ops/: Linears whose weights are int8 or int4 in panels (kernels/panels.h).
#include <span>

#include "core/tensor.h"
#include "ops/linear.h"

namespace hadal {

inline constexpr int64_t kSmallestRead = 64 << 10;  // bytes of weights worth waking a thread for

inline bool in_panels(const WeightView& w) {
  return w.block_bytes > 0;
}
// Error{kShape} unless w is in panels of a known kind, or check_stored_weight takes it.
void check_any_weight(const char* op, const char* name, const WeightView& w);

// y = x W^T + bias, x FP32 or BF16, for the prompt's and the generated path alike: x becomes int8
// in groups of 32 (Kernels::code_row), products are exact sums of codes times scales. Each number
// of y is within
//   sum over groups of (1/2 + 2^-8) * scale of x * sum |w|
// of the product with x itself. The same bits for any number of rows, threads and in every family.
void panel_linear(WeightView x, WeightView w, In1 bias, Out2 y);
void grouped_panel_linear(WeightView x, ExpertRows rows, std::span<const WeightView> w, Out2 y);

}  // namespace hadal
