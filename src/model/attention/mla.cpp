// Multi-head latent attention (V3 report, sec. 2.1.1). Only [c_KV | k_R] is remembered of a token.
#include <algorithm>
#include <array>
#include <numeric>

#include "core/parallel.h"
#include "model/attention/attention.h"
#include "model/layers.h"
#include "ops/saved_rows.h"

namespace hadal {
namespace {

constexpr double kLatentNormEps = 1e-6;  // the norms on c_Q and c_KV, whatever rms_norm_eps says
constexpr int64_t kHeadRowsPerTask = 16;

class Mla final : public Attention {
 public:
  Mla(const ModelConfig& config, Params& params, const std::string& prefix, int64_t layer,
      const RopeTable& rope)
      : heads_(config.num_attention_heads),
        nope_(config.qk_nope_head_dim),
        rope_dim_(config.qk_rope_head_dim),
        qk_(nope_ + rope_dim_),
        v_(config.v_head_dim),
        latent_(config.kv_lora_rank),
        scale_(config.softmax_scale()),
        groups_(config.hadal_rope_groups),
        pairs_(config.rope_interleave ? RopePairs::kAdjacent : RopePairs::kHalves),
        rope_(rope),
        compressed_q_(config.q_lora_rank > 0) {
    const bool bias = config.attention_bias;
    const int64_t hidden = config.hidden_size;
    HADAL_CHECK(heads_ % groups_ == 0, kConfig, "hadal_rope_groups ", groups_,
                " does not divide num_attention_heads ", heads_);
    if (compressed_q_) {
      q_a_proj_ = Linear(params, prefix + ".q_a_proj", hidden, config.q_lora_rank, bias, layer);
      q_a_norm_ = Norm(params, prefix + ".q_a_layernorm", config.q_lora_rank, kLatentNormEps,
                       Norm::Kind::kRms, layer);
      q_b_proj_ =
          Linear(params, prefix + ".q_b_proj", config.q_lora_rank, heads_ * qk_, false, layer);
    } else {
      q_b_proj_ = Linear(params, prefix + ".q_proj", hidden, heads_ * qk_, false, layer);
    }
    kv_a_proj_ =
        Linear(params, prefix + ".kv_a_proj_with_mqa", hidden, latent_ + rope_dim_, bias, layer);
    kv_a_norm_ =
        Norm(params, prefix + ".kv_a_layernorm", latent_, kLatentNormEps, Norm::Kind::kRms, layer);
    kv_b_proj_ =
        Linear(params, prefix + ".kv_b_proj", latent_, heads_ * (nope_ + v_), false, layer);
    o_proj_ = Linear(params, prefix + ".o_proj", heads_ * v_, hidden, bias, layer);
  }

  struct MlaSaved final : Saved {
    SavedRows x;
    SavedRows c_q, c_q_normed, c_kv, c_kv_normed;  // c_q with query compression
    Out2 q_stats, kv_stats;
    SavedRows q, k, v;  // per head, rotated
    SavedRows o;
    Out2 lse;
  };

  CacheSpec cache_spec() const override { return {latent_ + rope_dim_, rope_dim_}; }

