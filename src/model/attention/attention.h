#pragma once
#include <memory>
#include <string>

#include "model/config.h"
#include "model/kv_cache.h"
#include "model/params.h"
#include "model/pass.h"

namespace hadal {

// One layer's attention sub-layer: x [R, hidden] -> y [R, hidden]; norms around it are the block's.
class Attention {
 public:
  virtual ~Attention() = default;

  // Exactly what the backward reads; arrays live in TrainPass::saved.
  struct Saved {
    virtual ~Saved() = default;
  };

  virtual CacheSpec cache_spec() const = 0;

  // Training. forward assigns y; backward adds to dx and to the parameters' gradients.
  virtual std::unique_ptr<Saved> forward(In2 x, Out2 y, TrainPass& pass) const = 0;
  virtual void backward(In2 dy, const Saved& saved, TrainPass& pass, Out2 dx) const = 0;

  // Serving: writes the rows' cache entries at `cache_layer`, then attends to all cached tokens.
  virtual void step(In2 x, Out2 y, int64_t cache_layer, StepPass& pass) const = 0;
};

// Multi-head latent attention (V3 report, sec. 2.1.1), with and without query compression; expanded
// in training and for prompts, absorbed for generated tokens.
std::unique_ptr<Attention> make_mla(const ModelConfig& config, Params& params,
                                    const std::string& prefix, int64_t layer,
                                    const RopeTable& rope);
// Multi-head, grouped-query and multi-query attention (num_key_value_heads = heads, between, 1),
// with optional QK-norm.
std::unique_ptr<Attention> make_gqa(const ModelConfig& config, Params& params,
                                    const std::string& prefix, int64_t layer,
                                    const RopeTable& rope);

}  // namespace hadal
