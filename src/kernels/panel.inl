// Products of int8 and int4 weights in panels (kernels/panels.h) with rows of x as int8.
//
// A lane is a row of w. y[r, i] is one chain over the blocks of 32 columns, in their order:
//   y = y + float(sum of 32 products of codes) * (scale of w * scale of x),
// each operation rounded by itself and the sum exact, so that all families give the same bits and a
// row sees no other.
namespace {
namespace panel {

using hadal::CodedGroup;
using hadal::kInt4BlockBytes;
using hadal::kInt8BlockBytes;
using hadal::kPanelCols;
using hadal::kPanelLine;
using hadal::kPanelRows;
using hadal::kPanelScaleBytes;
using hadal::PanelProduct;

constexpr int64_t kParts = kPanelRows / Vec::kLanes;  // vectors a line
// Rows of x that go through a panel together: as many as registers hold sums for.
#if defined(HADAL_EMULATED) || defined(__AVX512F__)
constexpr int kTogether = 12, kMostTwo = 4;
#elif defined(__AVX2__)
constexpr int kTogether = 4, kMostTwo = 1;
#else
constexpr int kTogether = 2, kMostTwo = 0;
#endif
// Some few rows, kMostTwo at most, go through two panels from far apart: slow enough for the CPU's
// own prefetching to fall behind, which follows two long streams further than one. One row of
// AVX-512 is fast enough as it is, and so are its products of int4.
constexpr bool takes_two(int64_t block_bytes, int64_t rows) {
#if defined(HADAL_EMULATED) || defined(__AVX512F__)
  return rows > 1 && rows <= kMostTwo && block_bytes == kInt8BlockBytes;
#else
  return block_bytes > 0 && rows > 0 && rows <= kMostTwo;
#endif
}
// What a thread reads as one stream is asked for so far ahead, into L2. With few operations a byte,
// and with two streams, this holds up more than it helps.
constexpr int64_t kAhead = 8192;
constexpr bool ahead(int64_t block_bytes, int rows) {
#if defined(__AVX512F__)
  return rows > (block_bytes == kInt8BlockBytes ? kMostTwo : 1);
#else
  return !takes_two(block_bytes, rows);
#endif
}

// u[s][r] = the products of 32 columns: of kLines vectors of a panel's lines, with codes of row r,
// which lie `at` groups from x[r] on.
struct Int8 {
  static constexpr int64_t kBlockBytes = kInt8BlockBytes;
  static constexpr int kShift = kInt8Offset == 0 ? 0 : 7;
  static_assert(kInt8Offset == 0 || kInt8Offset == 1 << kShift);

  template <int kLines, int kRows>
  [[gnu::always_inline]] static void add(const uint8_t* const* lines, const CodedGroup* const* x,
                                         int64_t at, Ints (*u)[kRows]) noexcept {
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const Ints start = kInt8Offset == 0 ? set_ints(0) : shifted<kShift>(&x[r][at].minus);
#pragma GCC unroll 4
      for (int s = 0; s < kLines; ++s) u[s][r] = start;
    }
#pragma GCC unroll 16
    for (int q = 0; q < 8; ++q) {
      Ints w[kLines];
#pragma GCC unroll 4
      for (int s = 0; s < kLines; ++s) {
        w[s] = int8_operand(load_bytes(lines[s] + q * kPanelLine));
        pin(w[s]);
      }
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        int32_t four;
        __builtin_memcpy(&four, x[r][at].codes + int64_t{4} * q, sizeof four);
#pragma GCC unroll 4
        for (int s = 0; s < kLines; ++s) {
          u[s][r] = dot_int8(u[s][r], w[s], four);
          pin(u[s][r]);
        }
      }
    }
  }
};

struct Int4 {
  static constexpr int64_t kBlockBytes = kInt4BlockBytes;

  template <int kLines, int kRows>
  [[gnu::always_inline]] static void add(const uint8_t* const* lines, const CodedGroup* const* x,
                                         int64_t at, Ints (*u)[kRows]) noexcept {
    const auto start = [&](int r) { return shifted<3>(&x[r][at].minus); };
#pragma GCC unroll 16
    for (int i = 0; i < kLines * kRows; ++i) u[i / kRows][i % kRows] = begin_int4(start(i % kRows));
#pragma GCC unroll 16
    for (int q = 0; q < 8; ++q) {  // lower halves of a line, then the upper ones
      Ints w[kLines];
#pragma GCC unroll 4
      for (int s = 0; s < kLines; ++s) {
        const Ints both = load_bytes(lines[s] + q / 2 * kPanelLine);
        w[s] = q % 2 == 0 ? low_halves(both) : high_halves(both);
        pin(w[s]);
      }
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        int32_t four;
        __builtin_memcpy(&four, x[r][at].codes + int64_t{4} * q, sizeof four);
#pragma GCC unroll 4
        for (int s = 0; s < kLines; ++s) {
          u[s][r] = dot_int4(u[s][r], w[s], four);
          pin(u[s][r]);
        }
      }
    }
#pragma GCC unroll 16
    for (int i = 0; i < kLines * kRows; ++i) {
      Ints& sum = u[i / kRows][i % kRows];
      sum = end_int4(sum, start(i % kRows));
    }
  }
};

// Some rows of x through a panel and, of two, the one `apart` panels behind it.
struct Pass {
  int64_t panel, first, count;
  int64_t apart = 0;
};

