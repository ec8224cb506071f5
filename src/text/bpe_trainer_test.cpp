#include "text/bpe_trainer.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <map>

#include "core/json.h"
#include "core/rng.h"
#include "tests/support/testing.h"
#include "text/byte_level.h"
#include "text/pre_tokenizer.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

namespace hadal {
namespace {

std::vector<std::string> documents() {
  const std::vector<std::string> words = {
      "the",    "then",    "there", "cat",  "cats",  "sat",  "on",   "mat", "a",  "aaaa", "aaaaaaa",
      "banana", "bandana", "12",    "2024", "naïve", "中文", "中国", "...", "!?", "\n",   "é"};
  Rng rng(3);
  std::vector<std::string> result;
  for (int i = 0; i < 40; ++i) {
    std::string text;
    for (int n = 0; n < 30; ++n) {
      const int64_t pick = std::min(rng.below(int64_t(words.size())), rng.below(40));
      text += (n > 0 ? " " : "") + words[size_t(pick)];
    }
    result.push_back(text);
  }
  return result;
}

TokenizerJson train(const std::vector<std::string>& texts, BpeTrainOptions options) {
  BpeTrainer trainer(std::move(options));
  for (const std::string& text : texts) trainer.add(text);
  return trainer.train();
}

BpeTrainOptions small() {
  BpeTrainOptions options;
  options.vocab_size = 310;
  options.added_tokens = {{"<｜User｜>", false}, {"<|EOT|>", true}};
  return options;
}

// Counts all pairs anew before each merge.
std::vector<std::string> merges_slowly(const std::vector<std::string>& texts, size_t count) {
  const auto pre = PreTokenizer::from_json(Json(deepseek_v3_pre_tokenizer()), "pre");
  std::vector<std::vector<std::string>> words;
  for (const std::string& text : texts) {
    PreTokenizer::Scratch scratch(text.size());
    std::vector<std::string_view> found;
    pre.split(text, scratch, found);
    for (const auto word : found) {
      words.emplace_back();
      for (const char c : word) words.back().push_back(to_byte_level({&c, 1}));
    }
  }
  // Ids: bytes in the order of their characters, then merges. UTF-8 sorts as characters do.
  std::map<std::string, int64_t> ids;
  for (int byte = 0; byte < 256; ++byte) {
    const char c = char(byte);
    ids[to_byte_level({&c, 1})] = 0;
  }
  int64_t next = 0;
  for (auto& [token, id] : ids) id = next++;
  std::vector<std::string> merges;
  while (merges.size() < count) {
    std::map<std::pair<std::string, std::string>, int64_t> counts;
    for (const auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) ++counts[{word[i], word[i + 1]}];
    }
    auto best = counts.end();
    for (auto it = counts.begin(); it != counts.end(); ++it) {
      const auto rank = [&](auto at) {
        return std::tuple(-at->second, ids.at(at->first.first), ids.at(at->first.second));
      };
      if (best == counts.end() || rank(it) < rank(best)) best = it;
    }
    if (best == counts.end() || best->second < 2) break;
    const auto [left, right] = best->first;
    merges.push_back(left + " " + right);
    ids.emplace(left + right, next++);
    for (auto& word : words) {
      for (size_t i = 0; i + 1 < word.size(); ++i) {
        if (word[i] != left || word[i + 1] != right) continue;
        word[i] += right;
        word.erase(word.begin() + int64_t(i) + 1);
      }
    }
  }
  return merges;
}

TEST(BpeTrainer, MergesTheMostFrequentPairOfSmallestIds) {
  const auto texts = documents();
  const Json file = parse_json(train(texts, small()).tokenizer_json, "trained");
  const auto merges = file["model"]["merges"].get<std::vector<std::string>>();
  EXPECT_EQ(merges, merges_slowly(texts, merges.size()));
  EXPECT_EQ(merges.size(), size_t{310 - 256 - 5});
}

TEST(BpeTrainer, LaysIdsOutAsDeepSeekDoes) {
  const TokenizerJson trained = train(documents(), small());
  const Tokenizer tokenizer =
      Tokenizer::from_json(trained.tokenizer_json, trained.tokenizer_config_json, "trained");
  EXPECT_EQ(tokenizer.vocab_size(), 310);
  EXPECT_EQ(tokenizer.token_id("<｜begin▁of▁sentence｜>"), 0);
  EXPECT_EQ(tokenizer.token_id("<｜end▁of▁sentence｜>"), 1);
  EXPECT_EQ(tokenizer.token_id("<｜▁pad▁｜>"), 2);
  EXPECT_EQ(tokenizer.token_id("!"), 3);
  EXPECT_EQ(tokenizer.token_id("<｜User｜>"), 308);
  EXPECT_EQ(tokenizer.token_id("<|EOT|>"), 309);
  EXPECT_TRUE(tokenizer.is_special(0) && tokenizer.is_special(309));
  EXPECT_FALSE(tokenizer.is_special(308));
  EXPECT_EQ(tokenizer.bos_id(), 0);
  EXPECT_EQ(tokenizer.eos_id(), 1);
  EXPECT_EQ(tokenizer.pad_id(), 2);
  std::string text = "the cat<｜User｜>中国 naïve \U0001f600\xff";
  const auto ids = tokenizer.encode(text, {.add_special_tokens = true});
  EXPECT_EQ(ids[0], 0);
  text.replace(text.size() - 1, 1, "\ufffd");
  EXPECT_EQ(tokenizer.decode(ids, true), text);
  EXPECT_LT(tokenizer.encode(" the").size(), 2u);
}

TEST(BpeTrainer, DoesNotDependOnTheOrderOfDocuments) {
  auto texts = documents();
  const TokenizerJson forward = train(texts, small());
  std::reverse(texts.begin(), texts.end());
  const TokenizerJson backward = train(texts, small());
  EXPECT_EQ(forward.tokenizer_json, backward.tokenizer_json);
  EXPECT_EQ(forward.tokenizer_config_json, backward.tokenizer_config_json);
}

TEST(BpeTrainer, KeepsToItsOptions) {
  BpeTrainOptions options = small();
  options.vocab_size = 5000;  // more than the documents have pairs for
  options.max_token_bytes = 3;
  options.min_count = 5;
  options.special_tokens = {{"<s>"}, {"the"}};
  options.bos_index = -1;
  options.eos_index = 0;
  options.pad_index = -1;
  options.add_bos_token = false;
  options.pre_tokenizer = R"({"type":"ByteLevel","add_prefix_space":false,"use_regex":true})";
  const TokenizerJson trained = train(documents(), options);
  const Tokenizer tokenizer =
      Tokenizer::from_json(trained.tokenizer_json, trained.tokenizer_config_json, "trained");
  EXPECT_LT(tokenizer.vocab_size(), 600);
  for (int32_t id = 2; id < tokenizer.vocab_size() - 2; ++id) {
    EXPECT_LE(tokenizer.token_bytes(id).size(), 3u);
  }
  EXPECT_FALSE(tokenizer.bos_id());
  EXPECT_EQ(tokenizer.eos_id(), 0);
  // No merge spells a special token: text cannot become one.
  EXPECT_EQ(tokenizer.token_id("the"), 1);
  for (const int32_t id : tokenizer.encode("the", {.special = false})) EXPECT_NE(id, 1);
}

TEST(BpeTrainer, RefusesImpossibleOptions) {
  const auto with = [](auto change) {
    BpeTrainOptions options = small();
    change(options);
    BpeTrainer trainer(options);
  };
  using O = BpeTrainOptions;
  EXPECT_ERROR((with([](O& o) { o.vocab_size = 260; }), 0), kUsage,
               "vocab_size is 260, expected 261");
  EXPECT_ERROR((with([](O& o) { o.vocab_size = 1 << 25; }), 0), kUsage, "vocab_size is 33554432");
  EXPECT_ERROR((with([](O& o) { o.min_count = 0; }), 0), kUsage, "min_count is 0");
  EXPECT_ERROR((with([](O& o) { o.max_token_bytes = 1; }), 0), kUsage, "max_token_bytes is 1");
  EXPECT_ERROR((with([](O& o) { o.eos_index = 3; }), 0), kUsage, "index 3");
  EXPECT_ERROR((with([](O& o) { o.bos_index = -1; }), 0), kUsage, "without a BOS token");
  EXPECT_ERROR((with([](O& o) { o.added_tokens.push_back({"<|EOT|>"}); }), 0), kUsage,
               "given twice");
  EXPECT_ERROR((with([](O& o) { o.added_tokens.push_back({""}); }), 0), kUsage, "has 0 bytes");
  EXPECT_ERROR((with([](O& o) { o.added_tokens.push_back({"\xff"}); }), 0), kUsage, "not UTF-8");
  EXPECT_ERROR((with([](O& o) { o.added_tokens.push_back({"a"}); }), 0), kUsage, "name of a byte");
  EXPECT_ERROR((with([](O& o) { o.pre_tokenizer = "{}"; }), 0), kFormat, "pre_tokenizer");
}

// The same files in Hugging Face tokenizers, and in transformers: where they are installed.
TEST(BpeTrainer, TheResultIsTheSameInHuggingFace) {
  const TokenizerJson trained = train(documents(), small());
  const fs::path folder = scratch_dir() / "trained";
  make_folder(folder);
  write_file_atomically(folder / "tokenizer.json", trained.tokenizer_json);
  write_file_atomically(folder / "tokenizer_config.json", trained.tokenizer_config_json);
  const Tokenizer tokenizer = Tokenizer::load(folder);
  std::string lines;
  auto texts = documents();
  texts.push_back("a<｜User｜>b<｜begin▁of▁sentence｜> <|EOT|>\n\n日本語 🎉");
  for (const std::string& text : texts) {
    const OrderedJson line = {
        {"text", text},
        {"ids", tokenizer.encode(text)},
        {"with_special", tokenizer.encode(text, {.add_special_tokens = true})}};
    lines += line.dump() + "\n";
  }
  write_file_atomically(folder / "ids.jsonl", lines);
  const char* chosen = std::getenv("HADAL_PYTHON");
  const std::string python = chosen != nullptr ? chosen : "python3";
  const std::string command = python + " " + std::string(HADAL_SOURCE_DIR) +
                              "/tools/check_tokenizer.py " + folder.string() + " " +
                              (folder / "ids.jsonl").string() + " >" + (folder / "log").string() +
                              " 2>&1";
  const int status = std::system(command.c_str());
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (code == 77 || code == 127) GTEST_SKIP() << "skipped: no Python with tokenizers";
  EXPECT_EQ(code, 0) << read_file(folder / "log");
}

}  // namespace
}  // namespace hadal
