// Multi-head, grouped-query and multi-query attention with optional QK-norm and multi-scale RoPE.
#include <algorithm>
#include <numeric>
#include <optional>

#include "core/parallel.h"
#include "model/attention/attention.h"
#include "model/layers.h"
#include "ops/saved_rows.h"

namespace hadal {
namespace {

enum class QkNorm { kNone, kWhole, kHead };

QkNorm qk_norm_of(const std::string& name) {
  if (name == "none") return QkNorm::kNone;
  if (name == "whole") return QkNorm::kWhole;
  if (name == "head") return QkNorm::kHead;
  throw Error(ErrorKind::kConfig,
              str("hadal_qk_norm \"", name, "\" is unknown; expected none, whole or head"));
}

// Heads seen as rows: [R, heads * d] -> [R * heads, d]. x must be dense.
template <class T>
View<T, 2> as_head_rows(View<T, 2> x, int64_t dim) {
  HADAL_CHECK(x.row_stride() == x.dim(1), kInternal, "rows of heads must be dense");
  return {x.data(), {x.dim(0) * x.dim(1) / dim, dim}};
}

class Gqa final : public Attention {
 public:
  Gqa(const ModelConfig& config, Params& params, const std::string& prefix, int64_t layer,
      const RopeTable& rope)
      : heads_(config.num_attention_heads),
        kv_heads_(config.num_key_value_heads),
        key_heads_(std::lcm(kv_heads_, config.hadal_rope_groups)),
        dim_(config.head_dim),
        scale_(config.softmax_scale()),
        pairs_(config.rope_interleave ? RopePairs::kAdjacent : RopePairs::kHalves),
        rope_(rope),
        qk_norm_(qk_norm_of(config.hadal_qk_norm)),
        q_proj_(params, prefix + ".q_proj", config.hidden_size, heads_ * dim_,
                config.attention_bias, layer),
        k_proj_(params, prefix + ".k_proj", config.hidden_size, kv_heads_ * dim_,
                config.attention_bias, layer),
        v_proj_(params, prefix + ".v_proj", config.hidden_size, kv_heads_ * dim_,
                config.attention_bias, layer),
        o_proj_(params, prefix + ".o_proj", heads_ * dim_, config.hidden_size,
                config.attention_bias, layer) {
    HADAL_CHECK(heads_ % key_heads_ == 0, kConfig, "hadal_rope_groups ", config.hadal_rope_groups,
                " with ", kv_heads_, " key heads does not divide ", heads_, " query heads");
    if (qk_norm_ == QkNorm::kNone) return;
    const bool whole = qk_norm_ == QkNorm::kWhole;
    q_norm_ = Norm(params, prefix + ".q_norm", whole ? heads_ * dim_ : dim_, config.rms_norm_eps,
                   Norm::Kind::kRms, layer);
    k_norm_ = Norm(params, prefix + ".k_norm", whole ? kv_heads_ * dim_ : dim_, config.rms_norm_eps,
                   Norm::Kind::kRms, layer);
  }

  struct GqaSaved final : Saved {
    SavedRows x;
    SavedRows q_raw, k_raw;  // inputs of the QK-norm, when there is one, as norm_rows
    Out2 q_stats, k_stats;
    SavedRows q, k, v;  // what attention reads: k, v of key_heads
    SavedRows o;
    Out2 lse;
  };

  // Keys and values as projected; rotated keys where groups do not split key heads.
  CacheSpec cache_spec() const override { return {2 * kv_heads_ * dim_}; }

  std::unique_ptr<Saved> forward(In2 x, Out2 y, TrainPass& pass) const override {
    auto saved = std::make_unique<GqaSaved>();
    const int64_t rows = x.dim(0);
    const Arena::Scope scope(pass.scratch);
    Arena& some = arena_for(pass.precision, pass.saved, pass.scratch);
    const auto kept = [&](In2 what, SavedRows::As as) {
      return SavedRows(what, as, pass.precision, pass.saved);
    };
    saved->x = kept(x, SavedRows::As::kFp8);
    Out2 q = some.floats(rows, heads_ * dim_);
    Out2 k = some.floats(rows, kv_heads_ * dim_), v = some.floats(rows, kv_heads_ * dim_);
    q_proj_.forward(saved->x.operand(), q, pass.precision);
    k_proj_.forward(saved->x.operand(), k, pass.precision);
    v_proj_.forward(saved->x.operand(), v, pass.precision);
    if (qk_norm_ != QkNorm::kNone) {
      const Out2 q_raw = norm_rows(q), k_raw = norm_rows(k);
      q = some.floats(rows, heads_ * dim_);
      k = some.floats(rows, kv_heads_ * dim_);
      saved->q_stats = q_norm_.forward(q_raw, norm_rows(q), pass.saved);
      saved->k_stats = k_norm_.forward(k_raw, norm_rows(k), pass.saved);
      saved->q_raw = kept(q_raw, SavedRows::As::kBf16);
      saved->k_raw = kept(k_raw, SavedRows::As::kBf16);
    }
    k = expand_heads(k, some);
    v = expand_heads(v, some);
    rope(q, pass.positions, rope_, layout(heads_));
    rope(k, pass.positions, rope_, layout(key_heads_));
    const Out2 o = some.floats(rows, heads_ * dim_);
    saved->lse = pass.saved.floats(rows, heads_);
    attention(q, k, v, pass.spans, shape(key_heads_, pass.precision), o, saved->lse, pass.scratch);
    saved->o = kept(o, SavedRows::As::kE5m6);
    o_proj_.forward(saved->o.operand(), y, pass.precision);
    saved->q = kept(q, SavedRows::As::kBf16);
    saved->k = kept(k, SavedRows::As::kBf16);
    saved->v = kept(v, SavedRows::As::kBf16);
    return saved;
  }