template <class Codes, int kPanels, int kRows>
[[gnu::noinline]] void multiply(const PanelProduct& p, const Pass& pass) noexcept {
  const int64_t groups = (p.k + kPanelCols - 1) / kPanelCols, size = groups * Codes::kBlockBytes;
  const int64_t apart = pass.apart * size;
  const auto* w = static_cast<const uint8_t*>(p.w) + pass.panel * size;
  const CodedGroup* x[kRows];
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = pass.first + r;
    x[r] = p.x.groups + (p.x.rows != nullptr ? p.x.rows[row] : row) * groups;
  }
  constexpr int kLines = kPanels * kParts;
  Vec acc[kLines][kRows];
#pragma GCC unroll 32
  for (int i = 0; i < kLines * kRows; ++i) acc[i / kRows][i % kRows] = set(0);
  for (int64_t g = 0; g < groups; ++g, w += Codes::kBlockBytes) {
    if (ahead(Codes::kBlockBytes, kRows)) {
#pragma GCC unroll 16
      for (int64_t b = 0; b < kPanels * Codes::kBlockBytes; b += 64) {
        const int64_t s = b / Codes::kBlockBytes;
        __builtin_prefetch(w + s * apart + b - s * Codes::kBlockBytes + kAhead, 0, 2);
      }
    }
    const uint8_t* lines[kLines];
    Vec scale[kLines];
    Ints u[kLines][kRows];
#pragma GCC unroll 4
    for (int s = 0; s < kLines; ++s) {
      lines[s] = w + s / kParts * apart + kPanelScaleBytes + s % kParts * 4 * Vec::kLanes;
    }
    Codes::template add<kLines, kRows>(lines, x, g, u);
#pragma GCC unroll 4
    for (int s = 0; s < kLines; ++s) {
      const auto* scales = reinterpret_cast<const uint16_t*>(w + s / kParts * apart);
      scale[s] = load_bf16(scales + s % kParts * Vec::kLanes);
      pin(scale[s]);
    }
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      Vec x_scale = broadcast(&x[r][g].scale);
      pin(x_scale);
#pragma GCC unroll 4
      for (int s = 0; s < kLines; ++s) {
        acc[s][r] = ::add(acc[s][r], mul(to_floats(u[s][r]), mul(scale[s], x_scale)));
      }
    }
  }
#pragma GCC unroll 32
  for (int i = 0; i < kLines * kRows; ++i) {
    const int64_t part = i / kRows, row = pass.first + i % kRows;
    const int64_t panel = pass.panel + part / kParts * pass.apart;
    const int64_t at = panel * kPanelRows + part % kParts * Vec::kLanes;
    const int64_t left = at_most(p.n - at, Vec::kLanes);
    if (left > 0) store_part(p.y + row * p.y_stride + at, acc[part][i % kRows], left);
  }
}

// The same with pass.count rows, as many as kRows at most.
template <class Codes, int kPanels, int kRows>
void multiply_some(const PanelProduct& p, const Pass& pass) noexcept {
  if (pass.count == kRows) return multiply<Codes, kPanels, kRows>(p, pass);
  if constexpr (kRows > 1) multiply_some<Codes, kPanels, kRows - 1>(p, pass);
}

template <class Codes>
void product_of(const PanelProduct& p) noexcept {
  const int64_t panels = (p.n + kPanelRows - 1) / kPanelRows;
  int64_t i = 0;
  if constexpr (takes_two(Codes::kBlockBytes, kMostTwo)) {
    const int64_t half = takes_two(Codes::kBlockBytes, p.count) ? panels / 2 : 0;
    for (int64_t j = 0; j < half; ++j) {
      multiply_some<Codes, 2, kMostTwo>(p, {j, 0, p.count, half});
    }
    i = 2 * half;
  }
  const int64_t passes = (p.count + kTogether - 1) / kTogether;  // of equal size
  for (; i < panels; ++i) {
    for (int64_t j = 0; j < passes; ++j) {
      const int64_t first = p.count * j / passes, after = p.count * (j + 1) / passes;
      multiply_some<Codes, 1, kTogether>(p, {i, first, after - first});
    }
  }
}

void product(const PanelProduct& p) noexcept {
  if (p.block_bytes == kInt8BlockBytes) return product_of<Int8>(p);
  product_of<Int4>(p);
}

void code_row(const float* x, int64_t n, CodedGroup* to) noexcept {
  constexpr int64_t kVectors = kPanelCols / Vec::kLanes;
  for (int64_t at = 0; at < n; at += kPanelCols, ++to) {
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
    to->scale = (tiny ? 0.0f : amax / 127) + sum(strange);
    int32_t bits[kPanelCols], total = 0;
    for (int64_t i = 0; i < kVectors; ++i) {
      float rounded[Vec::kLanes];  // their low bytes are whole numbers
      store(rounded, add(mul(v[i], per_scale), set(12582912.0f)));
      __builtin_memcpy(bits + i * Vec::kLanes, rounded, sizeof rounded);
    }
    for (int64_t i = 0; i < kPanelCols; ++i) {
      to->codes[i] = static_cast<int8_t>(bits[i] & 0xff);
      total += to->codes[i];
    }
    to->minus = -total;
  }
}

}  // namespace panel
}  // namespace
