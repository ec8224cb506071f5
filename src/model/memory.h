#pragma once
#include <cstdint>
#include <string>

#include "core/json.h"
#include "model/inspect.h"
#include "model/machine_memory.h"
#include "model/quantize.h"
#include "model/transformer.h"

namespace hadal {

// What is asked of a model.
struct ServingNeed {
  int64_t context = 0;  // tokens of each text; 0: 8192, or as many as the model takes
  int64_t batch = 1;    // texts at a time
  DType cache_dtype = DType::kBF16;
};

// What serving a model takes of a machine.
struct MemoryPlan {
  std::string format;
  int64_t context = 0, batch = 1;
  // Bytes. Weights as they are held: those of norms and routers in FP32, whatever the format.
  PartCounts weights{}, mtp{};
  int64_t cache = 0;  // of `batch` texts as long as `context`, MTP's too
  // Keys and values of a whole text, made anew from the cache for each piece of its prompt; logits.
  int64_t working = 0;
  int64_t total() const { return weights.total() + mtp.total() + cache + working; }
  // That a step of `batch` generated tokens reads at full context, without MTP: an expert once if
  // anybody chose it, as many as choices at random reach.
  double step_bytes = 0;
};
// Rows of prompts that are counted for a step: the most that the engine runs at once.
constexpr int64_t kPromptRows = 2048;

// Of a model whose parameters say how they are held (Param::dtype, block_bytes); values need not be
// there. Error{kUsage} for what the model cannot be asked.
MemoryPlan plan_memory(const Transformer& model, std::string_view format, const ServingNeed& need);
// From a config alone.
MemoryPlan plan_memory(const ModelConfig& config, const ModelFormat& format,
                       const ServingNeed& need);
// Error{kResource} with all figures if the machine is known to have less now. `name` is the
// model's; `advice`, if any, says what else can be done.
void check_memory(const MemoryPlan& plan, const MachineMemory& here, const std::string& name,
                  std::string_view advice = {});
// The share of a layer's routed experts that so many tokens reach by choices at random.
double touched_experts(const ModelConfig& config, int64_t tokens);

// read_bytes_per_s: the machine's roof, for the speed that it allows.
std::string memory_text(const MemoryPlan& plan, const MachineMemory& here, double read_bytes_per_s);
OrderedJson memory_json(const MemoryPlan& plan, const MachineMemory& here, double read_bytes_per_s);

}  // namespace hadal
