#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/files.h"

namespace hadal {

struct EncodeOptions {
  // true: added tokens written in the text ("<|EOT|>") become their ids, as in Hugging Face by
  // default. false: such text is ordinary text (user content); no id of a special token comes out.
  bool special = true;
  // true: adds what the tokenizer puts around a text (BOS for DeepSeek-V3, never twice).
  bool add_special_tokens = false;
};

// What tokenizer_config.json beside tokenizer.json says. (Of its chat template: chat_template.h.)
struct TokenizerConfig {
  std::optional<std::string> bos_token, eos_token, pad_token;
  std::optional<bool> add_bos_token, add_eos_token;
};

// A byte-level BPE tokenizer read from tokenizer.json: DeepSeek's, GPT-2's and Llama 3's kind. Ids
// and texts are those of Hugging Face `tokenizers` 0.23.
//
// Text      any bytes; what is not UTF-8 is first replaced by U+FFFD exactly as Python's
//           bytes.decode("utf-8", "replace") does.
// Time      encode is O(n log n) in the bytes of the text, whatever they are. A file's own regular
//           expression that takes longer than linear time on a text ends in Error{kResource}.
// Threads   one Tokenizer may be used by any number of threads at once.
// Errors    load: Error{kFormat} for what breaks the format or is of a kind not supported (Unigram,
//           WordPiece, Metaspace, ...), naming file, key, value and expectation; Error{kIo}.
class Tokenizer {
 public:
  // A folder with tokenizer.json, or such a file under any name; tokenizer_config.json is taken
  // from the same folder when it is there.
  static Tokenizer load(const fs::path& file_or_folder);
  // From texts in memory; `name` stands for the file in messages. `config_json` may be empty.
  static Tokenizer from_json(std::string_view tokenizer_json, std::string_view config_json,
                             const std::string& name);

  Tokenizer(Tokenizer&&) noexcept;
  Tokenizer& operator=(Tokenizer&&) noexcept;
  ~Tokenizer();

  std::vector<int32_t> encode(std::string_view text, EncodeOptions options = {}) const;

  // The text of `ids`; bytes that are not UTF-8 become U+FFFD. Ids that name no token (a model's
  // vocabulary is padded beyond the tokenizer's) are passed over, as Hugging Face does.
  // skip_special leaves out the tokens that is_special() names.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;

  int64_t vocab_size() const;                                     // highest id + 1
  std::optional<int32_t> token_id(std::string_view token) const;  // as spelt in the file: "Ġthe"
  bool has_token(int32_t id) const;                               // false for holes and outside
  // The bytes that `id` stands for in decoded text, possibly a part of a character; empty for an id
  // without a token.
  const std::string& token_bytes(int32_t id) const;
  // The token as the file spells it; empty for an id without a token.
  const std::string& token_text(int32_t id) const;
  bool is_special(int32_t id) const;  // an added token marked "special"
  bool is_added(int32_t id) const;    // any added token: control tokens not marked special too

  std::optional<int32_t> bos_id() const;
  std::optional<int32_t> eos_id() const;
  std::optional<int32_t> pad_id() const;
  // What add_special_tokens puts before and after a text.
  std::span<const int32_t> prefix_ids() const;
  std::span<const int32_t> suffix_ids() const;
  const TokenizerConfig& config() const;

 private:
  struct Impl;
  explicit Tokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
