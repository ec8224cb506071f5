#include "train/data.h"

#include <gtest/gtest.h>
#include <zstd.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "core/rng.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

// Documents 0..n-1 of different lengths, one of them empty; every token is a different id.
TokenDocuments distinct_documents(int64_t n) {
  TokenDocuments documents;
  int32_t next = 0;
  for (int64_t d = 0; d < n; ++d) {
    std::vector<int32_t> ids;
    for (int64_t i = 0; i < (d * 5) % 11; ++i) ids.push_back(next++);
    documents.add(ids);
  }
  return documents;
}

// Each token but the stream's first is a target once, each but its last an input once, and what
// follows is what stood behind it.
TEST(TokenSource, AnEpochLosesAndRepeatsNothing) {
  for (const bool shuffle : {true, false}) {
    TokenSource source(distinct_documents(20), {7, 2, 5, shuffle});
    const auto tokens = source.tokens();
    std::map<int32_t, int> inputs, targets;
    for (int64_t row = 0; row < source.rows_per_epoch(); ++row) {
      const TextBatch text = source.batch(row, 1);
      for (size_t i = 0; i < text.batch.ids.size(); ++i) {
        if (text.batch.targets[i] == kIgnored) continue;
        ++inputs[text.batch.ids[i]];
        ++targets[text.batch.targets[i]];
      }
    }
    EXPECT_EQ(static_cast<int64_t>(inputs.size()), tokens - 1);
    EXPECT_EQ(static_cast<int64_t>(targets.size()), tokens - 1);
    for (const auto& [id, count] : targets) EXPECT_EQ(count, 1) << id;
    for (const auto& [id, count] : inputs) EXPECT_EQ(count, 1) << id;
  }
}

TEST(TokenSource, InOrderWithoutShuffling) {
  TokenSource source(distinct_documents(9), {4, 1, 1, false});
  int32_t next = 0;
  for (int64_t row = 0; row < source.rows_per_epoch(); ++row) {
    const Batch batch = source.batch(row, 1).batch;
    for (size_t i = 0; i < 4; ++i, ++next) {
      const int64_t left = source.tokens() - next;
      if (left >= 1) {
        EXPECT_EQ(batch.ids[i], next);
      }
      EXPECT_EQ(batch.targets[i], left >= 2 ? next + 1 : kIgnored);
      EXPECT_EQ(batch.mtp_ids[0][i], left >= 2 ? next + 1 : 0);
      EXPECT_EQ(batch.mtp_targets[0][i], left >= 3 ? next + 2 : kIgnored);
    }
  }
}

// Rows of 7 over documents of up to 10 tokens: each begins with a document, or goes on with one
// that fills a row alone; none is lost, and what follows in a row is what stood behind it.
TEST(TokenSource, RowsBeginWithWholeDocuments) {
  const TokenDocuments documents = distinct_documents(40);
  std::map<int32_t, std::pair<int32_t, int32_t>> document_of;  // first id, end
  for (size_t d = 0, at = 0; d < documents.ends.size();
       at = static_cast<size_t>(documents.ends[d++])) {
    const auto end = static_cast<size_t>(documents.ends[d]);
    for (size_t i = at; i < end; ++i) {
      document_of[documents.ids[i]] = {documents.ids[at], documents.ids[end - 1] + 1};
    }
  }
  for (const bool shuffle : {true, false}) {
    TokenSource source(documents, {7, 0, 5, shuffle, true});
    EXPECT_GT(source.rows_per_epoch(), (source.tokens() + 6) / 7);
    for (int64_t epoch = 0; epoch < 2; ++epoch) {
      std::map<int32_t, int> inputs;
      for (int64_t row = 0; row < source.rows_per_epoch(); ++row) {
        const Batch batch = source.batch(epoch * source.rows_per_epoch() + row, 1).batch;
        const auto [first, end] = document_of.at(batch.ids[0]);
        EXPECT_TRUE(batch.ids[0] == first || batch.ids[0] == first + 7) << batch.ids[0];
        for (size_t i = 0; i < 7; ++i) {
          if (batch.targets[i] != kIgnored) ++inputs[batch.ids[i]];
          if (i > 0 && batch.targets[i - 1] != kIgnored) {
            EXPECT_EQ(batch.ids[i], batch.targets[i - 1]);
          }
        }
      }
      EXPECT_EQ(static_cast<int64_t>(inputs.size()), source.tokens() - 1);
    }
  }
}

TEST(TokenSource, ModulesReadAndPredictFurtherOn) {
  TokenSource source(distinct_documents(30), {6, 2, 3, true});
  const Batch batch = source.batch(2, 3).batch;
  ASSERT_EQ(batch.mtp_ids.size(), 2u);
  for (size_t i = 0; i < batch.ids.size(); ++i) {
    if (i % 6 == 5) continue;
    EXPECT_EQ(batch.targets[i], batch.mtp_ids[0][i]);
    EXPECT_EQ(batch.mtp_targets[0][i], batch.mtp_targets[0][i]);
    EXPECT_EQ(batch.mtp_targets[0][i], batch.targets[i + 1]);
    EXPECT_EQ(batch.mtp_ids[1][i], batch.mtp_ids[0][i + 1]);
    EXPECT_EQ(batch.mtp_targets[1][i], batch.mtp_targets[0][i + 1]);
  }
}

