#pragma once
#include <memory>
#include <string>

#include "model/config.h"
#include "model/params.h"
#include "model/pass.h"

namespace hadal {

// One layer's feed-forward sub-layer: x [R, hidden] -> y [R, hidden].
class Ffn {
 public:
  virtual ~Ffn() = default;

  struct Saved {
    virtual ~Saved() = default;
  };

  // Training. forward assigns y; backward adds to dx and to the parameters' gradients. An MoE adds
  // its load and its balance loss to the pass in forward, and the loss's gradient in backward.
  virtual std::unique_ptr<Saved> forward(In2 x, Out2 y, TrainPass& pass) const = 0;
  virtual void backward(In2 dy, const Saved& saved, TrainPass& pass, Out2 dx) const = 0;

  virtual void step(In2 x, Out2 y, StepPass& pass) const = 0;
};

// Dense MLP: SwiGLU (gate_proj, up_proj, down_proj).
std::unique_ptr<Ffn> make_swiglu(const ModelConfig& config, Params& params,
                                 const std::string& prefix, int64_t layer,
                                 int64_t intermediate_size);
// Dense MLP of the GPT layout: down_proj(gelu(up_proj(x))).
std::unique_ptr<Ffn> make_gelu(const ModelConfig& config, Params& params, const std::string& prefix,
                               int64_t layer, int64_t intermediate_size);
// DeepSeekMoE (V3 report, sec. 2.1.2): routed experts chosen by ops/router.h, shared experts
// always.
std::unique_ptr<Ffn> make_moe(const ModelConfig& config, Params& params, const std::string& prefix,
                              int64_t layer);

}  // namespace hadal
