#include "model/layers.h"

#include "ops/fp8.h"
#include "ops/layernorm.h"
#include "ops/rmsnorm.h"

namespace hadal {

Linear::Linear(Params& params, const std::string& name, int64_t in, int64_t out, bool bias,
               int64_t layer, ParamGroup group, StepPart part)
    : weight_(params.add(name + ".weight", {out, in}, group, layer)), part_(part) {
  if (bias) bias_ = params.add(name + ".bias", {out}, ParamGroup::kBias, layer);
}

void Linear::forward(WeightView x, Out2 y, Precision precision) const {
  const TimedPart timed(part_);
  linear(x, weight_->weight(precision), bias_ == nullptr ? In1() : bias_->vec(), y, precision);
}

void Linear::backward(In2 dy, WeightView x, Out2 dx, Precision precision, Gradient to_dx) const {
  const TimedPart timed(part_);
  linear_backward(dy, x, weight_->weight(precision), dx, weight_->grad(),
                  bias_ == nullptr ? Out1() : bias_->grad_vec(), precision, to_dx);
}

void Linear::backward_to_input(In2 dy, Out2 dx, Precision precision, Gradient to_dx) const {
  const TimedPart timed(part_);
  linear_backward(dy, {}, weight_->weight(precision), dx, {}, {}, precision, to_dx);
}

void Linear::step(In2 x, Out2 y, const StepPass& pass) const {
  if (pass.path == Path::kPrompt) return forward(x, y, pass.precision);
  linear_decode(x, weight_->weight(), bias_ == nullptr ? In1() : bias_->vec(), y);
}

namespace {

int64_t rows_of_all(std::span<const Param* const> params) {
  int64_t rows = 0;
  for (const Param* p : params) rows += p->rows();
  return rows;
}

// Whether each begins where the one before ends; `address` gives where.
template <class Address>
bool adjacent(std::span<const Param* const> params, int64_t bytes_of_number, Address address) {
  for (size_t i = 0; i < params.size(); ++i) {
    const Param& p = *params[i];
    if (address(p) == nullptr || p.cols() != params[0]->cols()) return false;
    if (p.dtype != params[0]->dtype || p.block_bytes != 0 || p.code_scales != nullptr) return false;
    if (i == 0) continue;
    const Param& before = *params[i - 1];
    if (address(p) != address(before) + before.size() * bytes_of_number) return false;
  }
  return true;
}

std::vector<const Param*> weights_without_bias(std::span<const Linear* const> linears) {
  std::vector<const Param*> weights;
  for (const Linear* linear : linears) {
    if (linear->has_bias()) return {};
    weights.push_back(&linear->weight());
  }
  return weights;
}

}  // namespace

WeightView joined_weight(std::span<const Param* const> params, Precision precision) {
  const auto address = [&](const Param& p) {
    return static_cast<const char*>(p.weight(precision).data);
  };
  if (params.empty()) return {};
  WeightView all = params[0]->weight(precision);
  if (!adjacent(params, dtype_size(all.dtype), address)) return {};
  all.rows = rows_of_all(params);
  return all;
}

Out2 joined_gradient(std::span<const Param* const> params) {
  const auto address = [](const Param& p) { return reinterpret_cast<const char*>(p.gradient); };
  if (params.empty() || !adjacent(params, sizeof(float), address)) return {};
  return {params[0]->gradient, {rows_of_all(params), params[0]->cols()}};
}

void forward_all(std::span<const Linear* const> linears, WeightView x, Out2 y,
                 Precision precision) {
  const WeightView all =
      is_fp8(precision) ? WeightView() : joined_weight(weights_without_bias(linears), precision);
  if (all.data != nullptr) {
    const TimedPart timed(linears[0]->part());
    return linear(x, all, {}, y, precision);
  }
  static thread_local Fp8Matrices rounded;
  if (is_fp8(precision)) x = rounded.round(x, kFp8Row);
  int64_t column = 0;
  for (const Linear* linear : linears) {
    linear->forward(x, y.cols(column, column + linear->out()), precision);
    column += linear->out();
  }
}

void backward_all(std::span<const Linear* const> linears, In2 dy, WeightView x, Out2 dx,
                  Precision precision) {
  const bool fp8 = is_fp8(precision);
  const std::vector<const Param*> params = weights_without_bias(linears);
  const WeightView all = joined_weight(params, fp8 ? Precision::kFp32 : precision);
  const Out2 gradient = joined_gradient(params);
  const bool joined = all.data != nullptr && !gradient.empty();
  if (joined) {
    const TimedPart timed(linears[0]->part());
    linear_backward(dy, x, all, fp8 ? Out2() : dx, gradient, {}, precision);
    if (!fp8) return;
  }
  int64_t column = 0;
  for (const Linear* linear : linears) {
    const In2 mine = dy.cols(column, column + linear->out());
    joined ? linear->backward_to_input(mine, dx, precision)
           : linear->backward(mine, x, dx, precision);
    column += linear->out();
  }
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
