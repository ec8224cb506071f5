#pragma once
#include <cstdint>
#include <string>

#include "core/json.h"
#include "model/inspect.h"
#include "model/quantize.h"

namespace hadal {

// What serving a model takes of a machine, from its config alone.
struct MemoryPlan {
  std::string format;
  int64_t context = 0, batch = 1;
  // Bytes. Weights are held as they are stored.
  PartCounts weights{}, mtp{};
  int64_t cache = 0;  // of `batch` texts as long as `context`, in BF16, MTP's too
  // Keys and values of a whole text, made anew from the cache for each piece of its prompt; logits.
  int64_t working = 0;
  int64_t total() const { return weights.total() + mtp.total() + cache + working; }
  // That a step of `batch` generated tokens reads at full context, without MTP: an expert once if
  // anybody chose it, as many as choices at random reach.
  double step_bytes = 0;
};
MemoryPlan plan_memory(const ModelConfig& config, const ModelFormat& format, int64_t context,
                       int64_t batch);
// The share of a layer's routed experts that so many tokens reach by choices at random.
double touched_experts(const ModelConfig& config, int64_t tokens);

// Of this machine now; 0 where it cannot be read.
struct MachineMemory {
  int64_t total = 0, available = 0;  // bytes
};
MachineMemory machine_memory();

// read_bytes_per_s: the machine's roof, for the speed that it allows.
std::string memory_text(const MemoryPlan& plan, const MachineMemory& here, double read_bytes_per_s);
OrderedJson memory_json(const MemoryPlan& plan, const MachineMemory& here, double read_bytes_per_s);

}  // namespace hadal