  std::unique_ptr<Saved> forward(In2 x, Out2 y, TrainPass& pass) const override {
    auto saved = std::make_unique<MlaSaved>();
    const int64_t rows = x.dim(0);
    const Arena::Scope scope(pass.scratch);
    Arena& keep = pass.saved;
    Arena& some = arena_for(pass.precision, keep, pass.scratch);
    const auto kept = [&](In2 what, SavedRows::As as) {
      return SavedRows(what, as, pass.precision, keep);
    };
    saved->x = kept(x, SavedRows::As::kFp8);
    const Out2 q_kv = some.floats(rows, heads_ * qk_ + latent_ + rope_dim_);
    const Out2 q = q_kv.cols(0, heads_ * qk_);
    const Out2 kv_a = q_kv.cols(heads_ * qk_, q_kv.dim(1));  // [c_KV | k_R]
    if (compressed_q_) {
      const Out2 c_q = some.floats(rows, q_a_proj_.out());
      const Out2 c_q_normed = some.floats(rows, q_a_proj_.out());
      q_a_proj_.forward(saved->x.operand(), c_q, pass.precision);
      saved->q_stats = q_a_norm_.forward(c_q, c_q_normed, keep);
      saved->c_q = kept(c_q, SavedRows::As::kBf16);
      saved->c_q_normed = kept(c_q_normed, SavedRows::As::kFp8);
      q_b_proj_.forward(saved->c_q_normed.operand(), q, pass.precision);
      kv_a_proj_.forward(saved->x.operand(), kv_a, pass.precision);
    } else {
      forward_all(inputs(), saved->x.operand(), q_kv, pass.precision);
    }
    const Out2 c_kv_normed = some.floats(rows, latent_);
    saved->kv_stats = kv_a_norm_.forward(kv_a.cols(0, latent_), c_kv_normed, keep);
    saved->c_kv = kept(kv_a.cols(0, latent_), SavedRows::As::kBf16);
    saved->c_kv_normed = kept(c_kv_normed, SavedRows::As::kFp8);

    const Out2 k = some.floats(rows, heads_ * qk_), v = some.floats(rows, heads_ * v_);
    const Out2 k_rope = copy(kv_a.cols(latent_, latent_ + rope_dim_), pass.scratch);
    rope(q, pass.positions, rope_, head_layout());
    if (groups_ == 1) rope(k_rope, pass.positions, rope_, shared_layout(0));
    expand(saved->c_kv_normed.operand(), k_rope, pass.precision, k, v, pass.scratch);
    if (groups_ > 1) rope(k, pass.positions, rope_, head_layout());
    const Out2 o = some.floats(rows, heads_ * v_);
    saved->lse = keep.floats(rows, heads_);
    attention(q, k, v, pass.spans, shape(pass.precision), o, saved->lse, pass.scratch);
    saved->o = kept(o, SavedRows::As::kE5m6);
    o_proj_.forward(saved->o.operand(), y, pass.precision);
    saved->q = kept(q, SavedRows::As::kBf16);
    saved->k = kept(k, SavedRows::As::kBf16);
    saved->v = kept(v, SavedRows::As::kBf16);
    return saved;
  }

  void backward(In2 dy, const Saved& base, TrainPass& pass, Out2 dx) const override {
    const auto& saved = static_cast<const MlaSaved&>(base);
    const int64_t rows = dy.dim(0);
    Arena& scratch = pass.scratch;
    const Arena::Scope scope(scratch);
    const Out2 d_q_kv = scratch.zeros(rows, heads_ * qk_ + latent_ + rope_dim_);
    const Out2 dq = d_q_kv.cols(0, heads_ * qk_);
    const Out2 d_kv_a = d_q_kv.cols(heads_ * qk_, d_q_kv.dim(1));
    const Out2 d_kv = scratch.floats(rows, heads_ * (nope_ + v_));
    {
      const Arena::Scope inner(scratch);
      const Out2 d_o = scratch.floats(rows, heads_ * v_);
      const Out2 dk = scratch.zeros(rows, heads_ * qk_), dv = scratch.zeros(rows, heads_ * v_);
      o_proj_.backward(dy, saved.o.operand(scratch), d_o, pass.precision, Gradient::kSet);
      attention_backward(d_o, saved.q.get(scratch), saved.k.get(scratch), saved.v.get(scratch),
                         saved.o.get(scratch), saved.lse, pass.spans, shape(pass.precision), dq, dk,
                         dv, scratch);
      rope_backward(dq, pass.positions, rope_, head_layout());
      expand_backward(dk, dv, pass.positions, d_kv, d_kv_a.cols(latent_, latent_ + rope_dim_));
    }
    const Out2 d_c_normed = scratch.floats(rows, latent_);
    kv_b_proj_.backward(d_kv, saved.c_kv_normed.operand(scratch), d_c_normed, pass.precision,
                        Gradient::kSet);
    kv_a_norm_.backward(d_c_normed, saved.c_kv.get(scratch), saved.kv_stats,
                        d_kv_a.cols(0, latent_));
    const WeightView x = saved.x.operand(scratch);
    if (!compressed_q_) return backward_all(inputs(), d_q_kv, x, dx, pass.precision);
    kv_a_proj_.backward(d_kv_a, x, dx, pass.precision);
    const Out2 d_cq_normed = scratch.floats(rows, q_a_proj_.out());
    const Out2 d_cq = scratch.zeros(rows, q_a_proj_.out());
    q_b_proj_.backward(dq, saved.c_q_normed.operand(scratch), d_cq_normed, pass.precision,
                       Gradient::kSet);
    q_a_norm_.backward(d_cq_normed, saved.c_q.get(scratch), saved.q_stats, d_cq);
    q_a_proj_.backward(d_cq, x, dx, pass.precision);
  }

