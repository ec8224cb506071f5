#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <type_traits>
#include <vector>

#include "core/dtype.h"
#include "core/error.h"

namespace hadal {

// Non-owning, row-major window onto memory. The last dimension is contiguous; rows may be strided.
// For Rank 3 the planes are dense: plane stride = dim(1) * row_stride.
template <class T, int Rank>
class View {
 public:
  View() = default;
  View(T* data, std::array<int64_t, Rank> shape)
      : data_(data), shape_(shape), row_stride_(shape[Rank - 1]) {}
  View(T* data, std::array<int64_t, Rank> shape, int64_t row_stride)
      : data_(data), shape_(shape), row_stride_(row_stride) {}
  // Also converts a mutable view to a const one.
  template <class U>
  requires(std::is_same_v<const U, T> && !std::is_const_v<U>)
      // NOLINTNEXTLINE(google-explicit-constructor)
      View(const View<U, Rank>& other)
      : data_(other.data()), shape_(other.shape()), row_stride_(other.row_stride()) {}

  T* data() const { return data_; }
  T* row(int64_t i) const { return data_ + i * row_stride_; }
  int64_t dim(int axis) const { return shape_[static_cast<size_t>(axis)]; }
  const std::array<int64_t, Rank>& shape() const { return shape_; }
  int64_t row_stride() const { return row_stride_; }
  bool empty() const { return data_ == nullptr; }
  int64_t size() const {
    int64_t n = 1;
    for (int64_t d : shape_) n *= d;
    return n;
  }
  // Rows [begin, end) of a matrix; columns [begin, end) of a matrix.
  View rows(int64_t begin, int64_t end) const requires(Rank == 2) {
    return View(row(begin), {end - begin, shape_[1]}, row_stride_);
  }
  View cols(int64_t begin, int64_t end) const requires(Rank == 2) {
    return View(data_ + begin, {shape_[0], end - begin}, row_stride_);
  }

 private:
  T* data_ = nullptr;
  std::array<int64_t, Rank> shape_{};
  int64_t row_stride_ = 0;
};

using In1 = View<const float, 1>;
using In2 = View<const float, 2>;
using Out1 = View<float, 1>;
using Out2 = View<float, 2>;
using Ids = View<const int32_t, 1>;  // token ids, row lists

namespace detail {
// Bytes of an array of this shape; Error{kResource} for a negative dimension or beyond 2^60.
int64_t array_bytes(std::span<const int64_t> shape, size_t element_bytes);

struct FreeBytes {
  int64_t mapped = 0;  // bytes from mmap, or 0 when from aligned_alloc
  void operator()(std::byte* p) const;
};
}  // namespace detail

// Zeroed bytes at 64-byte alignment; large ones come straight from the kernel on huge pages.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes);  // Error{kResource} when the system has no memory
  std::byte* data() const { return data_.get(); }
  int64_t bytes() const { return data_ == nullptr ? 0 : bytes_; }  // 0 when moved from

 private:
  std::unique_ptr<std::byte[], detail::FreeBytes> data_;
  int64_t bytes_ = 0;
};

// Owns numbers of one type. Moves, never copies by accident: clone() says it.
template <class T, int Rank>
class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(std::array<int64_t, Rank> shape)
      : shape_(shape), buffer_(detail::array_bytes(shape, sizeof(T))) {}
  View<T, Rank> view() const { return {data(), shape_}; }
  // NOLINTNEXTLINE(google-explicit-constructor)
  operator View<T, Rank>() const { return view(); }
  // NOLINTNEXTLINE(google-explicit-constructor)
  operator View<const T, Rank>() const { return view(); }
  T* data() const { return reinterpret_cast<T*>(buffer_.data()); }
  T* row(int64_t i) const { return view().row(i); }
  int64_t dim(int axis) const { return shape_[static_cast<size_t>(axis)]; }
  int64_t size() const { return view().size(); }
  bool empty() const { return buffer_.bytes() == 0; }

 private:
  std::array<int64_t, Rank> shape_{};
  Buffer buffer_;
};

// FP8 weights have one scale for each block of so many rows and columns (V3 report, 3.3.2).
inline constexpr int64_t kFp8BlockRows = 128, kFp8BlockCols = 128;

// A read-only matrix whose dtype is known at run time: a weight as a Linear sees it, [rows, cols] =
// [out_features, in_features], or rows that were kept for a backward. dtype is F32, BF16 or F16;
// F8_E4M3 for codes with scales, number = code * scale; or U8 for a quantised weight, in panels of
// blocks that hold codes and scales (kernels/panels.h).
struct WeightView {
  DType dtype = DType::kF32;
  const void* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;   // elements
  int64_t block_bytes = 0;  // of a quantised one, whose row_stride means nothing; else 0
  // Unless null, one for each tile of tile_rows x tile_cols numbers, row by row: a number means
  // itself times its tile's. Of codes, tiles are 128 x 128, and this is row scale_row and on of the
  // matrix that has them.
  const float* scales = nullptr;
  int64_t tile_rows = 0, tile_cols = 0;
  int64_t scale_row = 0;

  WeightView() = default;
  WeightView(DType type, const void* p, int64_t r, int64_t c)
      : dtype(type), data(p), rows(r), cols(c), row_stride(c) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  WeightView(In2 w) : data(w.data()), rows(w.dim(0)), cols(w.dim(1)), row_stride(w.row_stride()) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  WeightView(Out2 w) : WeightView(In2(w)) {}
  // NOLINTNEXTLINE(google-explicit-constructor)
  WeightView(const Tensor<float, 2>& w) : WeightView(In2(w)) {}

  In2 floats() const {
    HADAL_CHECK(dtype == DType::kF32, kShape, "a matrix is ", dtype_name(dtype), ", expected F32");
    return {static_cast<const float*>(data), {rows, cols}, row_stride};
  }

  // Not of a quantised one, nor of numbers with scales other than codes.
  WeightView row_range(int64_t begin, int64_t end) const {
    WeightView part = *this;
    part.data = static_cast<const std::byte*>(data) + begin * row_stride * dtype_size(dtype);
    part.rows = end - begin;
    part.scale_row += begin;
    return part;
  }
  // From one row of blocks to the next.
  int64_t scale_stride() const { return (cols + kFp8BlockCols - 1) / kFp8BlockCols; }
};

}  // namespace hadal