  void backward(In2 dy, const Saved& base, TrainPass& pass, Out2 dx) const override {
    const auto& saved = static_cast<const GqaSaved&>(base);
    const int64_t rows = dy.dim(0);
    const Arena::Scope scope(pass.scratch);
    const Out2 d_o = pass.scratch.floats(rows, heads_ * dim_);
    o_proj_.backward(dy, saved.o.operand(pass.scratch), d_o, pass.precision, Gradient::kSet);

    Out2 dq = pass.scratch.zeros(rows, heads_ * dim_);
    const Out2 dk_wide = pass.scratch.zeros(rows, key_heads_ * dim_);
    const Out2 dv_wide = pass.scratch.zeros(rows, key_heads_ * dim_);
    attention_backward(d_o, saved.q.get(pass.scratch), saved.k.get(pass.scratch),
                       saved.v.get(pass.scratch), saved.o.get(pass.scratch), saved.lse, pass.spans,
                       shape(key_heads_, pass.precision), dq, dk_wide, dv_wide, pass.scratch);
    rope_backward(dq, pass.positions, rope_, layout(heads_));
    rope_backward(dk_wide, pass.positions, rope_, layout(key_heads_));
    Out2 dk = narrow_heads(dk_wide, pass.scratch);
    const Out2 dv = narrow_heads(dv_wide, pass.scratch);
    if (qk_norm_ != QkNorm::kNone) {
      const Out2 dq_raw = pass.scratch.zeros(rows, heads_ * dim_);
      const Out2 dk_raw = pass.scratch.zeros(rows, kv_heads_ * dim_);
      q_norm_.backward(norm_rows(dq), saved.q_raw.get(pass.scratch), saved.q_stats,
                       norm_rows(dq_raw));
      k_norm_.backward(norm_rows(dk), saved.k_raw.get(pass.scratch), saved.k_stats,
                       norm_rows(dk_raw));
      dq = dq_raw;
      dk = dk_raw;
    }
    const WeightView x = saved.x.operand(pass.scratch);
    q_proj_.backward(dq, x, dx, pass.precision);
    k_proj_.backward(dk, x, dx, pass.precision);
    v_proj_.backward(dv, x, dx, pass.precision);
  }

  void step(In2 x, Out2 y, int64_t cache_layer, StepPass& pass) const override {
    const int64_t rows = x.dim(0), kv = kv_heads_ * dim_;
    const Arena::Scope scope(pass.scratch);
    const Out2 q = pass.scratch.floats(rows, heads_ * dim_);
    const Out2 entry = pass.scratch.floats(rows, 2 * kv);  // [k | v]
    const Out2 k = pass.scratch.floats(rows, kv);
    q_proj_.step(x, q, pass);
    k_proj_.step(x, k, pass);
    v_proj_.step(x, entry.cols(kv, 2 * kv), pass);
    if (qk_norm_ != QkNorm::kNone) {
      q_norm_.forward(norm_rows(q), norm_rows(q));
      k_norm_.forward(norm_rows(k), norm_rows(k));
    }
    rope(q, pass.positions, rope_, layout(heads_));
    if (key_heads_ == kv_heads_) rope(k, pass.positions, rope_, layout(kv_heads_));
    for (int64_t t = 0; t < rows; ++t) std::copy_n(k.row(t), kv, entry.row(t));
    for (const StepSpan& s : pass.spans) {
      pass.cache.write(s.sequence, cache_layer, s.position, entry.rows(s.begin, s.end));
    }
    const Out2 o = pass.scratch.floats(rows, heads_ * dim_);
    if (pass.path == Path::kGenerated && key_heads_ == kv_heads_) {
      attend_paged(q, o, cache_layer, pass);
    } else {
      for (const StepSpan& s : pass.spans) attend_expanded(q, o, s, cache_layer, pass);
    }
    o_proj_.step(o, y, pass);
  }