  void step(In2 x, Out2 y, int64_t cache_layer, StepPass& pass) const override {
    const int64_t rows = x.dim(0);
    Arena& scratch = pass.scratch;
    const Arena::Scope scope(scratch);
    const Out2 q = scratch.floats(rows, heads_ * qk_);
    if (compressed_q_) {
      const Out2 c_q = scratch.floats(rows, q_a_proj_.out());
      q_a_proj_.step(x, c_q, pass);
      q_a_norm_.forward(c_q, c_q);
      q_b_proj_.step(c_q, q, pass);
    } else {
      q_b_proj_.step(x, q, pass);
    }
    rope(q, pass.positions, rope_, head_layout());
    const Out2 entry = scratch.floats(rows, latent_ + rope_dim_);
    kv_a_proj_.step(x, entry, pass);
    kv_a_norm_.forward(entry.cols(0, latent_), entry.cols(0, latent_));
    if (groups_ == 1) {
      rope(entry.cols(latent_, latent_ + rope_dim_), pass.positions, rope_, shared_layout(0));
    }
    for (const StepSpan& s : pass.spans) {
      pass.cache.write(s.sequence, cache_layer, s.position, entry.rows(s.begin, s.end));
    }
    const Out2 o = scratch.floats(rows, heads_ * v_);
    if (pass.path == Path::kPrompt) {
      for (const StepSpan& s : pass.spans) attend_expanded(q, o, s, cache_layer, pass);
    } else {
      attend_absorbed(q, o, cache_layer, pass);
    }
    o_proj_.step(o, y, pass);
  }

 private:
  // What reads x when the query is not compressed.
  std::array<const Linear*, 2> inputs() const { return {&q_b_proj_, &kv_a_proj_}; }
  AttentionShape shape(Precision precision) const {
    return {heads_, heads_, qk_, v_, scale_, precision != Precision::kFp32};
  }
  // The rotated part of every head of q or k, and the one rope key that all heads share.
  RopeLayout head_layout() const { return {heads_, qk_, nope_, pairs_, -1}; }
  RopeLayout shared_layout(int64_t group) const { return {1, rope_dim_, 0, pairs_, group}; }

  static Out2 copy(In2 x, Arena& arena) {
    const Out2 y = arena.floats(x.dim(0), x.dim(1));
    for (int64_t t = 0; t < x.dim(0); ++t) std::copy_n(x.row(t), x.dim(1), y.row(t));
    return y;
  }