TEST(TokenSource, IsAPureFunctionOfSeedAndRow) {
  const auto ids = [](uint64_t seed, int64_t row, int64_t before) {
    TokenSource source(distinct_documents(40), {5, 0, seed, true});
    source.batch(before, 2);  // whatever was read before
    return source.batch(row, 3).batch.ids;
  };
  EXPECT_EQ(ids(1, 17, 0), ids(1, 17, 90));
  EXPECT_NE(ids(1, 17, 0), ids(2, 17, 0));
  TokenSource source(distinct_documents(40), {5, 0, 1, true});
  const int64_t rows = source.rows_per_epoch();
  EXPECT_NE(source.batch(0, rows).batch.ids, source.batch(rows, rows).batch.ids);
}

// With the mask each document of a row has the batch it would have alone.
TEST(TokenSource, MaskedDocumentsStayApart) {
  TokenDocuments documents;
  std::map<int32_t, std::pair<int32_t, int32_t>> document_of;  // by id: first id, end
  int32_t next = 1;                                            // 0 is what rows are filled up with
  for (int64_t d = 0; d < 40; ++d) {
    std::vector<int32_t> ids(static_cast<size_t>((d * 5) % 11));
    std::iota(ids.begin(), ids.end(), next);
    for (const int32_t id : ids) document_of[id] = {next, next + static_cast<int32_t>(ids.size())};
    next += static_cast<int32_t>(ids.size());
    documents.add(ids);
  }
  for (const bool whole : {false, true}) {
    TokenSourceOptions options{8, 2, 5, true, whole};
    options.document_mask = true;
    TokenSource source(documents, options);
    const Batch batch = source.batch(0, source.rows_per_epoch()).batch;
    EXPECT_TRUE(std::is_sorted(batch.documents.begin(), batch.documents.end()));
    const std::set<int64_t> begins(batch.documents.begin(), batch.documents.end());
    int64_t predicted = 0;
    for (size_t i = 0; i < batch.ids.size(); ++i) {
      const int32_t id = batch.ids[i];
      if (id == 0) continue;
      const auto [first, end] = document_of.at(id);
      EXPECT_EQ(begins.contains(int64_t(i)), i % 8 == 0 || id == first) << i;
      const auto ahead = [&, end = end](int32_t n, int32_t missing) {
        return id + n < end ? id + n : missing;
      };
      EXPECT_EQ(batch.targets[i], ahead(1, kIgnored)) << i;
      for (int32_t d = 0; d < 2; ++d) {
        EXPECT_EQ(batch.mtp_ids[size_t(d)][i], ahead(d + 1, 0)) << i;
        EXPECT_EQ(batch.mtp_targets[size_t(d)][i], ahead(d + 2, kIgnored)) << i;
      }
      predicted += batch.targets[i] != kIgnored ? 1 : 0;
    }
    EXPECT_GT(predicted, 100);
    const Batch part = slice(batch, 1, 3);
    ASSERT_FALSE(part.documents.empty());
    EXPECT_EQ(part.documents.front(), 0);
    EXPECT_LT(part.documents.back(), 16);
    for (const int64_t at : part.documents) EXPECT_TRUE(begins.contains(at + 8));
    Batch joined = slice(batch, 0, 1);
    append(joined, part);
    EXPECT_EQ(joined.documents, slice(batch, 0, 3).documents);
    EXPECT_EQ(joined.mtp_targets, slice(batch, 0, 3).mtp_targets);
  }
}

TEST(TokenSource, CountsTheBytesOfTargets) {
  TokenDocuments documents;
  documents.add(std::vector<int32_t>{0, 1, 2, 1});
  documents.bytes_of_id = {100, 3, 0};
  TokenSource source(std::move(documents), {8, 0, 1, false});
  EXPECT_EQ(source.batch(0, 1).bytes, 6);
}

TEST(SplitDocuments, KeepsEveryDocumentOnce) {
  const DocumentSplit split = split_documents(50, 0.2, 4);
  EXPECT_EQ(split.held_out.size(), 10u);
  std::vector<int64_t> together = split.kept;
  together.insert(together.end(), split.held_out.begin(), split.held_out.end());
  std::sort(together.begin(), together.end());
  std::vector<int64_t> all(50);
  std::iota(all.begin(), all.end(), int64_t{0});
  EXPECT_EQ(together, all);
  EXPECT_NE(split.held_out, split_documents(50, 0.2, 5).held_out);
  EXPECT_EQ(split_documents(50, 0, 4).held_out.size(), 1u);
  EXPECT_ERROR(split_documents(1, 0.5, 4), kConfig, "cannot hold out a share of 1");
}

TEST(TokenStore, ASubsetHasOnlyItsDocuments) {
  const TokenStore all = distinct_documents(20);
  const TokenStore some = all.subset({3, 4, 11}), fewer = some.subset({2, 0});
  EXPECT_EQ(some.count(), 3);
  EXPECT_EQ(some.tokens(), 4 + 9 + 0);
  EXPECT_EQ(fewer.tokens(), 4);
  EXPECT_EQ(fewer.document(1)[0], all.document(3)[0]);
}

