// Every file of tests/fuzz/attacks/tokenizer is refused for its own reason: most when it is loaded,
// those with a catastrophic regular expression when a text meets it.
#include <gtest/gtest.h>

#include <map>

#include "core/error.h"
#include "core/files.h"
#include "text/tokenizer.h"

namespace hadal {
namespace {

const std::map<std::string, std::string>& reasons() {
  static const std::map<std::string, std::string> list{
      {"added_duplicate_id", "has id 4, expected 5, the next free id"},
      {"added_empty", "added_tokens[0].content is empty"},
      {"added_flag_number", "added_tokens[0].lstrip is 1, expected true or false"},
      {"added_hole", "has id 9, expected 5, the next free id"},
      {"added_id_beyond", "has id 4000000000, expected 0 <= id <"},
      {"added_long", "added_tokens[0].content has 1000 bytes, expected at most 512"},
      {"added_no_content", "added_tokens[0]: key \"content\" is missing"},
      {"added_no_id", "added_tokens[0]: key \"id\" is missing"},
      {"added_not_objects", "added_tokens[0] is \"<s>\", expected an object"},
      {"added_other_id", "has id 5, expected 3 as in model.vocab"},
      {"added_twice", "stands in added_tokens twice"},
      {"bad_utf8", "not valid UTF-8"},
      {"byte_fallback", "model.byte_fallback is true, expected false"},
      {"decoder_metaspace", "decoder.type is \"Metaspace\", expected \"ByteLevel\""},
      {"decoder_null", "decoder is null, expected an object"},
      {"decoder_sequence_of_two", "decoder.decoders has 2 items, expected ByteLevel alone"},
      {"deep_nesting", "not valid JSON: The JSON document was too deep"},
      {"dropout", "model.dropout is 0.1, expected null"},
      {"duplicate_key", "key \"a\" stands twice"},
      {"empty", "not valid JSON: Empty"},
      {"hang_alternatives", "takes more than the"},
      {"hang_look_ahead", "takes more than the"},
      {"hang_nested", "takes more than the"},
      {"hang_optional", "takes more than the"},
      {"hang_polynomial", "takes more than the"},
      {"hang_quadratic", "takes more than the"},
      {"merge_absent_left", "but \"x\" is not in model.vocab"},
      {"merge_absent_result", "but \"ba\" is not in model.vocab"},
      {"merge_absent_right", "but \"x\" is not in model.vocab"},
      {"merge_cycle", "expected two tokens"},
      {"merge_duplicate", "model.merges[2] is \"a b\", the same as model.merges[0]"},
      {"merge_numbers", "model.merges[0] is [0,1], expected two tokens"},
      {"merge_of_added_token", "but \"<s>\" is not in model.vocab"},
      {"merge_one_token", "model.merges[0] is \"ab\", expected two tokens"},
      {"merge_three_items", "expected two tokens"},
      {"merge_three_tokens", "expected two tokens"},
      {"merges_object", "model.merges is {}, expected an array"},
      {"model_unigram", "model.type is \"Unigram\", expected \"BPE\""},
      {"model_wordlevel", "model.type is \"WordLevel\", expected \"BPE\""},
      {"model_wordpiece", "model.type is \"WordPiece\", expected \"BPE\""},
      {"no_decoder", "key \"decoder\" is missing"},
      {"no_merges", "model: key \"merges\" is missing"},
      {"no_model", "key \"model\" is missing"},
      {"no_pre_tokenizer", "key \"pre_tokenizer\" is missing"},
      {"no_vocab", "model: key \"vocab\" is missing"},
      {"normalizer_lowercase", "normalizer is {\"type\":\"Lowercase\"}, expected null"},
      {"normalizer_sequence", "expected null or an empty Sequence"},
      {"not_an_object", "is [], expected an object"},
      {"post_processor_bert", "post_processor.type is \"BertProcessing\""},
      {"post_processor_nested", "post_processor.processors[0].type is \"Sequence\""},
      {"pre_tokenizer_bert", "pre_tokenizer.type is \"BertPreTokenizer\""},
      {"pre_tokenizer_byte_level_twice", "expected ByteLevel only as the last"},
      {"pre_tokenizer_empty", "pre_tokenizer.pretokenizers is empty"},
      {"pre_tokenizer_nested", ".type is \"Sequence\", expected no Sequence within a Sequence"},
      {"pre_tokenizer_no_byte_level", "not a byte-level tokenizer"},
      {"pre_tokenizer_null", "pre_tokenizer is null, expected an object"},
      {"pre_tokenizer_whitespace", "expected Sequence, Split, Digits or ByteLevel"},
      {"regex_back_reference", "this escape is not supported"},
      {"regex_deep", "groups more than 50 deep"},
      {"regex_long", "a pattern of 33000 bytes"},
      {"regex_look_behind", "does not compile"},
      {"regex_many_classes", "different character classes"},
      {"regex_property", "this property is not supported"},
      {"regex_recursion", "this kind of group is not supported"},
      {"regex_repeat_huge", "expected 0 <= n <= m <= 1000"},
      {"regex_repeat_tower", "does not compile"},
      {"regex_subroutine", "this escape is not supported"},
      {"regex_unclosed", "a \"(\" without its \")\""},
      {"sentencepiece_metaspace", "pre_tokenizer.type is \"Metaspace\""},
      {"split_behavior", "behavior is \"Sideways\", expected Removed, Isolated"},
      {"split_no_pattern", "key \"pattern\" is missing"},
      {"split_unknown_pattern", "expected {\"Regex\"} or {\"String\"}"},
      {"subword_prefix", "model.continuing_subword_prefix is \"##\", expected null"},
      {"template_id_beyond", "has id 99999, expected 0 <= id <"},
      {"template_id_of_no_token", "which is the id of no token"},
      {"template_other_item", "key \"SpecialToken\" is missing"},
      {"template_twice", "is the second TemplateProcessing"},
      {"template_two_texts", "is the second Sequence, expected one"},
      {"template_unknown_special", "which is not in special_tokens"},
      {"template_without_text", "has no Sequence, expected one for the text"},
      {"truncated", "not valid JSON"},
      {"unknown_token_absent", "model.unk_token is \"<unk>\", which is not in model.vocab"},
      {"vocab_duplicate_id", "which is that of"},
      {"vocab_empty_token", "model.vocab[\"\"] is an empty token"},
      {"vocab_huge_id", "has id 2147483648, expected 0 <= id <"},
      {"vocab_id_2e64", "expected an integer below 2^63"},
      {"vocab_id_beyond", "has id 1000, expected 0 <= id <"},
      {"vocab_id_float", "is 1.5, expected an integer"},
      {"vocab_id_text", "is \"7\", expected an integer"},
      {"vocab_list", "model.vocab is [[\"a\",-1.5]], expected an object"},
      {"vocab_negative_id", "has id -1, expected 0 <= id <"},
      {"vocab_of_words", "model.vocab spells no byte"},
      {"word_suffix", "model.end_of_word_suffix is \"</w>\", expected null"},
  };
  return list;
}

TEST(TokenizerAttacks, AreRefusedForTheirReason) {
  const fs::path folder = fs::path(HADAL_SOURCE_DIR) / "tests/fuzz/attacks/tokenizer";
  const std::string text = std::string(20000, 'a') + "xbxcx";
  size_t files = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().stem().string();
    SCOPED_TRACE(name);
    ++files;
    ASSERT_TRUE(reasons().contains(name));
    try {
      Tokenizer::load(entry.path()).encode(text);
      ADD_FAILURE() << "accepted";
    } catch (const Error& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find(reasons().at(name)), std::string::npos) << message;
      EXPECT_NE(message.find(entry.path().string()), std::string::npos) << message;
      EXPECT_LT(message.size(), 500u) << message;
      const bool is_hang = name.starts_with("hang_");
      EXPECT_EQ(int(error.kind()), int(is_hang ? ErrorKind::kResource : ErrorKind::kFormat));
    }
  }
  EXPECT_EQ(files, reasons().size());
}

}  // namespace
}  // namespace hadal
