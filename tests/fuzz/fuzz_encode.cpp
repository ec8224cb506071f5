// Any bytes through small tokenizers of each kind of pre-tokenizer: decoding gives back what
// Python would read from the bytes, streamed or at once, special tokens or not.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "text/bpe_trainer.h"
#include "text/stream_decoder.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace {

using namespace hadal;

void require(bool holds) {
  if (!holds) __builtin_trap();
}

Tokenizer train(const std::string& pre_tokenizer) {
  BpeTrainOptions options;
  options.vocab_size = 300;
  options.min_count = 1;
  options.added_tokens = {{"<|EOT|>"}, {"<a>", false}};
  options.pre_tokenizer = pre_tokenizer;
  BpeTrainer trainer(options);
  trainer.add("the then there aaaa it's \xe4\xb8\xad\xe5\x9b\xbd \xc3\xa9t\xc3\xa9 2024 ... \n\n");
  const TokenizerJson files = trainer.train();
  return Tokenizer::from_json(files.tokenizer_json, files.tokenizer_config_json, "fuzz");
}

const std::vector<Tokenizer>& tokenizers() {
  static const std::vector<Tokenizer> list = [] {
    std::vector<Tokenizer> made;
    made.push_back(train(""));
    made.push_back(train(R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})"));
    made.push_back(train(
        R"({"type":"Sequence","pretokenizers":[
          {"type":"Split","pattern":{"Regex":"[^\\r\\n\\p{L}]?\\p{L}+(?i:'s)?|\\s+(?!\\S)|\\b"},
           "behavior":"MergedWithNext"},
          {"type":"Digits","individual_digits":true},
          {"type":"ByteLevel","add_prefix_space":false,"use_regex":true}]})"));
    return made;
  }();
  return list;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::string expected = repair_utf8(text);
  require(is_utf8(expected) && (is_utf8(text) == (expected == text)));
  for (const Tokenizer& tokenizer : tokenizers()) {
    for (const bool special : {true, false}) {
      const auto ids = tokenizer.encode(text, {.special = special});
      require(tokenizer.decode(ids) == expected);
      StreamDecoder stream(tokenizer);
      std::string streamed;
      for (const int32_t id : ids) {
        require(special || !tokenizer.is_added(id));
        streamed += stream.push(id);
        require(is_utf8(streamed));
      }
      require(streamed + stream.flush() == expected);
    }
  }
  return 0;
}
