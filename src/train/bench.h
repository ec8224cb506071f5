#pragma once
#include <array>
#include <cstdint>

#include "core/step_clock.h"
#include "train/recipe.h"

namespace hadal {

// Training steps of a recipe's model on random tokens, timed; for `hadal bench-train`.
struct TrainBenchOptions {
  int64_t steps = 8;   // timed
  int64_t warmup = 1;  // before them, not timed
  // Above 0: router biases make experts' loads uneven, the worst layer's MaxVio being about this.
  double max_vio = 0;
};
struct TrainBench {
  int64_t parameters = 0, tokens_a_step = 0, threads = 0;
  double tokens_per_s = 0;  // the median of the timed steps
  double loss = 0;          // of the last one
  double max_vio = 0;       // of the last one, the worst layer
  // Seconds and FLOPs of the timed steps. Norms, RoPE, activations, routing and what else no part
  // claims are `elementwise_seconds`.
  std::array<StepClock::Total, kParts> parts{};
  double seconds = 0, elementwise_seconds = 0;
  double flops_per_token = 0;  // of the model: forward and backward, nothing counted twice
  // Bytes at the worst moment.
  int64_t weights = 0, gradients = 0, moments = 0, activations = 0, packing = 0, peak_rss = 0;
  double gflops() const { return tokens_per_s * flops_per_token / 1e9; }
};
// The model's vocabulary is that of the recipe's tokenizer, or model.vocab_size without one.
TrainBench bench_train(const TrainRecipe& recipe, const TrainBenchOptions& options);

}  // namespace hadal
