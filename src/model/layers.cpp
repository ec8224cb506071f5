#include "model/layers.h"

#include "ops/layernorm.h"
#include "ops/rmsnorm.h"

namespace hadal {

Linear::Linear(Params& params, const std::string& name, int64_t in, int64_t out, bool bias,
               int64_t layer, ParamGroup group, StepPart part)
    : weight_(params.add(name + ".weight", {out, in}, group, layer)), part_(part) {
  if (bias) bias_ = params.add(name + ".bias", {out}, ParamGroup::kBias, layer);
}

void Linear::forward(In2 x, Out2 y, Precision precision) const {
  const TimedPart timed(part_);
  linear(x, weight_->weight(), bias_ == nullptr ? In1() : bias_->vec(), y, precision);
}

void Linear::backward(In2 dy, In2 x, Out2 dx, Precision precision) const {
  const TimedPart timed(part_);
  linear_backward(dy, x, weight_->weight(), dx, weight_->grad(),
                  bias_ == nullptr ? Out1() : bias_->grad_vec(), precision);
}

void Linear::step(In2 x, Out2 y, const StepPass& pass) const {
  if (pass.path == Path::kPrompt) return forward(x, y, pass.precision);
  linear_decode(x, weight_->weight(), bias_ == nullptr ? In1() : bias_->vec(), y);
}

Norm::Norm(Params& params, const std::string& name, int64_t dim, double eps, Kind kind,
           int64_t layer)
    : kind_(kind),
      eps_(static_cast<float>(eps)),
      gain_(params.add(name + ".weight", {dim}, ParamGroup::kNorm, layer)) {
  if (kind == Kind::kLayer) bias_ = params.add(name + ".bias", {dim}, ParamGroup::kNorm, layer);
}

Out2 Norm::forward(In2 x, Out2 y, Arena& saved) const {
  if (kind_ == Kind::kLayer) {
    const Out2 stats = saved.floats(x.dim(0), 2);
    layernorm(x, gain_->vec(), bias_->vec(), eps_, y, stats);
    return stats;
  }
  const Out2 inv_rms = saved.floats(x.dim(0), 1);
  rmsnorm(x, gain_->vec(), eps_, y, Out1(inv_rms.data(), {x.dim(0)}));
  return inv_rms;
}

void Norm::forward(In2 x, Out2 y) const {
  if (kind_ == Kind::kLayer) return layernorm(x, gain_->vec(), bias_->vec(), eps_, y);
  rmsnorm(x, gain_->vec(), eps_, y);
}

void Norm::backward(In2 dy, In2 x, In2 stats, Out2 dx) const {
  if (kind_ == Kind::kLayer) {
    layernorm_backward(dy, x, gain_->vec(), stats, dx, gain_->grad_vec(), bias_->grad_vec());
    return;
  }
  rmsnorm_backward(dy, x, gain_->vec(), In1(stats.data(), {stats.dim(0)}), dx, gain_->grad_vec());
}

Norm::Kind norm_kind(const ModelConfig& config) {
  return config.hadal_norm == "layernorm" ? Norm::Kind::kLayer : Norm::Kind::kRms;
}

}  // namespace hadal
