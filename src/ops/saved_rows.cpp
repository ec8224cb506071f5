#include "ops/saved_rows.h"

#include <algorithm>

#include "core/parallel.h"
#include "kernels/kernels.h"

namespace hadal {
namespace {

constexpr int64_t kTile = 128;
constexpr int64_t kNumbersPerTask = int64_t{16} << 10;

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
  parallel_for(rows, std::max<int64_t>(1, kNumbersPerTask / std::max<int64_t>(cols, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = begin; t < end; ++t) fn(t);
               });
}

}  // namespace

SavedRows::SavedRows(In2 x, As as, Precision precision, Arena& saved)
    : x_(x), as_(as), rows_(x.dim(0)), cols_(x.dim(1)) {
  if (!is_fp8(precision)) return;
  const int64_t row = row_bytes(as, cols_);
  codes_ = saved.make<uint8_t>(rows_ * row).data();
  if (as != As::kBf16) scales_ = saved.floats(rows_ * tiles(cols_)).data();
  const Kernels& kernel = kernels();
  for_rows(rows_, cols_, [&](int64_t t) {
    uint8_t* codes = codes_ + t * row;
    float* scales = scales_ == nullptr ? nullptr : scales_ + t * tiles(cols_);
    switch (as) {
      case As::kFp8:
        return kernel.fp8_encode_row(x.row(t), cols_, codes, scales);
      case As::kE5m6:
        return kernel.e5m6_encode_row(x.row(t), cols_, codes, scales);
      case As::kBf16:
        std::transform(x.row(t), x.row(t) + cols_, reinterpret_cast<bf16*>(codes), to_bf16);
    }
  });
}

In2 SavedRows::get(Arena& scratch) const {
  if (codes_ == nullptr) return x_;
  const Out2 y = scratch.floats(rows_, cols_);
  const int64_t row = row_bytes(as_, cols_);
  const Kernels& kernel = kernels();
  for_rows(rows_, cols_, [&](int64_t t) {
    const uint8_t* codes = codes_ + t * row;
    const float* scales = scales_ == nullptr ? nullptr : scales_ + t * tiles(cols_);
    switch (as_) {
      case As::kFp8:
        return kernel.fp8_decode_row(codes, scales, cols_, y.row(t));
      case As::kE5m6:
        return kernel.e5m6_decode_row(codes, scales, cols_, y.row(t));
      case As::kBf16: {
        const auto* numbers = reinterpret_cast<const bf16*>(codes);
        std::transform(numbers, numbers + cols_, y.row(t), [](bf16 v) { return to_float(v); });
      }
    }
  });
  return y;
}

int64_t SavedRows::bytes() const {
  if (codes_ == nullptr) return 0;
  const int64_t scales = as_ == As::kBf16 ? 0 : rows_ * tiles(cols_) * int64_t{sizeof(float)};
  return rows_ * row_bytes(as_, cols_) + scales;
}

}  // namespace hadal
