#include "train/metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "train/balance.h"

namespace hadal {

std::vector<LayerMetrics> layer_metrics(std::span<const double> gradient_norms,
                                        std::span<const MoeLoad> loads) {
  std::vector<LayerMetrics> layers;
  for (size_t i = 0; i < gradient_norms.size(); ++i) {
    LayerMetrics layer;
    layer.layer = static_cast<int64_t>(i) - 1;
    layer.gradient_norm = gradient_norms[i];
    for (const MoeLoad& load : loads) {
      if (load.layer != layer.layer) continue;
      layer.load = load.counts;
      layer.max_vio = max_violation(load);
      if (load.measured_tokens > 0) {
        layer.gate_entropy = load.entropy_sum / static_cast<double>(load.measured_tokens);
      }
    }
    layers.push_back(std::move(layer));
  }
  return layers;
}

MemoryUse memory_use() {
  MemoryUse use;
  struct rusage usage {};
  if (::getrusage(RUSAGE_SELF, &usage) == 0) use.peak_bytes = int64_t{usage.ru_maxrss} * 1024;
  std::ifstream statm("/proc/self/statm");
  int64_t pages = 0, resident = 0;
  if (statm >> pages >> resident) use.resident_bytes = resident * ::sysconf(_SC_PAGESIZE);
  use.peak_bytes = std::max(use.peak_bytes, use.resident_bytes);  // they are counted apart
  return use;
}

}  // namespace hadal
