// Products of int8 and int4 weights in panels (kernels/panels.h) with rows of x as int8.
//
// A lane is a row of w. y[r, i] is one chain over the blocks of 32 columns, in their order:
//   y = y + float(sum of 32 products of codes) * (scale of w * scale of x),
// each operation rounded by itself and the sum exact, so that all families give the same bits and a
// row sees no other.
namespace {
namespace panel {

using hadal::CodedRows;
using hadal::kInt4BlockBytes;
using hadal::kInt8BlockBytes;
using hadal::kPanelCols;
using hadal::kPanelLine;
using hadal::kPanelRows;
using hadal::kPanelScaleBytes;
using hadal::PanelProduct;

constexpr int64_t kParts = kPanelRows / Vec::kLanes;  // vectors a line
// Panels read at once for one row of x, each from its own part of w (see gemv.inl), and rows of x
// that go through a panel together. AVX-512 machines measured so far read int8 a tenth faster from
// one panel than from two.
#if defined(HADAL_EMULATED) || defined(__AVX512F__)
constexpr int kStreams = 1, kTogether = 8;
constexpr int64_t kPrefetch = 0;
#elif defined(__AVX2__)
constexpr int kStreams = 4, kTogether = 2;
constexpr int64_t kPrefetch = 512;
#else
constexpr int kStreams = 1, kTogether = 2;
constexpr int64_t kPrefetch = 0;
#endif

struct Int8 {
  static constexpr int64_t kBlockBytes = kInt8BlockBytes;
  static constexpr int32_t kOffset = kInt8Offset;
  // Adds the products of the lines' part h with 32 codes of each of kRows rows.
  template <int kRows>
  static void add(const uint8_t* lines, const int8_t* const* x, int64_t at, Ints* u) noexcept {
#pragma GCC unroll 8
    for (int q = 0; q < 8; ++q) {
      const Ints w = int8_operand(load_bytes(lines + q * kPanelLine));
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        int32_t four;
        __builtin_memcpy(&four, x[r] + at + 4 * q, sizeof four);
        u[r] = dot_int8(u[r], w, four);
      }
    }
  }
};

struct Int4 {
  static constexpr int64_t kBlockBytes = kInt4BlockBytes;
  static constexpr int32_t kOffset = 8;
  template <int kRows>
  static void add(const uint8_t* lines, const int8_t* const* x, int64_t at, Ints* u) noexcept {
#pragma GCC unroll 4
    for (int q = 0; q < 4; ++q) {
      const Ints both = load_bytes(lines + q * kPanelLine);
      const Ints low = low_halves(both), high = high_halves(both);
#pragma GCC unroll 8
      for (int r = 0; r < kRows; ++r) {
        int32_t first, second;
        __builtin_memcpy(&first, x[r] + at + 8 * q, sizeof first);
        __builtin_memcpy(&second, x[r] + at + 8 * q + 4, sizeof second);
        u[r] = dot_int4(dot_int4(u[r], low, first), high, second);
      }
    }
  }
};

// The panels at w, `apart` bytes from one to the next, times the rows [first, first + kRows) of x;
// `sums` [streams, rows, parts].
template <class Codes, int kPanels, int kRows>
[[gnu::noinline]] void multiply(const uint8_t* w, int64_t apart, int64_t groups, const CodedRows& x,
                                int64_t first, Vec* sums) noexcept {
  const int8_t* codes[kRows];
  const float* scales[kRows];
  const int32_t* totals[kRows];
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = x.rows != nullptr ? x.rows[first + r] : first + r;
    codes[r] = x.codes + row * groups * kPanelCols;
    scales[r] = x.scales + row * groups;
    totals[r] = x.totals + row * groups;
  }
  Vec acc[kPanels][kRows][kParts];
  for (int s = 0; s < kPanels; ++s) {
    for (int r = 0; r < kRows; ++r) {
      for (int h = 0; h < kParts; ++h) acc[s][r][h] = set(0);
    }
  }
  for (int64_t g = 0; g < groups; ++g) {
#pragma GCC unroll 4
    for (int s = 0; s < kPanels; ++s) {
      const uint8_t* block = w + s * apart + g * Codes::kBlockBytes;
      if (kPrefetch > 0) {
        for (int64_t b = 0; b < Codes::kBlockBytes; b += 64) {
          __builtin_prefetch(block + kPrefetch + b);
        }
      }
#pragma GCC unroll 4
      for (int h = 0; h < kParts; ++h) {
        Ints u[kRows];
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) u[r] = set_ints(-Codes::kOffset * totals[r][g]);
        Codes::template add<kRows>(block + kPanelScaleBytes + h * 4 * Vec::kLanes, codes,
                                   g * kPanelCols, u);
        const Vec scale = load_bf16(reinterpret_cast<const uint16_t*>(block) + h * Vec::kLanes);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
          const Vec both = mul(scale, set(scales[r][g]));
          acc[s][r][h] = add(acc[s][r][h], mul(to_floats(u[r]), both));
        }
      }
    }
  }
  for (int s = 0; s < kPanels; ++s) {
    for (int r = 0; r < kRows; ++r) {
      for (int h = 0; h < kParts; ++h) sums[(s * kRows + r) * kParts + h] = acc[s][r][h];
    }
  }
}

