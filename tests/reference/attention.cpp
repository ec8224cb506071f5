// Section 2.1.1, and the kinds of attention that MLA is compared with.
#include <cmath>

#include "core/error.h"
#include "tests/reference/reference.h"

namespace hadal::reference {
namespace {

std::span<const double> part(const Vector& x, int64_t first, int64_t count) {
  return std::span(x).subspan(size_t(first), size_t(count));
}

void append(std::span<const double> x, Vector& y) {
  y.insert(y.end(), x.begin(), x.end());
}

// One head, causal: appends o_t = sum_{j <= t} softmax_j(scale * q_t . k_j) v_j to out[t]; zeros
// where t < first.
void attend(const Rows& q, const Rows& k, const Rows& v, double scale, size_t first, Rows& out) {
  for (size_t t = 0; t < q.size(); ++t) {
    if (t < first) {
      append(Vector(v[t].size()), out[t]);
      continue;
    }
    Vector weights;
    for (size_t j = 0; j <= t; ++j) weights.push_back(scale * dot(q[t], k[j]));
    weights = softmax(weights);
    Vector o(v[t].size());
    for (size_t j = 0; j <= t; ++j) {
      for (size_t d = 0; d < o.size(); ++d) o[d] += weights[j] * v[j][d];
    }
    append(o, out[t]);
  }
}

}  // namespace

Rows Model::attention(const Rows& h, const std::string& prefix) const {
  if (config_.hadal_attention == "mla") return mla(h, prefix);
  if (config_.hadal_attention == "gqa") return gqa(h, prefix);
  throw Error(ErrorKind::kConfig, "no reference of attention " + config_.hadal_attention);
}

// Multi-head latent attention, eq. 1 to 11.
Rows Model::mla(const Rows& h, const std::string& prefix) const {
  const ModelConfig& c = config_;
  constexpr double kLatentEps = 1e-6;  // of the norms on c^Q and c^KV, whatever rms_norm_eps says
  const int64_t nope = c.qk_nope_head_dim, rope = c.qk_rope_head_dim, latent = c.kv_lora_rank;
  const size_t tokens = h.size();

  // c^KV = W^DKV h, and k^R before its rotation, in one matrix (eq. 1, 3)
  const Rows kv_a = linear(h, prefix + ".kv_a_proj_with_mqa", c.attention_bias);
  Rows c_kv(tokens);
  for (size_t t = 0; t < tokens; ++t) append(part(kv_a[t], 0, latent), c_kv[t]);
  // [k^C_i ; v^C_i] = [W^UK ; W^UV] c^KV head by head (eq. 2, 5)
  const Rows kv =
      linear(rms_norm(c_kv, prefix + ".kv_a_layernorm", kLatentEps), prefix + ".kv_b_proj");
  // c^Q = W^DQ h; [q^C_i ; q^R_i] = [W^UQ ; W^QR] c^Q head by head (eq. 6 to 8), or straight from h
  Rows q_all;
  if (c.q_lora_rank > 0) {
    const Rows c_q = linear(h, prefix + ".q_a_proj", c.attention_bias);
    q_all = linear(rms_norm(c_q, prefix + ".q_a_layernorm", kLatentEps), prefix + ".q_b_proj");
  } else {
    q_all = linear(h, prefix + ".q_proj");
  }

  Rows o(tokens);
  for (int64_t i = 0; i < c.num_attention_heads; ++i) {
    const int64_t q_at = i * (nope + rope), kv_at = i * (nope + c.v_head_dim);
    Rows q(tokens), k(tokens), v(tokens);
    for (size_t t = 0; t < tokens; ++t) {
      const auto position = int64_t(t), group = rope_group(i);
      append(part(q_all[t], q_at, nope), q[t]);  // q_i = [q^C_i ; q^R_i] (eq. 9)
      append(rotate(part(q_all[t], q_at + nope, rope), position, group), q[t]);
      append(part(kv[t], kv_at, nope), k[t]);  // k_i = [k^C_i ; k^R], k^R for all heads (eq. 4)
      append(rotate(part(kv_a[t], latent, rope), position, group), k[t]);
      append(part(kv[t], kv_at + nope, c.v_head_dim), v[t]);
    }
    attend(q, k, v, softmax_scale(), first_query_, o);  // eq. 10
  }
  return linear(o, prefix + ".o_proj", c.attention_bias);  // eq. 11
}

// RMSNorm of queries or keys: of each head by itself, or of all heads at once (OLMo 2).
Rows Model::qk_norm(const Rows& x, const std::string& name) const {
  if (config_.hadal_qk_norm == "none") return x;
  if (config_.hadal_qk_norm == "whole") return rms_norm(x, name, config_.rms_norm_eps);
  HADAL_CHECK(config_.hadal_qk_norm == "head", kConfig, "no reference of QK-norm ",
              config_.hadal_qk_norm);
  Rows y(x.size());
  for (size_t t = 0; t < x.size(); ++t) {
    for (int64_t at = 0; at < int64_t(x[t].size()); at += config_.head_dim) {
      const auto head = part(x[t], at, config_.head_dim);
      append(rms_norm({Vector(head.begin(), head.end())}, name, config_.rms_norm_eps)[0], y[t]);
    }
  }
  return y;
}

// Query head i reads key-value head i / (heads / key-value heads): as many as heads is multi-head
// attention, one is multi-query attention.
Rows Model::gqa(const Rows& h, const std::string& prefix) const {
  const ModelConfig& c = config_;
  const int64_t dim = c.head_dim, sharing = c.num_attention_heads / c.num_key_value_heads;
  const bool bias = c.attention_bias;
  const Rows q_all = qk_norm(linear(h, prefix + ".q_proj", bias), prefix + ".q_norm");
  const Rows k_all = qk_norm(linear(h, prefix + ".k_proj", bias), prefix + ".k_norm");
  const Rows v_all = linear(h, prefix + ".v_proj", bias);
  Rows o(h.size());
  for (int64_t i = 0; i < c.num_attention_heads; ++i) {
    Rows q(h.size()), k(h.size()), v(h.size());
    for (size_t t = 0; t < h.size(); ++t) {
      const auto position = int64_t(t), group = rope_group(i);
      q[t] = rotate(part(q_all[t], i * dim, dim), position, group);
      k[t] = rotate(part(k_all[t], i / sharing * dim, dim), position, group);
      append(part(v_all[t], i / sharing * dim, dim), v[t]);
    }
    attend(q, k, v, softmax_scale(), first_query_, o);
  }
  return linear(o, prefix + ".o_proj", bias);
}

}  // namespace hadal::reference
