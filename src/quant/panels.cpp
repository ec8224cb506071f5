#include "quant/panels.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"

namespace hadal {
namespace {

// fn(panel, block, its first byte) for all blocks, panels split over threads.
template <class Fn>
void for_each_block(int64_t rows, int64_t cols, int64_t block_bytes, Fn fn) {
  const int64_t across = blocks(cols, kPanelCols);
  const int64_t grain = std::max<int64_t>(1, (1 << 16) / (kPanelRows * kPanelCols * (across + 1)));
  parallel_for(blocks(rows, kPanelRows), grain, [&](int64_t begin, int64_t end) {
    for (int64_t panel = begin; panel < end; ++panel) {
      for (int64_t b = 0; b < across; ++b) fn(panel, b, (panel * across + b) * block_bytes);
    }
  });
}

// x: 32 numbers of row r from column `left` on.
void check_finite(std::string_view format, const float* x, int64_t r, int64_t left) {
  uint32_t bad = 0;
  for (int64_t c = 0; c < kPanelCols; ++c) {
    bad |= static_cast<uint32_t>((std::bit_cast<uint32_t>(x[c]) & 0x7f800000u) == 0x7f800000u);
  }
  if (bad == 0) return;
  const float* first = std::find_if(x, x + kPanelCols, [](float v) { return !std::isfinite(v); });
  throw Error(ErrorKind::kFormat, str(format, ": number [", r, ", ", left + (first - x), "] is ",
                                      *first, ", expected finite numbers"));
}

}  // namespace

float panel_scale(float x) {
  constexpr float kSmallest = 0x1p-126f;
  return std::copysign(std::max(std::abs(to_float(to_bf16(x))), kSmallest), x);
}

void encode_panels(const PanelCodec& codec, In2 in, const EncodedOut& out) {
  const int64_t rows = in.dim(0), cols = in.dim(1);
  for_each_block(rows, cols, codec.block_bytes, [&](int64_t panel, int64_t b, int64_t at) {
    std::byte* block = out.codes + at;
    const int64_t left = b * kPanelCols, width = std::min(kPanelCols, cols - left);
    for (int64_t i = 0; i < kPanelRows; ++i) {
      const int64_t r = panel * kPanelRows + i;
      float x[kPanelCols] = {};
      if (r < rows) std::copy_n(in.row(r) + left, width, x);
      check_finite(codec.name, x, r, left);
      const PanelGroup group = codec.encode(x);
      const bf16 scale = to_bf16(group.scale);
      std::memcpy(block + 2 * i, &scale, sizeof scale);
      codec.put(group.codes, block + kPanelScaleBytes + 4 * i);
    }
  });
}

void decode_panels(const PanelCodec& codec, const EncodedIn& in, Out2 out) {
  const int64_t rows = out.dim(0), cols = out.dim(1);
  for_each_block(rows, cols, codec.block_bytes, [&](int64_t panel, int64_t b, int64_t at) {
    const std::byte* block = in.codes + at;
    const int64_t left = b * kPanelCols, width = std::min(kPanelCols, cols - left);
    for (int64_t i = 0; i < kPanelRows && panel * kPanelRows + i < rows; ++i) {
      bf16 scale;
      std::memcpy(&scale, block + 2 * i, sizeof scale);
      int8_t codes[kPanelCols];
      codec.get(block + kPanelScaleBytes + 4 * i, codes);
      float* y = out.row(panel * kPanelRows + i) + left;
      // Plus 0: no zero is negative, whatever the sign of the scale.
      for (int64_t c = 0; c < width; ++c) y[c] = float(codes[c]) * to_float(scale) + 0.0f;
    }
  });
}

}  // namespace hadal
