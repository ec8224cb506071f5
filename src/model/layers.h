#pragma once
#include <span>
#include <string>

#include "core/arena.h"
#include "core/step_clock.h"
#include "model/config.h"
#include "model/params.h"
#include "model/pass.h"

namespace hadal {

// A Linear's parameters and the calls that use them: y = x W^T + bias.
class Linear {
 public:
  Linear() = default;
  Linear(Params& params, const std::string& name, int64_t in, int64_t out, bool bias, int64_t layer,
         ParamGroup group = ParamGroup::kMatrix, StepPart part = StepPart::kProjections);
  int64_t in() const { return weight_->cols(); }
  int64_t out() const { return weight_->rows(); }
  const Param& weight() const { return *weight_; }

  bool has_bias() const { return bias_ != nullptr; }
  StepPart part() const { return part_; }

  void forward(WeightView x, Out2 y, Precision precision) const;
  // Adds to dx (unless {}), or sets it, and adds to the parameters' gradients.
  void backward(In2 dy, WeightView x, Out2 dx, Precision precision,
                Gradient to_dx = Gradient::kAdd) const;
  void backward_to_input(In2 dy, Out2 dx, Precision precision,
                         Gradient to_dx = Gradient::kAdd) const;
  void step(In2 x, Out2 y, const StepPass& pass) const;

 private:
  Param* weight_ = nullptr;
  Param* bias_ = nullptr;
  StepPart part_ = StepPart::kProjections;
};

// Linears that read the same x: y and dy hold what each gives, one after the other. Where their
// matrices also lie one after the other, as in training, they are one product: x is packed once.
// In FP8, where each matrix has blocks of its own, only their gradients are.
void forward_all(std::span<const Linear* const> linears, WeightView x, Out2 y, Precision precision);
void backward_all(std::span<const Linear* const> linears, In2 dy, WeightView x, Out2 dx,
                  Precision precision);

// The same for matrices alone: what they are as one, or a view of nothing where they lie apart.
WeightView joined_weight(std::span<const Param* const> params, Precision precision);
Out2 joined_gradient(std::span<const Param* const> params);

// RMSNorm or LayerNorm over the last dimension, as config.hadal_norm says.
class Norm {
 public:
  Norm() = default;
  enum class Kind { kRms, kLayer };
  Norm(Params& params, const std::string& name, int64_t dim, double eps, Kind kind, int64_t layer);

  // stats from `saved`: what the backward needs beside x. [T, 1] (inv_rms) or [T, 2].
  Out2 forward(In2 x, Out2 y, Arena& saved) const;
  void forward(In2 x, Out2 y) const;  // serving
  void backward(In2 dy, In2 x, In2 stats, Out2 dx) const;

 private:
  Kind kind_ = Kind::kRms;
  float eps_ = 0;
  Param* gain_ = nullptr;
  Param* bias_ = nullptr;
};

Norm::Kind norm_kind(const ModelConfig& config);

}  // namespace hadal
