// The tokenizer against what Hugging Face tokenizers gives: small tokenizers of every kind in
// testdata/ (made by tools/make_tokenizer_golden.py), and the shared data's when it is there.
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <functional>

#include "core/files.h"
#include "core/json.h"
#include "core/parallel.h"
#include "tests/support/data.h"
#include "tests/support/sanitizers.h"
#include "tests/support/testing.h"
#include "text/tokenizer.h"
#include "text/utf8.h"

namespace hadal {
namespace {

const char* const kKinds[] = {"gpt2",  "gpt2_prefix", "llama3",   "olmo2",
                              "cased", "deepseek_v2", "behaviors"};

void for_each_line(const fs::path& path, const std::function<void(const Json&)>& fn) {
  const std::string file = read_file(path);
  int64_t lines = 0;
  for (size_t begin = 0; begin < file.size();) {
    const size_t end = std::min(file.find('\n', begin), file.size());
    if (end > begin)
      fn(parse_json(std::string_view(file).substr(begin, end - begin), path.string()));
    begin = end + 1;
    ++lines;
  }
  EXPECT_GT(lines, 50) << path;
}

using IdList = std::vector<int32_t>;

TEST(TokenizerVectors, OfEveryKind) {
  for (const std::string kind : kKinds) {
    SCOPED_TRACE(kind);
    const Tokenizer tokenizer = Tokenizer::load(text_testdata(kind + ".json"));
    for_each_line(text_testdata(kind + "_vectors.jsonl"), [&](const Json& line) {
      const auto text = line["text"].get<std::string>();
      if (line.contains("decode")) {
        const auto ids = line["decode"].get<IdList>();
        EXPECT_EQ(tokenizer.decode(ids), text);
        EXPECT_EQ(tokenizer.decode(ids, true), line["skip_special"].get<std::string>());
        return;
      }
      const auto ids = line["ids"].get<IdList>();
      EXPECT_EQ(tokenizer.encode(text), ids) << text;
      // Hugging Face puts the prefix even where it stands already; we do not.
      auto with_special = line.value("with_special", ids);
      const bool starts_with_bos = !ids.empty() && ids[0] == tokenizer.bos_id();
      if (starts_with_bos && with_special != ids) with_special.erase(with_special.begin());
      EXPECT_EQ(tokenizer.encode(text, {.add_special_tokens = true}), with_special) << text;
    });
  }
}

TEST(TokenizerVectors, OfTheSharedData) {
  if (auto why = missing_data("tokenizer"); !why.empty()) GTEST_SKIP() << why;
  const std::vector<std::vector<std::string>> files = {
      {"tokenizer/tokenizer.json", "tokenizer/vectors_dev.jsonl",
       "tokenizer/decode_vectors_dev.jsonl"},
      {"tokenizer_small/tokenizer_4k.json", "tokenizer_small/vectors_4k_dev.jsonl"},
      {"tokenizer_small/tokenizer_8k.json", "tokenizer_small/vectors_8k_dev.jsonl"},
      {"tokenizer_small/tokenizer_16k.json", "tokenizer_small/vectors_16k_dev.jsonl"}};
  for (const auto& names : files) {
    const Tokenizer tokenizer = Tokenizer::load(data_dir() / names[0]);
    const auto check = [&](const Json& line) {
      const auto ids = line["ids"].get<IdList>();
      const auto text = line["text"].get<std::string>();
      if (line.contains("text_skip_special")) {
        EXPECT_EQ(tokenizer.decode(ids), text);
        EXPECT_EQ(tokenizer.decode(ids, true), line["text_skip_special"].get<std::string>());
      } else {
        EXPECT_EQ(tokenizer.encode(text), ids) << text;
        EXPECT_EQ(tokenizer.decode(ids), text);
      }
    };
    for (size_t i = 1; i < names.size(); ++i) {
      SCOPED_TRACE(names[i]);
      for_each_line(data_dir() / names[i], check);
    }
  }
}

const std::array<uint32_t, 256>& crc_table() {
  static const auto table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t i = 0; i < 256; ++i) {
      t[i] = i;
      for (int bit = 0; bit < 8; ++bit) t[i] = t[i] >> 1 ^ (0xedb88320u & (0u - (t[i] & 1u)));
    }
    return t;
  }();
  return table;
}

// CRC-32 of the ids as little-endian int32, and of -1 after them; a running ~crc goes in and out.
uint32_t crc_of(const IdList& ids, uint32_t state) {
  const auto add = [&state](int32_t id) {
    for (int shift = 0; shift < 32; shift += 8) {
      state = crc_table()[(state ^ (uint32_t(id) >> shift)) & 255] ^ state >> 8;
    }
  };
  for (const int32_t id : ids) add(id);
  add(-1);
  return state;
}

constexpr char32_t kBlock = 16384;

std::string block_digest(const Tokenizer& tokenizer, char32_t begin) {
  uint32_t state = ~0u;
  for (char32_t c = begin; c < begin + kBlock; ++c) {
    if (c >= 0xd800 && c < 0xe000) continue;
    std::string alone;
    append_utf8(alone, c);
    std::string around = "a";
    for (const char* between : {" ", "1", ".", "\n", "", "'", "中"}) around += alone + between;
    around += alone;
    state = crc_of(tokenizer.encode(alone), state);
    state = crc_of(tokenizer.encode(around), state);
  }
  char text[9];
  std::snprintf(text, sizeof(text), "%08x", ~state);
  return text;
}

// Blocks in which something is assigned; the rest is one class, unassigned or private.
bool is_assigned(size_t block) {
  const size_t first = block * kBlock;
  return first < 0x34000 || first == 0xe0000 || first == 0xf0000 || first == 0x10c000;
}

// Scripts with and without case, surrogates' neighbours, emoji, tags.
bool is_varied(size_t block) {
  const size_t first = block * kBlock;
  return first == 0 || first == 0xc000 || first == 0x1c000 || first == 0xe0000;
}

// Every code point alone and inside text: Unicode tables differ between versions and libraries. The
// small tokenizers, which go through PCRE2, leave out the empty planes.
TEST(TokenizerVectors, OfEveryCodePoint) {
  const fs::path path = text_testdata("code_points.json");
  const Json digests = parse_json(read_file(path), path.string());
  EXPECT_GE(digests.size(), 4u);
  for (const auto& [name, expected] : digests.items()) {
    SCOPED_TRACE(name);
    const bool is_shared = name.find('/') != std::string::npos;
    if (is_shared && !missing_data(name).empty()) continue;
    const Tokenizer tokenizer =
        Tokenizer::load(is_shared ? data_dir() / name : text_testdata(name + ".json"));
    ASSERT_EQ(expected.size(), 0x110000 / kBlock);
    std::vector<std::string> found(expected.size());
    parallel_tasks(int64_t(found.size()), [&](int64_t i) {
      if (!is_shared && !is_assigned(size_t(i))) return;
      if (kSlowBuild && !is_varied(size_t(i))) return;
      found[i] = block_digest(tokenizer, char32_t(i) * kBlock);
    });
    for (size_t i = 0; i < found.size(); ++i) {
      if (found[i].empty()) continue;
      EXPECT_EQ(found[i], expected[i].get<std::string>())
          << "in code points from 0x" << std::hex << i * kBlock;
    }
  }
}

}  // namespace
}  // namespace hadal
