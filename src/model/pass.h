#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/arena.h"
#include "model/kv_cache.h"
#include "ops/attention.h"
#include "ops/linear.h"
#include "ops/rope.h"

namespace hadal {

// What the balance of experts looks like after a pass, one entry an MoE layer in layer order (MTP
// modules last). Counts are of this pass's tokens, int64, exact.
struct MoeLoad {
  int64_t layer = 0;
  std::vector<int64_t> counts;  // [N_r]
  // Entropy of the router's scores, nats, summed over so many tokens; 0 of 0 unless measured.
  double entropy_sum = 0;
  int64_t measured_tokens = 0;
};

// Everything the modules share in one training pass over B sequences of T tokens, B*T rows.
struct TrainPass {
  Precision precision = Precision::kFp32;
  Arena& saved;    // lives until the backward has run
  Arena& scratch;  // taken back at once
  int64_t sequence_length = 0;
  Ids positions{};                         // [B*T]
  std::span<const AttentionSpan> spans{};  // one a sequence, or one a document of it
  // In FP32, where a norm leaves a sub-layer's input: made again for the backward, not kept.
  Out2 normed{};  // [B*T, D]
  // Balance terms of the loss, and the share of the whole batch that this pass is (1 /
  // micro-batches).
  float sequence_alpha = 0, batch_alpha = 0;
  double weight = 1;
  bool measure = false;  // the entropy of the routers' scores too
  // Results that modules add to.
  double balance_loss = 0;
  std::vector<MoeLoad> loads{};
};

// Rows of one serving call. Prompt tokens take GEMM kernels and expanded attention; generated ones
// matrix-vector kernels and absorbed attention: a row's bits depend only on its own sequence and on
// which of the two it is, never on the other rows (docs/architecture.md, "Numbers").
enum class Path { kPrompt, kGenerated };
struct StepSpan {  // rows [begin, end) are consecutive tokens of one sequence, the first at
                   // `position`
  int64_t begin = 0, end = 0;
  KvCache::Sequence sequence = 0;
  int64_t position = 0;
};
struct StepPass {
  Path path = Path::kPrompt;
  KvCache& cache;  // already extended for these tokens
  Arena& scratch;
  Ids positions;  // [R]
  std::span<const StepSpan> spans;
  Precision precision = Precision::kFp32;  // of the prompt path's GEMMs
  int64_t experts_read = 0;                // of all layers: routed experts that any row chose
};

}  // namespace hadal
