// tokenizer.json from anywhere: an error, or a tokenizer that encodes and decodes without one of
// its own making.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/error.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace {

using namespace hadal;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

void use(const Tokenizer& tokenizer) {
  for (const bool special : {true, false}) {
    const auto ids = tokenizer.encode("ab <s>aaaa 12\n\xc3\xa9\xe4\xb8\xad\xff it's",
                                      {.special = special, .add_special_tokens = true});
    for (const int32_t id : ids) require(tokenizer.has_token(id));
    require(is_utf8(tokenizer.decode(ids)));
  }
  for (int32_t id = -1; id <= tokenizer.vocab_size(); ++id) {
    if (!tokenizer.has_token(id)) continue;
    require(tokenizer.token_id(tokenizer.token_text(id)) == id);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  // The same bytes serve as tokenizer_config.json, where a line break divides them.
  const size_t line = text.find('\n');
  const auto config = line == std::string_view::npos ? "" : text.substr(line + 1);
  try {
    use(Tokenizer::from_json(text.substr(0, line), config, "fuzz"));
  } catch (const Error& error) {
    require(error.kind() != ErrorKind::kInternal);
  }
  return 0;
}
