#include "train/fim.h"

#include <algorithm>

#include "core/error.h"
#include "core/rng.h"

namespace hadal {
namespace {

int32_t special(const Tokenizer& tokenizer, const char* deepseek, const char* plain) {
  for (const char* name : {deepseek, plain}) {
    if (const auto id = tokenizer.token_id(name)) return *id;
  }
  throw Error(ErrorKind::kConfig, str("data.fim_rate needs the token ", deepseek, " or ", plain,
                                      ", which the tokenizer does not have"));
}

// Numbers that one document may draw before it meets those of the next.
constexpr uint64_t kDraws = 32;

}  // namespace

Fim make_fim(const Tokenizer& tokenizer, double rate) {
  Fim fim;
  fim.rate = rate;
  fim.begin = special(tokenizer, "<｜fim▁begin｜>", "<|fim_begin|>");
  fim.hole = special(tokenizer, "<｜fim▁hole｜>", "<|fim_hole|>");
  fim.end = special(tokenizer, "<｜fim▁end｜>", "<|fim_end|>");
  fim.prefix_tokens = static_cast<int64_t>(tokenizer.prefix_ids().size());
  for (int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const std::string& bytes = tokenizer.token_bytes(id);
    fim.in_character.push_back(!bytes.empty() &&
                               (static_cast<unsigned char>(bytes[0]) & 0xc0) == 0x80);
  }
  return fim;
}

FimPieces fim_pieces(std::span<const int32_t> document, const Fim& fim, uint64_t seed,
                     uint64_t stream, int64_t number) {
  const size_t size = document.size();
  const size_t first = std::min(static_cast<size_t>(fim.prefix_tokens), size);
  const size_t last = std::max(first, size - std::min<size_t>(size, 1));  // where EOS stands
  const auto in_character = [&](size_t at) {
    const auto id = static_cast<size_t>(document[at]);
    return id < fim.in_character.size() && fim.in_character[id];
  };
  Rng rng(Rng::State{seed, stream, static_cast<uint64_t>(number) * kDraws});
  std::array<size_t, 2> cuts{};
  for (size_t& cut : cuts) {
    cut = first + static_cast<size_t>(rng.below(static_cast<int64_t>(last - first) + 1));
    while (cut > first && cut < last && in_character(cut)) --cut;
  }
  std::sort(cuts.begin(), cuts.end());
  const auto text = [&](size_t begin, size_t end) { return document.subspan(begin, end - begin); };
  return {text(0, first),      {&fim.begin, 1}, text(first, cuts[0]),   {&fim.hole, 1},
          text(cuts[1], last), {&fim.end, 1},   text(cuts[0], cuts[1]), text(last, size)};
}

}  // namespace hadal
