#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/added_tokens.h"
#include "text/bpe.h"
#include "text/tokenizer.h"

namespace hadal {

// What a tokenizer.json says, checked: every id names one token, every merge joins two tokens of
// the vocabulary into a third, and everything that would change ids or texts is understood.
// NOLINTNEXTLINE(bugprone-exception-escape): Json moves without throwing, if not visibly so.
struct TokenizerFile {
  std::vector<std::string> texts;  // of every id, as the file spells it; empty for a hole
  std::vector<uint8_t> is_model;   // whether the id is of model.vocab
  std::vector<BpeModel::Merge> merges;
  BpeModel::Options options;
  std::vector<AddedToken> added;
  Json pre_tokenizer;
  // Ids that a post_processor of type TemplateProcessing puts around a single text.
  std::vector<int32_t> template_prefix, template_suffix;
};

// `name` stands for the file. Error{kFormat} names file, key, value and what was expected.
TokenizerFile parse_tokenizer_file(std::string_view json, const std::string& name);

// tokenizer_config.json: only the keys of TokenizerConfig; the others are other programs'.
TokenizerConfig parse_tokenizer_config(std::string_view json, const std::string& name);

}  // namespace hadal
