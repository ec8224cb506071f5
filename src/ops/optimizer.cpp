#include "ops/optimizer.h"

#include "ops/rows.h"

namespace hadal {
namespace {

template <class Moments>
void check_lengths(In1 g, Out1 w, Moments m, Moments v) {
  const char* op = "adamw_update";
  check_length(op, "w", w, g.size(), "number of g");
  check_length(op, "m", m, g.size(), "number of g");
  check_length(op, "v", v, g.size(), "number of g");
}

}  // namespace

void adamw_update(const AdamWRow& u, In1 g, Out1 w, Out1 m, Out1 v) {
  check_lengths(g, w, m, v);
  kernels().adamw_row(u, g.data(), w.data(), m.data(), v.data(), g.size());
}

void adamw_update(const AdamWRow& u, In1 g, Out1 w, View<bf16, 1> m, View<bf16, 1> v) {
  check_lengths(g, w, m, v);
  kernels().adamw_bf16_row(u, g.data(), w.data(), reinterpret_cast<uint16_t*>(m.data()),
                           reinterpret_cast<uint16_t*>(v.data()), g.size());
}

void round_to_bf16(In1 x, View<bf16, 1> y) {
  check_length("round_to_bf16", "y", y, x.size(), "number of x");
  kernels().to_bf16_row(x.data(), reinterpret_cast<uint16_t*>(y.data()), x.size());
}

void average_update(float share, In1 x, Out1 y) {
  check_length("average_update", "y", y, x.size(), "number of x");
  kernels().average_row(share, x.data(), y.data(), x.size());
}

}  // namespace hadal
