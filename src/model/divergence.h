#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "model/transformer.h"

namespace hadal {

// How far the predictions of one model are from another's, token by token: what a number format
// costs.
struct Divergence {
  std::vector<float> kl;  // KL(P_reference || P_model) in nats, one for each token
  int64_t same_top = 0;   // tokens for which both think the same one likeliest

  double mean() const;
  // The smallest value that is not below this share of all; 0 of nothing.
  double percentile(double share) const;
  double top_agreement() const;  // 1 of nothing
};

struct DivergenceOptions {
  int64_t context = 0;  // tokens of a window; 0: what the models have, at most 512
  Precision precision = Precision::kFp32;
  // What the model (not the reference) keeps of earlier tokens, as when it serves.
  std::optional<DType> cache = {};
};

// KL(softmax(reference) || softmax(model)) of one row, in double precision; NaN stays visible.
double kl_divergence(std::span<const float> reference, std::span<const float> model);

// Adds a document's tokens, each predicted by both models from those before it in its window;
// windows of `context` tokens follow each other. Both run on the prompt's path, with weights as
// they are held. Error{kUsage} when the vocabularies or the context do not fit.
void compare_document(Transformer& model, Transformer& reference, std::span<const int32_t> ids,
                      const DivergenceOptions& options, Divergence& divergence);

}  // namespace hadal
