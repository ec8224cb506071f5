#pragma once
#include <cstdint>
#include <span>

#include "core/files.h"
#include "model/transformer.h"
#include "text/tokenizer.h"

namespace hadal {

struct ScoreOptions {
  int64_t context = 0;  // tokens of a window; 0: the model's, at most 2048
  int64_t stride = 0;   // tokens from window to window; 0: half the context
  Precision precision = Precision::kFp32;
};

// How well a model predicts text.
struct Score {
  double nats = 0;
  int64_t tokens = 0, bytes = 0, documents = 0;
  double bits_per_byte() const;
  double perplexity() const;  // per token
};

// Adds one document: every token but the first is predicted once, from at least context - stride
// tokens before it where there are so many. `ids` begin with what the model expects in front.
void score_document(Transformer& model, std::span<const int32_t> ids, const ScoreOptions& options,
                    Score& score);

// Every document of a file (train/data.h), tokenised as text with the tokenizer's BOS in front.
// Without a BOS the first token of a document cannot be predicted; its bytes do not count either.
Score score_file(Transformer& model, const Tokenizer& tokenizer, const fs::path& file,
                 const ScoreOptions& options);

}  // namespace hadal
