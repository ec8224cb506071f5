#include "model/kv_cache.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/parallel.h"

namespace hadal {
namespace {

constexpr int64_t kRowsPerCacheTask = 64;

}  // namespace

KvCache::KvCache(std::vector<CacheSpec> layers, DType dtype, int64_t max_tokens)
    : layers_(std::move(layers)), dtype_(dtype), max_pages_(pages_for(max_tokens)) {
  HADAL_CHECK(dtype == DType::kF32 || dtype == DType::kBF16 || dtype == DType::kF8E4M3, kUsage,
              "cache dtype ", dtype_name(dtype),
              " is not supported; expected F32, BF16 or F8_E4M3");
  HADAL_CHECK(max_tokens >= 0, kUsage, "cache limit ", max_tokens, " tokens is negative");
  for (int64_t layer = 0; layer < this->layers(); ++layer) {
    layer_offset_.push_back(page_bytes_);
    page_bytes_ += kPageTokens * row(layer).bytes();
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
  const int64_t more = pages_for(s.length + tokens) - static_cast<int64_t>(s.pages.size());
  HADAL_CHECK(more <= free_pages(), kResource, "cache is full: ", tokens, " more tokens need ",
              more, " pages and ", free_pages(), " of ", max_pages_, " are free");
  for (int64_t i = 0; i < more; ++i) {
    if (free_.empty()) {
      pages_.push_back({Buffer(page_bytes_)});
      free_.push_back(static_cast<Page>(pages_.size()) - 1);
    }
    append(s, free_.back());
    free_.pop_back();
  }
  s.length += tokens;
}

void KvCache::truncate(Sequence sequence, int64_t length) {
  SequenceState& s = state(sequence);
  HADAL_CHECK(length >= 0 && length <= s.length, kInternal, "cache: cannot cut a sequence of ",
              s.length, " tokens to ", length);
  s.length = length;
  while (static_cast<int64_t>(s.pages.size()) > pages_for(length)) {
    release(s.pages.back());
    s.pages.pop_back();
    for (auto& addresses : s.addresses) addresses.pop_back();
  }
}

void KvCache::attach(Sequence sequence, std::span<const Page> pages) {
  SequenceState& s = state(sequence);
  HADAL_CHECK(s.length == 0, kInternal, "cache: attach to a sequence of ", s.length, " tokens");
  for (Page page : pages) {
    const PageState& p = page_state(page);
    HADAL_CHECK(p.holders > 0, kInternal, "cache: attach of page ", page, ", which is free");
    idle_ -= idle(p) ? 1 : 0;
    append(s, page);
  }
  s.length = static_cast<int64_t>(pages.size()) * kPageTokens;
}

std::span<const KvCache::Page> KvCache::page_list(Sequence sequence) const {
  return state(sequence).pages;
}

void KvCache::replace(Sequence sequence, int64_t index, Page page) {
  SequenceState& s = state(sequence);
  HADAL_CHECK(index >= 0 && (index + 1) * kPageTokens <= s.length, kInternal, "cache: page ", index,
              " of a sequence of ", s.length, " tokens is not a full one");
  PageState& p = page_state(page);
  HADAL_CHECK(p.holders > 0, kInternal, "cache: page ", page, " is free");
  idle_ -= idle(p) ? 1 : 0;
  ++p.holders;
  const auto place = static_cast<size_t>(index);
  release(std::exchange(s.pages[place], page));
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    s.addresses[layer][place] = p.memory.data() + layer_offset_[layer];
  }
}

void KvCache::keep(Page page) {
  PageState& p = page_state(page);
  HADAL_CHECK(p.holders > 0 && !p.kept, kInternal, "cache: page ", page,
              " cannot be kept: it is free or kept already");
  p.kept = true;
  ++p.holders;
}

void KvCache::drop(Page page) {
  PageState& p = page_state(page);
  HADAL_CHECK(p.kept, kInternal, "cache: page ", page, " was not kept");
  idle_ -= idle(p) ? 1 : 0;
  p.kept = false;
  release(page);
}

int64_t KvCache::max_pages() const {
  return max_pages_ == 0 ? std::numeric_limits<Page>::max() : max_pages_;
}

KvCache::PageState& KvCache::page_state(Page page) {
  HADAL_CHECK(page >= 0 && page < static_cast<Page>(pages_.size()), kInternal,
              "cache: there is no page ", page);
  return pages_[static_cast<size_t>(page)];
}

void KvCache::append(SequenceState& s, Page page) {
  PageState& p = page_state(page);
  ++p.holders;
  s.pages.push_back(page);
  for (size_t layer = 0; layer < layers_.size(); ++layer) {
    s.addresses[layer].push_back(p.memory.data() + layer_offset_[layer]);
  }
}

void KvCache::release(Page page) {
  PageState& p = page_state(page);
  --p.holders;
  idle_ += idle(p) ? 1 : 0;
  if (p.holders == 0) free_.push_back(page);
}

void KvCache::write(Sequence sequence, int64_t layer, int64_t first, In2 rows) {
  const SequenceState& s = state(sequence);
  const int64_t width = elements(layer);
  HADAL_CHECK(rows.dim(1) == width, kShape, "cache: rows of ", rows.dim(1), " numbers for layer ",
              layer, ", expected ", width);
  HADAL_CHECK(first >= 0 && first + rows.dim(0) <= s.length, kShape, "cache: tokens ", first,
              " to ", first + rows.dim(0), " of a sequence of ", s.length);
  for (int64_t page = first / kPageTokens; page < pages_for(first + rows.dim(0)); ++page) {
    const Page id = s.pages[static_cast<size_t>(page)];
    HADAL_CHECK(holders(id) == 1, kInternal, "cache: page ", id, " is shared by ", holders(id),
                " and cannot be written");
  }
  const CachedRow format = row(layer);
  for (int64_t t = 0; t < rows.dim(0); ++t) {
    format.write(rows.row(t), row_of(s, layer, first + t));
  }
}

void KvCache::read(Sequence sequence, int64_t layer, int64_t first, Out2 rows) const {
  const SequenceState& s = state(sequence);
  const int64_t width = elements(layer);
  HADAL_CHECK(rows.dim(1) == width && first >= 0 && first + rows.dim(0) <= s.length, kShape,
              "cache: tokens ", first, " to ", first + rows.dim(0), " of a sequence of ", s.length);
  const CachedRow format = row(layer);
  parallel_for(rows.dim(0), kRowsPerCacheTask, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      format.read(row_of(s, layer, first + t), rows.row(t));
    }
  });
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

std::byte* KvCache::row_of(const SequenceState& s, int64_t layer, int64_t token) const {
  const auto page = static_cast<size_t>(s.pages[static_cast<size_t>(token / kPageTokens)]);
  return pages_[page].memory.data() + layer_offset_[static_cast<size_t>(layer)] +
         token % kPageTokens * row(layer).bytes();
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
