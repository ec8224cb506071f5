#include "text/stream_decoder.h"

#include <utility>

#include "text/utf8.h"

namespace hadal {

std::string StreamDecoder::push(int32_t id) {
  if (skip_special_ && tokenizer_->is_special(id)) return "";
  pending_ += tokenizer_->token_bytes(id);
  std::string_view rest = pending_;
  std::string text;
  while (!rest.empty()) {
    const Utf8Unit unit = decode_utf8(rest);
    if (unit.truncated) break;
    text += unit.valid ? rest.substr(0, unit.length) : kReplacementCharacter;
    rest.remove_prefix(unit.length);
  }
  pending_.erase(0, pending_.size() - rest.size());
  return text;
}

std::string StreamDecoder::flush() {
  return repair_utf8(std::exchange(pending_, {}));
}

}  // namespace hadal
