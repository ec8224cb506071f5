#include "ops/router.h"

#include <atomic>
#include <cmath>

#include "kernels/kernels.h"
#include "ops/rows.h"
#include "ops/top_k.h"

namespace hadal {
namespace {

constexpr float kTinyDenominator = 1e-20f;  // as in the released model

// One token's choice; the buffers are kept from token to token.
class Chooser {
 public:
  explicit Chooser(const RouterShape& shape)
      : shape_(shape),
        per_group_(shape.experts / shape.groups),
        biased_(static_cast<size_t>(shape.experts)),
        best_(static_cast<size_t>(std::max(shape.top_k, shape.top_groups))),
        groups_(static_cast<size_t>(shape.top_groups)) {}

  // False when a biased score is NaN.
  bool choose(const float* scores, const float* bias, int32_t* experts) {
    bool sound = true;
    for (size_t i = 0; i < biased_.size(); ++i) {
      biased_[i] = bias == nullptr ? scores[i] : scores[i] + bias[i];
      sound = sound && !std::isnan(biased_[i]);
    }
    if (!sound) return false;
    TopK top(experts, best_.data(), shape_.top_k);
    if (shape_.top_groups == shape_.groups) {
      offer(top, 0, shape_.experts);
      return true;
    }
    choose_groups();  // before the experts: both use best_
    for (int32_t group : groups_) offer(top, group * per_group_, (group + 1) * per_group_);
    return true;
  }

 private:
  void offer(TopK& top, int64_t begin, int64_t end) const {
    for (int64_t i = begin; i < end; ++i) {
      top.offer(static_cast<int32_t>(i), biased_[static_cast<size_t>(i)]);
    }
  }

  // The groups whose experts may be chosen, in ascending order. Experts of the others are never
  // offered: the same as a score of -inf.
  void choose_groups() {
    TopK top(groups_.data(), best_.data(), shape_.top_groups);
    for (int64_t group = 0; group < shape_.groups; ++group) {
      float first = -INFINITY, second = -INFINITY;
      for (int64_t i = 0; i < per_group_; ++i) {
        const float value = biased_[static_cast<size_t>(group * per_group_ + i)];
        if (value > first) {
          second = first, first = value;
        } else if (value > second) {
          second = value;
        }
      }
      const bool two = shape_.group_score == RouterShape::GroupScore::kTopTwoSum;
      top.offer(static_cast<int32_t>(group), two ? first + second : first);
    }
    std::sort(groups_.begin(), groups_.end());
  }

  const RouterShape& shape_;
  int64_t per_group_;
  std::vector<float> biased_, best_;
  std::vector<int32_t> groups_;
};

// What the chosen scores are divided by.
float gate_denominator(const float* scores, const int32_t* experts, const RouterShape& shape) {
  if (!shape.norm_topk_prob) return 1;
  float sum = 0;
  for (int64_t j = 0; j < shape.top_k; ++j) sum += scores[experts[j]];
  return sum + kTinyDenominator;
}

}  // namespace

void check_router_shape(const char* op, const RouterShape& s) {
  HADAL_CHECK(s.experts >= 1 && s.groups >= 1 && s.experts % s.groups == 0, kConfig, op, ": ",
              s.experts, " experts cannot be split into ", s.groups, " groups");
  HADAL_CHECK(s.top_groups >= 1 && s.top_groups <= s.groups, kConfig, op, ": topk_group is ",
              s.top_groups, ", expected 1 .. ", s.groups);
  const int64_t allowed = s.experts / s.groups * s.top_groups;
  HADAL_CHECK(s.top_k >= 1 && s.top_k <= allowed, kConfig, op, ": num_experts_per_tok is ", s.top_k,
              ", expected 1 .. ", allowed, ", the experts of ", s.top_groups, " groups");
  HADAL_CHECK(s.top_groups == s.groups || s.experts / s.groups >= 2 ||
                  s.group_score != RouterShape::GroupScore::kTopTwoSum,
              kConfig, op, ": groups of one expert have no two best");
}

void check_matrix(const char* op, const char* name, In2 m, int64_t rows, int64_t columns) {
  HADAL_CHECK(m.dim(0) == rows && m.dim(1) == columns, kShape, op, ": ", name, " is [", m.dim(0),
              ", ", m.dim(1), "], expected [", rows, ", ", columns, "]");
}

void check_experts(const char* op, View<const int32_t, 2> experts, int64_t rows,
                   const RouterShape& shape) {
  HADAL_CHECK(experts.dim(0) == rows && experts.dim(1) == shape.top_k, kShape, op, ": experts is [",
              experts.dim(0), ", ", experts.dim(1), "], expected [", rows, ", ", shape.top_k, "]");
  for (int64_t t = 0; t < rows; ++t) {
    for (int64_t j = 0; j < shape.top_k; ++j) {
      const int32_t expert = experts.row(t)[j];
      if (expert < 0 || expert >= shape.experts) [[unlikely]] {
        throw Error(ErrorKind::kShape, str(op, ": expert ", expert, " of token ", t,
                                           " is outside 0 .. ", shape.experts - 1));
      }
    }
  }
}

void router_scores(In2 logits, const RouterShape& shape, Out2 scores) {
  check_router_shape("router_scores", shape);
  check_matrix("router_scores", "logits", logits, logits.dim(0), shape.experts);
  check_same_shape("router_scores", "scores", scores, "logits", logits);
  const Kernels& k = kernels();
  const int64_t n = shape.experts;
  parallel_for(logits.dim(0), task_grain(n), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      if (shape.scoring == RouterShape::Scoring::kSigmoid) {
        k.sigmoid_row(logits.row(t), scores.row(t), n);
      } else {
        const float total = k.exp_row(logits.row(t), k.row_max(logits.row(t), n), scores.row(t), n);
        k.scale_row(1 / total, scores.row(t), n);
      }
    }
  });
}

