#include "text/pre_tokenizer.h"

#include <gtest/gtest.h>

#include "core/files.h"
#include "core/rng.h"
#include "tests/support/data.h"
#include "tests/support/testing.h"
#include "text/known_patterns.h"
#include "text/tokenizer_json.h"
#include "text/utf8.h"

namespace hadal {
namespace {

using Words = std::vector<std::string>;

Words words_of(const PreTokenizer& pre, const std::string& text) {
  PreTokenizer::Scratch scratch(text.size());
  std::vector<std::string_view> words;
  pre.split(text, scratch, words);
  return {words.begin(), words.end()};
}

Json byte_level(bool use_regex, bool prefix = false) {
  return {{"type", "ByteLevel"}, {"use_regex", use_regex}, {"add_prefix_space", prefix}};
}

Json sequence(std::vector<Json> list) {
  return {{"type", "Sequence"}, {"pretokenizers", std::move(list)}};
}

Json split(const std::string& regex, const char* behavior, bool invert = false) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", behavior},
          {"invert", invert}};
}

Words split_words(const Json& stage, const std::string& text) {
  return words_of(PreTokenizer::from_json(sequence({stage, byte_level(false)}), "pre"), text);
}

TEST(PreTokenizer, EveryBehavior) {
  const std::string text = "a--b-c";
  EXPECT_EQ(split_words(split("-", "Removed"), text), (Words{"a", "b", "c"}));
  EXPECT_EQ(split_words(split("-", "Isolated"), text), (Words{"a", "-", "-", "b", "-", "c"}));
  EXPECT_EQ(split_words(split("-", "Contiguous"), text), (Words{"a", "--", "b", "-", "c"}));
  EXPECT_EQ(split_words(split("-", "MergedWithPrevious"), text), (Words{"a-", "-", "b-", "c"}));
  EXPECT_EQ(split_words(split("-", "MergedWithNext"), text), (Words{"a", "-", "-b", "-c"}));
  EXPECT_EQ(split_words(split("[a-z]", "Removed", true), text), (Words{"a", "b", "c"}));
  EXPECT_EQ(split_words(split("[a-z]", "MergedWithPrevious", true), text),
            (Words{"a--", "b-", "c"}));
  EXPECT_EQ(split_words(split("-", "MergedWithNext"), "-"), (Words{"-"}));
  EXPECT_EQ(split_words(split("-", "MergedWithPrevious"), "-a"), (Words{"-", "a"}));
}

TEST(PreTokenizer, SplitByAStringTakesItLiterally) {
  const Json stage = {
      {"type", "Split"}, {"pattern", {{"String", "a.[é"}}}, {"behavior", "Isolated"}};
  EXPECT_EQ(split_words(stage, "xa.[éyab[é"), (Words{"x", "a.[é", "yab[é"}));
}

TEST(PreTokenizer, Digits) {
  const Json one = {{"type", "Digits"}, {"individual_digits", true}};
  EXPECT_EQ(split_words(one, "ab12½c"), (Words{"ab", "1", "2", "½", "c"}));
  EXPECT_EQ(split_words({{"type", "Digits"}}, "ab12½c"), (Words{"ab", "12½", "c"}));
}

TEST(PreTokenizer, PrefixSpaceGoesBeforeEveryPieceThatLacksOne) {
  const auto gpt2 = PreTokenizer::from_json(byte_level(true, true), "pre");
  EXPECT_EQ(words_of(gpt2, "a b"), (Words{" a", " b"}));
  EXPECT_EQ(words_of(gpt2, " a b"), (Words{" a", " b"}));
  EXPECT_EQ(words_of(gpt2, "\ta"), (Words{" ", "\t", "a"}));
  const auto pieces =
      PreTokenizer::from_json(sequence({split("é", "Isolated"), byte_level(false, true)}), "pre");
  EXPECT_EQ(words_of(pieces, "aé b"), (Words{" a", " é", " b"}));
  EXPECT_EQ(words_of(gpt2, ""), Words());
}

// Texts that are dense in what the patterns tell apart.
std::string random_text(Rng& rng) {
  static const char32_t kChars[] = {
      'a',    'b',    's',    'S',    't',    'R',    'e',    'E',     'l',    'L',
      'v',    'm',    'd',    0x17f,  '1',    '2',    0x663,  0xbd,    0x3007, ' ',
      ' ',    ' ',    '\n',   '\n',   '\r',   '\t',   0xa0,   0x3000,  0x85,   0x2028,
      '\'',   '\'',   '.',    ',',    '!',    '<',    '|',    '_',     0xff5c, 0x2581,
      0x4e00, 0x9fa5, 0x9fa6, 0x30fb, 0x309b, 0x3099, 0x3040, 0x30a2,  0x301,  0x94d,
      0xe9,   0x430,  0x200b, 0x200d, 0x0,    0x1,    0x378,  0x1f44d, 0xac00, 0x20000};
  std::string text;
  for (int64_t n = rng.below(40); n >= 0; --n) {
    const char32_t c =
        rng.below(50) == 0 ? char32_t(rng.below(0xd800)) : kChars[rng.below(std::size(kChars))];
    append_utf8(text, c);
  }
  return text;
}

