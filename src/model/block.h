#pragma once
#include <memory>
#include <string>

#include "model/kinds.h"
#include "model/layers.h"
#include "ops/saved_rows.h"

namespace hadal {

// One transformer layer: attention and FFN with their norms and residuals.
//   pre   x += A(norm(x));  x += F(norm(x))           DeepSeek, Llama, GPT
//   post  x += norm(A(x));  x += norm(F(x))           OLMo 2's reordered norm
class Block {
 public:
  Block(const ModelConfig& config, Params& params, const std::string& prefix, int64_t layer,
        const RopeTable& rope);

  struct Saved {
    SavedRows norm1_in, norm2_in;  // [R, hidden]
    Out2 stats1, stats2;
    std::unique_ptr<Attention::Saved> attention;
    std::unique_ptr<Ffn::Saved> ffn;
  };

  // x is replaced by the layer's output; dx by the gradient of the layer's input.
  Saved forward(Out2 x, TrainPass& pass) const;
  void backward(Out2 dx, const Saved& saved, TrainPass& pass) const;
  void step(Out2 x, int64_t cache_layer, StepPass& pass) const;
  CacheSpec cache_spec() const { return attention_->cache_spec(); }

 private:
  // Norms are computed again for the backward instead of kept (V3 report, sec. 3.2.3). In FP32
  // only: otherwise the kept input is rounded, and what comes of it would not be what the forward
  // read.
  bool norms_again(const TrainPass& pass) const;

  bool post_;
  Norm norm1_, norm2_;
  std::unique_ptr<Attention> attention_;
  std::unique_ptr<Ffn> ffn_;
};

}  // namespace hadal
