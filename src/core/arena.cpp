#include "core/arena.h"

#include <algorithm>
#include <cstring>

#include "core/parallel.h"

namespace hadal {

void* Arena::allocate(int64_t bytes) {
  const int64_t rounded = std::max<int64_t>((bytes + 63) / 64 * 64, 64);
  while (chunk_ < chunks_.size() && offset_ + rounded > chunks_[chunk_].bytes()) {
    ++chunk_;
    offset_ = 0;
  }
  if (chunk_ == chunks_.size()) chunks_.emplace_back(std::max(rounded, chunk_bytes_));
  std::byte* p = chunks_[chunk_].data() + offset_;
  offset_ += rounded;
  used_ += rounded;
  peak_ = std::max(peak_, used_);
  return p;
}

Out2 Arena::zeros(int64_t rows, int64_t cols) {
  constexpr int64_t kGrain = int64_t{32} << 10;  // numbers worth waking a thread for
  Out2 out = floats(rows, cols);
  parallel_for(rows * cols, kGrain, [&](int64_t begin, int64_t end) {
    std::memset(out.data() + begin, 0, static_cast<size_t>(end - begin) * sizeof(float));
  });
  return out;
}

void Arena::reset() {
  chunk_ = 0;
  offset_ = 0;
  used_ = 0;
  if (chunks_.size() > 1) {
    chunks_.clear();
    chunk_bytes_ = std::max(chunk_bytes_, peak_ + peak_ / 8);  // untouched, it takes no memory
  }
}

Arena::Scope::Scope(Arena& arena)
    : arena_(arena), chunk_(arena.chunk_), offset_(arena.offset_), used_(arena.used_) {
}

Arena::Scope::~Scope() {
  arena_.chunk_ = chunk_;
  arena_.offset_ = offset_;
  arena_.used_ = used_;
}

}  // namespace hadal
