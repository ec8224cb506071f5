#pragma once
#include <cstdint>

#include "core/arena.h"
#include "core/tensor.h"
#include "ops/linear.h"

namespace hadal {

struct CrossEntropy {
  double loss_sum = 0;  // nats, summed over the counted targets
  int64_t count = 0;    // targets that are not kIgnored
  int64_t correct = 0;  // targets that are the arg max (ties to the lower id)
};
inline constexpr int32_t kIgnored = -1;

// Where the gradient of weight * loss_sum is added; {}: not asked for.
struct HeadGradient {
  float weight = 1;
  Out2 dh, dw;
};

// The output head and its loss in one pass over chunks of tokens, so that [T, V] never exists:
//   logits = h W^T,  loss = sum_t -log softmax(logits[t])[targets[t]]
// and, in the same pass, with g = weight * (softmax - onehot): dh += g W, dw += g^T h.
//
// Shapes    h [T, D]; w [V, D]; targets [T], kIgnored to leave a token out; dh [T, D]; dw [V, D].
// Numbers   log-sum-exp in FP32 about the row's maximum, sums of loss in double.
// Each      `each` [T], unless {}: the loss of every token, 0 where it is left out.
// Errors    Error{kShape}, also for a target outside 0 .. V-1.
CrossEntropy linear_cross_entropy(In2 h, WeightView w, Ids targets, const HeadGradient& to,
                                  Precision precision, Arena& scratch, View<double, 1> each = {});

// Arg max of each row (ties to the lower id) without keeping the logits: greedy agreement. best
// [T].
void linear_argmax(In2 h, WeightView w, View<int32_t, 1> best, Precision precision, Arena& scratch);

}  // namespace hadal
