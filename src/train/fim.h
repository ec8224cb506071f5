#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "text/tokenizer.h"

namespace hadal {

// Fill-in-the-middle (V3 report, sec. 4.2), prefix-suffix-middle, a document at a time and before
// packing:   <|fim_begin|> pre <|fim_hole|> suf <|fim_end|> mid <|eos_token|>
//
// Documents are cut between tokens, never inside a character, and not tokenised anew: so the cache
// of tokens serves every rate, seed and epoch, and a document's length is known without reading it.
// The price: a model trained so has seen holes at ends of tokens only, and whoever asks it to fill
// one in should cut the text there.
struct Fim {
  double rate = 0;  // share of the documents, exact in each epoch; 0: none
  int32_t begin = -1, hole = -1, end = -1;
  int64_t prefix_tokens = 0;       // before the text of each document (BOS): they stay in front
  std::vector<bool> in_character;  // by id: its first byte goes on with a character

  bool on() const { return rate > 0; }
};

// The three tokens as DeepSeek spells them, or in plain ASCII as above. Error{kConfig} names the
// one that the tokenizer lacks.
Fim make_fim(const Tokenizer& tokenizer, double rate);

// A document as pieces to be read one after another; they refer to `document` and `fim`. The middle
// is text [cut, cut'), both drawn evenly from (seed, stream, number) and moved to the left where a
// character would be cut. The document ends with one EOS token, which stays at the end.
using FimPieces = std::array<std::span<const int32_t>, 8>;
FimPieces fim_pieces(std::span<const int32_t> document, const Fim& fim, uint64_t seed,
                     uint64_t stream, int64_t number);
// Tokens that this adds to a document.
inline constexpr int64_t kFimTokens = 3;

}  // namespace hadal
