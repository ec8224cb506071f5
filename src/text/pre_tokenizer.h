#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "text/regex.h"

namespace hadal {

// Cuts text into the words that BPE works on: the "pre_tokenizer" of tokenizer.json. Supported are
// Split (string or regular expression, every behavior, invert), Digits, ByteLevel (with and without
// its own regular expression, add_prefix_space) as the last, and Sequence of these.
// Immutable: any number of threads may use one, each with its own Scratch.
class PreTokenizer {
 public:
  struct Scratch {
    // `bytes`: of the whole text whose pieces are split with it; bounds the time that takes.
    explicit Scratch(size_t bytes) : text_bytes(bytes) {}
    size_t text_bytes;
    std::optional<RegexScratch> regex;       // made when first needed
    std::vector<uint8_t> classes;            // of every character
    std::vector<ClassRegex::Match> matches;  // of one piece
    std::vector<ClassRegex::Match> spans, next_spans;
    std::string prefixed;  // the text with the spaces of add_prefix_space
  };

  // `where` is "tokenizer.json: pre_tokenizer". Error{kFormat} for other kinds. The patterns of
  // DeepSeek-V3, GPT-2, Llama 3 and their likes run on hand-written code; `by_hand` false keeps to
  // PCRE2 (for comparison).
  static PreTokenizer from_json(const Json& value, const std::string& where, bool by_hand = true);

  // Appends the words of `text` (valid UTF-8) in order. They point into text or into scratch, until
  // the next call. Error{kResource} when a regular expression of the file is not linear in time.
  void split(std::string_view text, Scratch& scratch, std::vector<std::string_view>& words) const;

  bool is_by_hand() const;

  ~PreTokenizer();
  PreTokenizer(PreTokenizer&&) noexcept;
  PreTokenizer& operator=(PreTokenizer&&) noexcept;

 private:
  struct Impl;
  explicit PreTokenizer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace hadal