std::vector<Json> known() {
  const std::string llama3 =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
      R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
  std::string qwen2 = llama3;
  qwen2.replace(qwen2.find("{1,3}"), 5, "");
  return {byte_level(true), Json(deepseek_v3_pre_tokenizer()),
          sequence({split(llama3, "Isolated"), byte_level(false)}),
          sequence({split(llama3, "Removed", true), byte_level(false)}),
          sequence({split(qwen2, "Isolated"), byte_level(false)})};
}

TEST(PreTokenizer, HandWrittenCodeGivesTheWordsOfPcre2) {
  for (const Json& json : known()) {
    const auto by_hand = PreTokenizer::from_json(json, "pre");
    const auto by_pcre2 = PreTokenizer::from_json(json, "pre", false);
    ASSERT_TRUE(by_hand.is_by_hand());
    ASSERT_FALSE(by_pcre2.is_by_hand());
    Rng rng(7);
    for (int i = 0; i < 8000; ++i) {
      const std::string text = random_text(rng);
      ASSERT_EQ(words_of(by_hand, text), words_of(by_pcre2, text))
          << json.dump().substr(0, 200) << testing::PrintToString(text);
    }
    // Spaces that no newline follows take PCRE2 longest.
    const std::string run(1 << 20, ' ');
    EXPECT_EQ(words_of(by_hand, run + "a"), words_of(by_pcre2, run + "a"));
  }
}

TEST(PreTokenizer, HandWrittenCodeGivesTheWordsOfPcre2OnSharedData) {
  if (auto why = missing_data("tokenizer/vectors_dev.jsonl"); !why.empty()) GTEST_SKIP() << why;
  const std::string text = read_file(data_dir() / "tokenizer/vectors_dev.jsonl");
  std::string decoded;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    decoded += parse_json(std::string_view(text).substr(begin, end - begin), "line")["text"];
  }
  ASSERT_GT(decoded.size(), 500000u);
  for (const Json& json : known()) {
    EXPECT_EQ(words_of(PreTokenizer::from_json(json, "pre"), decoded),
              words_of(PreTokenizer::from_json(json, "pre", false), decoded));
  }
}

TEST(PreTokenizer, OnlyExactPatternsAreByHand) {
  auto json = Json(deepseek_v3_pre_tokenizer());
  json["pretokenizers"][0]["pattern"]["Regex"] = R"(\p{N}{1,4})";
  EXPECT_FALSE(PreTokenizer::from_json(json, "pre").is_by_hand());
  json = Json(deepseek_v3_pre_tokenizer());
  json["pretokenizers"][1]["behavior"] = "Removed";
  EXPECT_FALSE(PreTokenizer::from_json(json, "pre").is_by_hand());
  json = Json(deepseek_v3_pre_tokenizer());
  json["pretokenizers"][2]["invert"] = true;
  EXPECT_FALSE(PreTokenizer::from_json(json, "pre").is_by_hand());
  EXPECT_FALSE(PreTokenizer::from_json(byte_level(true, true), "pre").is_by_hand());
}

TEST(PreTokenizer, RefusesWhatItDoesNotKnow) {
  const auto load = [](const Json& json) { return PreTokenizer::from_json(json, "pre"); };
  EXPECT_ERROR(load(nullptr), kFormat, "pre is null, expected an object");
  EXPECT_ERROR(load({{"type", "Metaspace"}}), kFormat, "pre.type is \"Metaspace\"");
  EXPECT_ERROR(load(sequence({})), kFormat, "pre.pretokenizers is empty");
  EXPECT_ERROR(load(sequence({byte_level(true), split("a", "Isolated")})), kFormat,
               "pre.pretokenizers[0].type is \"ByteLevel\", expected ByteLevel only as the last");
  EXPECT_ERROR(load(sequence({split("a", "Isolated")})), kFormat, "not a byte-level tokenizer");
  EXPECT_ERROR(load(sequence({sequence({}), byte_level(true)})), kFormat,
               "pre.pretokenizers[0].type is \"Sequence\"");
  EXPECT_ERROR(load(sequence({{{"type", "Punctuation"}}, byte_level(true)})), kFormat,
               "pre.pretokenizers[0].type is \"Punctuation\", expected Sequence, Split, Digits");
  EXPECT_ERROR(load(sequence({split("a", "isolated"), byte_level(true)})), kFormat,
               "pre.pretokenizers[0].behavior is \"isolated\", expected Removed");
  EXPECT_ERROR(load(sequence({split("(", "Isolated"), byte_level(true)})), kFormat,
               "pre.pretokenizers[0].pattern: at byte 0");
  Json bad = split("a", "Isolated");
  bad["pattern"] = {{"Glob", "*"}};
  EXPECT_ERROR(load(sequence({bad, byte_level(true)})), kFormat, "expected {\"Regex\"}");
}

}  // namespace
}  // namespace hadal
