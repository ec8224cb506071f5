#include "train/balance.h"

#include <algorithm>
#include <numeric>

namespace hadal {
namespace {

int64_t total_of(const MoeLoad& load) {
  return std::accumulate(load.counts.begin(), load.counts.end(), int64_t{0});
}

}  // namespace

void add_loads(std::span<const MoeLoad> loads, std::vector<MoeLoad>& total) {
  if (total.empty()) {
    total.assign(loads.begin(), loads.end());
    return;
  }
  HADAL_CHECK(loads.size() == total.size(), kInternal, "a pass counted ", loads.size(),
              " MoE layers, the step ", total.size());
  for (size_t i = 0; i < loads.size(); ++i) {
    HADAL_CHECK(
        loads[i].layer == total[i].layer && loads[i].counts.size() == total[i].counts.size(),
        kInternal, "MoE layer ", loads[i].layer, " where layer ", total[i].layer, " was expected");
    for (size_t e = 0; e < loads[i].counts.size(); ++e) total[i].counts[e] += loads[i].counts[e];
    total[i].entropy_sum += loads[i].entropy_sum;
    total[i].measured_tokens += loads[i].measured_tokens;
  }
}

double max_violation(const MoeLoad& load) {
  const int64_t total = total_of(load);
  if (total == 0) return 0;
  const int64_t largest = *std::max_element(load.counts.begin(), load.counts.end());
  const double mean = static_cast<double>(total) / static_cast<double>(load.counts.size());
  return static_cast<double>(largest) / mean - 1;
}

double worst_violation(std::span<const MoeLoad> loads) {
  double worst = 0;
  for (const MoeLoad& load : loads) worst = std::max(worst, max_violation(load));
  return worst;
}

void update_bias(const MoeLoad& load, double gamma, Out1 bias) {
  const auto experts = static_cast<int64_t>(load.counts.size());
  HADAL_CHECK(bias.size() == experts, kShape, "layer ", load.layer, " has a bias of ", bias.size(),
              " experts and counts of ", experts);
  const int64_t total = total_of(load);
  const auto step = static_cast<float>(gamma);
  for (int64_t e = 0; e < experts; ++e) {
    // count against total / experts, without rounding
    const int64_t excess = load.counts[static_cast<size_t>(e)] * experts - total;
    if (excess > 0) bias.data()[e] -= step;
    if (excess < 0) bias.data()[e] += step;
  }
}

void update_biases(Params& params, std::span<const MoeLoad> loads, double gamma) {
  if (gamma == 0) return;
  for (const Param& p : params.all()) {
    if (p.group != ParamGroup::kRouterBias) continue;
    for (const MoeLoad& load : loads) {
      if (load.layer == p.layer) update_bias(load, gamma, p.vec_mut());
    }
  }
}

}  // namespace hadal
