#pragma once
#include <string>

#include "model/block.h"

namespace hadal {

// One multi-token-prediction module (V3 report, sec. 2.2):
//   h'_i = block( eh_proj [ enorm(Emb(t_{i+1})) ; hnorm(h_i) ] ),   output shared_head.norm(h'_i)
// h_i is the main model's output after its final norm, or the previous module's normed output. The
// released weights put the embedding first. Embedding and head are the main model's.
class Mtp {
 public:
  // Layer num_hidden_layers + index in the checkpoint's naming.
  Mtp(const ModelConfig& config, Params& params, int64_t index, const RopeTable& rope);

  struct Saved {
    Out2 embedded, joined, block_out;  // [R, D], [R, 2D], [R, D]
    Out2 stats_e, stats_h, stats_out;
    In2 h_prev;
    Block::Saved block;
  };

  // y [R, D] = normed output; embedded [R, D] = Emb(next tokens), kept by the caller in pass.saved.
  Saved forward(Out2 embedded, In2 h_prev, Out2 y, TrainPass& pass) const;
  // Adds to d_embedded and d_h_prev.
  void backward(In2 dy, const Saved& saved, TrainPass& pass, Out2 d_embedded, Out2 d_h_prev) const;
  void step(In2 embedded, In2 h_prev, Out2 y, int64_t cache_layer, StepPass& pass) const;
  CacheSpec cache_spec() const { return block_.cache_spec(); }

 private:
  int64_t hidden_;
  Norm enorm_, hnorm_, out_norm_;
  Linear eh_proj_;
  Block block_;
};

}  // namespace hadal
