#pragma once
#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "model/params.h"

namespace hadal {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double weight_decay = 0.1;  // decoupled; see decays()
  double clip = 1.0;          // global L2 norm of the gradient; 0 = no clipping
};

// Matrices of Linears decay, experts' included. Embedding, head, router, gains and biases do not:
// a rare token's row, or a rare expert's score, would shrink for want of gradients.
bool decays(ParamGroup group);

// L2 norm of all gradients. Sums in double over fixed blocks of each tensor, added in the order of
// the list: the same bits for any number of threads.
double gradient_norm(const Params& params);

// AdamW with FP32 moments over every parameter that has a gradient:
//   g' = g * min(1, clip / norm);  m += (1-b1)(g' - m);  v += (1-b2)(g'^2 - v)
//   w -= lr * (m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps) + decay * w)
// with w the value before the step. Elementwise: the same bits for any number of threads.
class AdamW {
 public:
  AdamW(Params& params, const AdamWOptions& options);

  // One update at this learning rate; `norm` is gradient_norm(params). Counts t up by one.
  void step(double lr, double norm);

  // State to save: t, and the moments of each parameter ({} for one without a gradient).
  int64_t updates() const { return updates_; }
  void set_updates(int64_t t) { updates_ = t; }
  Out1 first_moment(const Param& param);
  Out1 second_moment(const Param& param);
  int64_t bytes() const { return first_.bytes() + second_.bytes(); }

 private:
  struct Slot {
    Param* param;
    int64_t offset;  // of its moments, in numbers
  };
  Out1 moment(const Buffer& buffer, const Param& param) const;

  AdamWOptions options_;
  std::vector<Slot> slots_;
  Buffer first_, second_;
  int64_t updates_ = 0;
};

}  // namespace hadal
