#pragma once
// Internal to quant/: what the formats in panels (kernels/panels.h) share.
#include <cstring>
#include <string_view>

#include "kernels/panels.h"
#include "quant/formats.h"

namespace hadal {

inline constexpr BlockShape kPanelBlock{kPanelRows, kPanelCols};

// A row's part of a block: 32 numbers or codes.
struct PanelGroup {
  float scale = 0;
  int8_t codes[kPanelCols] = {};
};

// What a format adds: how a group is chosen, and where its codes lie in the lines of a block.
struct PanelCodec {
  std::string_view name;
  int64_t block_bytes;
  PanelGroup (*encode)(const float* x);  // 32 finite numbers; the scale is a BF16 number
  void (*put)(const int8_t* codes, std::byte* row);  // `row`: the lines, from the row's byte on
  void (*get)(const std::byte* row, int8_t* codes);
};

// Format::encode and decode. Error{kFormat} names a number that is not finite.
void encode_panels(const PanelCodec& codec, In2 in, const EncodedOut& out);
void decode_panels(const PanelCodec& codec, const EncodedIn& in, Out2 out);

// A scale as it is stored: nearest BF16, in magnitude at least the smallest normal number.
float panel_scale(float x);
// Nearest whole number, even in a tie; |x| < 2^22. Add and subtract: the same bits everywhere.
inline constexpr float kMagic = 12582912.0f;
inline float nearest_whole(float x) {
  return (x + kMagic) - kMagic;
}

}  // namespace hadal
