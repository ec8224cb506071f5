#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "model/kv_cache.h"

namespace hadal {

// Pages of earlier prompts, found by their tokens: a tree whose edges are full pages, one root for
// each salt. Every page in it is kept in the KvCache until evicted; the least recently used goes
// first, leaves before what leads to them, and never one that a sequence holds.
class PrefixCache {
 public:
  explicit PrefixCache(KvCache& cache) : cache_(cache) {}
  ~PrefixCache() { clear(); }
  PrefixCache(const PrefixCache&) = delete;
  PrefixCache& operator=(const PrefixCache&) = delete;

  // The longest known beginning of `tokens`, in whole pages. Requests with different salts never
  // see each other's pages. find counts as use; peek does not.
  std::vector<KvCache::Page> find(const std::string& salt, std::span<const int32_t> tokens);
  std::vector<KvCache::Page> peek(const std::string& salt, std::span<const int32_t> tokens) const;
  // Keeps the sequence's full pages, whose tokens these are. In the place of those that are known
  // already it takes the known ones: so whoever holds a page holds those that lead to it, and of
  // the same tokens there is one page.
  void insert(const std::string& salt, std::span<const int32_t> tokens, KvCache::Sequence sequence);
  // Lets go of up to `pages` pages that nothing else holds; returns how many.
  int64_t evict(int64_t pages);
  void clear();
  int64_t pages() const { return pages_; }

 private:
  struct Node;
  using Children = std::map<std::vector<int32_t>, std::unique_ptr<Node>>;
  struct Node {
    KvCache::Page page = -1;
    uint64_t used = 0;
    Node* parent = nullptr;
    Children children;
    Children::iterator self;  // in parent->children
  };
  struct Older {
    bool operator()(const Node* a, const Node* b) const { return a->used < b->used; }
  };
  template <class Visit>
  static void walk(Node& root, std::span<const int32_t> tokens, Visit visit);
  void touch(Node& node);
  void remove(Node& leaf);

  KvCache& cache_;
  std::map<std::string, Node> roots_;
  std::set<Node*, Older> leaves_;  // `used` is unique: every touch is another moment
  uint64_t clock_ = 0;
  int64_t pages_ = 0;
};

}  // namespace hadal
