#include "quant/fp8.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/parallel.h"

namespace hadal {
namespace {

const std::array<float, 256>& e4m3_values() {
  static const std::array<float, 256> values = [] {
    std::array<float, 256> table{};
    for (size_t code = 0; code < table.size(); ++code) {
      table[code] = to_float(e4m3{static_cast<uint8_t>(code)});
    }
    return table;
  }();
  return values;
}

void check_scales(int64_t rows, int64_t cols, const BlockShape& block, In2 scales) {
  HADAL_CHECK(block.rows >= 1 && block.cols >= 1, kShape, "fp8: blocks of ", block.rows, " x ",
              block.cols, ", expected at least 1 x 1");
  const int64_t down = blocks(rows, block.rows), across = blocks(cols, block.cols);
  HADAL_CHECK(scales.dim(0) == down && scales.dim(1) == across, kShape, "fp8: scales [",
              scales.dim(0), ", ", scales.dim(1), "] for a matrix [", rows, ", ", cols,
              "] in blocks of ", block.rows, " x ", block.cols, ", expected [", down, ", ", across,
              "]");
}

// The smallest power of two that is not below x; x is positive and normal.
float round_up_to_power_of_two(float x) {
  const auto bits = std::bit_cast<uint32_t>(x);
  constexpr uint32_t kMantissa = 0x7fffffu;
  return std::bit_cast<float>((bits & kMantissa) == 0 ? bits : (bits & ~kMantissa) + kMantissa + 1);
}

float scale_for(float amax, const Fp8Encoding& how) {
  amax = std::max(amax, how.min_amax);
  if (amax == 0) return 1;
  const float scale = std::max(amax / kE4m3Max, std::numeric_limits<float>::min());
  return how.ue8m0 ? round_up_to_power_of_two(scale) : scale;
}

// Numbers [top, bottom) x [left, right) of a matrix.
struct Block {
  int64_t top, bottom, left, right;
};

[[noreturn]] void refuse_number(In2 in, const Block& block) {
  for (int64_t r = block.top; r < block.bottom; ++r) {
    for (int64_t c = block.left; c < block.right; ++c) {
      HADAL_CHECK(std::isfinite(in.row(r)[c]), kFormat, "fp8: number [", r, ", ", c, "] is ",
                  in.row(r)[c], ", expected finite numbers");
    }
  }
  throw Error(ErrorKind::kInternal, "fp8: the numbers changed while they were encoded");
}

float largest_magnitude(In2 in, const Block& block) {
  float amax = 0;
  bool finite = true;
  for (int64_t r = block.top; r < block.bottom; ++r) {
    for (int64_t c = block.left; c < block.right; ++c) {
      const float x = std::abs(in.row(r)[c]);
      finite &= x <= std::numeric_limits<float>::max();
      amax = std::max(amax, x);
    }
  }
  if (!finite) refuse_number(in, block);
  return amax;
}

}  // namespace

void decode_fp8(const EncodedIn& in, Out2 out) {
  const int64_t rows = out.dim(0), cols = out.dim(1);
  check_scales(rows, cols, in.block, in.scales);
  const std::array<float, 256>& values = e4m3_values();
  parallel_for(rows, std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(cols, 1)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t r = begin; r < end; ++r) {
                   const std::byte* codes = in.codes + r * cols;
                   const float* scales = in.scales.row(r / in.block.rows);
                   float* y = out.row(r);
                   for (int64_t left = 0, b = 0; left < cols; left += in.block.cols, ++b) {
                     const int64_t right = std::min(cols, left + in.block.cols);
                     for (int64_t c = left; c < right; ++c) {
                       y[c] = values[std::to_integer<size_t>(codes[c])] * scales[b];
                     }
                   }
                 }
               });
}

void encode_fp8(In2 in, const EncodedOut& out, const Fp8Encoding& how) {
  const int64_t rows = in.dim(0), cols = in.dim(1);
  check_scales(rows, cols, out.block, out.scales);
  const auto encode_block = [&](int64_t down, int64_t across) {
    const int64_t top = down * out.block.rows, left = across * out.block.cols;
    const Block block{top, std::min(rows, top + out.block.rows), left,
                      std::min(cols, left + out.block.cols)};
    const float scale = scale_for(largest_magnitude(in, block), how);
    out.scales.row(down)[across] = scale;
    for (int64_t r = block.top; r < block.bottom; ++r) {
      for (int64_t c = block.left; c < block.right; ++c) {
        out.codes[r * cols + c] = std::byte{to_e4m3(in.row(r)[c] / scale).bits};
      }
    }
  };
  parallel_for(out.scales.dim(0), 1, [&](int64_t begin, int64_t end) {
    for (int64_t down = begin; down < end; ++down) {
      for (int64_t across = 0; across < out.scales.dim(1); ++across) encode_block(down, across);
    }
  });
}

}  // namespace hadal
