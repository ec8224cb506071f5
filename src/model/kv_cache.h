#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace hadal {

// What one layer remembers of one token: `elements` numbers in a row. MLA: the compressed latent
// and the shared rope key, kv_lora_rank + qk_rope_head_dim (V3 report, sec. 2.1.1); GQA: keys and
// values.
struct CacheSpec {
  int64_t elements = 0;
};

// Pages of opaque rows. A page holds page_tokens tokens of one sequence in every layer; a sequence
// is a list of pages and a length. Rows are FP32 or BF16 (rounded to nearest even when written).
// One thread at a time.
class KvCache {
 public:
  static constexpr int64_t kPageTokens = 64;

  // layers[i] is the spec of layer i, the MTP modules' layers last. Grows page by page up to
  // max_tokens over all sequences (0 = no limit).
  KvCache(std::vector<CacheSpec> layers, DType dtype, int64_t max_tokens = 0);

  using Sequence = int32_t;
  Sequence add_sequence();
  void remove_sequence(Sequence sequence);
  // Tokens whose rows may be written and read. extend makes room for `tokens` more:
  // Error{kResource} when max_tokens would be passed, with nothing changed. truncate forgets the
  // tokens from `length` on.
  int64_t length(Sequence sequence) const;
  void extend(Sequence sequence, int64_t tokens);
  void truncate(Sequence sequence, int64_t length);

  // Writes rows [T, elements] of tokens first .. first+T-1; reads them back as FP32.
  void write(Sequence sequence, int64_t layer, int64_t first, In2 rows);
  void read(Sequence sequence, int64_t layer, int64_t first, Out2 rows) const;
  // Page addresses of this layer, for ops/attention.h paged_attention.
  std::span<const std::byte* const> pages(Sequence sequence, int64_t layer) const;

  DType dtype() const { return dtype_; }
  int64_t elements(int64_t layer) const { return layers_[size_t(layer)].elements; }
  int64_t layers() const { return int64_t(layers_.size()); }
  int64_t bytes_per_token() const;  // over all layers
  int64_t bytes_allocated() const;

 private:
  struct SequenceState {
    bool used = false;
    int64_t length = 0;
    std::vector<int32_t> pages;
    std::vector<std::vector<const std::byte*>> addresses;  // [layer][page]
  };
  std::byte* row(const SequenceState& s, int64_t layer, int64_t token) const;
  SequenceState& state(Sequence sequence);
  const SequenceState& state(Sequence sequence) const;

  std::vector<CacheSpec> layers_;
  DType dtype_;
  int64_t max_pages_;
  std::vector<int64_t> layer_offset_;  // bytes of layer i's rows within a page
  int64_t page_bytes_ = 0;
  std::vector<Buffer> pages_;
  std::vector<int32_t> free_pages_;
  std::vector<SequenceState> sequences_;
};

}  // namespace hadal