  // k = [W_UK c | k_R], v = W_UV c for every head. kv_b_proj's rows are per head [nope | v].
  // The rope key is copied to the heads as it is: rotated already, or to be rotated per head group.
  void expand(WeightView c, In2 k_rope, Precision precision, Out2 k, Out2 v, Arena& scratch) const {
    const Arena::Scope scope(scratch);
    const Out2 kv = scratch.floats(c.rows, heads_ * (nope_ + v_));
    kv_b_proj_.forward(c, kv, precision);
    parallel_for(c.rows, kHeadRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t h = 0; h < heads_; ++h) {
          const float* from = kv.row(t) + h * (nope_ + v_);
          std::copy_n(from, nope_, k.row(t) + h * qk_);
          std::copy_n(k_rope.row(t), rope_dim_, k.row(t) + h * qk_ + nope_);
          std::copy_n(from + nope_, v_, v.row(t) + h * v_);
        }
      }
    });
  }

  // Assigns d_kv, adds to d_k_rope. dk is spoiled when there are several RoPE groups.
  void expand_backward(Out2 dk, In2 dv, Ids positions, Out2 d_kv, Out2 d_k_rope) const {
    if (groups_ > 1) rope_backward(dk, positions, rope_, head_layout());
    parallel_for(dk.dim(0), kHeadRowsPerTask, [&](int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        float* shared = d_k_rope.row(t);
        for (int64_t h = 0; h < heads_; ++h) {
          float* to = d_kv.row(t) + h * (nope_ + v_);
          const float* from = dk.row(t) + h * qk_;
          std::copy_n(from, nope_, to);
          std::copy_n(dv.row(t) + h * v_, v_, to + nope_);
          for (int64_t d = 0; d < rope_dim_; ++d) shared[d] += from[nope_ + d];
        }
      }
    });
    if (groups_ == 1) rope_backward(d_k_rope, positions, rope_, shared_layout(0));
  }

  // Prompt: keys and values of all cached tokens of one sequence are made anew from their latents.
  void attend_expanded(In2 q, Out2 o, const StepSpan& s, int64_t cache_layer,
                       StepPass& pass) const {
    Arena& scratch = pass.scratch;
    const Arena::Scope scope(scratch);
    const int64_t length = s.position + (s.end - s.begin);
    const Out2 cached = scratch.floats(length, latent_ + rope_dim_);
    pass.cache.read(s.sequence, cache_layer, 0, cached);
    const Out2 k = scratch.floats(length, heads_ * qk_), v = scratch.floats(length, heads_ * v_);
    expand(cached.cols(0, latent_), cached.cols(latent_, latent_ + rope_dim_), pass.precision, k, v,
           scratch);
    if (groups_ > 1) rope(k, all_positions(length, scratch), rope_, head_layout());
    const AttentionSpan span{s.begin, s.end, 0, length};
    attention(q, k, v, {&span, 1}, shape(pass.precision), o, {}, scratch);
  }

  // Generated tokens: W_UK is folded into the query and W_UV into the output, so that all heads
  // read the same cached rows: multi-query attention whose value is the key's first kv_lora_rank
  // numbers.
  void attend_absorbed(In2 q, Out2 o, int64_t cache_layer, StepPass& pass) const {
    Arena& scratch = pass.scratch;
    const Arena::Scope scope(scratch);
    const int64_t rows = q.dim(0), width = latent_ + rope_dim_;
    const Out2 q_absorbed = scratch.floats(rows, heads_ * width);
    const Out2 o_latent = scratch.floats(rows, heads_ * latent_);
    parallel_tasks(heads_, [&](int64_t h) {
      const Out2 to = q_absorbed.cols(h * width, (h + 1) * width);
      linear_decode_across(q.cols(h * qk_, h * qk_ + nope_), key_rows(h), to.cols(0, latent_));
      for (int64_t t = 0; t < rows; ++t) {
        std::copy_n(q.row(t) + h * qk_ + nope_, rope_dim_, to.row(t) + latent_);
      }
    });
    if (groups_ == 1) {
      attend_cached(q_absorbed, o_latent, cache_layer, pass);
    } else {
      for (const StepSpan& s : pass.spans) {
        attend_rotated(q_absorbed, o_latent, s, cache_layer, pass);
      }
    }
    parallel_tasks(heads_, [&](int64_t h) {
      linear_decode(o_latent.cols(h * latent_, (h + 1) * latent_), value_rows(h), {},
                    o.cols(h * v_, (h + 1) * v_));
    });
  }

  void attend_cached(In2 q, Out2 o, int64_t cache_layer, StepPass& pass) const {
    std::vector<PagedSequence> sequences;
    for (const StepSpan& s : pass.spans) {
      for (int64_t t = s.begin; t < s.end; ++t) {
        sequences.push_back(
            {pass.cache.pages(s.sequence, cache_layer), s.position + (t - s.begin) + 1});
      }
    }
    const PagedLayout paged{pass.cache.row(cache_layer), KvCache::kPageTokens, 0, 0, 0, 0};
    // What reads rounded rows may round its query too.
    const bool bf16 = paged.row.dtype != DType::kF32;
    paged_attention(q, sequences, paged, absorbed_shape(heads_, bf16), o, pass.scratch);
  }

  // Multi-scale RoPE: the shared key is cached un-rotated, and the whole history is turned for each
  // group and token, which is what that option costs.
  void attend_rotated(In2 q, Out2 o, const StepSpan& s, int64_t cache_layer, StepPass& pass) const {
    Arena& scratch = pass.scratch;
    const Arena::Scope scope(scratch);
    const int64_t length = s.position + (s.end - s.begin), width = latent_ + rope_dim_;
    const int64_t heads = heads_ / groups_;
    const Out2 cached = scratch.floats(length, width);
    const Ids positions = all_positions(length, scratch);
    for (int64_t g = 0; g < groups_; ++g) {
      pass.cache.read(s.sequence, cache_layer, 0, cached);
      rope(cached.cols(latent_, width), positions, rope_, shared_layout(g));
      const auto* page = reinterpret_cast<const std::byte*>(cached.data());
      const std::span<const std::byte* const> pages(&page, 1);
      std::vector<PagedSequence> sequences;
      for (int64_t t = s.begin; t < s.end; ++t) {
        sequences.push_back({pages, s.position + (t - s.begin) + 1});
      }
      const PagedLayout one_page{{DType::kF32, width}, length, 0, 0, 0, 0};
      paged_attention(q.rows(s.begin, s.end).cols(g * heads * width, (g + 1) * heads * width),
                      sequences, one_page, absorbed_shape(heads, false),
                      o.rows(s.begin, s.end).cols(g * heads * latent_, (g + 1) * heads * latent_),
                      scratch);
    }
  }

  AttentionShape absorbed_shape(int64_t heads, bool bf16) const {
    return {heads, 1, latent_ + rope_dim_, latent_, scale_, bf16};
  }

  static Ids all_positions(int64_t length, Arena& scratch) {
    const View<int32_t, 1> positions = scratch.make<int32_t>(length);
    std::iota(positions.data(), positions.data() + length, 0);
    return positions;
  }

  // W_UK and W_UV of one head: [nope, latent] and [v, latent].
  WeightView key_rows(int64_t h) const {
    const int64_t first = h * (nope_ + v_);
    return kv_b_proj_.weight().weight().row_range(first, first + nope_);
  }
  WeightView value_rows(int64_t h) const {
    const int64_t first = h * (nope_ + v_) + nope_;
    return kv_b_proj_.weight().weight().row_range(first, first + v_);
  }

  int64_t heads_, nope_, rope_dim_, qk_, v_, latent_;
  float scale_;
  int64_t groups_;
  RopePairs pairs_;
  const RopeTable& rope_;
  bool compressed_q_;
  Linear q_a_proj_, q_b_proj_, kv_a_proj_, kv_b_proj_,
      o_proj_;  // q_b_proj_: q_proj when uncompressed
  Norm q_a_norm_, kv_a_norm_;
};

}  // namespace

std::unique_ptr<Attention> make_mla(const ModelConfig& config, Params& params,
                                    const std::string& prefix, int64_t layer,
                                    const RopeTable& rope) {
  return std::make_unique<Mla>(config, params, prefix, layer, rope);
}

}  // namespace hadal
