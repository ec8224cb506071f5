#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "model/pass.h"

namespace hadal {

// One layer in one step.
struct LayerMetrics {
  int64_t layer = 0;         // -1: what is outside the layers; MTP modules continue after the last
  double gradient_norm = 0;  // L2, of its parameters together
  // Of layers with experts; `load` is empty in others.
  std::vector<int64_t> load;  // [N_r] tokens of the step that each expert saw
  double max_vio = 0;         // max / mean - 1 of them
  double gate_entropy = 0;    // mean over the tokens, nats; ln N_r at most
};
// `gradient_norms` as gradient_norm gives them: [0] outside, [1 + l] of layer l.
std::vector<LayerMetrics> layer_metrics(std::span<const double> gradient_norms,
                                        std::span<const MoeLoad> loads);

// Of this process; 0 where the system does not say.
struct MemoryUse {
  int64_t resident_bytes = 0, peak_bytes = 0;
};
MemoryUse memory_use();

}  // namespace hadal
