// Section 2.1.2: feed-forward layers, DeepSeekMoE, and the losses that balance experts.
#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <numeric>

#include "core/error.h"
#include "tests/reference/reference.h"

namespace hadal::reference {
namespace {

double silu(double z) {
  return z / (1 + std::exp(-z));
}

// GPT-2's tanh form.
double gelu(double z) {
  const double inner = std::sqrt(2 / std::numbers::pi) * (z + 0.044715 * z * z * z);
  return 0.5 * z * (1 + std::tanh(inner));
}

// Indices of the k largest, the largest first; of equals the lower index. `closest` becomes the
// distance between the last that is in and the first that is out, if that is smaller.
std::vector<int64_t> top(const Vector& values, int64_t k, double& closest) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return values[size_t(a)] > values[size_t(b)]; });
  if (k < int64_t(order.size())) {
    const auto value = [&](int64_t place) { return values[size_t(order[size_t(place)])]; };
    closest = std::min(closest, value(k - 1) - value(k));
  }
  order.resize(size_t(k));
  return order;
}

}  // namespace

bool Model::moe_layer(int64_t layer) const {
  if (config_.n_routed_experts == 0) return false;
  if (layer >= config_.num_hidden_layers) return true;  // the blocks of MTP modules
  return layer >= config_.first_k_dense_replace && layer % config_.moe_layer_freq == 0;
}

Rows Model::ffn(const Rows& u, int64_t layer, Output& out) const {
  const std::string prefix = str("model.layers.", layer, ".mlp");
  if (!moe_layer(layer)) return mlp(u, prefix, config_.hadal_ffn, config_.mlp_bias);
  Gating& gating = out.gatings.emplace_back();
  gating.layer = layer;
  return moe(u, prefix, gating);
}

// swiglu: down(silu(gate(u)) * up(u));  gelu: down(gelu(up(u)))
Rows Model::mlp(const Rows& u, const std::string& prefix, const std::string& kind,
                bool bias) const {
  Rows inner = linear(u, prefix + ".up_proj", bias);
  if (kind == "swiglu") {
    const Rows gate = linear(u, prefix + ".gate_proj", bias);
    for (size_t t = 0; t < u.size(); ++t) {
      for (size_t i = 0; i < inner[t].size(); ++i) inner[t][i] *= silu(gate[t][i]);
    }
  } else {
    HADAL_CHECK(kind == "gelu", kConfig, "no reference of FFN ", kind);
    for (Vector& row : inner) {
      for (double& v : row) v = gelu(v);
    }
  }
  return linear(inner, prefix + ".down_proj", bias);
}

// Which experts a token with these scores goes to, and with what weights (eq. 13, 14, 16).
void Model::choose(const Vector& scores, const std::string& prefix, Gating& gating) const {
  const ModelConfig& c = config_;
  const bool noaux_tc = c.topk_method == "noaux_tc", greedy = c.topk_method == "greedy";
  HADAL_CHECK(noaux_tc || greedy || c.topk_method == "group_limited_greedy", kConfig,
              "no reference of topk_method ", c.topk_method);
  // Only the choice sees the bias (eq. 16).
  Vector biased = scores;
  if (noaux_tc) {
    const Vector& bias = matrix(prefix + ".gate.e_score_correction_bias").values;
    for (size_t i = 0; i < biased.size(); ++i) biased[i] += bias[i];
  }
  // A token may use the topk_group best of n_group groups of neighbouring experts: V3's are scored
  // by the sum of their two best, V2's by their best.
  if (!greedy && c.topk_group < c.n_group) {
    const int64_t size = c.n_routed_experts / c.n_group;
    Vector group_scores;
    for (int64_t g = 0; g < c.n_group; ++g) {
      Vector of_group(biased.begin() + g * size, biased.begin() + (g + 1) * size);
      std::sort(of_group.rbegin(), of_group.rend());
      group_scores.push_back(noaux_tc ? of_group[0] + of_group[1] : of_group[0]);
    }
    const auto groups = top(group_scores, c.topk_group, gating.closest);
    for (int64_t i = 0; i < c.n_routed_experts; ++i) {
      if (std::count(groups.begin(), groups.end(), i / size) == 0) {
        biased[size_t(i)] = -std::numeric_limits<double>::infinity();
      }
    }
  }
  const auto chosen = top(biased, c.num_experts_per_tok, gating.closest);
  // g_i = s_i / sum of the chosen s, times routed_scaling_factor (eq. 13)
  double sum = 0;
  for (int64_t i : chosen) sum += scores[size_t(i)];
  Vector gates;
  for (int64_t i : chosen) {
    const double share = c.norm_topk_prob ? scores[size_t(i)] / (sum + 1e-20) : scores[size_t(i)];
    gates.push_back(c.routed_scaling_factor * share);
  }
  gating.scores.push_back(scores);
  gating.chosen.push_back(chosen);
  gating.gates.push_back(gates);
}

