#include "ops/fp8.h"

#include <algorithm>
#include <array>

#include "core/parallel.h"
#include "ops/matrix_product.h"

namespace hadal {
namespace {

constexpr int64_t kBandRows = 128;

void grow(Buffer& buffer, int64_t bytes) {
  if (buffer.bytes() < bytes) buffer = Buffer(bytes + bytes / 4);
}

int64_t scales_of(const WeightView& x) {
  return blocks(x.rows, x.tile_rows) * blocks(x.cols, x.tile_cols);
}

bool has_tiles(const WeightView& x, BlockShape tile) {
  return x.dtype == DType::kBF16 && x.scales != nullptr &&
         BlockShape{x.tile_rows, x.tile_cols} == tile;
}

// What a file's codes and scales mean, where to.data and to.scales point.
void widen_codes(const WeightView& w, const WeightView& to) {
  HADAL_CHECK(w.scales != nullptr && w.scale_row == 0, kShape,
              "FP8 products: codes without scales, or not from the first row on");
  std::copy_n(w.scales, scales_of(to), const_cast<float*>(to.scales));
  parallel_for(w.rows, kBandRows, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const e4m3* codes = static_cast<const e4m3*>(w.data) + r * w.row_stride;
      bf16* numbers = static_cast<bf16*>(const_cast<void*>(to.data)) + r * to.cols;
      for (int64_t c = 0; c < w.cols; ++c) numbers[c] = to_bf16(to_float(codes[c]));
    }
  });
}

}  // namespace

GemmOperand lanes_are_rows(WeightView x) {
  GemmOperand a = operand(x);
  a.scales = {x.scales, blocks(x.cols, x.tile_cols), 1, x.tile_rows, 0};
  return a;
}

GemmOperand lanes_are_columns(WeightView x) {
  GemmOperand a = operand(x);
  a.scales = {x.scales, 1, blocks(x.cols, x.tile_cols), x.tile_cols, 0};
  return a;
}

// At most 128 rows of one matrix, beginning where a tile begins.
struct Fp8Matrices::Band {
  size_t matrix;
  int64_t top;
  In2 x;
  const int32_t* tokens;
  int64_t first, rows;  // of x, or of tokens
};

void Fp8Matrices::add(int64_t rows, int64_t cols, BlockShape tile) {
  WeightView& view = views_.emplace_back(DType::kBF16, nullptr, rows, cols);
  view.tile_rows = tile.rows;
  view.tile_cols = tile.cols;
}

// Memory for the matrices of views_ that have none yet.
void Fp8Matrices::place() {
  int64_t numbers = 0, scales = 0;
  for (const WeightView& v : views_) {
    if (v.data != nullptr) continue;
    numbers += v.rows * v.cols;
    scales += scales_of(v);
  }
  grow(numbers_, numbers * int64_t{sizeof(bf16)});
  grow(scales_, scales * int64_t{sizeof(float)});
  auto* number = reinterpret_cast<bf16*>(numbers_.data());
  auto* scale = reinterpret_cast<float*>(scales_.data());
  for (WeightView& v : views_) {
    if (v.data != nullptr) continue;
    v.data = number;
    v.scales = scale;
    number += v.rows * v.cols;
    scale += scales_of(v);
  }
}

void Fp8Matrices::round_bands(const std::vector<Band>& bands) const {
  const Kernels& kernel = kernels();
  parallel_tasks(static_cast<int64_t>(bands.size()), [&](int64_t i) {
    const Band& b = bands[static_cast<size_t>(i)];
    const WeightView& v = views_[b.matrix];
    const BlockShape tile{v.tile_rows, v.tile_cols};
    const int64_t across = blocks(v.cols, tile.cols);
    auto* numbers = static_cast<uint16_t*>(const_cast<void*>(v.data)) + b.top * v.cols;
    auto* scales = const_cast<float*>(v.scales) + b.top / tile.rows * across;
    const int32_t* tokens = b.tokens == nullptr ? nullptr : b.tokens + b.first;
    const float* x = tokens == nullptr ? b.x.row(b.first) : b.x.data();
    if (tile == kFp8Block) {
      kernel.fp8_round_blocks(x, b.x.row_stride(), tokens, b.rows, v.cols, numbers, scales);
    } else if (tile == kFp8Column) {
      kernel.fp8_round_columns(x, b.x.row_stride(), tokens, b.rows, v.cols, numbers, scales);
    } else {
      for (int64_t r = 0; r < b.rows; ++r) {
        const int64_t from = tokens == nullptr ? r : tokens[r];
        kernel.fp8_round_row(x + from * b.x.row_stride(), v.cols, numbers + r * v.cols,
                             scales + r * across);
      }
    }
  });
}

void Fp8Matrices::round(In2 x, ExpertRows rows, BlockShape tile) {
  views_.clear();
  static thread_local std::vector<Band> bands;  // kept, so that a step allocates nothing
  bands.clear();
  for (size_t e = 0; e + 1 < rows.offsets.size(); ++e) {
    const int64_t first = rows.offsets[e], count = rows.offsets[e + 1] - first;
    add(count, x.dim(1), tile);
    for (int64_t top = 0; top < count; top += kBandRows) {
      bands.push_back(
          {e, top, x, rows.tokens.data(), first + top, std::min(kBandRows, count - top)});
    }
  }
  place();
  round_bands(bands);
}

WeightView Fp8Matrices::round(WeightView x, BlockShape tile) {
  if (has_tiles(x, tile)) return x;
  round(x.floats(), {{}, std::array<int64_t, 2>{0, x.rows}}, tile);
  return views_[0];
}

void Fp8Matrices::round_weights(std::span<const WeightView> w) {
  views_.clear();
  static thread_local std::vector<Band> bands;
  bands.clear();
  for (size_t i = 0; i < w.size(); ++i) {
    if (has_tiles(w[i], kFp8Block)) {
      views_.push_back(w[i]);
      continue;
    }
    add(w[i].rows, w[i].cols, kFp8Block);
    if (w[i].dtype == DType::kF8E4M3) continue;
    HADAL_CHECK(w[i].dtype == DType::kF32, kShape, "FP8 products: a weight is of type ",
                dtype_name(w[i].dtype), ", expected F32 or F8_E4M3");
    for (int64_t top = 0; top < w[i].rows; top += kBandRows) {
      bands.push_back({i, top, w[i].floats(), nullptr, top, std::min(kBandRows, w[i].rows - top)});
    }
  }
  place();
  round_bands(bands);
  for (size_t i = 0; i < w.size(); ++i) {
    if (w[i].dtype == DType::kF8E4M3) widen_codes(w[i], views_[i]);
  }
}

void round_to_fp8(In2 w, bf16* numbers, float* scales) {
  const int64_t across = blocks(w.dim(1), kFp8Block.cols);
  for (int64_t top = 0; top < w.dim(0); top += kBandRows) {
    kernels().fp8_round_blocks(w.row(top), w.row_stride(), nullptr,
                               std::min(kBandRows, w.dim(0) - top), w.dim(1),
                               reinterpret_cast<uint16_t*>(numbers) + top * w.dim(1),
                               scales + top / kFp8Block.rows * across);
  }
}

}  // namespace hadal
