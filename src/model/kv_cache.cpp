#include "model/kv_cache.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace hadal {

KvCache::KvCache(std::vector<CacheSpec> layers, DType dtype, int64_t max_tokens)
    : layers_(std::move(layers)),
      dtype_(dtype),
      max_pages_(max_tokens == 0 ? 0 : (max_tokens + kPageTokens - 1) / kPageTokens) {
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16, kUsage, "cache dtype ",
              dtype_name(dtype), " is not supported; expected F32 or BF16");
  HADAL_CHECK(max_tokens >= 0, kUsage, "cache limit ", max_tokens, " tokens is negative");
  for (const CacheSpec& layer : layers_) {
    layer_offset_.push_back(page_bytes_);
    page_bytes_ += kPageTokens * layer.elements * dtype_size(dtype_);
  }
}

KvCache::Sequence KvCache::add_sequence() {
  const auto free = std::find_if(sequences_.begin(), sequences_.end(),
                                 [](const SequenceState& s) { return !s.used; });
  const auto index = free - sequences_.begin();
  if (free == sequences_.end()) sequences_.emplace_back();
  SequenceState& s = sequences_[static_cast<size_t>(index)];
  s = {};
  s.used = true;
  s.addresses.resize(layers_.size());
  return static_cast<Sequence>(index);
}

void KvCache::remove_sequence(Sequence sequence) {
  truncate(sequence, 0);
  state(sequence).used = false;
}

int64_t KvCache::length(Sequence sequence) const {
  return state(sequence).length;
}

void KvCache::extend(Sequence sequence, int64_t tokens) {
  SequenceState& s = state(sequence);
  HADAL_CHECK(tokens >= 0, kInternal, "cache: extend by ", tokens, " tokens");
  const int64_t wanted = (s.length + tokens + kPageTokens - 1) / kPageTokens;
  const int64_t more = wanted - static_cast<int64_t>(s.pages.size());
  const int64_t in_use =
      static_cast<int64_t>(pages_.size()) - static_cast<int64_t>(free_pages_.size());
  HADAL_CHECK(max_pages_ == 0 || in_use + more <= max_pages_, kResource, "cache is full: ", tokens,
              " more tokens need ", more, " pages and ", max_pages_ - in_use, " of ", max_pages_,
              " are free");
  for (int64_t i = 0; i < more; ++i) {
    if (free_pages_.empty()) {
      free_pages_.push_back(static_cast<int32_t>(pages_.size()));
      pages_.emplace_back(page_bytes_);
    }
    const int32_t page = free_pages_.back();
    free_pages_.pop_back();
    s.pages.push_back(page);
    for (size_t layer = 0; layer < layers_.size(); ++layer) {
      s.addresses[layer].push_back(pages_[static_cast<size_t>(page)].data() + layer_offset_[layer]);
    }
  }
  s.length += tokens;
}

void KvCache::truncate(Sequence sequence, int64_t length) {
  SequenceState& s = state(sequence);
  HADAL_CHECK(length >= 0 && length <= s.length, kInternal, "cache: cannot cut a sequence of ",
              s.length, " tokens to ", length);
  s.length = length;
  const auto keep = static_cast<size_t>((length + kPageTokens - 1) / kPageTokens);
  while (s.pages.size() > keep) {
    free_pages_.push_back(s.pages.back());
    s.pages.pop_back();
    for (auto& addresses : s.addresses) addresses.pop_back();
  }
}

void KvCache::write(Sequence sequence, int64_t layer, int64_t first, In2 rows) {
  const SequenceState& s = state(sequence);
  const int64_t width = elements(layer);
  HADAL_CHECK(rows.dim(1) == width, kShape, "cache: rows of ", rows.dim(1), " numbers for layer ",
              layer, ", expected ", width);
  HADAL_CHECK(first >= 0 && first + rows.dim(0) <= s.length, kShape, "cache: tokens ", first,
              " to ", first + rows.dim(0), " of a sequence of ", s.length);
  for (int64_t t = 0; t < rows.dim(0); ++t) {
    std::byte* target = row(s, layer, first + t);
    if (dtype_ == DType::kF32) {
      std::memcpy(target, rows.row(t), static_cast<size_t>(width) * sizeof(float));
      continue;
    }
    auto* out = reinterpret_cast<bf16*>(target);
    for (int64_t d = 0; d < width; ++d) out[d] = to_bf16(rows.row(t)[d]);
  }
}

void KvCache::read(Sequence sequence, int64_t layer, int64_t first, Out2 rows) const {
  const SequenceState& s = state(sequence);
  const int64_t width = elements(layer);
  HADAL_CHECK(rows.dim(1) == width && first >= 0 && first + rows.dim(0) <= s.length, kShape,
              "cache: tokens ", first, " to ", first + rows.dim(0), " of a sequence of ", s.length);
  for (int64_t t = 0; t < rows.dim(0); ++t) {
    const std::byte* source = row(s, layer, first + t);
    if (dtype_ == DType::kF32) {
      std::memcpy(rows.row(t), source, static_cast<size_t>(width) * sizeof(float));
      continue;
    }
    const auto* in = reinterpret_cast<const bf16*>(source);
    for (int64_t d = 0; d < width; ++d) rows.row(t)[d] = to_float(in[d]);
  }
}

std::span<const std::byte* const> KvCache::pages(Sequence sequence, int64_t layer) const {
  return state(sequence).addresses[static_cast<size_t>(layer)];
}

int64_t KvCache::bytes_per_token() const {
  return page_bytes_ / kPageTokens;
}

int64_t KvCache::bytes_allocated() const {
  return page_bytes_ * static_cast<int64_t>(pages_.size());
}

std::byte* KvCache::row(const SequenceState& s, int64_t layer, int64_t token) const {
  const auto page = static_cast<size_t>(s.pages[static_cast<size_t>(token / kPageTokens)]);
  return pages_[page].data() + layer_offset_[static_cast<size_t>(layer)] +
         token % kPageTokens * elements(layer) * dtype_size(dtype_);
}

KvCache::SequenceState& KvCache::state(Sequence sequence) {
  return const_cast<SequenceState&>(std::as_const(*this).state(sequence));
}

const KvCache::SequenceState& KvCache::state(Sequence sequence) const {
  HADAL_CHECK(sequence >= 0 && sequence < static_cast<Sequence>(sequences_.size()) &&
                  sequences_[static_cast<size_t>(sequence)].used,
              kInternal, "cache: there is no sequence ", sequence);
  return sequences_[static_cast<size_t>(sequence)];
}

}  // namespace hadal
