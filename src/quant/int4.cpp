#include "quant/int4.h"

#include <algorithm>
#include <cmath>

#include "quant/panels.h"

namespace hadal {
namespace {

constexpr float kLeast = -8, kMost = 7;

float code_of(float x, float per_scale) {
  return nearest_whole(std::min(kMost, std::max(kLeast, x * per_scale)));
}

// Sum of squared errors, in four sums of fixed order: four lanes on every machine.
float squared_error(const float* x, float scale) {
  using Four = float __attribute__((vector_size(16)));
  const auto all = [](float v) { return Four{v, v, v, v}; };
  const Four per_scale = all(1 / scale), magic = all(kMagic), least = all(kLeast),
             most = all(kMost);
  Four sums = {};
  for (int64_t c = 0; c < kPanelCols; c += 4) {
    Four numbers;
    std::memcpy(&numbers, x + c, sizeof numbers);
    Four code = numbers * per_scale;
    code = code > least ? code : least;
    code = code < most ? code : most;
    code = (code + magic) - magic;
    const Four error = numbers - code * all(scale);
    sums += error * error;
  }
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

// The scale that suits the codes of another one best, by least squares.
float refined(const float* x, float scale) {
  float products = 0, squares = 0;
  for (int64_t c = 0; c < kPanelCols; ++c) {
    const float code = code_of(x[c], 1 / scale);
    products += x[c] * code;
    squares += code * code;
  }
  return squares == 0 ? scale : products / squares;
}

// Works on the numbers times a power of two that brings them near 1, so that squares stay in range.
PanelGroup encode_int4_group(const float* numbers) {
  float largest = 0;
  for (int64_t c = 0; c < kPanelCols; ++c) {
    if (std::abs(numbers[c]) > std::abs(largest)) largest = numbers[c];
  }
  PanelGroup group;
  if (largest == 0) return group;
  int exponent = 0;
  std::frexp(largest, &exponent);
  exponent = std::clamp(exponent, -120, 120);
  const float unit = std::ldexp(1.0f, exponent), per_unit = std::ldexp(1.0f, -exponent);
  float x[kPanelCols];
  for (int64_t c = 0; c < kPanelCols; ++c) x[c] = numbers[c] * per_unit;
  const float peak = largest * per_unit;

  float best = 0, least = INFINITY;
  const auto consider = [&](float scale) {
    const float stored = panel_scale(scale * unit) * per_unit;
    const float error = squared_error(x, stored);
    if (error < least) least = error, best = stored;
  };
  // The largest number becomes the code -t, or t, clipped where that is too much. Whole ones among
  // them, so that what was decoded once is found again.
  for (const float t : {8.0f, 7.0f, 7.5f, 8.5f, 9.0f, 9.5f, 6.5f, 6.0f}) {
    consider(-peak / t);
    consider(peak / t);
  }
  for (int round = 0; round < 2 && least > 0; ++round) consider(refined(x, best));

  group.scale = best * unit;
  for (int64_t c = 0; c < kPanelCols; ++c) {
    group.codes[c] = static_cast<int8_t>(code_of(x[c], 1 / best));
  }
  return group;
}

void put_int4(const int8_t* codes, std::byte* row) {
  for (int64_t c = 0; c < kPanelCols; c += 8) {
    for (int64_t j = 0; j < 4; ++j) {
      const int low = codes[c + j] + 8, high = codes[c + 4 + j] + 8;
      row[c / 8 * kPanelLine + j] = static_cast<std::byte>(low | (high << 4));
    }
  }
}

void get_int4(const std::byte* row, int8_t* codes) {
  for (int64_t c = 0; c < kPanelCols; c += 8) {
    for (int64_t j = 0; j < 4; ++j) {
      const int both = std::to_integer<int>(row[c / 8 * kPanelLine + j]);
      codes[c + j] = static_cast<int8_t>((both & 15) - 8);
      codes[c + 4 + j] = static_cast<int8_t>((both >> 4) - 8);
    }
  }
}

constexpr PanelCodec kInt4Codec{"int4", kInt4BlockBytes, encode_int4_group, put_int4, get_int4};

}  // namespace

void encode_int4(In2 in, const EncodedOut& out) {
  encode_panels(kInt4Codec, in, out);
}

void decode_int4(const EncodedIn& in, Out2 out) {
  decode_panels(kInt4Codec, in, out);
}

}  // namespace hadal
