#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <atomic>

#include "core/json.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "tests/support/testing.h"
#include "text/bpe_trainer.h"
#include "text/stream_decoder.h"
#include "text/utf8.h"

namespace hadal {
namespace {

using IdList = std::vector<int32_t>;

const Tokenizer& llama3() {
  static const Tokenizer tokenizer = Tokenizer::load(text_testdata("llama3.json"));
  return tokenizer;
}

TEST(Tokenizer, KnowsItsTokens) {
  const Tokenizer& tokenizer = llama3();
  const auto begin = tokenizer.token_id("<|begin|>");
  ASSERT_TRUE(begin);
  EXPECT_EQ(tokenizer.bos_id(), begin);
  EXPECT_FALSE(tokenizer.eos_id());
  EXPECT_TRUE(tokenizer.is_special(*begin));
  EXPECT_TRUE(tokenizer.is_added(*begin));
  EXPECT_EQ(tokenizer.token_text(*begin), "<|begin|>");
  const auto the = tokenizer.token_id("Ġthe");
  ASSERT_TRUE(the);
  EXPECT_EQ(tokenizer.token_bytes(*the), " the");
  EXPECT_FALSE(tokenizer.is_special(*the));
  EXPECT_FALSE(tokenizer.is_added(*the));
  EXPECT_FALSE(tokenizer.token_id(" the"));
  EXPECT_EQ(tokenizer.vocab_size(), *tokenizer.token_id("<|user|>") + 1);
  for (const int32_t none : {-1, int32_t(tokenizer.vocab_size()), INT32_MAX, INT32_MIN}) {
    EXPECT_FALSE(tokenizer.has_token(none));
    EXPECT_EQ(tokenizer.token_bytes(none), "");
    EXPECT_EQ(tokenizer.token_text(none), "");
    EXPECT_FALSE(tokenizer.is_special(none));
    EXPECT_FALSE(tokenizer.is_added(none));
  }
  EXPECT_EQ(tokenizer.decode(IdList{-5, *the, 1 << 30}), " the");
}

TEST(Tokenizer, SpecialTextIsTextWhenPlain) {
  const Tokenizer& tokenizer = llama3();
  const std::string text = "a<|begin|>b<|user|>";
  EXPECT_EQ(tokenizer.encode(text).size(), 4u);
  const IdList plain = tokenizer.encode(text, {.special = false});
  for (const int32_t id : plain) EXPECT_FALSE(tokenizer.is_added(id));
  EXPECT_EQ(tokenizer.decode(plain), text);
}

TEST(Tokenizer, BosIsNeverPutTwice) {
  const Tokenizer& tokenizer = llama3();
  const IdList expected = tokenizer.encode("<|begin|>the end");
  EXPECT_EQ(tokenizer.encode("the end", {.add_special_tokens = true}), expected);
  EXPECT_EQ(tokenizer.encode("<|begin|>the end", {.add_special_tokens = true}), expected);
  // Text that only looks like it is not it.
  const IdList plain =
      tokenizer.encode("<|begin|>", {.special = false, .add_special_tokens = true});
  EXPECT_EQ(plain[0], tokenizer.bos_id());
  EXPECT_GT(plain.size(), 2u);
}

TEST(Tokenizer, InvalidUtf8IsReplacedAsPythonDoes) {
  const Tokenizer& tokenizer = llama3();
  const std::string broken =
      "a\xff"
      "b\xe4\xb8 c\xf0\x9f\x98<|begin|>\xed\xa0\x80";
  EXPECT_EQ(tokenizer.encode(broken), tokenizer.encode(repair_utf8(broken)));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(broken)), repair_utf8(broken));
}

std::string small_json() {
  return R"({"added_tokens":[{"id":3,"content":"<s>","special":true},{"id":4,"content":"</s>"}],
    "pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false,"use_regex":true},
    "decoder":{"type":"ByteLevel"},
    "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";
}

TEST(TokenizerConfig, NamesTokensAndSaysWhatIsAdded) {
  const auto load = [](const std::string& config) {
    return Tokenizer::from_json(small_json(), config, "t.json");
  };
  const auto options = EncodeOptions{.add_special_tokens = true};
  EXPECT_EQ(load("").encode("ab", options), IdList{2});
  EXPECT_FALSE(load("").bos_id());
  const Tokenizer both = load(
      R"({"bos_token":"<s>","eos_token":{"content":"</s>","lstrip":false},"pad_token":"</s>",
          "add_bos_token":true,"add_eos_token":true})");
  EXPECT_EQ(both.encode("ab", options), (IdList{3, 2, 4}));
  EXPECT_EQ(both.bos_id(), 3);
  EXPECT_EQ(both.eos_id(), 4);
  EXPECT_EQ(both.pad_id(), 4);
  EXPECT_EQ(both.prefix_ids()[0], 3);
  EXPECT_EQ(both.suffix_ids()[0], 4);
  EXPECT_EQ(load(R"({"bos_token":"<s>"})").encode("ab", options), IdList{2});
  // What is wrong with a chat template concerns those who chat.
  EXPECT_EQ(load(R"({"bos_token":"<s>","chat_template":[]})").bos_id(), 3);
  EXPECT_ERROR(load(R"({"bos_token":"<x>"})"), kFormat,
               "names bos_token \"<x>\", which is no token");
  EXPECT_ERROR(load(R"({"bos_token":7})"), kFormat, "bos_token is 7, expected an object");
  EXPECT_ERROR(load(R"({"add_bos_token":true})"), kFormat, "add_bos_token, but no bos_token");
  EXPECT_ERROR(load(R"({"add_bos_token":"yes"})"), kFormat, "add_bos_token is \"yes\"");
  EXPECT_ERROR(load(R"({"add_eos_token":true})"), kFormat, "add_eos_token, but no eos_token");
  EXPECT_ERROR(load("[]"), kFormat, "expected an object");
}

