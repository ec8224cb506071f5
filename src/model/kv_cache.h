#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "ops/cached_row.h"

namespace hadal {

// What one layer remembers of one token: `elements` numbers in a row. MLA: the compressed latent
// and the shared rope key, kv_lora_rank + qk_rope_head_dim (V3 report, sec. 2.1.1); GQA: keys and
// values.
struct CacheSpec {
  int64_t elements = 0;
  int64_t exact = 0;  // at the end: BF16 in an FP8 cache (ops/cached_row.h)
};

// Pages of opaque rows from one pool. A page holds page_tokens tokens in every layer; a sequence is
// a list of pages and a length. Full pages may belong to several sequences, and to a keeper beside
// them (the prefix cache); a page is free when nobody holds it. Rows are FP32, BF16 or FP8
// (ops/cached_row.h). One thread at a time.
class KvCache {
 public:
  static constexpr int64_t kPageTokens = 64;
  static int64_t pages_for(int64_t tokens) { return (tokens + kPageTokens - 1) / kPageTokens; }

  // layers[i] is the spec of layer i, the MTP modules' layers last. Grows page by page up to
  // max_tokens in whole pages (0 = no limit).
  KvCache(std::vector<CacheSpec> layers, DType dtype, int64_t max_tokens = 0);

  using Sequence = int32_t;
  using Page = int32_t;
  Sequence add_sequence();
  void remove_sequence(Sequence sequence);
  // Tokens whose rows may be written and read. extend makes room for `tokens` more:
  // Error{kResource} when max_tokens would be passed, with nothing changed. truncate forgets the
  // tokens from `length` on.
  int64_t length(Sequence sequence) const;
  void extend(Sequence sequence, int64_t tokens);
  void truncate(Sequence sequence, int64_t length);

  // Begins an empty sequence with full pages that are in use: its first tokens. Their rows are
  // read only from then on.
  void attach(Sequence sequence, std::span<const Page> pages);
  std::span<const Page> page_list(Sequence sequence) const;
  // Takes another page in the place of one of the sequence's full ones: the same tokens' rows.
  void replace(Sequence sequence, int64_t index, Page page);
  // One hold beside those of sequences, so that a page outlives them.
  void keep(Page page);
  void drop(Page page);
  int64_t holders(Page page) const { return pages_[size_t(page)].holders; }
  bool kept(Page page) const { return pages_[size_t(page)].kept; }
  // Pages that extend can still take; those that only the keeper holds; the limit; pages in use.
  int64_t free_pages() const { return max_pages() - pages_in_use(); }
  int64_t idle_pages() const { return idle_; }
  int64_t max_pages() const;
  int64_t pages_in_use() const { return int64_t(pages_.size()) - int64_t(free_.size()); }

  // Writes rows [T, elements] of tokens first .. first+T-1; reads them back as FP32.
  void write(Sequence sequence, int64_t layer, int64_t first, In2 rows);
  void read(Sequence sequence, int64_t layer, int64_t first, Out2 rows) const;
  // Page addresses of this layer, for ops/attention.h paged_attention.
  std::span<const std::byte* const> pages(Sequence sequence, int64_t layer) const;

  CachedRow row(int64_t layer) const {
    const CacheSpec& spec = layers_[size_t(layer)];
    return {dtype_, spec.elements, spec.exact};
  }
  int64_t elements(int64_t layer) const { return layers_[size_t(layer)].elements; }
  int64_t layers() const { return int64_t(layers_.size()); }
  int64_t bytes_per_token() const;  // over all layers
  int64_t bytes_allocated() const;

 private:
  struct PageState {
    Buffer memory;
    int32_t holders = 0;  // sequences, and the keeper
    bool kept = false;
  };
  struct SequenceState {
    bool used = false;
    int64_t length = 0;
    std::vector<Page> pages;
    std::vector<std::vector<const std::byte*>> addresses;  // [layer][page]
  };
  std::byte* row_of(const SequenceState& s, int64_t layer, int64_t token) const;
  SequenceState& state(Sequence sequence);
  const SequenceState& state(Sequence sequence) const;
  PageState& page_state(Page page);
  void append(SequenceState& s, Page page);
  void release(Page page);
  bool idle(const PageState& p) const { return p.kept && p.holders == 1; }

  std::vector<CacheSpec> layers_;
  DType dtype_;
  int64_t max_pages_;
  std::vector<int64_t> layer_offset_;  // bytes of layer i's rows within a page
  int64_t page_bytes_ = 0;
  std::vector<PageState> pages_;
  std::vector<Page> free_;
  int64_t idle_ = 0;
  std::vector<SequenceState> sequences_;
};

}  // namespace hadal