// h' = sum of the shared experts + sum_i g_i FFN_i(u) (eq. 12, the residual is the block's). The
// shared experts are one MLP of n_shared_experts times the width.
Rows Model::moe(const Rows& u, const std::string& prefix, Gating& gating) const {
  const ModelConfig& c = config_;
  HADAL_CHECK(c.scoring_func == "sigmoid" || c.scoring_func == "softmax", kConfig,
              "no reference of scoring_func ", c.scoring_func);
  Rows scores = linear(u, prefix + ".gate");  // u . e_i
  for (Vector& s : scores) {
    if (c.scoring_func == "softmax") {
      s = softmax(s);
    } else {
      for (double& v : s) v = 1 / (1 + std::exp(-v));  // eq. 15
    }
    choose(s, prefix, gating);
  }
  Rows y(u.size(), Vector(size_t(c.hidden_size)));
  if (c.n_shared_experts > 0) y = mlp(u, prefix + ".shared_experts", "swiglu", c.mlp_bias);
  for (size_t t = 0; t < u.size(); ++t) {
    for (size_t j = 0; j < gating.chosen[t].size(); ++j) {
      const Rows expert =
          mlp({u[t]}, str(prefix, ".experts.", gating.chosen[t][j]), "swiglu", false);
      for (size_t d = 0; d < y[t].size(); ++d) y[t][d] += gating.gates[t][j] * expert[0][d];
    }
  }
  return y;
}

namespace {

// sum_i f_i P_i over some tokens: f_i = N_r / (K_r T) * (how often i was counted), P_i = mean of
// s_i / sum_j s_j.
class LoadTimesShare {
 public:
  void count(const std::vector<int64_t>& experts) {
    for (int64_t i : experts) ++counts_[i];
    slots_ += double(experts.size());
  }
  void share(const Vector& scores) {
    const double sum = std::accumulate(scores.begin(), scores.end(), 1e-20);
    shares_.resize(scores.size());
    for (size_t i = 0; i < scores.size(); ++i) shares_[i] += scores[i] / sum;
    ++tokens_;
  }
  double value() const {
    double total = 0;
    for (const auto& [i, n] : counts_) {
      total += double(shares_.size()) * n / slots_ * shares_[size_t(i)] / tokens_;
    }
    return total;
  }

 private:
  std::map<int64_t, double> counts_;
  Vector shares_;
  double slots_ = 0, tokens_ = 0;
};

}  // namespace

// The complementary loss, eq. 17 to 20: in each sequence by itself, counting the K_r best of all
// experts by their unbiased scores; the mean over sequences.
double sequence_wise_loss(std::span<const Gating> gatings) {
  double total = 0;
  for (const Gating& g : gatings) {
    LoadTimesShare loss;
    for (size_t t = 0; t < g.scores.size(); ++t) {
      double unused = 1;
      loss.count(top(g.scores[t], int64_t(g.chosen[t].size()), unused));
      loss.share(g.scores[t]);
    }
    total += loss.value() / double(gatings.size());
  }
  return total;
}

// The classic auxiliary loss (GShard, Switch): over the whole batch, counting where tokens went.
double batch_wise_loss(std::span<const Gating> gatings) {
  LoadTimesShare loss;
  for (const Gating& g : gatings) {
    for (size_t t = 0; t < g.scores.size(); ++t) {
      loss.count(g.chosen[t]);
      loss.share(g.scores[t]);
    }
  }
  return loss.value();
}

}  // namespace hadal::reference
