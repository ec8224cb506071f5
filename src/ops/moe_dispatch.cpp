// The ways of tokens to their experts and back, of ops/router.h.
#include <limits>

#include "kernels/kernels.h"
#include "ops/router.h"
#include "ops/rows.h"
#include "ops/top_k.h"

namespace hadal {
namespace {

void check_slots(const char* op, Ids slot_of, int64_t tokens, int64_t top_k, int64_t slots) {
  HADAL_CHECK(top_k >= 1, kShape, op, ": top_k is ", top_k, ", expected at least 1");
  HADAL_CHECK(slot_of.dim(0) == tokens * top_k, kShape, op, ": slot_of has ", slot_of.dim(0),
              " entries, expected ", tokens, " tokens x ", top_k);
  for (int64_t i = 0; i < slot_of.dim(0); ++i) {
    const int32_t slot = slot_of.data()[i];
    if (slot < 0 || slot >= slots) [[unlikely]] {
      throw Error(ErrorKind::kShape, str(op, ": slot ", slot, " of token ", i / top_k,
                                         " is outside 0 .. ", slots - 1));
    }
  }
}

void check_columns(const char* op, const char* name, In2 m, int64_t columns) {
  check_matrix(op, name, m, m.dim(0), columns);
}

}  // namespace

void sort_by_expert(View<const int32_t, 2> experts, std::span<int64_t> offsets,
                    View<int32_t, 1> tokens, View<int32_t, 1> slot_of) {
  const int64_t rows = experts.dim(0), top_k = experts.dim(1), slots = rows * top_k;
  RouterShape shape;
  shape.experts = static_cast<int64_t>(offsets.size()) - 1;
  shape.top_k = top_k;
  HADAL_CHECK(shape.experts >= 1, kShape, "sort_by_expert: offsets has ", offsets.size(),
              " entries, expected one more than there are experts");
  check_experts("sort_by_expert", experts, rows, shape);
  HADAL_CHECK(slots <= std::numeric_limits<int32_t>::max(), kShape, "sort_by_expert: ", slots,
              " slots, expected fewer than 2^31");
  check_length<int32_t>("sort_by_expert", "tokens", tokens, slots, "slot");
  check_length<int32_t>("sort_by_expert", "slot_of", slot_of, slots, "slot");

  std::fill(offsets.begin(), offsets.end(), 0);
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t j = 0; j < top_k; ++j) ++offsets[static_cast<size_t>(experts.row(t)[j]) + 1];
  }
  for (size_t e = 1; e < offsets.size(); ++e) offsets[e] += offsets[e - 1];
  // Filling turns the start of each expert into its end, which is the start of the next.
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t j = 0; j < top_k; ++j) {
      const int64_t slot = offsets[static_cast<size_t>(experts.row(t)[j])]++;
      tokens.data()[slot] = static_cast<int32_t>(t);
      slot_of.data()[t * top_k + j] = static_cast<int32_t>(slot);
    }
  }
  for (size_t e = offsets.size() - 1; e > 0; --e) offsets[e] = offsets[e - 1];
  offsets[0] = 0;
}

void moe_combine(In2 expert_out, Ids slot_of, In2 gates, Out2 y) {
  const int64_t top_k = gates.dim(1);
  check_slots("moe_combine", slot_of, y.dim(0), top_k, expert_out.dim(0));
  check_matrix("moe_combine", "gates", gates, y.dim(0), top_k);
  check_columns("moe_combine", "expert_out", expert_out, y.dim(1));
  const Kernels& k = kernels();
  parallel_for(y.dim(0), task_grain(top_k * y.dim(1)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t j = 0; j < top_k; ++j) {
        const int32_t slot = slot_of.data()[t * top_k + j];
        k.add_scaled_row(gates.row(t)[j], expert_out.row(slot), y.row(t), y.dim(1));
      }
    }
  });
}

void moe_swiglu_backward(In2 u, In1 g, In2 gate, In2 up, Out1 dg, Out2 h, Out2 dgate, Out2 dup) {
  constexpr const char* kOp = "moe_swiglu_backward";
  const int64_t width = u.dim(1);
  check_length(kOp, "g", g, u.dim(0), "slot");
  check_length(kOp, "dg", dg, u.dim(0), "slot");
  check_same_shape(kOp, "gate", gate, "u", u);
  check_same_shape(kOp, "up", up, "u", u);
  check_same_shape(kOp, "h", h, "u", u);
  check_same_shape(kOp, "dgate", dgate, "u", u);
  check_same_shape(kOp, "dup", dup, "u", u);
  const Kernels& k = kernels();
  parallel_for(u.dim(0), task_grain(width), [&](int64_t begin, int64_t end) {
    for (int64_t s = begin; s < end; ++s) {
      dg.data()[s] += k.swiglu_backward_row(u.row(s), g.data()[s], gate.row(s), up.row(s), h.row(s),
                                            dgate.row(s), dup.row(s), width);
    }
  });
}

void moe_gather_backward(In2 dx_slots, Ids slot_of, int64_t top_k, Out2 dx) {
  check_slots("moe_gather_backward", slot_of, dx.dim(0), top_k, dx_slots.dim(0));
  check_columns("moe_gather_backward", "dx_slots", dx_slots, dx.dim(1));
  const Kernels& k = kernels();
  parallel_for(dx.dim(0), task_grain(top_k * dx.dim(1)), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t j = 0; j < top_k; ++j) {
        k.add_row(dx_slots.row(slot_of.data()[t * top_k + j]), dx.row(t), dx.dim(1));
      }
    }
  });
}

}  // namespace hadal