// kPanels panels, the first of which is number `panel`, the next `apart` panels on.
template <class Codes, int kPanels, int kRows>
void panels_with_rows(const PanelProduct& p, int64_t panel, int64_t apart, int64_t first) noexcept {
  const int64_t groups = (p.k + kPanelCols - 1) / kPanelCols;
  const int64_t bytes = groups * Codes::kBlockBytes;
  Vec sums[kPanels * kRows * kParts];
  multiply<Codes, kPanels, kRows>(static_cast<const uint8_t*>(p.w) + panel * bytes, apart * bytes,
                                  groups, p.x, first, sums);
  for (int s = 0; s < kPanels; ++s) {
    for (int r = 0; r < kRows; ++r) {
      const int64_t begin = (panel + s * apart) * kPanelRows;
      float* y = p.y + (first + r) * p.y_stride + begin;
      for (int h = 0; h < kParts; ++h) {
        const int64_t left = at_most(p.n - begin - h * Vec::kLanes, Vec::kLanes);
        if (left > 0) store_part(y + h * Vec::kLanes, sums[(s * kRows + r) * kParts + h], left);
      }
    }
  }
}

template <class Codes>
void product_of(const PanelProduct& p) noexcept {
  const int64_t panels = (p.n + kPanelRows - 1) / kPanelRows;
  if (p.count == 1) {
    const int64_t apart = panels / kStreams;
    for (int64_t i = 0; i < apart; ++i) panels_with_rows<Codes, kStreams, 1>(p, i, apart, 0);
    for (int64_t i = kStreams * apart; i < panels; ++i) panels_with_rows<Codes, 1, 1>(p, i, 0, 0);
    return;
  }
  for (int64_t i = 0; i < panels; ++i) {  // the rows after the first find the panel in the cache
    int64_t r = 0;
    for (; r + kTogether <= p.count; r += kTogether) {
      panels_with_rows<Codes, 1, kTogether>(p, i, 0, r);
    }
    if (kTogether > 4 && r + 4 <= p.count) {
      panels_with_rows<Codes, 1, 4>(p, i, 0, r);
      r += 4;
    }
    if (kTogether > 2 && r + 2 <= p.count) {
      panels_with_rows<Codes, 1, 2>(p, i, 0, r);
      r += 2;
    }
    if (r < p.count) panels_with_rows<Codes, 1, 1>(p, i, 0, r);
  }
}

void product(const PanelProduct& p) noexcept {
  if (p.block_bytes == kInt8BlockBytes) return product_of<Int8>(p);
  product_of<Int4>(p);
}

void code_row(const float* x, int64_t n, int8_t* codes, float* scales, int32_t* totals) noexcept {
  constexpr int64_t kVectors = kPanelCols / Vec::kLanes;
  for (int64_t at = 0; at < n; at += kPanelCols) {
    Vec v[kVectors];
    Vec largest = set(0), strange = set(0);
    for (int64_t i = 0; i < kVectors; ++i) {
      const int64_t left = n - at - i * Vec::kLanes;
      v[i] = left >= Vec::kLanes ? load(x + at + i * Vec::kLanes)
             : left > 0          ? load_part(x + at + i * Vec::kLanes, left)
                                 : set(0);
      largest = max(largest, abs(v[i]));
      strange = add(strange, sub(v[i], v[i]));  // NaN for what is not finite
    }
    const float amax = reduce_max(largest);
    const bool tiny = amax < 127 * 0x1p-126f;
    const Vec per_scale = set(tiny ? 0.0f : 127 / amax);
    *scales++ = (tiny ? 0.0f : amax / 127) + sum(strange);
    int32_t bits[kPanelCols], total = 0;
    for (int64_t i = 0; i < kVectors; ++i) {
      float rounded[Vec::kLanes];  // their low bytes are whole numbers
      store(rounded, add(mul(v[i], per_scale), set(12582912.0f)));
      __builtin_memcpy(bits + i * Vec::kLanes, rounded, sizeof rounded);
    }
    for (int64_t i = 0; i < kPanelCols; ++i) {
      codes[i] = static_cast<int8_t>(bits[i] & 0xff);
      total += codes[i];
    }
    *totals++ = total;
    codes += kPanelCols;
  }
}

}  // namespace panel
}  // namespace
