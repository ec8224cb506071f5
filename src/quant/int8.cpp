#include "quant/int8.h"

#include <algorithm>
#include <cmath>

#include "quant/panels.h"

namespace hadal {
namespace {

constexpr float kLargest = 127;

PanelGroup encode_int8_group(const float* x) {
  float amax = 0;
  for (int64_t c = 0; c < kPanelCols; ++c) amax = std::max(amax, std::abs(x[c]));
  PanelGroup group;
  if (amax == 0) return group;
  group.scale = panel_scale(amax / kLargest);
  for (int64_t c = 0; c < kPanelCols; ++c) {
    const float code = nearest_whole(x[c] / group.scale);
    group.codes[c] = static_cast<int8_t>(std::clamp(code, -kLargest, kLargest));
  }
  return group;
}

void put_int8(const int8_t* codes, std::byte* row) {
  for (int64_t c = 0; c < kPanelCols; c += 4) std::memcpy(row + c / 4 * kPanelLine, codes + c, 4);
}

void get_int8(const std::byte* row, int8_t* codes) {
  for (int64_t c = 0; c < kPanelCols; c += 4) std::memcpy(codes + c, row + c / 4 * kPanelLine, 4);
}

constexpr PanelCodec kInt8Codec{"int8", kInt8BlockBytes, encode_int8_group, put_int8, get_int8};

}  // namespace

void encode_int8(In2 in, const EncodedOut& out) {
  encode_panels(kInt8Codec, in, out);
}

void decode_int8(const EncodedIn& in, Out2 out) {
  decode_panels(kInt8Codec, in, out);
}

}  // namespace hadal
