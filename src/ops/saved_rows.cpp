#include "ops/saved_rows.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/kernels.h"

namespace hadal {
namespace {

constexpr int64_t kTile = 128;
constexpr int64_t kSavedPerTask = int64_t{16} << 10;

int64_t tiles(int64_t cols) {
  return (cols + kTile - 1) / kTile;
}

int64_t row_bytes(SavedRows::As as, int64_t cols) {
  switch (as) {
    case SavedRows::As::kFp8:
      return cols;
    case SavedRows::As::kE5m6:
      return cols / kTile * (kTile + kTile / 2) + cols % kTile + (cols % kTile + 1) / 2;
    case SavedRows::As::kBf16:
      return 2 * cols;
  }
  return 0;
}

template <class Fn>
void for_rows(int64_t rows, int64_t cols, Fn fn) {
  parallel_for(rows, std::max<int64_t>(1, kSavedPerTask / std::max<int64_t>(cols, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = begin; t < end; ++t) fn(t);
               });
}

}  // namespace

SavedRows::SavedRows(int64_t rows, int64_t cols, As as, Precision precision, Arena& saved)
    : as_(is_fp8(precision) ? as : As::kBf16), rows_(rows), cols_(cols) {
  HADAL_CHECK(precision != Precision::kFp32, kInternal, "rows in FP32 are kept where they are");
  codes_ = saved.make<uint8_t>(rows * row_bytes(as_, cols)).data();
  if (as_ != As::kBf16) scales_ = saved.floats(rows * tiles(cols)).data();
}

SavedRows::SavedRows(In2 x, As as, Precision precision, Arena& saved) {
  if (precision != Precision::kFp32) {
    *this = SavedRows(x.dim(0), x.dim(1), as, precision, saved);
    keep(0, x);
  }
  x_ = x;
}

void SavedRows::keep(int64_t first, In2 rows) const {
  const int64_t row = row_bytes(as_, cols_);
  const Kernels& kernel = kernels();
  for_rows(rows.dim(0), cols_, [&](int64_t t) {
    uint8_t* codes = codes_ + (first + t) * row;
    float* scales = scales_ == nullptr ? nullptr : scales_ + (first + t) * tiles(cols_);
    switch (as_) {
      case As::kFp8:
        return kernel.fp8_encode_row(rows.row(t), cols_, codes, scales);
      case As::kE5m6:
        return kernel.e5m6_encode_row(rows.row(t), cols_, codes, scales);
      case As::kBf16:
        return kernel.to_bf16_row(rows.row(t), reinterpret_cast<uint16_t*>(codes), cols_);
    }
  });
}

WeightView SavedRows::operand(Arena& scratch) const {
  return as_ == As::kBf16 && codes_ != nullptr ? bf16_rows() : WeightView(get(scratch));
}

In2 SavedRows::get(Arena& scratch) const {
  if (codes_ == nullptr) return x_;
  return get(0, rows_, scratch.floats(rows_, cols_));
}

In2 SavedRows::get(int64_t begin, int64_t end, Out2 memory) const {
  if (codes_ == nullptr) return x_.rows(begin, end);
  const int64_t row = row_bytes(as_, cols_);
  const Kernels& kernel = kernels();
  for_rows(end - begin, cols_, [&](int64_t t) {
    const uint8_t* codes = codes_ + (begin + t) * row;
    const float* scales = scales_ == nullptr ? nullptr : scales_ + (begin + t) * tiles(cols_);
    switch (as_) {
      case As::kFp8:
        return kernel.fp8_decode_row(codes, scales, cols_, memory.row(t));
      case As::kE5m6:
        return kernel.e5m6_decode_row(codes, scales, cols_, memory.row(t));
      case As::kBf16:
        return kernel.from_bf16_row(reinterpret_cast<const uint16_t*>(codes), memory.row(t), cols_);
    }
  });
  return memory;
}

int64_t SavedRows::bytes() const {
  if (codes_ == nullptr) return 0;
  const int64_t scales = as_ == As::kBf16 ? 0 : rows_ * tiles(cols_) * int64_t{sizeof(float)};
  return rows_ * row_bytes(as_, cols_) + scales;
}

}  // namespace hadal