std::vector<std::string> documents_of(const fs::path& path) {
  std::vector<std::string> out;
  read_documents(path, [&](std::string_view text) { out.emplace_back(text); });
  return out;
}

std::string packed(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), '\0');
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

TEST(ReadDocuments, EveryKindOfFile) {
  const fs::path folder = scratch_dir();
  std::string lines;
  std::vector<std::string> expected;
  for (int i = 0; i < 3000; ++i) {
    expected.push_back(std::string(static_cast<size_t>(i), 'x') + "\n\u2028");
    lines += Json{{"id", i}, {"text", expected.back()}}.dump() + (i % 7 == 0 ? "\n\n" : "\n");
  }
  lines.pop_back();  // no newline at the end
  write_file_atomically(folder / "a.jsonl", lines);
  // Two frames, one after the other, cut in the middle of a line.
  write_file_atomically(folder / "a.jsonl.zst",
                        packed(lines.substr(0, 100001)) + packed(lines.substr(100001)));
  write_file_atomically(folder / "b.txt", "one\ntwo\n");
  write_file_atomically(folder / "b.txt.zst", packed("one\ntwo\n"));
  EXPECT_EQ(documents_of(folder / "a.jsonl"), expected);
  EXPECT_EQ(documents_of(folder / "a.jsonl.zst"), expected);
  EXPECT_EQ(documents_of(folder / "b.txt"), (std::vector<std::string>{"one\ntwo\n"}));
  EXPECT_EQ(documents_of(folder / "b.txt.zst"), (std::vector<std::string>{"one\ntwo\n"}));
  const std::vector<std::string> pattern{(folder / "a.*").string()};
  EXPECT_EQ(expand_paths(pattern).size(), 2u);
  EXPECT_ERROR(expand_paths(std::vector<std::string>{(folder / "*.csv").string()}), kUsage,
               "no file matches");
}

TEST(ReadDocuments, ErrorsNameFileAndLine) {
  const fs::path folder = scratch_dir();
  write_file_atomically(folder / "a.jsonl", "{\"text\": \"x\"}\n{\"txt\": 1}\n");
  EXPECT_ERROR(documents_of(folder / "a.jsonl"), kFormat, "a.jsonl:2: the object has no key");
  write_file_atomically(folder / "b.jsonl", "{\"text\": 5}\n");
  EXPECT_ERROR(documents_of(folder / "b.jsonl"), kFormat, "b.jsonl:1");
  const std::string whole = packed(std::string(100000, 'q') + "abc");
  write_file_atomically(folder / "c.txt.zst", whole.substr(0, whole.size() - 3));
  EXPECT_ERROR(documents_of(folder / "c.txt.zst"), kFormat, "middle of a zstd frame");
  write_file_atomically(folder / "d.txt.zst", "plain text");
  EXPECT_ERROR(documents_of(folder / "d.txt.zst"), kFormat, "not zstd");
  EXPECT_ERROR(documents_of(folder / "e.csv"), kUsage, "ends in .txt, .jsonl");
}

TEST(ReadDocuments, RefusesWhatHoldsNoText) {
  const fs::path folder = scratch_dir();
  const auto with = [&](const char* name, const std::string& bytes) {
    write_file_atomically(folder / name, bytes);
    return documents_of(folder / name);
  };
  EXPECT_ERROR(with("a.txt", ""), kFormat, "a.txt is empty");
  EXPECT_ERROR(with("a.jsonl", ""), kFormat, "a.jsonl is empty");
  EXPECT_ERROR(with("a.jsonl", "\n \n"), kFormat, "a.jsonl holds no text");
  EXPECT_ERROR(with("a.txt.zst", packed("")), kFormat, "a.txt.zst holds no text");
  EXPECT_ERROR(with("b.txt", std::string("ELF\0\1", 5)), kFormat, "b.txt: byte 3 is 0: a binary");
  EXPECT_ERROR(with("b.txt", "caf\xe9 au lait"), kFormat, "b.txt: byte 3 is not UTF-8");
  EXPECT_ERROR(with("b.txt.zst", packed(std::string(9, '\0'))), kFormat, "byte 0 is 0");
  EXPECT_ERROR(with("b.jsonl", "\x93NUMPY"), kFormat, "b.jsonl:1");
  EXPECT_ERROR(with("b.jsonl", "{\"text\": \"caf\xe9\"}\n"), kFormat, "b.jsonl:1");
}

TEST(ReadDocuments, TellsHowManyBytesWereRead) {
  const fs::path folder = scratch_dir();
  const std::string file = packed(std::string(3000000, 'q'));
  write_file_atomically(folder / "a.txt.zst", file);
  int64_t bytes = 0;
  read_documents(
      folder / "a.txt.zst", [](std::string_view) {}, [&](int64_t n) { bytes += n; });
  EXPECT_EQ(bytes, static_cast<int64_t>(file.size()));
}

}  // namespace
}  // namespace hadal
