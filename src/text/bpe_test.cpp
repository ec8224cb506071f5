#include "text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "core/rng.h"

namespace hadal {
namespace {

using IdList = std::vector<int32_t>;

TEST(StringTable, FindsWhatWasInsertedAndNothingElse) {
  std::vector<std::string> keys = {"", "a", "b", "ab", "ba", "abcdefgh", "abcdefghi", "abcdefgi"};
  for (int i = 0; i < 3000; ++i) keys.push_back("key" + std::to_string(i * 7919));
  StringTable table;
  for (size_t i = 0; i < keys.size(); ++i) ASSERT_TRUE(table.insert(keys[i], int32_t(i)));
  for (size_t i = 0; i < keys.size(); ++i) {
    ASSERT_EQ(table.find(keys[i]), int32_t(i));
    ASSERT_FALSE(table.insert(keys[i], 0));
    ASSERT_EQ(table.find(keys[i] + "?"), -1);
  }
}

// Bytes 'a'..'d' and random merges over them: the slow way to encode beside the model.
struct Vocabulary {
  std::vector<std::string> tokens;
  std::vector<BpeModel::Merge> merges;
  std::array<int32_t, 256> byte_ids;

  explicit Vocabulary(uint64_t seed, int count) {
    byte_ids.fill(-1);
    for (char c = 'a'; c <= 'd'; ++c) {
      byte_ids[static_cast<unsigned char>(c)] = int32_t(tokens.size());
      tokens.emplace_back(1, c);
    }
    Rng rng(seed);
    while (int(merges.size()) < count) {
      const auto left = int32_t(rng.below(int64_t(tokens.size())));
      const auto right = int32_t(rng.below(int64_t(tokens.size())));
      const std::string token = tokens[left] + tokens[right];
      bool is_known = token.size() > 12;
      for (const auto& merge : merges) {
        is_known = is_known || (merge.left == left && merge.right == right);
      }
      if (is_known) continue;
      // The same token may come about in two ways.
      const auto found = std::find(tokens.begin(), tokens.end(), token);
      const auto merged = int32_t(found - tokens.begin());
      if (found == tokens.end()) tokens.push_back(token);
      merges.push_back({left, right, merged});
    }
  }

  BpeModel model(BpeModel::Options options = {}) const {
    std::vector<std::pair<std::string_view, int32_t>> words;
    for (size_t i = 0; i < tokens.size(); ++i) words.emplace_back(tokens[i], int32_t(i));
    return BpeModel(byte_ids, merges, words, int64_t(tokens.size()), options);
  }

  // Again and again the pair of lowest rank, the leftmost of equals.
  IdList slowly(const std::string& word) const {
    IdList ids;
    for (const char c : word) ids.push_back(byte_ids[static_cast<unsigned char>(c)]);
    while (true) {
      size_t best = merges.size();
      size_t where = 0;
      for (size_t i = 0; i + 1 < ids.size(); ++i) {
        for (size_t rank = 0; rank < best; ++rank) {
          if (merges[rank].left == ids[i] && merges[rank].right == ids[i + 1]) {
            best = rank;
            where = i;
          }
        }
      }
      if (best == merges.size()) return ids;
      ids[where] = merges[best].merged;
      ids.erase(ids.begin() + int64_t(where) + 1);
    }
  }
};

IdList encode(const BpeModel& model, const std::string& word) {
  BpeModel::Scratch scratch;
  IdList ids;
  model.encode(word, scratch, ids);
  return ids;
}

TEST(BpeModel, MergesTheLowestRankFirstInWordsOfEveryLength) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Vocabulary vocabulary(seed, 60);
    const BpeModel model = vocabulary.model();
    Rng rng(seed, 1);
    for (const int64_t length : {1, 2, 3, 5, 8, 13, 30, 47, 48, 49, 50, 100, 200}) {
      std::string word;
      for (int64_t i = 0; i < length; ++i) word += char('a' + rng.below(seed % 2 == 0 ? 4 : 2));
      ASSERT_EQ(encode(model, word), vocabulary.slowly(word)) << word;
      ASSERT_EQ(encode(model, word), vocabulary.slowly(word)) << word << " again";
    }
    // Tokens of the vocabulary itself: some are what their bytes merge to, some are not.
    for (const std::string& token : vocabulary.tokens) {
      ASSERT_EQ(encode(model, token), vocabulary.slowly(token)) << token;
      ASSERT_EQ(encode(model, token), vocabulary.slowly(token)) << token << " again";
    }
  }
}

TEST(BpeModel, IgnoreMergesTakesATokenWhole) {
  const Vocabulary vocabulary(3, 60);
  const BpeModel model = vocabulary.model({.ignore_merges = true});
  int unreachable = 0;
  for (size_t i = 0; i < vocabulary.tokens.size(); ++i) {
    ASSERT_EQ(encode(model, vocabulary.tokens[i]), IdList{int32_t(i)});
    unreachable += vocabulary.slowly(vocabulary.tokens[i]) != IdList{int32_t(i)};
  }
  EXPECT_GT(unreachable, 5);  // or the test above shows nothing
}

TEST(BpeModel, BytesWithoutATokenAreLeftOutOrUnknown) {
  const std::array<int32_t, 256> byte_ids = [] {
    std::array<int32_t, 256> ids{};
    ids.fill(-1);
    ids['a'] = 0;
    ids['b'] = 1;
    return ids;
  }();
  const std::vector<BpeModel::Merge> merges = {{0, 1, 2}};
  const auto with = [&](BpeModel::Options options) {
    return BpeModel(byte_ids, merges, {}, 4, options);
  };
  EXPECT_EQ(encode(with({}), "axxb"), (IdList{2}));
  EXPECT_EQ(encode(with({.unknown_id = 3}), "axxb"), (IdList{0, 3, 3, 1}));
  EXPECT_EQ(encode(with({.unknown_id = 3, .fuse_unknown = true}), "xaxxbx"),
            (IdList{3, 0, 3, 1, 3}));
  EXPECT_EQ(encode(with({}), ""), IdList());
}

TEST(BpeModel, WorkIsNLogNOnAnyInput) {
  // Doubling merges of one letter, and merges that cascade from the right.
  std::array<int32_t, 256> byte_ids{};
  std::iota(byte_ids.begin(), byte_ids.end(), 0);
  std::vector<BpeModel::Merge> merges;
  int32_t next = 256;
  for (int32_t previous = 'a'; next < 256 + 16; previous = next++) {
    merges.push_back({previous, previous, next});
  }
  for (int32_t previous = 'c'; next < 256 + 32; previous = next++) {
    merges.push_back({'b', previous, next});
  }
  const BpeModel model(byte_ids, merges, {}, next, {});
  Rng rng(1);
  for (const char* kind : {"a", "b", "bbbbbbbbbc", "ab", "random"}) {
    std::string word;
    const size_t size = 1 << 18;
    while (word.size() < size) {
      if (kind == std::string("random")) {
        word += char('a' + rng.below(3));
      } else {
        word += kind;
      }
    }
    word.resize(size);
    BpeModel::Scratch scratch;
    IdList ids;
    model.encode(word, scratch, ids);
    // Every symbol is looked up once, and each merge makes at most two more entries.
    EXPECT_LE(scratch.steps, 7 * int64_t(size)) << kind;
    EXPECT_LT(ids.size(), size + 1);
  }
  BpeModel::Scratch scratch;
  IdList ids;
  model.encode(std::string(1 << 20, 'a'), scratch, ids);
  EXPECT_EQ(ids.size(), size_t{1} << 4);
}

}  // namespace
}  // namespace hadal
