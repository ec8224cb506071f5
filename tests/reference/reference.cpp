#include "tests/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace hadal::reference {

double dot(std::span<const double> a, std::span<const double> b) {
  return std::transform_reduce(a.begin(), a.end(), b.begin(), 0.0);
}

void add(const Rows& x, Rows& y) {
  for (size_t t = 0; t < x.size(); ++t) {
    for (size_t i = 0; i < x[t].size(); ++i) y[t][i] += x[t][i];
  }
}

Vector softmax(Vector x) {
  const double top = *std::max_element(x.begin(), x.end());
  double sum = 0;
  for (double& v : x) sum += v = std::exp(v - top);
  for (double& v : x) v /= sum;
  return x;
}

Model::Model(const Transformer& model) : config_(model.config()) {
  for (const Param& p : model.params().all()) {
    const float* values = p.vec().data();
    parameters_[p.name] = {p.rows(), p.cols(), Vector(values, values + p.size())};
  }
  for (int64_t g = 0; g < config_.hadal_rope_groups; ++g) frequencies_.push_back(frequencies(g));
}

const Model::Matrix& Model::matrix(const std::string& name) const {
  const auto found = parameters_.find(name);
  HADAL_CHECK(found != parameters_.end(), kInternal, "the model has no parameter ", name);
  return found->second;
}

// The output head is shared with the MTP modules; tied, it is the embedding (sec. 2.2).
std::string Model::head() const {
  return config_.tie_word_embeddings ? "model.embed_tokens" : "lm_head";
}

Rows Model::embed(std::span<const int32_t> ids) const {
  const Matrix& table = matrix("model.embed_tokens.weight");
  Rows x;
  for (int32_t id : ids) x.emplace_back(table.row(id).begin(), table.row(id).end());
  return x;
}

// y = W x + bias
Rows Model::linear(const Rows& x, const std::string& name, bool bias) const {
  const Matrix& w = matrix(name + ".weight");
  Rows y(x.size(), bias ? matrix(name + ".bias").values : Vector(size_t(w.rows)));
  for (size_t t = 0; t < x.size(); ++t) {
    for (int64_t i = 0; i < w.rows; ++i) y[t][size_t(i)] += dot(w.row(i), x[t]);
  }
  return y;
}

// y = gain * x / sqrt(mean(x^2) + eps)
Rows Model::rms_norm(const Rows& x, const std::string& name, double eps) const {
  const Vector& gain = matrix(name + ".weight").values;
  Rows y = x;
  for (Vector& row : y) {
    const double rms = std::sqrt(dot(row, row) / double(row.size()) + eps);
    for (size_t i = 0; i < row.size(); ++i) row[i] *= gain[i] / rms;
  }
  return y;
}

// RMSNorm, or LayerNorm: y = gain * (x - mean) / sqrt(variance + eps) + bias
Rows Model::norm(const Rows& x, const std::string& name) const {
  if (config_.hadal_norm == "rmsnorm") return rms_norm(x, name, config_.rms_norm_eps);
  HADAL_CHECK(config_.hadal_norm == "layernorm", kConfig, "no reference of ", config_.hadal_norm);
  const Vector& bias = matrix(name + ".bias").values;
  Rows y = x;
  for (Vector& row : y) {
    const double mean = std::accumulate(row.begin(), row.end(), 0.0) / double(row.size());
    for (double& v : row) v -= mean;
  }
  // Of what has mean 0 the root mean square is the standard deviation.
  y = rms_norm(y, name, config_.rms_norm_eps);
  for (Vector& row : y) {
    for (size_t i = 0; i < row.size(); ++i) row[i] += bias[i];
  }
  return y;
}

// One transformer layer. Before the sub-layers (DeepSeek, Llama, GPT), or on their outputs (OLMo
// 2):
//   pre   x += Attention(norm(x)),  x += FFN(norm(x))
//   post  x += norm(Attention(x)),  x += norm(FFN(x))
void Model::block(Rows& x, int64_t layer, Output& out) const {
  const std::string prefix = str("model.layers.", layer);
  if (config_.hadal_norm_placement == "post") {
    add(norm(attention(x, prefix + ".self_attn"), prefix + ".post_attention_layernorm"), x);
    add(norm(ffn(x, layer, out), prefix + ".post_feedforward_layernorm"), x);
    return;
  }
  HADAL_CHECK(config_.hadal_norm_placement == "pre", kConfig, "no reference of placement ",
              config_.hadal_norm_placement);
  add(attention(norm(x, prefix + ".input_layernorm"), prefix + ".self_attn"), x);
  add(ffn(norm(x, prefix + ".post_attention_layernorm"), layer, out), x);
}

