#pragma once
// Internal to ops/: how operations on rows cut their work, and the shape checks they share.
#include <algorithm>
#include <array>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "core/parallel.h"
#include "core/tensor.h"

namespace hadal {

// How many rows (or columns) of so many numbers are worth waking a thread for.
inline int64_t task_grain(int64_t numbers) {
  constexpr int64_t kNumbersPerTask = int64_t{16} << 10;
  return std::max<int64_t>(1, kNumbersPerTask / std::max<int64_t>(numbers, 1));
}

// Error{kShape} unless `got` has the shape of `want`.
template <class T, class U>
void check_same_shape(const char* op, const char* name, View<T, 2> got, const char* wanted_name,
                      View<U, 2> want) {
  HADAL_CHECK(got.shape() == want.shape(), kShape, op, ": ", name, " is [", got.dim(0), ", ",
              got.dim(1), "] but ", wanted_name, " is [", want.dim(0), ", ", want.dim(1), "]");
}
template <class T>
void check_length(const char* op, const char* name, View<T, 1> got, int64_t want,
                  const char* unit) {
  HADAL_CHECK(got.dim(0) == want, kShape, op, ": ", name, " has ", got.dim(0),
              " entries, expected ", want, ", one for each ", unit);
}

// Adds to each of `sums` its column sums over `rows` rows: block(begin, end, partials) adds the
// rows [begin, end) to partials[i], which is as long as the i-th of `sums` and zero at first.
// Blocks are cut by the number of rows alone and added in order: the same bits for any number of
// threads.
template <class Block, size_t N>
void add_row_sums(int64_t rows, const std::array<Out1, N>& sums, Block block) {
  constexpr int64_t kRowsPerBlock = 32;
  static thread_local std::vector<float> scratch;  // kept, so that a step allocates nothing
  const int64_t blocks = (rows + kRowsPerBlock - 1) / kRowsPerBlock;
  int64_t width = 0;
  for (const Out1& sum : sums) width += sum.dim(0);
  if (scratch.size() < static_cast<size_t>(blocks * width)) {
    scratch.resize(static_cast<size_t>(blocks * width));
  }
  float* const all = scratch.data();

  parallel_for(blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t b = first; b < last; ++b) {
      float* partial = all + b * width;
      std::fill_n(partial, width, 0.0f);
      std::array<float*, N> partials{};
      for (size_t i = 0; i < N; ++i) partials[i] = partial, partial += sums[i].dim(0);
      block(b * kRowsPerBlock, std::min(rows, (b + 1) * kRowsPerBlock), partials);
    }
  });
  int64_t offset = 0;
  for (const Out1& sum : sums) {
    parallel_for(sum.dim(0), std::max<int64_t>(64, task_grain(blocks)),
                 [&](int64_t begin, int64_t end) {
                   for (int64_t b = 0; b < blocks; ++b) {
                     const float* partial = all + b * width + offset;
                     for (int64_t d = begin; d < end; ++d) sum.data()[d] += partial[d];
                   }
                 });
    offset += sum.dim(0);
  }
}

}  // namespace hadal
