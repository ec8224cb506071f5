#pragma once
#include <cstdint>
#include <span>

#include "core/tensor.h"

namespace hadal {

// The MoE gate (V3 report, sec. 2.1.2; DeepSeek-V2, sec. 2.2). Everything here is FP32; the same
// bits for any number of threads. A shape that contradicts itself is Error{kConfig}, views that do
// not fit it are Error{kShape}, both before anything is written.
struct RouterShape {
  enum class Scoring { kSigmoid, kSoftmax };
  // Score of a group of experts: sum of its two best (noaux_tc), or its best
  // (group_limited_greedy).
  enum class GroupScore { kTopTwoSum, kMax };
  int64_t experts = 0;     // N_r
  int64_t top_k = 0;       // K_r
  int64_t groups = 1;      // n_group; experts of a group are neighbours
  int64_t top_groups = 1;  // topk_group: groups a token may use
  Scoring scoring = Scoring::kSigmoid;
  GroupScore group_score = GroupScore::kTopTwoSum;
  bool norm_topk_prob = true;
  float routed_scaling_factor = 1;
};

// scores = sigmoid(logits) or softmax over the experts. [T, N_r]; scores may be logits.
void router_scores(In2 logits, const RouterShape& shape, Out2 scores);

// Chooses the K_r experts of each token by scores + bias, limited to the best groups (others masked
// by -inf, never 0; ties go to the lower index), and their gate values from the *unbiased* scores:
// divided by their sum + 1e-20 when norm_topk_prob, times routed_scaling_factor. bias [N_r] or {};
// experts [T, K_r], gates [T, K_r], each token's experts in descending order of the biased score.
// NaN scores: Error{kNumbers} naming the token.
void router_select(In2 scores, In1 bias, const RouterShape& shape, View<int32_t, 2> experts,
                   Out2 gates);

// How undecided a router is: the entropy of each token's scores divided by their sum, in nats,
// summed over the tokens. T ln N_r when all experts are worth the same to all tokens. A token whose
// scores are all 0 counts 0.
double score_entropy(In2 scores);

// Adds to dscores [T, N_r] what dL/dgates gives (the choice itself has no gradient).
void router_select_backward(In2 dgates, In2 scores, View<const int32_t, 2> experts,
                            const RouterShape& shape, Out2 dscores);
// Adds to dlogits what dL/dscores gives.
void router_scores_backward(In2 dscores, In2 scores, const RouterShape& shape, Out2 dlogits);

// Complementary sequence-wise balance loss: mean over sequences of alpha * sum_i f_i P_i with
//   f_i = N_r / (K_r T) * #{t: i in the top K_r of the unbiased scores of t},
//   P_i = mean_t s_i(t) / sum_j s_j(t).
// Tokens are sequences of `sequence_length` rows one after another. Adds alpha's gradient to
// dscores (skip with {}), scaled by `weight` (1 / number of micro-batches); returns weight * the
// loss.
double sequence_balance_loss(In2 scores, const RouterShape& shape, int64_t sequence_length,
                             float alpha, double weight, Out2 dscores);
// The classic batch-wise auxiliary loss (GShard, Switch): alpha * N_r * sum_i F_i P_i, F_i the
// share of the batch's slots sent to i by `experts`, P_i the batch mean of the normalised scores.
double batch_balance_loss(In2 scores, View<const int32_t, 2> experts, const RouterShape& shape,
                          float alpha, double weight, Out2 dscores);

// Slots sorted by expert, stable in token order: slot_of[t*K_r + j] is the slot of token t's j-th
// choice; tokens[slot] its token; offsets [N_r + 1].
void sort_by_expert(View<const int32_t, 2> experts, std::span<int64_t> offsets,
                    View<int32_t, 1> tokens, View<int32_t, 1> slot_of);

// y[t] += sum_j gates[t,j] * expert_out[slot_of[t*K+j]], in the order of j.
void moe_combine(In2 expert_out, Ids slot_of, In2 gates, Out2 y);
// Its backward where expert_out = W swiglu(gate, up) and only gate and up were kept. g are the
// router's gates, by slot, and u[slot] = W^T dy[t]. Sets dgate, dup and h = g swiglu(gate, up), so
// that dL/dW is dy[t] h^T; dg[slot] += u . swiglu(gate, up), which is dy . expert_out. g, dg [S],
// the others [S, width].
void moe_swiglu_backward(In2 u, In1 g, In2 gate, In2 up, Out1 dg, Out2 h, Out2 dgate, Out2 dup);
// dx[t] += sum_j dx_slots[slot_of[t*K+j]]: the adjoint of sending a token to its experts.
void moe_gather_backward(In2 dx_slots, Ids slot_of, int64_t top_k, Out2 dx);

}  // namespace hadal
