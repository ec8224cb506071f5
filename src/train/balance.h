#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "model/params.h"
#include "model/pass.h"

namespace hadal {

// Adds counts of one pass to those of the step, layer by layer; the first fills an empty total.
void add_loads(std::span<const MoeLoad> loads, std::vector<MoeLoad>& total);

// max / mean - 1 of a layer's counts: 0 is perfect balance, N_r / K_r - 1 the worst. 0 of nothing.
double max_violation(const MoeLoad& load);
// The largest of all layers; 0 without MoE layers.
double worst_violation(std::span<const MoeLoad> loads);

// Auxiliary-loss-free balancing (V3 report, 2.1.2): after a step each expert's bias b_i goes down
// by gamma if it saw more than the mean of the step's tokens, up by gamma if it saw fewer, and
// stays where it is at the mean. `bias` [N_r] FP32; counts are compared as integers, exactly.
void update_bias(const MoeLoad& load, double gamma, Out1 bias);
// The same for every layer that has a bias: parameters of group kRouterBias by their layer.
void update_biases(Params& params, std::span<const MoeLoad> loads, double gamma);

}  // namespace hadal
