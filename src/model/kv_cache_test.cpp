#include "model/kv_cache.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr int64_t kPage = KvCache::kPageTokens;

class KvCacheTest : public testing::Test {
 protected:
  void fill(KvCache::Sequence s, int64_t first, int64_t count, float value) {
    Matrix rows({count, 3});
    for (int64_t i = 0; i < rows.size(); ++i) rows.data()[i] = value;
    cache_.write(s, 1, first, rows);
  }
  float at(KvCache::Sequence s, int64_t token) {
    Matrix row({1, 3});
    cache_.read(s, 1, token, row);
    return row.data()[2];
  }
  KvCache cache_{{{5}, {3}}, DType::kF32, 4 * kPage};
};

TEST_F(KvCacheTest, takes_exactly_what_the_specs_say) {
  EXPECT_EQ(cache_.bytes_per_token(), 8 * 4);
  EXPECT_EQ(KvCache({{5}, {3}}, DType::kBF16).bytes_per_token(), 8 * 2);
  // Codes with their scales, and the exact numbers at the end of each.
  EXPECT_EQ(KvCache({{140, 4}, {3, 1}}, DType::kF8E4M3).bytes_per_token(),
            (136 + 2 * 4 + 4 * 2) + (2 + 4 + 2));
  cache_.extend(cache_.add_sequence(), kPage + 1);
  EXPECT_EQ(cache_.bytes_allocated(), 2 * kPage * 8 * 4);
}

TEST_F(KvCacheTest, fp8_rows_come_back_as_near_as_codes_are) {
  KvCache cache({{200, 10}}, DType::kF8E4M3);
  const auto s = cache.add_sequence();
  cache.extend(s, kPage + 5);
  const Matrix rows = random_matrix(kPage + 5, 200, 1);
  cache.write(s, 0, 0, rows);
  Matrix back({kPage, 200});
  cache.read(s, 0, 5, back);
  for (int64_t t = 0; t < kPage; ++t) {
    for (int64_t d = 0; d < 200; ++d) {
      const float want = rows.row(t + 5)[d], bound = d < 190 ? 0x1p-4f : 0x1p-8f;
      EXPECT_NEAR(back.row(t)[d], want, bound * std::abs(want) + 0x1p-9f);
    }
  }
}

TEST_F(KvCacheTest, a_shared_page_lives_as_long_as_anybody_holds_it) {
  const auto a = cache_.add_sequence();
  cache_.extend(a, 2 * kPage);
  fill(a, 0, 2 * kPage, 7);
  const KvCache::Page first = cache_.page_list(a)[0];
  cache_.keep(first);
  EXPECT_EQ(cache_.idle_pages(), 0);

  const auto b = cache_.add_sequence();
  cache_.attach(b, {&first, 1});
  EXPECT_EQ(cache_.length(b), kPage);
  EXPECT_EQ(cache_.pages_in_use(), 2);
  EXPECT_EQ(cache_.holders(first), 3);
  cache_.extend(b, 1);
  fill(b, kPage, 1, 9);
  EXPECT_EQ(at(b, 3), 7);
  EXPECT_EQ(at(a, kPage), 7);

  cache_.remove_sequence(a);
  EXPECT_EQ(cache_.pages_in_use(), 2);
  EXPECT_EQ(at(b, 3), 7);
  cache_.remove_sequence(b);
  EXPECT_EQ(cache_.pages_in_use(), 1);
  EXPECT_EQ(cache_.idle_pages(), 1);
  cache_.drop(first);
  EXPECT_EQ(cache_.pages_in_use(), 0);
  EXPECT_EQ(cache_.idle_pages(), 0);
}

TEST_F(KvCacheTest, what_others_hold_is_not_written_over) {
  const auto a = cache_.add_sequence();
  cache_.extend(a, kPage);
  const KvCache::Page page = cache_.page_list(a)[0];
  const auto b = cache_.add_sequence();
  cache_.attach(b, {&page, 1});
  EXPECT_ERROR(fill(b, 4, 1, 1), kInternal, "shared");
  cache_.remove_sequence(a);
  fill(b, 4, 1, 1);
  EXPECT_EQ(at(b, 4), 1);
}

TEST_F(KvCacheTest, stops_at_its_limit_with_nothing_changed) {
  const auto a = cache_.add_sequence();
  cache_.extend(a, 3 * kPage);
  EXPECT_EQ(cache_.free_pages(), 1);
  EXPECT_ERROR(cache_.extend(a, kPage + 1), kResource, "cache is full");
  EXPECT_EQ(cache_.length(a), 3 * kPage);
  cache_.truncate(a, kPage + 1);
  EXPECT_EQ(cache_.free_pages(), 2);
}

TEST_F(KvCacheTest, refuses_what_would_lose_count) {
  const auto a = cache_.add_sequence();
  cache_.extend(a, kPage);
  const KvCache::Page page = cache_.page_list(a)[0], none = 5;
  EXPECT_ERROR(cache_.attach(a, {&page, 1}), kInternal, "attach to a sequence of 64");
  EXPECT_ERROR(cache_.drop(page), kInternal, "was not kept");
  cache_.keep(page);
  EXPECT_ERROR(cache_.keep(page), kInternal, "kept already");
  EXPECT_ERROR(cache_.attach(cache_.add_sequence(), {&none, 1}), kInternal, "no page 5");
}

}  // namespace
}  // namespace hadal