Output Model::forward(std::span<const int32_t> ids,
                      std::span<const std::vector<int32_t>> mtp_ids) const {
  Output out;
  Rows x = embed(ids);
  for (int64_t l = 0; l < config_.num_hidden_layers; ++l) block(x, l, out);
  Rows h = norm(x, "model.norm");  // h^0: what the engines that run MTP give it
  out.logits = linear(h, head());

  for (size_t k = 0; k < mtp_ids.size(); ++k) {
    // h'^k_i = M_k [RMSNorm(Emb(t_{i+k})) ; RMSNorm(h^{k-1}_i)]  (eq. 21; the report writes h
    // first, the released weights take the embedding first)
    const int64_t layer = config_.num_hidden_layers + int64_t(k);
    const std::string prefix = str("model.layers.", layer);
    Rows joined = norm(embed(mtp_ids[k]), prefix + ".enorm");
    const Rows previous = norm(h, prefix + ".hnorm");
    for (size_t i = 0; i < h.size(); ++i) {
      joined[i].insert(joined[i].end(), previous[i].begin(), previous[i].end());
    }
    x = linear(joined, prefix + ".eh_proj");
    block(x, layer, out);  // eq. 22
    h = norm(x, prefix + ".shared_head.norm");
    out.mtp_logits.push_back(linear(h, head()));  // eq. 23
  }
  return out;
}

Rows Model::last_logits(std::span<const int32_t> ids, int64_t count) {
  HADAL_CHECK(config_.num_hidden_layers == 1, kInternal, "a model of ", config_.num_hidden_layers,
              " layers reads all of its attention");
  first_query_ = ids.size() - size_t(count);
  Rows logits = forward(ids).logits;
  first_query_ = 0;
  logits.erase(logits.begin(), logits.end() - count);
  return logits;
}

namespace {

// -log softmax(logits)[target]
double cross_entropy(const Vector& logits, int32_t target) {
  const double top = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double v : logits) sum += std::exp(v - top);
  return top + std::log(sum) - logits[size_t(target)];
}

struct Mean {
  double sum = 0;
  int64_t count = 0;
  void add(const Rows& logits, const int32_t* targets) {
    for (size_t t = 0; t < logits.size(); ++t) {
      if (targets[t] == kIgnored) continue;
      sum += cross_entropy(logits[t], targets[t]);
      ++count;
    }
  }
  double value() const { return count == 0 ? 0 : sum / double(count); }
};

}  // namespace

LossTerms Model::losses(const Batch& batch, const TrainOptions& options) const {
  const size_t modules = options.mtp ? batch.mtp_ids.size() : 0;
  const auto length = size_t(batch.sequence_length);
  Mean main;
  std::vector<Mean> mtp(modules);
  std::vector<std::vector<Gating>> layers;  // [MoE layer][sequence]
  for (size_t b = 0; b < size_t(batch.sequences); ++b) {
    std::vector<std::vector<int32_t>> mtp_ids;
    for (size_t k = 0; k < modules; ++k) {
      const auto first = batch.mtp_ids[k].begin() + std::ptrdiff_t(b * length);
      mtp_ids.emplace_back(first, first + std::ptrdiff_t(length));
    }
    Output out = forward(std::span(batch.ids).subspan(b * length, length), mtp_ids);
    main.add(out.logits, batch.targets.data() + b * length);
    for (size_t k = 0; k < modules; ++k) {
      mtp[k].add(out.mtp_logits[k], batch.mtp_targets[k].data() + b * length);
    }
    layers.resize(out.gatings.size());
    for (size_t l = 0; l < layers.size(); ++l) layers[l].push_back(std::move(out.gatings[l]));
  }

  LossTerms terms;
  terms.total = terms.main = main.value();
  for (const Mean& m : mtp) {  // eq. 24, 25
    terms.mtp.push_back(m.value());
    terms.total += double(options.mtp_lambda) / double(modules) * m.value();
  }
  for (const auto& gatings : layers) {
    terms.balance += double(options.sequence_alpha) * sequence_wise_loss(gatings) +
                     double(options.batch_alpha) * batch_wise_loss(gatings);
    for (const Gating& g : gatings)
      terms.closest_choice = std::min(terms.closest_choice, g.closest);
  }
  terms.total += terms.balance;
  return terms;
}

}  // namespace hadal::reference
