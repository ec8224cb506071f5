#pragma once
#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace hadal {

// Turns ids that arrive one by one into text that is complete UTF-8 at every step: bytes of an
// unfinished character wait for the next id. All pieces joined, flush() included, are exactly
// Tokenizer::decode of all ids. The tokenizer must outlive the decoder.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = false)
      : tokenizer_(&tokenizer), skip_special_(skip_special) {}

  std::string push(int32_t id);  // the text that is certain now; may be empty
  std::string flush();           // the rest: an unfinished character becomes U+FFFD

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  std::string pending_;  // at most 3 bytes: the valid beginning of a character
};

}  // namespace hadal