void router_select(In2 scores, In1 bias, const RouterShape& shape, View<int32_t, 2> experts,
                   Out2 gates) {
  check_router_shape("router_select", shape);
  const int64_t rows = scores.dim(0);
  check_matrix("router_select", "scores", scores, rows, shape.experts);
  check_matrix("router_select", "gates", gates, rows, shape.top_k);
  if (!bias.empty()) check_length("router_select", "bias", bias, shape.experts, "expert");
  HADAL_CHECK(experts.dim(0) == rows && experts.dim(1) == shape.top_k, kShape,
              "router_select: experts is [", experts.dim(0), ", ", experts.dim(1), "], expected [",
              rows, ", ", shape.top_k, "]");
  std::atomic<int64_t> first_unsound{rows};
  parallel_for(rows, task_grain(4 * shape.experts), [&](int64_t begin, int64_t end) {
    Chooser chooser(shape);
    for (int64_t t = begin; t < end; ++t) {
      if (!chooser.choose(scores.row(t), bias.data(), experts.row(t))) {
        int64_t seen = first_unsound.load();
        while (t < seen && !first_unsound.compare_exchange_weak(seen, t)) {
        }
        return;
      }
      const float denominator = gate_denominator(scores.row(t), experts.row(t), shape);
      for (int64_t j = 0; j < shape.top_k; ++j) {
        gates.row(t)[j] =
            scores.row(t)[experts.row(t)[j]] / denominator * shape.routed_scaling_factor;
      }
    }
  });
  HADAL_CHECK(first_unsound == rows, kNumbers, "router_select: a score of token ",
              first_unsound.load(), " is NaN, expected numbers");
}

// With g_j = c s_j / S and S = sum of the chosen s + 1e-20:
// dL/ds_j = c / S * (dL/dg_j - sum_k dL/dg_k s_k / S).
double score_entropy(In2 scores) {
  constexpr int64_t kTokensPerBlock = 64;
  const int64_t tokens = scores.dim(0), experts = scores.dim(1);
  std::vector<double> sums(static_cast<size_t>((tokens + kTokensPerBlock - 1) / kTokensPerBlock));
  parallel_tasks(static_cast<int64_t>(sums.size()), [&](int64_t block) {
    double entropy = 0;
    const int64_t end = std::min(tokens, (block + 1) * kTokensPerBlock);
    for (int64_t t = block * kTokensPerBlock; t < end; ++t) {
      // With p = s / S: -sum p ln p = ln S - (sum s ln s) / S
      double sum = 0, weighted = 0;
      for (int64_t e = 0; e < experts; ++e) {
        const float s = scores.row(t)[e];
        if (s <= 0) continue;
        sum += double(s);
        weighted += double(s) * double(std::log(s));
      }
      if (sum > 0) entropy += std::log(sum) - weighted / sum;
    }
    sums[static_cast<size_t>(block)] = entropy;
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

void router_select_backward(In2 dgates, In2 scores, View<const int32_t, 2> experts,
                            const RouterShape& shape, Out2 dscores) {
  check_router_shape("router_select_backward", shape);
  check_matrix("router_select_backward", "scores", scores, scores.dim(0), shape.experts);
  check_same_shape("router_select_backward", "dscores", dscores, "scores", scores);
  check_matrix("router_select_backward", "dgates", dgates, scores.dim(0), shape.top_k);
  check_experts("router_select_backward", experts, scores.dim(0), shape);
  parallel_for(scores.dim(0), task_grain(8 * shape.top_k), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const int32_t* chosen = experts.row(t);
      const float denominator = gate_denominator(scores.row(t), chosen, shape);
      float shared = 0;
      for (int64_t j = 0; shape.norm_topk_prob && j < shape.top_k; ++j) {
        shared += dgates.row(t)[j] * scores.row(t)[chosen[j]] / denominator;
      }
      for (int64_t j = 0; j < shape.top_k; ++j) {
        dscores.row(t)[chosen[j]] +=
            shape.routed_scaling_factor / denominator * (dgates.row(t)[j] - shared);
      }
    }
  });
}

void router_scores_backward(In2 dscores, In2 scores, const RouterShape& shape, Out2 dlogits) {
  check_router_shape("router_scores_backward", shape);
  check_matrix("router_scores_backward", "scores", scores, scores.dim(0), shape.experts);
  check_same_shape("router_scores_backward", "dscores", dscores, "scores", scores);
  check_same_shape("router_scores_backward", "dlogits", dlogits, "scores", scores);
  const Kernels& k = kernels();
  const bool softmax = shape.scoring == RouterShape::Scoring::kSoftmax;
  parallel_for(scores.dim(0), task_grain(shape.experts), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float *s = scores.row(t), *ds = dscores.row(t);
      const float mean = softmax ? k.dot(s, ds, shape.experts) : 0;
      for (int64_t i = 0; i < shape.experts; ++i) {
        dlogits.row(t)[i] += softmax ? s[i] * (ds[i] - mean) : s[i] * (1 - s[i]) * ds[i];
      }
    }
  });
}

}  // namespace hadal
