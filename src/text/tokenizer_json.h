#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/json.h"
#include "text/bpe_trainer.h"

namespace hadal {

// DeepSeek-V3's "pre_tokenizer".
OrderedJson deepseek_v3_pre_tokenizer();

// The two files for a trained vocabulary. `tokens`: the bytes of each ordinary token, single bytes
// first; `merges`: indices into tokens, in order of rank. Ids: options.special_tokens, then the
// tokens, then options.added_tokens.
TokenizerJson write_tokenizer(const std::vector<std::string>& tokens,
                              const std::vector<std::pair<int32_t, int32_t>>& merges,
                              const OrderedJson& pre_tokenizer, const BpeTrainOptions& options);

}  // namespace hadal