TEST(Tokenizer, LoadsAFolder) {
  const fs::path folder = scratch_dir() / "tokenizer";
  make_folder(folder);
  EXPECT_ERROR(Tokenizer::load(folder / "none"), kIo, "none");
  EXPECT_ERROR(Tokenizer::load(folder), kIo, "tokenizer.json");
  write_file_atomically(folder / "tokenizer.model", "sentencepiece");
  EXPECT_ERROR(Tokenizer::load(folder), kFormat, "has tokenizer.model but no tokenizer.json");
  write_file_atomically(folder / "tokenizer.json", small_json());
  write_file_atomically(folder / "tokenizer_config.json", R"({"eos_token":"</s>"})");
  EXPECT_EQ(Tokenizer::load(folder).eos_id(), 4);
  EXPECT_EQ(Tokenizer::load(folder / "tokenizer.json").eos_id(), 4);
}

TEST(Tokenizer, LongRunsOfOneCharacter) {
  for (const char* kind : {"gpt2.json", "llama3.json", "deepseek_v2.json", "behaviors.json"}) {
    const Tokenizer tokenizer = Tokenizer::load(text_testdata(kind));
    for (const char c : {'a', 'q', ' ', '\n', '1', '.', '<'}) {
      const std::string text((c == 'a' ? 1 << 20 : 1 << 16), c);
      EXPECT_GT(tokenizer.encode(text).size(), 100u) << kind << " " << c;
    }
  }
}

TEST(Tokenizer, ManyThreadsReadOne) {
  const Tokenizer tokenizer = Tokenizer::load(text_testdata("gpt2.json"));
  const Tokenizer other = Tokenizer::load(text_testdata("deepseek_v2.json"));
  std::vector<std::string> texts;
  Rng rng(5);
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (int n = 0; n < 60; ++n) text += char(' ' + rng.below(90));
    texts.push_back(text);
  }
  const auto encode_all = [&](std::vector<IdList>& ids) {
    ids.resize(2 * texts.size());
    parallel_tasks(int64_t(ids.size()), [&](int64_t i) {
      ids[i] = (i % 2 == 0 ? tokenizer : other).encode(texts[i / 2]);
    });
  };
  std::vector<IdList> four, one;
  {
    ScopedThreads threads(4);
    encode_all(four);
  }
  ScopedThreads threads(1);
  encode_all(one);
  EXPECT_EQ(four, one);
}

TEST(StreamDecoder, EmitsWholeCharactersAndInTheEndTheSameText) {
  const Tokenizer& tokenizer = llama3();
  Rng rng(11);
  for (int round = 0; round < 300; ++round) {
    IdList ids;
    for (int64_t n = rng.below(20); n >= 0; --n) {
      // Mostly the 256 bytes, which rarely make characters; and some beyond the vocabulary.
      ids.push_back(int32_t(rng.below(rng.below(3) == 0 ? tokenizer.vocab_size() + 5 : 256)));
    }
    if (round % 2 == 0)
      ids = tokenizer.encode("é中👍🏽<|user|>\u200d한", {.special = round % 4 == 0});
    for (const bool skip : {false, true}) {
      StreamDecoder stream(tokenizer, skip);
      std::string text;
      for (const int32_t id : ids) {
        const std::string piece = stream.push(id);
        ASSERT_TRUE(is_utf8(piece));
        text += piece;
      }
      text += stream.flush();
      ASSERT_EQ(text, tokenizer.decode(ids, skip));
      ASSERT_EQ(stream.flush(), "");
    }
  }
}

TEST(StreamDecoder, WaitsOnlyForWhatCanStillComplete) {
  const Tokenizer& tokenizer = llama3();
  const auto byte = [&](const char* spelt) { return *tokenizer.token_id(spelt); };
  StreamDecoder stream(tokenizer);
  EXPECT_EQ(stream.push(byte("ä")), "");                             // 0xe4 of 中
  EXPECT_EQ(stream.push(byte("¸")), "");                             // 0xb8
  EXPECT_EQ(stream.push(byte("\u0143")), "\u4e2d" + std::string());  // 0xad
  EXPECT_EQ(stream.push(byte("ä")), "");
  EXPECT_EQ(stream.push(byte("a")),
            "\ufffd"
            "a");
  EXPECT_EQ(stream.push(byte("ÿ")), "\ufffd");  // 0xff begins nothing
  EXPECT_EQ(stream.push(byte("ð")), "");
  EXPECT_EQ(stream.flush(), "\ufffd");
}

}  // namespace
}  // namespace hadal
