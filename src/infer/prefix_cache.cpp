#include "infer/prefix_cache.h"

#include "core/error.h"

namespace hadal {
namespace {

constexpr int64_t kPage = KvCache::kPageTokens;

std::vector<int32_t> page_tokens(std::span<const int32_t> tokens, int64_t page) {
  const auto part = tokens.subspan(static_cast<size_t>(page * kPage), kPage);
  return {part.begin(), part.end()};
}

}  // namespace

// Calls visit(node) from the first page on, as far as the tokens are known.
template <class Visit>
void PrefixCache::walk(Node& root, std::span<const int32_t> tokens, Visit visit) {
  Node* node = &root;
  for (int64_t i = 0; (i + 1) * kPage <= static_cast<int64_t>(tokens.size()); ++i) {
    const auto child = node->children.find(page_tokens(tokens, i));
    if (child == node->children.end()) return;
    node = child->second.get();
    visit(*node);
  }
}

std::vector<KvCache::Page> PrefixCache::find(const std::string& salt,
                                             std::span<const int32_t> tokens) {
  std::vector<KvCache::Page> pages;
  const auto root = roots_.find(salt);
  if (root == roots_.end()) return pages;
  walk(root->second, tokens, [&](Node& node) {
    touch(node);
    pages.push_back(node.page);
  });
  return pages;
}

std::vector<KvCache::Page> PrefixCache::peek(const std::string& salt,
                                             std::span<const int32_t> tokens) const {
  std::vector<KvCache::Page> pages;
  const auto root = roots_.find(salt);
  if (root == roots_.end()) return pages;
  walk(const_cast<Node&>(root->second), tokens, [&](const Node& n) { pages.push_back(n.page); });
  return pages;
}

void PrefixCache::insert(const std::string& salt, std::span<const int32_t> tokens,
                         KvCache::Sequence sequence) {
  const int64_t full = static_cast<int64_t>(tokens.size()) / kPage;
  HADAL_CHECK(full * kPage <= cache_.length(sequence), kInternal, "prefix cache: ", tokens.size(),
              " tokens of a sequence of ", cache_.length(sequence));
  if (full == 0) return;
  Node* node = &roots_[salt];
  for (int64_t i = 0; i < full; ++i) {
    const KvCache::Page page = cache_.page_list(sequence)[static_cast<size_t>(i)];
    const auto [child, fresh] = node->children.try_emplace(page_tokens(tokens, i));
    if (fresh) {
      child->second = std::make_unique<Node>();
      child->second->page = page;
      child->second->parent = node;
      child->second->self = child;
      cache_.keep(page);
      ++pages_;
      if (node->parent != nullptr) leaves_.erase(node);
    } else if (child->second->page != page) {
      cache_.replace(sequence, i, child->second->page);
    }
    node = child->second.get();
    touch(*node);
  }
}

int64_t PrefixCache::evict(int64_t pages) {
  int64_t gone = 0;
  for (auto leaf = leaves_.begin(); gone < pages && leaf != leaves_.end();) {
    if (cache_.holders((*leaf)->page) > 1) {
      ++leaf;
      continue;
    }
    remove(**leaf);
    ++gone;
    leaf = leaves_.begin();  // its parent may be a leaf now, and older than the next
  }
  std::erase_if(roots_, [](const auto& root) { return root.second.children.empty(); });
  return gone;
}

void PrefixCache::clear() {
  while (!leaves_.empty()) remove(**leaves_.begin());
  roots_.clear();
}

void PrefixCache::touch(Node& node) {
  leaves_.erase(&node);
  node.used = ++clock_;
  if (node.children.empty()) leaves_.insert(&node);
}

void PrefixCache::remove(Node& leaf) {
  Node* parent = leaf.parent;
  leaves_.erase(&leaf);
  cache_.drop(leaf.page);
  --pages_;
  parent->children.erase(leaf.self);  // ends the leaf
  if (parent->children.empty() && parent->parent != nullptr) leaves_.insert(parent);
}

}  // namespace hadal
