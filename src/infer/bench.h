#pragma once
#include <cstdint>

#include "model/quantize.h"
#include "model/transformer.h"

namespace hadal {

// How fast a model serves, without an engine around it.

// Numbers of no meaning in every parameter, stored as `format` says.
void fill_randomly(Transformer& model, const ModelFormat& format);

// Rows for the first `tokens` of a text, straight into its pages: random numbers of the size that
// the norm gives latents, no prompt.
void fill_cache(KvCache& cache, KvCache::Sequence sequence, int64_t tokens);

struct ServingWork {
  int64_t depth = 0;                       // tokens in each text's cache before, by fill_cache
  int64_t batch = 1;                       // texts at a time
  int64_t tokens = 0;                      // of each text
  Precision precision = Precision::kFp32;  // of prompts
  DType cache_dtype = DType::kBF16;
};
struct ServingTime {
  double tokens_per_s = 0;  // of all texts, by the median call
  // What a token makes the machine read: weights, an expert once a call if anybody chose it, and
  // its text's cache.
  double bytes_per_token = 0;
  double flops_per_token = 0;  // of products with weights and of attention as it is computed
};
// Error{kUsage} when depth and tokens do not fit the context.
ServingTime time_prefill(Transformer& model, const ServingWork& work);
ServingTime time_decode(Transformer& model, const ServingWork& work);

}  // namespace hadal
