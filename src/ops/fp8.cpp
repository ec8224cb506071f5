#include "ops/fp8.h"

#include <algorithm>
#include <array>

#include "core/parallel.h"
#include "ops/matrix_product.h"
#include "quant/fp8.h"

namespace hadal {
namespace {

constexpr int64_t kBandRows = 128;

void grow(Buffer& buffer, int64_t bytes) {
  if (buffer.bytes() < bytes) buffer = Buffer(bytes + bytes / 4);
}

}  // namespace

GemmOperand Fp8View::lanes_are_rows() const {
  GemmOperand x{.data = codes, .stride = cols};
  x.scales = {scales, blocks(cols, tile.cols), 1, tile.rows, 0};
  return x;
}

GemmOperand Fp8View::lanes_are_columns() const {
  GemmOperand x{.data = codes, .stride = cols};
  x.scales = {scales, 1, blocks(cols, tile.cols), tile.cols, 0};
  return x;
}

// At most 128 rows of one matrix, beginning where a tile begins.
struct Fp8Matrices::Band {
  size_t matrix;
  int64_t top;
  In2 x;
  const int32_t* tokens;
  int64_t first, rows;  // of x, or of tokens
};

// Memory for the matrices whose sizes and tiles views_ has.
void Fp8Matrices::place() {
  int64_t codes = 0, scales = 0;
  for (const Fp8View& v : views_) {
    codes += v.rows * v.cols;
    scales += blocks(v.rows, v.tile.rows) * blocks(v.cols, v.tile.cols);
  }
  grow(codes_, codes);
  grow(scales_, scales * int64_t{sizeof(float)});
  auto* code = reinterpret_cast<uint8_t*>(codes_.data());
  auto* scale = reinterpret_cast<float*>(scales_.data());
  for (Fp8View& v : views_) {
    v.codes = code;
    v.scales = scale;
    code += v.rows * v.cols;
    scale += blocks(v.rows, v.tile.rows) * blocks(v.cols, v.tile.cols);
  }
}

void Fp8Matrices::encode_bands(const std::vector<Band>& bands) {
  const Kernels& kernel = kernels();
  parallel_tasks(static_cast<int64_t>(bands.size()), [&](int64_t i) {
    const Band& b = bands[static_cast<size_t>(i)];
    const Fp8View& v = views_[b.matrix];
    auto* codes = const_cast<uint8_t*>(v.codes) + b.top * v.cols;
    auto* scales = const_cast<float*>(v.scales) + b.top / v.tile.rows * blocks(v.cols, v.tile.cols);
    const int32_t* tokens = b.tokens == nullptr ? nullptr : b.tokens + b.first;
    const float* x = tokens == nullptr ? b.x.row(b.first) : b.x.data();
    if (v.tile == kFp8Block) {
      kernel.fp8_encode_blocks(x, b.x.row_stride(), tokens, b.rows, v.cols, codes, scales);
    } else if (v.tile == kFp8Column) {
      kernel.fp8_encode_columns(x, b.x.row_stride(), tokens, b.rows, v.cols, codes, scales);
    } else {
      for (int64_t r = 0; r < b.rows; ++r) {
        const int64_t from = tokens == nullptr ? r : tokens[r];
        kernel.fp8_encode_row(x + from * b.x.row_stride(), v.cols, codes + r * v.cols,
                              scales + r * blocks(v.cols, kFp8Row.cols));
      }
    }
  });
}

void Fp8Matrices::encode(In2 x, ExpertRows rows, BlockShape tile) {
  views_.clear();
  static thread_local std::vector<Band> bands;  // kept, so that a step allocates nothing
  bands.clear();
  for (size_t e = 0; e + 1 < rows.offsets.size(); ++e) {
    const int64_t first = rows.offsets[e], count = rows.offsets[e + 1] - first;
    views_.push_back({nullptr, count, x.dim(1), nullptr, tile});
    for (int64_t top = 0; top < count; top += kBandRows) {
      bands.push_back(
          {e, top, x, rows.tokens.data(), first + top, std::min(kBandRows, count - top)});
    }
  }
  place();
  encode_bands(bands);
}

void Fp8Matrices::encode(In2 x, BlockShape tile) {
  encode(x, {{}, std::array<int64_t, 2>{0, x.dim(0)}}, tile);
}

void Fp8Matrices::encode_weights(std::span<const WeightView> w) {
  views_.clear();
  static thread_local std::vector<Band> bands;
  bands.clear();
  for (size_t i = 0; i < w.size(); ++i) {
    HADAL_CHECK(w[i].dtype == DType::kF32, kShape, "FP8 products: a weight is of type ",
                dtype_name(w[i].dtype), ", expected F32");
    const In2 x(static_cast<const float*>(w[i].data), {w[i].rows, w[i].cols}, w[i].row_stride);
    views_.push_back({nullptr, w[i].rows, w[i].cols, nullptr, kFp8Block});
    for (int64_t top = 0; top < w[i].rows; top += kBandRows) {
      bands.push_back({i, top, x, nullptr, top, std::min(kBandRows, w[i].rows - top)});
    }
  }
  place();
  encode_bands(bands);
}

void Fp8Backward::encode_for_dx(In2 dy, ExpertRows dy_rows, std::span<const WeightView> w,
                                bool blocks_of_dy) {
  w_.encode_weights(w);
  dy_for_dx_.encode(dy, dy_rows, blocks_of_dy ? kFp8Block : kFp8Row);
}

void Fp8Backward::encode_for_dw(In2 dy, ExpertRows dy_rows, In2 x, ExpertRows x_rows,
                                bool blocks_of_dy) {
  dy_for_dw_.encode(dy, dy_rows, blocks_of_dy ? kFp8Block : kFp8Column);
  x_.encode(x, x_rows, kFp8Column);
}

}  // namespace hadal
