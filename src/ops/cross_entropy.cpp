#include "ops/cross_entropy.h"

#include <cmath>

#include "core/step_clock.h"
#include "kernels/kernels.h"
#include "ops/rows.h"

namespace hadal {
namespace {

// Tokens whose logits exist at one time: 8 MB of them stay in a cache, but fewer than 64 rows would
// make a poor matrix product. A function of V alone, so that sums over tokens have a fixed order.
int64_t chunk_rows(int64_t vocabulary) {
  constexpr int64_t kLogits = int64_t{8} << 18;
  return std::clamp<int64_t>(kLogits / vocabulary, 64, 256);
}

// The largest of a row and where it first is. NaN is passed over.
struct Peak {
  float value;
  int64_t index;
};

Peak find_peak(const Kernels& k, const float* x, int64_t n) {
  constexpr int64_t kBlock = 512;  // the search for the place is left to one block
  Peak peak{-INFINITY, 0};
  for (int64_t i = 0; i < n; i += kBlock) {
    const float value = k.row_max(x + i, std::min(kBlock, n - i));
    if (value > peak.value) peak = {value, i};
  }
  const int64_t end = std::min(n, peak.index + kBlock);
  for (int64_t i = peak.index; i < end; ++i) {
    if (x[i] == peak.value) return {peak.value, i};
  }
  return peak;
}

void check_head(const char* op, In2 h, WeightView w) {
  HADAL_CHECK(w.rows > 0, kShape, op, ": w has no rows");
  HADAL_CHECK(h.dim(1) == w.cols, kShape, op, ": h has ", h.dim(1), " columns but w has ", w.cols);
}

void check_targets(Ids targets, int64_t vocabulary) {
  for (int64_t t = 0; t < targets.dim(0); ++t) {
    const int32_t target = targets.data()[t];
    if (target != kIgnored && (target < 0 || target >= vocabulary)) [[unlikely]] {
      throw Error(ErrorKind::kShape,
                  str("linear_cross_entropy: target ", target, " of token ", t,
                      " is outside the vocabulary 0 .. ", vocabulary - 1, " and not ", kIgnored));
    }
  }
}

// Calls fn(begin, end, logits of these rows of h) for one chunk after the other.
template <class Fn>
void for_each_chunk(In2 h, WeightView w, Precision precision, Arena& scratch, Fn fn) {
  const Arena::Scope scope(scratch);
  const int64_t rows = std::min(h.dim(0), chunk_rows(w.rows));
  const Out2 buffer = scratch.floats(rows, w.rows);
  for (int64_t begin = 0; begin < h.dim(0); begin += rows) {
    const int64_t end = std::min(h.dim(0), begin + rows);
    const Out2 logits = buffer.rows(0, end - begin);
    linear(h.rows(begin, end), w, {}, logits, precision);
    fn(begin, end, logits);
  }
}

// Turns a row of logits into weight * (softmax - onehot) when `gradient`; returns the loss.
double loss_of_row(const Kernels& k, float* logits, int64_t n, int32_t target, float weight,
                   bool gradient, bool& correct) {
  const Peak peak = find_peak(k, logits, n);
  correct = peak.index == target;
  // The difference first: near 1e4 a log-sum-exp in FP32 would keep three digits of a small loss.
  const double below_peak = static_cast<double>(peak.value) - static_cast<double>(logits[target]);
  const float sum = k.exp_row(logits, peak.value, logits, n);
  if (gradient) {
    k.scale_row(weight / sum, logits, n);
    logits[target] -= weight;
  }
  return below_peak + std::log(static_cast<double>(sum));
}

}  // namespace

CrossEntropy linear_cross_entropy(In2 h, WeightView w, Ids targets, const HeadGradient& to,
                                  Precision precision, Arena& scratch, View<double, 1> each) {
  const char* op = "linear_cross_entropy";
  const TimedPart timed(StepPart::kHead);
  const float weight = to.weight;
  const Out2 dh = to.dh, dw = to.dw;
  check_head(op, h, w);
  check_length(op, "targets", targets, h.dim(0), "row of h");
  check_targets(targets, w.rows);
  if (!dh.empty()) check_same_shape(op, "dh", dh, "h", h);
  HADAL_CHECK(dw.empty() || (dw.dim(0) == w.rows && dw.dim(1) == w.cols), kShape, op, ": dw is [",
              dw.dim(0), ", ", dw.dim(1), "] but w is [", w.rows, ", ", w.cols, "]");

  const Kernels& k = kernels();
  const bool gradient = !dh.empty() || !dw.empty();
  const Arena::Scope scope(scratch);
  if (!each.empty()) check_length(op, "each", each, h.dim(0), "row of h");
  const auto losses = each.empty() ? scratch.make<double>(h.dim(0)) : each;
  const auto correct = scratch.make<bool>(h.dim(0));
  for_each_chunk(h, w, precision, scratch, [&](int64_t begin, int64_t end, Out2 logits) {
    parallel_for(end - begin, task_grain(w.rows), [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        const int32_t target = targets.data()[begin + r];
        if (target == kIgnored) {
          std::fill_n(logits.row(r), w.rows, 0.0f);
          losses.data()[begin + r] = 0;
        } else {
          losses.data()[begin + r] = loss_of_row(k, logits.row(r), w.rows, target, weight, gradient,
                                                 correct.data()[begin + r]);
        }
      }
    });
    if (!gradient) return;
    linear_backward(logits, h.rows(begin, end), w, dh.empty() ? Out2{} : dh.rows(begin, end), dw,
                    {}, precision);
  });

  CrossEntropy result;
  for (int64_t t = 0; t < h.dim(0); ++t) {
    if (targets.data()[t] == kIgnored) continue;
    result.loss_sum += losses.data()[t];
    result.correct += correct.data()[t];
    ++result.count;
  }
  return result;
}

void linear_argmax(In2 h, WeightView w, View<int32_t, 1> best, Precision precision,
                   Arena& scratch) {
  check_head("linear_argmax", h, w);
  check_length("linear_argmax", "best", best, h.dim(0), "row of h");
  const Kernels& k = kernels();
  for_each_chunk(h, w, precision, scratch, [&](int64_t begin, int64_t end, Out2 logits) {
    parallel_for(end - begin, task_grain(w.rows), [&](int64_t first, int64_t last) {
      for (int64_t r = first; r < last; ++r) {
        best.data()[begin + r] = static_cast<int32_t>(find_peak(k, logits.row(r), w.rows).index);
      }
    });
  });
}

}  // namespace hadal
