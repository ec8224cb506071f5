#include "train/mixture.h"

#include <gtest/gtest.h>

#include <map>
#include <numeric>

#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr int64_t kMixtureLength = 4;

// Ids from `first` on, so that a row tells where it comes from.
TokenMixture::Part part(const std::string& name, double weight, int32_t first, int64_t tokens,
                        uint64_t seed) {
  TokenDocuments documents;
  std::vector<int32_t> ids(static_cast<size_t>(tokens));
  std::iota(ids.begin(), ids.end(), first);
  documents.add(std::span(ids).first(ids.size() / 2));
  documents.add(std::span(ids).subspan(ids.size() / 2));
  return {name, weight, TokenSource(std::move(documents), {kMixtureLength, 1, seed, true})};
}

TokenMixture mixture(uint64_t seed = 3) {
  std::vector<TokenMixture::Part> parts;
  parts.push_back(part("a", 6, 0, 400, 1));
  parts.push_back(part("b", 3, 1000, 4000, 2));
  parts.push_back(part("c", 1, 10000, 30, 3));
  return {std::move(parts), seed};
}

TEST(ShareOut, NearestSharesThatSumUp) {
  using Shares = std::vector<int64_t>;
  EXPECT_EQ(share_out(10, {1}), Shares({10}));
  EXPECT_EQ(share_out(10, {0.5, 0.3, 0.2}), Shares({5, 3, 2}));
  EXPECT_EQ(share_out(100, {1, 1, 1}), Shares({34, 33, 33}));
  EXPECT_EQ(share_out(8, {1e6, 1, 1}), Shares({6, 1, 1}));
  EXPECT_EQ(share_out(3, {1e6, 1, 1}), Shares({1, 1, 1}));
  EXPECT_ERROR(share_out(2, {1, 1, 1}), kUsage, "a mixture of 3 sources");
  EXPECT_ERROR(share_out(9, {1, 0}), kUsage, "weight is 0");
}

TEST(TokenMixture, RealisedSharesFollowTheWeights) {
  TokenMixture rows = mixture();
  constexpr int64_t kRows = 3 * TokenMixture::kBlock;
  std::map<int32_t, int64_t> count;
  const Batch batch = rows.batch(0, kRows).batch;
  for (int64_t r = 0; r < kRows; ++r) {
    const int32_t id = batch.ids[static_cast<size_t>(r * kMixtureLength)];
    ++count[id < 1000 ? 0 : id < 10000 ? 1 : 2];
  }
  EXPECT_NEAR(double(count[0]) / kRows, 0.6, 1.0 / TokenMixture::kBlock);
  EXPECT_NEAR(double(count[1]) / kRows, 0.3, 1.0 / TokenMixture::kBlock);
  EXPECT_NEAR(double(count[2]) / kRows, 0.1, 1.0 / TokenMixture::kBlock);
  // Soon, too.
  std::vector<int> early(3);
  for (int64_t r = 0; r < 500; ++r) ++early[rows.place(r).part];
  EXPECT_NEAR(early[0], 300, 60);
  EXPECT_NEAR(early[2], 50, 30);
}

// Every row of a source comes, in its own order, before any comes again.
TEST(TokenMixture, SourcesAreReadInTheirOwnOrder) {
  TokenMixture rows = mixture();
  std::vector<int64_t> next(3);
  for (int64_t r = 0; r < 2 * TokenMixture::kBlock + 77; ++r) {
    const TokenMixture::Place at = rows.place(r);
    EXPECT_EQ(at.row, next[at.part]++);
  }
  const TokenMixture::Place at = rows.place(5000);
  TokenSource alone = std::move(part("b", 1, 1000, 4000, 2).source);
  if (at.part == 1) {
    EXPECT_EQ(rows.batch(5000, 1).batch.ids, alone.batch(at.row, 1).batch.ids);
  }
}

TEST(TokenMixture, IsAPureFunctionOfSeedAndRow) {
  const auto ids = [](uint64_t seed, int64_t row, int64_t before) {
    TokenMixture rows = mixture(seed);
    rows.batch(before, 3);  // whatever was read before
    return rows.batch(row, 40).batch.ids;
  };
  const int64_t row = TokenMixture::kBlock - 10;  // into the next block
  EXPECT_EQ(ids(3, row, 0), ids(3, row, 9 * TokenMixture::kBlock + 5));
  EXPECT_NE(ids(3, row, 0), ids(4, row, 0));
  TokenMixture rows = mixture();
  const TextBatch whole = rows.batch(row, 20);
  TextBatch joined;
  for (int64_t i = 0; i < 20; i += 5) {
    const TextBatch some = rows.batch(row + i, 5);
    append(joined.batch, some.batch);
    joined.bytes += some.bytes;
  }
  EXPECT_EQ(joined.batch.ids, whole.batch.ids);
  EXPECT_EQ(joined.batch.mtp_targets, whole.batch.mtp_targets);
  EXPECT_EQ(joined.bytes, whole.bytes);
}

TEST(TokenMixture, OneSourceIsThatSource) {
  std::vector<TokenMixture::Part> parts;
  parts.push_back(part("a", 2, 0, 400, 1));
  TokenMixture rows(std::move(parts), 9);
  TokenSource alone = std::move(part("a", 1, 0, 400, 1).source);
  EXPECT_EQ(rows.batch(150, 7).batch.ids, alone.batch(150, 7).batch.ids);
  EXPECT_EQ(rows.tokens(), 400);
}

TEST(TokenMixture, PartsMustBePackedAlike) {
  std::vector<TokenMixture::Part> parts;
  parts.push_back(part("a", 2, 0, 400, 1));
  TokenDocuments documents;
  documents.add(std::vector<int32_t>(50, 1));
  parts.push_back({"b", 1, TokenSource(std::move(documents), {kMixtureLength + 1, 1, 1, true})});
  EXPECT_ERROR(TokenMixture(std::move(parts), 1), kUsage, "source b is packed in another way");
}

}  // namespace
}  // namespace hadal
