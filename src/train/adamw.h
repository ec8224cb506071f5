#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "model/params.h"

namespace hadal {

// Decoupled weight decay of each group. By default the matrices of Linears decay, experts'
// included, and nothing else: a rare token's row in embedding or head, or a rare expert's score,
// would shrink for want of gradients.
struct WeightDecay {
  double matrix = 0.1, embedding = 0, head = 0, router = 0, norm = 0, bias = 0;
  double of(ParamGroup group) const;
};

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8;
  double clip = 1.0;  // global L2 norm of the gradient; 0 = no clipping
  WeightDecay decay = {};
  DType moments = DType::kF32;  // or kBF16: rounded to nearest even after every update
};

// L2 norm of all gradients. Sums in double over fixed blocks of each tensor, added in the order of
// the list: the same bits for any number of threads. `layers`, if given, gets the norm of each
// layer's part: [0] of what is outside the layers, [1 + l] of layer l.
double gradient_norm(const Params& params, std::vector<double>* layers = nullptr);

// AdamW over every parameter that has a gradient:
//   g' = g * min(1, clip / norm);  m += (1-b1)(g' - m);  v += (1-b2)(g'^2 - v)
//   w -= lr * (m / (1-b1^t) / (sqrt(v / (1-b2^t)) + eps) + decay * w)
// with w the value before the step, and m and v before they are rounded for storage. Elementwise:
// the same bits for any number of threads and any family of kernels.
class AdamW {
 public:
  AdamW(Params& params, const AdamWOptions& options);

  // One update at this learning rate; `norm` is gradient_norm(params). Counts t up by one.
  void step(double lr, double norm);

  // State to save: t, and the moments of each parameter, numbers of type moments() in the order of
  // its values ({} for one without a gradient).
  int64_t updates() const { return updates_; }
  void set_updates(int64_t t) { updates_ = t; }
  DType moments() const { return options_.moments; }
  std::span<std::byte> first_moment(const Param& param);
  std::span<std::byte> second_moment(const Param& param);
  int64_t bytes() const { return first_.bytes() + second_.bytes(); }

 private:
  struct Slot {
    Param* param;
    int64_t offset;  // of its moments, in numbers
  };
  std::span<std::byte> moment(Buffer& buffer, const Param& param) const;

  AdamWOptions options_;
  std::vector<Slot> slots_;
  Buffer first_, second_;
  int64_t updates_ = 0;
};

}  // namespace hadal
