#include "model/block.h"

#include <algorithm>

#include "core/parallel.h"
#include "ops/activation.h"

namespace hadal {
namespace {

constexpr int64_t kRowsPerTask = 64;

std::string norm1_name(bool post) {
  return post ? ".post_attention_layernorm" : ".input_layernorm";
}

std::string norm2_name(bool post) {
  return post ? ".post_feedforward_layernorm" : ".post_attention_layernorm";
}

// x for a backward in FP32: it changes when the sub-layer's output is added. Others copy it anyway.
In2 unchanging(In2 x, const TrainPass& pass) {
  if (pass.precision != Precision::kFp32) return x;
  const Out2 y = pass.saved.floats(x.dim(0), x.dim(1));
  parallel_for(x.dim(0), kRowsPerTask, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) std::copy_n(x.row(t), x.dim(1), y.row(t));
  });
  return y;
}

std::unique_ptr<Ffn> make_ffn(const ModelConfig& config, Params& params, const std::string& prefix,
                              int64_t layer) {
  if (config.moe_layer(layer)) return make_moe(config, params, prefix, layer);
  return ffn_kind(config.hadal_ffn).make(config, params, prefix, layer, config.intermediate_size);
}

}  // namespace

Block::Block(const ModelConfig& config, Params& params, const std::string& prefix, int64_t layer,
             const RopeTable& rope)
    : post_(config.hadal_norm_placement == "post"),
      norm1_(params, prefix + norm1_name(post_), config.hidden_size, config.rms_norm_eps,
             norm_kind(config), layer),
      norm2_(params, prefix + norm2_name(post_), config.hidden_size, config.rms_norm_eps,
             norm_kind(config), layer),
      attention_(attention_kind(config.hadal_attention)
                     .make(config, params, prefix + ".self_attn", layer, rope)),
      ffn_(make_ffn(config, params, prefix + ".mlp", layer)) {
}

bool Block::norms_again(const TrainPass& pass) const {
  return !post_ && pass.precision == Precision::kFp32;
}

Block::Saved Block::forward(Out2 x, TrainPass& pass) const {
  Saved saved;
  const int64_t rows = x.dim(0), hidden = x.dim(1);
  Arena& keep = pass.saved;
  const auto sub_layer = [&](const Norm& norm, SavedRows& norm_in, Out2& stats, auto&& inner) {
    const Arena::Scope scope(pass.scratch);
    Arena& some = arena_for(pass.precision, keep, pass.scratch);
    const Out2 out = norms_again(pass) ? pass.normed.rows(0, rows) : some.floats(rows, hidden);
    const Out2 temporary = pass.scratch.floats(rows, hidden);
    const In2 in = unchanging(x, pass);
    if (post_) {
      inner(in, out);
      stats = norm.forward(out, temporary, keep);
    } else {
      stats = norm.forward(in, out, keep);
      inner(out, temporary);
    }
    norm_in = SavedRows(post_ ? out : in, SavedRows::As::kBf16, pass.precision, keep);
    add(temporary, x);
  };
  sub_layer(norm1_, saved.norm1_in, saved.stats1,
            [&](In2 in, Out2 out) { saved.attention = attention_->forward(in, out, pass); });
  sub_layer(norm2_, saved.norm2_in, saved.stats2,
            [&](In2 in, Out2 out) { saved.ffn = ffn_->forward(in, out, pass); });
  return saved;
}

void Block::backward(Out2 dx, const Saved& saved, TrainPass& pass) const {
  const int64_t rows = dx.dim(0), hidden = dx.dim(1);
  const auto sub_layer = [&](const Norm& norm, const SavedRows& kept, In2 stats, auto&& inner) {
    const Arena::Scope scope(pass.scratch);
    const In2 norm_input = kept.get(pass.scratch);
    if (norms_again(pass)) norm.forward(norm_input, pass.normed.rows(0, rows), pass.scratch);
    const Out2 d = pass.scratch.zeros(rows, hidden);
    if (post_) {  // x + norm(F(x)): through the norm, then the sub-layer adds to dx
      norm.backward(dx, norm_input, stats, d);
      // dx is both what comes in and what the sub-layer adds to, so its own gradient is kept apart.
      const Out2 d_in = pass.scratch.zeros(rows, hidden);
      inner(d, d_in);
      add(d_in, dx);
    } else {  // x + F(norm(x)): through the sub-layer, then the norm adds to dx
      inner(dx, d);
      norm.backward(d, norm_input, stats, dx);
    }
  };
  sub_layer(norm2_, saved.norm2_in, saved.stats2,
            [&](In2 dy, Out2 d_in) { ffn_->backward(dy, *saved.ffn, pass, d_in); });
  sub_layer(norm1_, saved.norm1_in, saved.stats1,
            [&](In2 dy, Out2 d_in) { attention_->backward(dy, *saved.attention, pass, d_in); });
}

void Block::step(Out2 x, int64_t cache_layer, StepPass& pass) const {
  const Arena::Scope scope(pass.scratch);
  const Out2 in = pass.scratch.floats(x.dim(0), x.dim(1));
  const Out2 out = pass.scratch.floats(x.dim(0), x.dim(1));
  if (post_) {
    attention_->step(x, out, cache_layer, pass);
    norm1_.forward(out, out);
    add(out, x);
    ffn_->step(x, out, pass);
    norm2_.forward(out, out);
    add(out, x);
    return;
  }
  norm1_.forward(x, in);
  attention_->step(in, out, cache_layer, pass);
  add(out, x);
  norm2_.forward(x, in);
  ffn_->step(in, out, pass);
  add(out, x);
}

}  // namespace hadal
