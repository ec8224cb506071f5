#include "infer/prefix_cache.h"

#include <gtest/gtest.h>

#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr int64_t kPage = KvCache::kPageTokens;

// Tokens of whole pages, each page all of one number.
std::vector<int32_t> text(const std::vector<int32_t>& pages, int64_t more = 0) {
  std::vector<int32_t> tokens;
  for (int32_t p : pages) tokens.insert(tokens.end(), kPage, p);
  tokens.insert(tokens.end(), size_t(more), 99);
  return tokens;
}

class PrefixCacheTest : public testing::Test {
 protected:
  // A sequence that computes these pages, is remembered and ends.
  std::vector<KvCache::Page> learn(const std::vector<int32_t>& pages,
                                   const std::string& salt = "") {
    const auto s = hold(pages);
    tree_.insert(salt, text(pages), s);
    const std::vector<KvCache::Page> list(cache_.page_list(s).begin(), cache_.page_list(s).end());
    cache_.remove_sequence(s);
    return list;
  }
  KvCache::Sequence hold(const std::vector<int32_t>& pages) {
    const auto s = cache_.add_sequence();
    cache_.extend(s, int64_t(pages.size()) * kPage);
    return s;
  }
  size_t known(const std::vector<int32_t>& pages, const std::string& salt = "") {
    return tree_.peek(salt, text(pages)).size();
  }

  KvCache cache_{{{4}}, DType::kF32};
  PrefixCache tree_{cache_};
};

TEST_F(PrefixCacheTest, finds_the_longest_beginning_in_whole_pages) {
  const auto pages = learn({1, 2, 3});
  EXPECT_EQ(tree_.find("", text({1, 2, 3, 4})), pages);
  EXPECT_EQ(tree_.find("", text({1, 2}, kPage - 1)).size(), 2u);
  EXPECT_EQ(known({1, 9, 3}), 1u);
  EXPECT_EQ(known({2, 3}), 0u);
  EXPECT_EQ(tree_.find("", text({}, 63)).size(), 0u);
  auto changed = text({1, 2, 3});
  changed[2 * kPage - 1] = 7;
  EXPECT_EQ(tree_.find("", changed).size(), 1u);
}

TEST_F(PrefixCacheTest, branches_share_their_beginning) {
  const auto a = learn({1, 2, 3});
  learn({1, 2, 4});
  EXPECT_EQ(tree_.pages(), 4);
  EXPECT_EQ(cache_.pages_in_use(), 4);  // the second's own copies of pages 1 and 2 are gone
  EXPECT_EQ(tree_.find("", text({1, 2, 4}))[1], a[1]);
}

TEST_F(PrefixCacheTest, salts_do_not_meet) {
  learn({1, 2}, "anna");
  EXPECT_EQ(known({1, 2}, "bob"), 0u);
  EXPECT_EQ(known({1, 2}, "anna"), 2u);
}

TEST_F(PrefixCacheTest, the_least_recently_used_leaf_goes_first) {
  learn({1, 2});
  learn({1, 3});
  learn({4});
  tree_.find("", text({1, 2}));
  EXPECT_EQ(tree_.evict(1), 1);
  EXPECT_EQ(known({1, 3}), 1u);
  EXPECT_EQ(known({4}), 1u);
  EXPECT_EQ(tree_.evict(1), 1);
  EXPECT_EQ(known({4}), 0u);
  EXPECT_EQ(known({1, 2}), 2u);
  EXPECT_EQ(tree_.evict(9), 2);
  EXPECT_EQ(cache_.pages_in_use(), 0);
}

TEST_F(PrefixCacheTest, a_page_in_use_is_not_evicted) {
  const auto pages = learn({1, 2});
  const auto reader = cache_.add_sequence();
  cache_.attach(reader, {pages.data(), 1});
  EXPECT_EQ(cache_.idle_pages(), 1);
  EXPECT_EQ(tree_.evict(5), 1);
  EXPECT_EQ(known({1, 2}), 1u);
  cache_.remove_sequence(reader);
  EXPECT_EQ(tree_.evict(5), 1);
}

TEST_F(PrefixCacheTest, whoever_holds_a_page_holds_those_that_lead_to_it) {
  const auto a = hold({1}), b = hold({1, 2});  // both computed page 1
  tree_.insert("", text({1}), a);
  tree_.insert("", text({1, 2}), b);
  EXPECT_EQ(cache_.pages_in_use(), 2);
  EXPECT_EQ(cache_.page_list(b)[0], cache_.page_list(a)[0]);
  cache_.remove_sequence(a);
  EXPECT_EQ(cache_.idle_pages(), 0);  // so what is idle can be evicted
  cache_.remove_sequence(b);
  EXPECT_EQ(cache_.idle_pages(), 2);
  EXPECT_EQ(tree_.evict(2), 2);
}

TEST_F(PrefixCacheTest, gives_everything_back) {
  {
    PrefixCache other(cache_);
    const auto s = hold({1, 2, 3});
    other.insert("x", text({1, 2, 3}), s);
    cache_.remove_sequence(s);
    EXPECT_EQ(cache_.pages_in_use(), 3);
  }
  EXPECT_EQ(cache_.pages_in_use(), 0);
}

}  // namespace
}  // namespace hadal
