#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace hadal {

struct SpecialToken {
  std::string content;
  bool special = true;  // false: an added token that decoding keeps ("<｜User｜>")
};

struct BpeTrainOptions {
  int64_t vocab_size = 8192;  // bytes, special and added tokens included
  int64_t min_count = 2;      // a pair seen less often is never merged
  int64_t max_token_bytes = 64;
  // Ids 0, 1, 2, ...; then the 256 bytes, the merges, and `added_tokens` with the last ids.
  std::vector<SpecialToken> special_tokens = {
      {"<｜begin▁of▁sentence｜>"}, {"<｜end▁of▁sentence｜>"}, {"<｜▁pad▁｜>"}};
  std::vector<SpecialToken> added_tokens = {};
  // Names for tokenizer_config.json: indices into special_tokens, -1 for none.
  int64_t bos_index = 0, eos_index = 1, pad_index = 2;
  bool add_bos_token = true;
  // The "pre_tokenizer" of tokenizer.json as JSON text; empty: DeepSeek-V3's Sequence of Splits.
  std::string pre_tokenizer;
};

// The two files of a tokenizer. Both load in Hugging Face tokenizers and transformers.
struct TokenizerJson {
  std::string tokenizer_json;
  std::string tokenizer_config_json;
};

// Byte-level BPE from documents: byte pairs are merged in the order of how often they stand beside
// each other inside words of the pre-tokenizer; of equally frequent pairs the one with the smaller
// ids comes first, so the result depends on the set of documents alone, not on their order.
// Special and added tokens written in a document are ordinary text here.
class BpeTrainer {
 public:
  explicit BpeTrainer(BpeTrainOptions options = {});  // Error{kUsage} for impossible options
  ~BpeTrainer();
  BpeTrainer(const BpeTrainer&) = delete;
  BpeTrainer& operator=(const BpeTrainer&) = delete;

  // Counts the words of one document. Not thread-safe.
  void add(std::string_view document);
  int64_t bytes_seen() const;
  // Fewer merges than asked for when the documents run out of pairs.
  TokenizerJson train() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
