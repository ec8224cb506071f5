// FP8 tiles of E4M3 codes and rows of E5M6 (V3 report, sec. 3.3.2 and 3.3.3): codes and scales.
// Plain loops over bits, which compilers turn into vectors of any family, so that the results are
// the same bits in all of them by construction. Products of codes are gemm_fp8.inl's.
namespace {
namespace fp8 {

constexpr int64_t kTile = 128;
constexpr uint32_t kMagnitude = 0x7fffffffu, kInfinity = 0x7f800000u;

inline uint32_t bits_of(float x) {
  return __builtin_bit_cast(uint32_t, x);
}
inline float float_of(uint32_t u) {
  return __builtin_bit_cast(float, u);
}

// Magnitudes compare as their bits do, and what is not finite is larger than all that is.
inline uint32_t largest(const float* x, int64_t n, uint32_t so_far) {
  for (int64_t i = 0; i < n; ++i) {
    const uint32_t magnitude = bits_of(x[i]) & kMagnitude;
    so_far = magnitude > so_far ? magnitude : so_far;
  }
  return so_far;
}

// amax / 448, at least the smallest normal number; 1 for zeros alone. NaN when a number is not
// finite, so that everything that reads the tile becomes NaN.
inline float e4m3_scale(uint32_t amax) {
  const float scale = float_of(amax) / 448.0f;
  const float least = __FLT_MIN__;
  return amax >= kInfinity ? __builtin_nanf("") : amax == 0 ? 1.0f : scale > least ? scale : least;
}

// Nearest, ties to even; |y| beyond 448 is 448. No NaN: scales say it.
inline uint8_t e4m3_code(float y) {
  const uint32_t u = bits_of(y), magnitude = u & kMagnitude;
  // Below 2^-6, units of 2^-9: an addition that rounds there leaves them in the lowest bits.
  const uint32_t tiny = bits_of(float_of(magnitude) + 16384.0f) - bits_of(16384.0f);
  const uint32_t normal = (magnitude + 0x7ffffu + ((magnitude >> 20) & 1u) - 0x3c000000u) >> 20;
  const uint32_t code = magnitude < 0x3c800000u ? tiny : normal;
  return static_cast<uint8_t>((u >> 24 & 0x80u) | (code < 0x7eu ? code : 0x7eu));
}

inline float e4m3_value(uint8_t code) {
  const uint32_t c = code;  // of a float 2^-120 as large, denormals included
  return float_of((c & 0x80u) << 24 | (c & 0x7fu) << 20) * 0x1p120f;
}

void encode_row(const float* x, int64_t n, uint8_t* codes, float* scales) noexcept {
  for (int64_t c = 0; c < n; c += kTile) {
    const int64_t width = at_most(kTile, n - c);
    const float scale = e4m3_scale(largest(x + c, width, 0));
    for (int64_t i = c; i < c + width; ++i) codes[i] = e4m3_code(x[i] / scale);
    scales[c / kTile] = scale;
  }
}

void decode_row(const uint8_t* codes, const float* scales, int64_t n, float* y) noexcept {
  for (int64_t c = 0; c < n; c += kTile) {
    const float scale = scales[c / kTile];
    const int64_t end = c + at_most(kTile, n - c);
    for (int64_t i = c; i < end; ++i) y[i] = e4m3_value(codes[i]) * scale;
  }
}

inline const float* band_row(const float* x, int64_t stride, const int32_t* rows, int64_t r) {
  return x + (rows == nullptr ? r : rows[r]) * stride;
}

// ---- E4M3 numbers as bits of BF16, which holds them all: operands of products.

// That of e4m3_code(y).
inline uint16_t e4m3_number(float y) {
  const uint32_t u = bits_of(y), magnitude = u & kMagnitude;
  const uint32_t tiny = bits_of(float_of(magnitude) + 16384.0f - 16384.0f);
  const uint32_t normal = (magnitude + 0x7ffffu + ((magnitude >> 20) & 1u)) & 0xfff00000u;
  const uint32_t number = magnitude < 0x3c800000u ? tiny : normal;
  constexpr uint32_t kLargest = 0x43e00000u;  // 448
  return static_cast<uint16_t>(((u & ~kMagnitude) | (number < kLargest ? number : kLargest)) >> 16);
}

void round_row(const float* x, int64_t n, uint16_t* numbers, float* scales) noexcept {
  for (int64_t c = 0; c < n; c += kTile) {
    const int64_t width = at_most(kTile, n - c);
    const float scale = e4m3_scale(largest(x + c, width, 0));
    for (int64_t i = c; i < c + width; ++i) numbers[i] = e4m3_number(x[i] / scale);
    scales[c / kTile] = scale;
  }
}

// Columns [c, c + width) of round_columns. A width known to the compiler becomes vectors.
template <int64_t kWidth>
void round_strip(const float* x, int64_t stride, const int32_t* rows, int64_t m, int64_t n,
                 int64_t c, uint16_t* numbers, float* scales) {
  uint32_t amax[kWidth] = {};
  for (int64_t r = 0; r < m; ++r) {
    const float* from = band_row(x, stride, rows, r) + c;
    for (int64_t i = 0; i < kWidth; ++i) {
      const uint32_t magnitude = bits_of(from[i]) & kMagnitude;
      amax[i] = magnitude > amax[i] ? magnitude : amax[i];
    }
  }
  float scale[kWidth];
  for (int64_t i = 0; i < kWidth; ++i) scale[i] = e4m3_scale(amax[i]);
  for (int64_t i = 0; i < kWidth; ++i) scales[c + i] = scale[i];
  for (int64_t r = 0; r < m; ++r) {
    const float* from = band_row(x, stride, rows, r) + c;
    uint16_t* to = numbers + r * n + c;
    for (int64_t i = 0; i < kWidth; ++i) to[i] = e4m3_number(from[i] / scale[i]);
  }
}

void round_columns(const float* x, int64_t stride, const int32_t* rows, int64_t m, int64_t n,
                   uint16_t* numbers, float* scales) noexcept {
  int64_t c = 0;  // what is read twice stays in L1
  for (; c + 64 <= n; c += 64) round_strip<64>(x, stride, rows, m, n, c, numbers, scales);
  for (; c + 16 <= n; c += 16) round_strip<16>(x, stride, rows, m, n, c, numbers, scales);
  for (; c < n; ++c) round_strip<1>(x, stride, rows, m, n, c, numbers, scales);
}

void round_blocks(const float* x, int64_t stride, const int32_t* rows, int64_t m, int64_t n,
                  uint16_t* numbers, float* scales) noexcept {
  for (int64_t c = 0; c < n; c += kTile) {
    const int64_t width = at_most(kTile, n - c);
    uint32_t amax = 0;
    for (int64_t r = 0; r < m; ++r) amax = largest(band_row(x, stride, rows, r) + c, width, amax);
    const float scale = e4m3_scale(amax);
    for (int64_t r = 0; r < m; ++r) {
      const float* from = band_row(x, stride, rows, r) + c;
      uint16_t* to = numbers + r * n + c;
      for (int64_t i = 0; i < width; ++i) to[i] = e4m3_number(from[i] / scale);
    }
    scales[c / kTile] = scale;
  }
}

// ---- E5M6: sign, 5 bits of exponent (bias 15), 6 of mantissa; all of them numbers, the largest
// 2^16 * (2 - 2^-6). A tile's codes lie in two parts: their upper 8 bits, then the lower 4 of
// number i and, in the other half of the byte, of number i + ceil(n / 2).

constexpr uint32_t kLargestE5m6 = 0x47fe0000u;

// The smallest power of two that takes amax into the range.
inline float e5m6_scale(uint32_t amax) {
  if (amax >= kInfinity) return __builtin_nanf("");
  if (amax == 0) return 1.0f;
  const uint32_t scale = bits_of(float_of(amax) / float_of(kLargestE5m6));
  const uint32_t up = (scale + 0x7fffffu) & ~0x7fffffu;
  return float_of(up < 0x800000u ? 0x800000u : up);
}

inline uint32_t e5m6_code(float y) {
  const uint32_t u = bits_of(y), magnitude = u & kMagnitude;
  const uint32_t tiny = bits_of(float_of(magnitude) + 8.0f) - bits_of(8.0f);
  const uint32_t normal = (magnitude + 0xffffu + ((magnitude >> 17) & 1u) - 0x38000000u) >> 17;
  const uint32_t code = magnitude < 0x38800000u ? tiny : normal;
  return (u >> 20 & 0x800u) | (code < 0x7ffu ? code : 0x7ffu);
}

inline float e5m6_value(uint32_t code) {
  return float_of((code & 0x800u) << 20 | (code & 0x7ffu) << 17) * 0x1p112f;
}

void encode_e5m6_row(const float* x, int64_t n, uint8_t* codes, float* scales) noexcept {
  for (int64_t c = 0; c < n; c += kTile) {
    const int64_t width = at_most(kTile, n - c), half = (width + 1) / 2;
    const float scale = e5m6_scale(largest(x + c, width, 0));
    uint32_t code[kTile] = {};
    for (int64_t i = 0; i < width; ++i) code[i] = e5m6_code(x[c + i] / scale);
    for (int64_t i = 0; i < width; ++i) codes[i] = static_cast<uint8_t>(code[i] >> 4);
    for (int64_t i = 0; i < half; ++i) {
      const uint32_t other = i + half < width ? code[i + half] : 0;
      codes[width + i] = static_cast<uint8_t>((code[i] & 15u) | (other & 15u) << 4);
    }
    codes += width + half;
    scales[c / kTile] = scale;
  }
}

void decode_e5m6_row(const uint8_t* codes, const float* scales, int64_t n, float* y) noexcept {
  for (int64_t c = 0; c < n; c += kTile) {
    const int64_t width = at_most(kTile, n - c), half = (width + 1) / 2;
    const float scale = scales[c / kTile];
    const uint8_t* low = codes + width;
    for (int64_t i = 0; i < half; ++i) {
      y[c + i] = e5m6_value(uint32_t{codes[i]} << 4 | (low[i] & 15u)) * scale;
    }
    for (int64_t i = half; i < width; ++i) {
      y[c + i] = e5m6_value(uint32_t{codes[i]} << 4 | low[i - half] >> 4) * scale;
    }
    codes += width + half;
  }
}

}  // namespace fp8
}  // namespace