 private:
  AttentionShape shape(int64_t kv_heads, Precision precision) const {
    return {heads_, kv_heads, dim_, dim_, scale_, precision != Precision::kFp32};
  }
  RopeLayout layout(int64_t heads) const { return {heads, dim_, 0, pairs_, -1}; }

  template <class T>
  View<T, 2> norm_rows(View<T, 2> x) const {
    return qk_norm_ == QkNorm::kHead ? as_head_rows(x, dim_) : x;
  }

  // One copy of each key head for each of its RoPE groups; x itself when they coincide.
  Out2 expand_heads(Out2 x, Arena& arena) const {
    if (key_heads_ == kv_heads_) return x;
    const Out2 wide = arena.floats(x.dim(0), key_heads_ * dim_);
    for (int64_t t = 0; t < x.dim(0); ++t) {
      for (int64_t h = 0; h < key_heads_; ++h) {
        std::copy_n(x.row(t) + h * kv_heads_ / key_heads_ * dim_, dim_, wide.row(t) + h * dim_);
      }
    }
    return wide;
  }

  // The adjoint of expand_heads.
  Out2 narrow_heads(Out2 wide, Arena& arena) const {
    if (key_heads_ == kv_heads_) return wide;
    const Out2 x = arena.zeros(wide.dim(0), kv_heads_ * dim_);
    for (int64_t t = 0; t < x.dim(0); ++t) {
      for (int64_t h = 0; h < key_heads_; ++h) {
        float* to = x.row(t) + h * kv_heads_ / key_heads_ * dim_;
        for (int64_t d = 0; d < dim_; ++d) to[d] += wide.row(t)[h * dim_ + d];
      }
    }
    return x;
  }

  void attend_paged(In2 q, Out2 o, int64_t cache_layer, StepPass& pass) const {
    std::vector<PagedSequence> sequences;
    for (const StepSpan& s : pass.spans) {
      for (int64_t t = s.begin; t < s.end; ++t) {
        sequences.push_back(
            {pass.cache.pages(s.sequence, cache_layer), s.position + (t - s.begin) + 1});
      }
    }
    const PagedLayout paged{
        pass.cache.row(cache_layer), KvCache::kPageTokens, 0, dim_, kv_heads_ * dim_, dim_};
    paged_attention(q, sequences, paged, shape(kv_heads_, Precision::kFp32), o, pass.scratch);
  }

  // All cached tokens of one sequence, read back. Also generated tokens whose keys are cached
  // un-rotated: the whole history is turned again for every token, which is what that option costs.
  void attend_expanded(In2 q, Out2 o, const StepSpan& s, int64_t cache_layer,
                       StepPass& pass) const {
    const Arena::Scope scope(pass.scratch);
    const int64_t length = s.position + (s.end - s.begin), kv = kv_heads_ * dim_;
    const Out2 cached = pass.scratch.floats(length, 2 * kv);
    pass.cache.read(s.sequence, cache_layer, 0, cached);
    const Out2 k = expand_heads(cached.cols(0, kv), pass.scratch);
    const Out2 v = expand_heads(cached.cols(kv, 2 * kv), pass.scratch);
    if (key_heads_ != kv_heads_) {
      const View<int32_t, 1> positions = pass.scratch.make<int32_t>(length);
      std::iota(positions.data(), positions.data() + length, 0);
      rope(k, positions, rope_, layout(key_heads_));
    }
    const AttentionSpan span{s.begin, s.end, 0, length};
    attention(q, k, v, {&span, 1}, shape(key_heads_, pass.precision), o, {}, pass.scratch);
  }

  int64_t heads_, kv_heads_;
  int64_t
      key_heads_;  // key heads after each RoPE group got its own: kv_heads_ unless groups split one
  int64_t dim_;
  float scale_;
  RopePairs pairs_;
  const RopeTable& rope_;
  QkNorm qk_norm_;
  Linear q_proj_, k_proj_, v_proj_, o_proj_;
  Norm q_norm_, k_norm_;
};

}  // namespace

std::unique_ptr<Attention> make_gqa(const ModelConfig& config, Params& params,
                                    const std::string& prefix, int64_t layer,
                                    const RopeTable& rope) {
  return std::make_unique<Gqa>(config, params, prefix, layer, rope);
}

}  // namespace hadal
