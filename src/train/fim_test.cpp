#include "train/fim.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "tests/support/testing.h"
#include "text/bpe_trainer.h"
#include "train/data.h"

namespace hadal {
namespace {

constexpr int32_t kBegin = 900, kHole = 901, kEnd = 902, kBos = 910, kEos = 911;

Fim plain_fim(double rate) {
  Fim fim;
  fim.rate = rate;
  fim.begin = kBegin;
  fim.hole = kHole;
  fim.end = kEnd;
  fim.prefix_tokens = 1;
  return fim;
}

std::vector<int32_t> document(int32_t first, int64_t length) {
  std::vector<int32_t> ids(static_cast<size_t>(length));
  std::iota(ids.begin(), ids.end(), first);
  ids.insert(ids.begin(), kBos);
  ids.push_back(kEos);
  return ids;
}

std::vector<int32_t> joined(const FimPieces& pieces) {
  std::vector<int32_t> ids;
  for (const auto piece : pieces) ids.insert(ids.end(), piece.begin(), piece.end());
  return ids;
}

// BOS begin pre hole suf end mid EOS -> BOS pre mid suf EOS; empty when it is no such thing.
std::vector<int32_t> undone(const std::vector<int32_t>& ids) {
  const auto at = [&](int32_t id) { return std::find(ids.begin(), ids.end(), id); };
  const auto begin = at(kBegin), hole = at(kHole), end = at(kEnd);
  if (begin != ids.begin() + 1 || hole < begin || end < hole || end == ids.end()) return {};
  std::vector<int32_t> out{ids.front()};
  out.insert(out.end(), begin + 1, hole);
  out.insert(out.end(), end + 1, ids.end() - 1);
  out.insert(out.end(), hole + 1, end);
  out.push_back(ids.back());
  return out;
}

TEST(Fim, IsTheDocumentWithItsMiddleLast) {
  const Fim fim = plain_fim(1);
  std::map<std::pair<size_t, size_t>, int> cuts;
  const auto text = document(1, 4);
  for (int64_t n = 0; n < 3000; ++n) {
    const std::vector<int32_t> ids = joined(fim_pieces(text, fim, 5, 6, n));
    EXPECT_EQ(ids.size(), text.size() + kFimTokens);
    EXPECT_EQ(undone(ids), text);
    const auto at = [&](int32_t id) {
      return static_cast<size_t>(std::find(ids.begin(), ids.end(), id) - ids.begin());
    };
    ++cuts[{at(kHole), at(kEnd)}];
  }
  // Two places of five, in any order: 15 pairs, all met; unequal ones twice as often as equal ones.
  EXPECT_EQ(cuts.size(), 15u);
  for (const auto& [cut, n] : cuts) EXPECT_NEAR(n, 240, 200);
  for (const int64_t length : {0, 1}) {
    EXPECT_EQ(undone(joined(fim_pieces(document(1, length), fim, 5, 6, 7))), document(1, length));
  }
  EXPECT_EQ(joined(fim_pieces({}, fim, 5, 6, 7)), (std::vector<int32_t>{kBegin, kHole, kEnd}));
}

TEST(Fim, DependsOnSeedStreamAndDocument) {
  const Fim fim = plain_fim(1);
  const auto text = document(1, 500);
  const auto ids = [&](uint64_t seed, uint64_t stream, int64_t number) {
    return joined(fim_pieces(text, fim, seed, stream, number));
  };
  EXPECT_EQ(ids(1, 2, 3), ids(1, 2, 3));
  EXPECT_NE(ids(1, 2, 3), ids(9, 2, 3));
  EXPECT_NE(ids(1, 2, 3), ids(1, 9, 3));
  EXPECT_NE(ids(1, 2, 3), ids(1, 2, 9));
}

// Ids 2, 3 and 4 stand for the second, third and fourth byte of a character that 1 begins.
TEST(Fim, NeverCutsACharacter) {
  Fim fim = plain_fim(1);
  fim.in_character = {false, false, true, true, true};
  std::vector<int32_t> text{kBos};
  for (int i = 0; i < 20; ++i) {
    for (const int32_t id : {1, 2, 3, 4}) text.push_back(id);
    text.push_back(0);
  }
  text.push_back(kEos);
  for (int64_t n = 0; n < 500; ++n) {
    const FimPieces pieces = fim_pieces(text, fim, 5, 6, n);
    for (const size_t piece : {2, 4, 6}) {
      if (!pieces[piece].empty()) {
        EXPECT_LT(pieces[piece][0], 2);
      }
    }
    EXPECT_EQ(undone(joined(pieces)), text);
  }
}

// Through packing: an exact share of the documents in every epoch, others in another.
TEST(Fim, ATokenSourceRearrangesItsShare) {
  TokenDocuments documents;
  for (int32_t d = 0; d < 200; ++d) documents.add(document(1000 + 100 * d, d % 40));
  std::map<int32_t, int64_t> epochs_of;  // by document: epochs in which it was rearranged
  for (const bool whole : {false, true}) {
    TokenSourceOptions options{64, 1, 3, true, whole};
    options.fim = plain_fim(0.25);
    TokenSource source(documents, options);
    EXPECT_EQ(source.tokens(), static_cast<int64_t>(documents.ids.size()) + 50 * kFimTokens);
    for (int64_t epoch = 0; epoch < 3; ++epoch) {
      const int64_t rows = source.rows_per_epoch();
      const Batch batch = source.batch(epoch * rows, rows).batch;
      int64_t begins = 0, ends = 0;
      for (size_t i = 0; i < batch.ids.size(); ++i) {
        begins += batch.targets[i] == kBegin ? 1 : 0;
        ends += batch.targets[i] == kEnd ? 1 : 0;
        if (i % 64 == 0 || batch.ids[i] != kBegin) continue;
        EXPECT_EQ(batch.ids[i - 1], kBos);
        if (!whole && i % 64 < 63 && batch.ids[i + 1] >= 1000) {
          ++epochs_of[batch.ids[i + 1] / 100];
        }
      }
      if (whole) continue;  // ends of rows are read twice
      EXPECT_EQ(begins, 50);
      EXPECT_EQ(ends, 50);
    }
  }
  EXPECT_GT(epochs_of.size(), 60u);
}

Tokenizer tokenizer_with(const std::vector<SpecialToken>& added) {
  BpeTrainOptions options;
  options.vocab_size = 275;
  options.added_tokens = added;
  BpeTrainer trainer(options);
  trainer.add("some text to learn from, some more of it");
  const TokenizerJson files = trainer.train();
  return Tokenizer::from_json(files.tokenizer_json, files.tokenizer_config_json, "trained");
}

TEST(MakeFim, FindsTheTokensOrNamesTheMissingOne) {
  for (const auto& names :
       {std::vector<SpecialToken>{
            {"<｜fim▁hole｜>", false}, {"<｜fim▁begin｜>", false}, {"<｜fim▁end｜>", false}},
        {{"<|fim_hole|>"}, {"<|fim_begin|>"}, {"<|fim_end|>"}}}) {
    const Tokenizer tokenizer = tokenizer_with(names);
    const Fim fim = make_fim(tokenizer, 0.5);
    EXPECT_EQ(tokenizer.token_text(fim.hole), names[0].content);
    EXPECT_EQ(tokenizer.token_text(fim.begin), names[1].content);
    EXPECT_EQ(tokenizer.token_text(fim.end), names[2].content);
    EXPECT_EQ(fim.prefix_tokens, 1);                             // BOS
    const auto ids = tokenizer.encode("é", {.special = false});  // two bytes, two tokens
    ASSERT_EQ(ids.size(), 2u);
    EXPECT_FALSE(fim.in_character[static_cast<size_t>(ids[0])]);
    EXPECT_TRUE(fim.in_character[static_cast<size_t>(ids[1])]);
  }
  EXPECT_ERROR(make_fim(tokenizer_with({}), 0.5), kConfig, "<|fim_begin|>");
  EXPECT_ERROR(make_fim(tokenizer_with({{"<|fim_begin|>"}, {"<|fim_hole|>"}}), 0.5), kConfig,
               "<｜fim▁end｜>");
}

}  // namespace
}  // namespace hadal
