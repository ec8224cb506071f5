// The two auxiliary losses of ops/router.h that push the load of the experts together. Both are
//   alpha * sum_i f_i P_i,   f_i = N_r / (K_r T) * (tokens counted for expert i),
//                            P_i = mean_t s_i(t) / sum_j s_j(t)
// with f constant for the gradient; they differ in the rows they look at and in what they count.
#include <vector>

#include "ops/router.h"
#include "ops/rows.h"
#include "ops/top_k.h"

namespace hadal {
namespace {

constexpr double kTinySum = 1e-20;

double row_sum(const float* scores, int64_t n) {
  double sum = kTinySum;
  for (int64_t i = 0; i < n; ++i) sum += static_cast<double>(scores[i]);
  return sum;
}

// P of all rows, in blocks that depend on the number of rows alone.
std::vector<double> mean_shares(In2 scores) {
  constexpr int64_t kRowsPerBlock = 256;
  const int64_t rows = scores.dim(0), n = scores.dim(1);
  const int64_t blocks = (rows + kRowsPerBlock - 1) / kRowsPerBlock;
  std::vector<double> partial(static_cast<size_t>(blocks * n));
  parallel_for(blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t t = first * kRowsPerBlock; t < std::min(rows, last * kRowsPerBlock); ++t) {
      double* p = partial.data() + t / kRowsPerBlock * n;
      const double sum = row_sum(scores.row(t), n);
      for (int64_t i = 0; i < n; ++i) p[i] += static_cast<double>(scores.row(t)[i]) / sum;
    }
  });
  std::vector<double> mean(static_cast<size_t>(n));
  for (size_t j = 0; j < partial.size(); ++j) mean[j % mean.size()] += partial[j];
  for (double& share : mean) share /= static_cast<double>(rows);
  return mean;
}

// factor * sum_i f_i P_i of these rows; adds its gradient to dscores unless that is {}.
double balance_loss(In2 scores, const std::vector<int64_t>& counts, const RouterShape& shape,
                    double factor, Out2 dscores) {
  const int64_t rows = scores.dim(0), n = shape.experts;
  const std::vector<double> share = mean_shares(scores);
  std::vector<double> load(counts.size());
  double loss = 0;
  for (size_t i = 0; i < counts.size(); ++i) {
    load[i] = static_cast<double>(n * counts[i]) / static_cast<double>(shape.top_k * rows);
    loss += load[i] * share[i];
  }
  if (dscores.empty()) return factor * loss;
  parallel_for(rows, task_grain(4 * n), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const double sum = row_sum(scores.row(t), n);
      double mean_load = 0;
      for (int64_t i = 0; i < n; ++i) {
        mean_load += load[static_cast<size_t>(i)] * static_cast<double>(scores.row(t)[i]) / sum;
      }
      const double scale = factor / (static_cast<double>(rows) * sum);
      for (int64_t i = 0; i < n; ++i) {
        dscores.row(t)[i] += static_cast<float>(scale * (load[static_cast<size_t>(i)] - mean_load));
      }
    }
  });
  return factor * loss;
}

// How many of these rows have each expert among the best top_k of all, groups and bias aside.
std::vector<int64_t> count_best(In2 scores, const RouterShape& shape) {
  std::vector<int64_t> counts(static_cast<size_t>(shape.experts));
  std::vector<int32_t> best(static_cast<size_t>(shape.top_k));
  std::vector<float> values(best.size());
  for (int64_t t = 0; t < scores.dim(0); ++t) {
    TopK top(best.data(), values.data(), shape.top_k);
    for (int64_t i = 0; i < shape.experts; ++i) {
      top.offer(static_cast<int32_t>(i), scores.row(t)[i]);
    }
    for (int32_t expert : best) ++counts[static_cast<size_t>(expert)];
  }
  return counts;
}

void check_scores(const char* op, In2 scores, const RouterShape& shape, Out2 dscores) {
  check_router_shape(op, shape);
  check_matrix(op, "scores", scores, scores.dim(0), shape.experts);
  if (!dscores.empty()) check_same_shape(op, "dscores", dscores, "scores", scores);
}

}  // namespace

double sequence_balance_loss(In2 scores, const RouterShape& shape, int64_t sequence_length,
                             float alpha, double weight, Out2 dscores) {
  check_scores("sequence_balance_loss", scores, shape, dscores);
  HADAL_CHECK(sequence_length > 0 && scores.dim(0) % sequence_length == 0, kShape,
              "sequence_balance_loss: ", scores.dim(0), " rows cannot be cut into sequences of ",
              sequence_length);
  const int64_t sequences = scores.dim(0) / sequence_length;
  std::vector<double> losses(static_cast<size_t>(sequences));
  const double factor = weight * static_cast<double>(alpha) / static_cast<double>(sequences);
  parallel_tasks(sequences, [&](int64_t s) {
    const int64_t begin = s * sequence_length, end = begin + sequence_length;
    const In2 rows = scores.rows(begin, end);
    losses[static_cast<size_t>(s)] =
        balance_loss(rows, count_best(rows, shape), shape, factor,
                     dscores.empty() ? Out2{} : dscores.rows(begin, end));
  });
  double total = 0;
  for (double loss : losses) total += loss;
  return total;
}

double batch_balance_loss(In2 scores, View<const int32_t, 2> experts, const RouterShape& shape,
                          float alpha, double weight, Out2 dscores) {
  check_scores("batch_balance_loss", scores, shape, dscores);
  check_experts("batch_balance_loss", experts, scores.dim(0), shape);
  if (scores.dim(0) == 0) return 0;
  std::vector<int64_t> counts(static_cast<size_t>(shape.experts));
  for (int64_t t = 0; t < scores.dim(0); ++t) {
    for (int64_t j = 0; j < shape.top_k; ++j) ++counts[static_cast<size_t>(experts.row(t)[j])];
  }
  return balance_loss(scores, counts, shape, weight * static_cast<double>(alpha), dscores);
}

}  // namespace hadal
