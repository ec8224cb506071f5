#include "model/mtp.h"

#include <algorithm>

#include "ops/activation.h"

namespace hadal {
namespace {

std::string prefix_of(const ModelConfig& config, int64_t index) {
  return str("model.layers.", config.num_hidden_layers + index);
}

}  // namespace

Mtp::Mtp(const ModelConfig& config, Params& params, int64_t index, const RopeTable& rope)
    : hidden_(config.hidden_size),
      enorm_(params, prefix_of(config, index) + ".enorm", hidden_, config.rms_norm_eps,
             norm_kind(config), config.num_hidden_layers + index),
      hnorm_(params, prefix_of(config, index) + ".hnorm", hidden_, config.rms_norm_eps,
             norm_kind(config), config.num_hidden_layers + index),
      out_norm_(params, prefix_of(config, index) + ".shared_head.norm", hidden_,
                config.rms_norm_eps, norm_kind(config), config.num_hidden_layers + index),
      eh_proj_(params, prefix_of(config, index) + ".eh_proj", 2 * hidden_, hidden_, false,
               config.num_hidden_layers + index),
      block_(config, params, prefix_of(config, index), config.num_hidden_layers + index, rope) {
}

Mtp::Saved Mtp::forward(Out2 embedded, In2 h_prev, Out2 y, TrainPass& pass) const {
  Saved saved;
  const int64_t rows = embedded.dim(0);
  saved.embedded = embedded;
  saved.h_prev = h_prev;
  saved.joined = pass.saved.floats(rows, 2 * hidden_);
  saved.stats_e = enorm_.forward(embedded, saved.joined.cols(0, hidden_), pass.saved);
  saved.stats_h = hnorm_.forward(h_prev, saved.joined.cols(hidden_, 2 * hidden_), pass.saved);
  saved.block_out = pass.saved.floats(rows, hidden_);
  eh_proj_.forward(saved.joined, saved.block_out, above_fp8(pass.precision));
  saved.block = block_.forward(saved.block_out, pass);
  saved.stats_out = out_norm_.forward(saved.block_out, y, pass.saved);
  return saved;
}

void Mtp::backward(In2 dy, const Saved& saved, TrainPass& pass, Out2 d_embedded,
                   Out2 d_h_prev) const {
  const int64_t rows = dy.dim(0);
  const Arena::Scope scope(pass.scratch);
  const Out2 d = pass.scratch.zeros(rows, hidden_);
  const Out2 d_joined = pass.scratch.floats(rows, 2 * hidden_);
  out_norm_.backward(dy, saved.block_out, saved.stats_out, d);
  block_.backward(d, saved.block, pass);
  eh_proj_.backward(d, saved.joined, d_joined, above_fp8(pass.precision), Gradient::kSet);
  enorm_.backward(d_joined.cols(0, hidden_), saved.embedded, saved.stats_e, d_embedded);
  hnorm_.backward(d_joined.cols(hidden_, 2 * hidden_), saved.h_prev, saved.stats_h, d_h_prev);
}

void Mtp::step(In2 embedded, In2 h_prev, Out2 y, int64_t cache_layer, StepPass& pass) const {
  const Arena::Scope scope(pass.scratch);
  const Out2 joined = pass.scratch.floats(embedded.dim(0), 2 * hidden_);
  enorm_.forward(embedded, joined.cols(0, hidden_));
  hnorm_.forward(h_prev, joined.cols(hidden_, 2 * hidden_));
  eh_proj_.step(joined, y, pass);
  block_.step(y, cache_layer, pass);
  out_norm_.forward(y, y);
}

}  // namespace hadal
