// Rotary position embedding, its extensions to longer contexts (section 4.3: YaRN), and what they
// do to the softmax. Conventions are those of Hugging Face transformers 5.23.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"
#include "tests/reference/reference.h"

namespace hadal::reference {
namespace {

double mscale(double factor, double weight) {
  return factor <= 1 ? 1.0 : 0.1 * weight * std::log(factor) + 1.0;
}

// YaRN: 0 where a pair keeps its frequency, 1 where it is slowed down by the whole factor.
double yarn_ramp(const ModelConfig& c, int64_t pair, int64_t dim) {
  const RopeScaling& s = c.rope_scaling;
  // The pair that turns this many times over the original context.
  const auto pair_turning = [&](double turns) {
    return double(dim) *
           std::log(double(s.original_max_position_embeddings) / (2 * std::numbers::pi * turns)) /
           (2 * std::log(c.rope_theta));
  };
  double low = pair_turning(s.beta_fast), high = pair_turning(s.beta_slow);
  if (s.truncate) low = std::floor(low), high = std::ceil(high);
  low = std::max(low, 0.0);
  high = std::min(high, double(dim - 1));
  if (low == high) high += 0.001;
  return std::clamp((double(pair) - low) / (high - low), 0.0, 1.0);
}

// Llama 3: pairs that turn often keep their frequency, those that turn seldom are slowed down.
double llama3_frequency(const RopeScaling& s, double f) {
  const double turns = double(s.original_max_position_embeddings) * f / (2 * std::numbers::pi);
  const double keep =
      std::clamp((turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor), 0.0, 1.0);
  return keep * f + (1 - keep) * f / s.factor;
}

// What cos and sin are multiplied by.
double attention_factor(const RopeScaling& s) {
  if (s.type != "yarn") return 1;
  if (s.attention_factor) return *s.attention_factor;
  if (s.mscale && s.mscale_all_dim) {
    return mscale(s.factor, *s.mscale) / mscale(s.factor, *s.mscale_all_dim);
  }
  return mscale(s.factor, 1);
}

}  // namespace

// Multi-scale RoPE: neighbouring heads form groups, each with a band of the spectrum of its own.
int64_t Model::rope_group(int64_t head) const {
  return head * config_.hadal_rope_groups / config_.num_attention_heads;
}

// Angles per position of a head's pairs. Group g has the g-th of `groups` bands of the spectrum
// that a head of groups * dim numbers would have; one group has all of it.
Vector Model::frequencies(int64_t group) const {
  const ModelConfig& c = config_;
  const RopeScaling& s = c.rope_scaling;
  const int64_t head_dim = c.hadal_attention == "mla" ? c.qk_rope_head_dim : c.head_dim;
  const int64_t dim = c.hadal_rope_groups * head_dim, pairs = head_dim / 2;
  Vector out;
  for (int64_t pair = group * pairs; pair < (group + 1) * pairs; ++pair) {
    const double f = std::pow(c.rope_theta, -2.0 * double(pair) / double(dim));
    if (s.type == "default") {
      out.push_back(f);
    } else if (s.type == "linear") {
      out.push_back(f / s.factor);
    } else if (s.type == "llama3") {
      out.push_back(llama3_frequency(s, f));
    } else {
      HADAL_CHECK(s.type == "yarn", kConfig, "no reference of RoPE type ", s.type);
      const double ramp = yarn_ramp(c, pair, dim);
      out.push_back((1 - ramp) * f + ramp * f / s.factor);
    }
  }
  return out;
}

// The rotation R_t of sec. 2.1.1 and its extension.
Vector Model::rotate(std::span<const double> x, int64_t position, int64_t group) const {
  const size_t pairs = x.size() / 2;
  const double factor = attention_factor(config_.rope_scaling);
  Vector y(x.size());
  for (size_t i = 0; i < pairs; ++i) {
    const double angle = double(position) * frequencies_[size_t(group)][i];
    const double cos = factor * std::cos(angle), sin = factor * std::sin(angle);
    // Pairs are neighbours (DeepSeek), or half a head apart (Llama, OLMo 2).
    const size_t a = config_.rope_interleave ? 2 * i : i;
    const size_t b = config_.rope_interleave ? 2 * i + 1 : i + pairs;
    y[a] = x[a] * cos - x[b] * sin;
    y[b] = x[a] * sin + x[b] * cos;
  }
  return y;
}

// 1 / sqrt(width of a query); in MLA under a scaled RoPE times mscale^2.
double Model::softmax_scale() const {
  const ModelConfig& c = config_;
  if (c.hadal_attention != "mla") return 1 / std::sqrt(double(c.head_dim));
  const double scale = 1 / std::sqrt(double(c.qk_nope_head_dim + c.qk_rope_head_dim));
  const RopeScaling& s = c.rope_scaling;
  if (s.type == "default" || !s.mscale_all_dim) return scale;
  const double m = mscale(s.factor, *s.mscale_all_dim);
  return scale * m * m;
}

}  // namespace hadal::reference
