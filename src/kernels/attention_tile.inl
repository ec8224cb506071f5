// Tiles and copies that the attention kernels share. Scores are held transposed, one row a key and
// one lane a column (a query head), so that the softmax of a column runs down its lane and needs no
// sums across lanes. Every number of the scores and of the outputs is one chain of fused
// multiply-adds, in the order of the inner index, wherever its tile lies: how queries are cut
// changes no bit.
namespace {
namespace flash {

using hadal::AttentionColumns;
using hadal::AttentionGradient;
using hadal::AttentionHeads;
using hadal::AttentionPart;
using hadal::AttentionRows;
using hadal::kAttentionColumns;
using hadal::kAttentionFew;
using hadal::kAttentionSlack;

constexpr int64_t kLanes = Vec::kLanes;
constexpr int kTileRows = kLanes == 16 ? 8 : kLanes == 8 ? 6 : 4;
constexpr int kTileVecs = kLanes == 16 ? 3 : 2;
constexpr int64_t kColumns = 48;  // of a panel: whole tiles either way in every family
constexpr int64_t kVecs = kColumns / kLanes;
constexpr int64_t kKeys = hadal::kAttentionKeys;
static_assert(kAttentionColumns % kColumns == 0);
static_assert(kTileRows <= kAttentionSlack && kLanes <= kAttentionSlack);

constexpr float kLog2E = 1.44269504f;

// Row strides. Tiles read some rows at once: an odd number of cache lines apart they lie in
// different sets of L1, and half a line more puts them into different banks of it.
constexpr int64_t kBank = kLanes == 16 ? 0 : 8;
constexpr int64_t row_stride(int64_t n) {
  const int64_t lines = round_up(n, 16) / 16;
  return (kBank > 0 ? lines : lines | 1) * 16 + kBank;
}
constexpr int64_t kScoreStride = kColumns + kBank;

constexpr int64_t vecs_of(int64_t n) {
  return (n + kLanes - 1) / kLanes;
}

// Operands of a product are floats, or, with Packing::kPairs, pairs of BF16 along the inner index,
// which then counts pairs.
template <Packing M>
constexpr int64_t inner_of(int64_t n) {
  return (n + unit_size(M) - 1) / unit_size(M);
}

// What a tile takes of the inner index.
struct KeyRange {
  int64_t begin, end;
};

// c = start + A B, a tile of C: A is kTileRows x k, a[i * lda + p] or, with kAcross,
// a[p * lda + i]; B is k x W vectors. Start: 0, C, or row i of C times factor[i].
// Not inlined: inside a larger function GCC 12 spills the accumulators.
enum class Start { kZero, kAdd, kScale };
template <Packing M, int W, bool kAcross, Start kStart>
[[gnu::noinline]] void tile(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t k,
                            float* c, int64_t ldc, const float* factor) {
  Vec acc[kTileRows][W];
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) {
      acc[i][w] = kStart == Start::kZero ? set(0) : load(c + i * ldc + w * kLanes);
      if (kStart == Start::kScale) acc[i][w] = mul(set(factor[i]), acc[i][w]);
    }
  }
  const auto step = [&](int64_t p) __attribute__((always_inline)) {
    Vec columns[W];
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) {
      columns[w] = load(b + p * ldb + w * kLanes);
      pin(columns[w]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      Vec row = broadcast(kAcross ? a + p * lda + i : a + i * lda + p);
      pin(row);
#pragma GCC unroll 4
      for (int w = 0; w < W; ++w) add_product<M>(acc[i][w], row, columns[w]);
    }
  };
  int64_t p = 0;
  for (; p + 2 <= k; p += 2) step(p), step(p + 1);
  if (p < k) step(p);
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) store(c + i * ldc + w * kLanes, acc[i][w]);
  }
}

// The product of `tiles` row tiles and n_vecs vectors of columns; ranges[i] is what tile i takes of
// the inner index.
template <Packing M, bool kAcross, Start kStart>
void product(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t tiles,
             int64_t n_vecs, const KeyRange* ranges, float* c, int64_t ldc, const float* factor) {
  for (int64_t n = 0; n < n_vecs;) {
    const int64_t left = n_vecs - n;
    const int64_t w = left == kTileVecs + 1 && kTileVecs > 2 ? 2 : at_most(left, kTileVecs);
    for (int64_t t = 0; t < tiles; ++t) {
      const KeyRange r = ranges[t];
      const int64_t i = t * kTileRows;
      if (r.begin >= r.end) continue;
      const float* at = a + (kAcross ? r.begin * lda + i : i * lda + r.begin);
      const float* bt = b + r.begin * ldb + n * kLanes;
      float* ct = c + i * ldc + n * kLanes;
      const float* ft = kStart == Start::kScale ? factor + i : nullptr;
      const int64_t k = r.end - r.begin;
      if (w == 1) tile<M, 1, kAcross, kStart>(at, lda, bt, ldb, k, ct, ldc, ft);
      if (w == 2) tile<M, 2, kAcross, kStart>(at, lda, bt, ldb, k, ct, ldc, ft);
      if constexpr (kTileVecs == 3) {
        if (w == 3) tile<M, 3, kAcross, kStart>(at, lda, bt, ldb, k, ct, ldc, ft);
      }
    }
    n += w;
  }
}

// ---- copies of the inputs that the tiles read

template <class T>
T* head_row(AttentionHeads<T> h, const AttentionColumns& columns, int64_t column, int64_t width) {
  return h.data + column / columns.group * h.row_stride + column % columns.group * width;
}

// Calls fn(r, row begin + r) for r in [0, count).
template <class E, class Fn>
inline void for_rows(const AttentionRows& from, int64_t begin, int64_t count, Fn fn) {
  int64_t page = begin / from.page_rows, at = begin % from.page_rows;
  for (int64_t r = 0; r < count; ++page, at = 0) {
    const E* row = reinterpret_cast<const E*>(from.pages[page]) + at * from.row_stride + from.first;
    const int64_t end = at_most(count, r + from.page_rows - at);
    for (; r < end; ++r, row += from.row_stride) fn(r, row);
  }
}

template <Packing M>
inline Vec pair(Vec first, [[maybe_unused]] Vec second) {
#if defined(HADAL_BF16_DOT)
  if constexpr (M == Packing::kPairs) return pair_bf16(first, second);
#endif
  return first;
}

// A row along the inner index.
template <Packing M, class E>
inline void widen_row(const E* from, int64_t width, float* to) {
  constexpr int64_t kStep = kLanes * unit_size(M);
  int64_t d = 0;
  for (; d + kStep <= width; d += kStep, to += kLanes) store(to, load_units<M>(from + d));
  if (d < width) store(to, load_units_part<M>(from + d, width - d));
}

// Rows [begin, begin + count) along the inner index, zeros up to a whole vector; then zeros up to
// row `rows`.
template <Packing M>
void widen(const AttentionRows& from, int64_t begin, int64_t count, int64_t rows, int64_t width,
           float* to, int64_t stride) {
  const auto copy = [=](int64_t r, const auto* row) { widen_row<M>(row, width, to + r * stride); };
  if (from.bf16) {
    for_rows<uint16_t>(from, begin, count, copy);
  } else {
    for_rows<float>(from, begin, count, copy);
  }
  for (int64_t r = count; r < rows; ++r) {
    for (int64_t d = 0; d < inner_of<M>(width); d += kLanes) store(to + r * stride + d, set(0));
  }
}

// Two rows, of which the second may be null, as a row of a product's second operand whose inner
// index they are; or one.
template <Packing M, class E>
inline void lay_across(const E* first, const E* second, int64_t width, float* to) {
  for (int64_t d = 0; d < width; d += kLanes) {
    const int64_t n = at_most(width - d, kLanes);
    store(to + d, load_lanes<M>(first + d, second == nullptr ? nullptr : second + d, n));
  }
}

template <Packing M, class E>
void lay_rows_across(const AttentionRows& from, int64_t begin, int64_t count, int64_t width,
                     float* to, int64_t stride) {
  const auto row_at = [&](int64_t i) {
    return reinterpret_cast<const E*>(from.pages[i / from.page_rows]) +
           i % from.page_rows * from.row_stride + from.first;
  };
  for (int64_t r = 0; r < count; r += unit_size(M), to += stride) {
    const E* second = M == Packing::kPairs && r + 1 < count ? row_at(begin + r + 1) : nullptr;
    lay_across<M>(row_at(begin + r), second, width, to);
  }
}

// Rows [begin, begin + count) as the inner index of a product's second operand.
template <Packing M>
void lay_across(const AttentionRows& from, int64_t begin, int64_t count, int64_t width, float* to,
                int64_t stride) {
  if (from.bf16) {
    lay_rows_across<M, uint16_t>(from, begin, count, width, to, stride);
  } else {
    lay_rows_across<M, float>(from, begin, count, width, to, stride);
  }
}

template <class E>
inline void prefetch_row(const E* row, int64_t width) {
  constexpr int64_t kLine = 64 / sizeof(E);
  for (int64_t d = 0; d < width; d += kLine) __builtin_prefetch(row + d);
}

// Some columns that are taken together.
struct Panel {
  int64_t begin, count;
};

// [inner_of(width)][kColumns]: the columns of a panel, one lane each; zeros in lanes without one.
template <Packing M>
void gather_lanes(AttentionHeads<const float> from, const AttentionColumns& columns, Panel panel,
                  int64_t width, float* to) {
  for (int64_t c = 0; c < kColumns; c += kLanes) {
    const float* rows[kLanes];
    const int64_t live = panel.count - c < 0 ? 0 : at_most(panel.count - c, kLanes);
    for (int64_t i = 0; i < live; ++i) {
      rows[i] = head_row(from, columns, panel.begin + c + i, width);
    }
    constexpr int64_t kStep = kLanes * unit_size(M);
    for (int64_t d = 0; d < width; d += kStep) {
      const int64_t numbers = at_most(width - d, kStep), n = inner_of<M>(numbers);
      Vec r[kLanes];
      if (live == kLanes && numbers == kStep) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) r[i] = load_units<M>(rows[i] + d);
      } else {
        for (int64_t i = 0; i < kLanes; ++i) {
          r[i] = i < live ? load_units_part<M>(rows[i] + d, numbers) : set(0);
        }
      }
      transpose(r);
      float* out = to + d / unit_size(M) * kColumns + c;
      if (n == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(out + i * kColumns, r[i]);
      } else {
        for (int64_t i = 0; i < n; ++i) store(out + i * kColumns, r[i]);
      }
    }
  }
}

// [inner_of(count)][stride]: the columns of a panel as the inner index.
template <Packing M>
void gather_rows(AttentionHeads<const float> from, const AttentionColumns& columns, Panel panel,
                 int64_t width, float* to, int64_t stride) {
  for (int64_t c = 0; c < panel.count; c += unit_size(M), to += stride) {
    const float* second = nullptr;
    if (M == Packing::kPairs && c + 1 < panel.count) {
      second = head_row(from, columns, panel.begin + c + 1, width);
    }
    lay_across<M>(head_row(from, columns, panel.begin + c, width), second, width, to);
  }
}

int64_t visible(const AttentionColumns& columns, int64_t column) {
  return columns.visible + column / columns.group;
}

// ---- which scores there are

// Keys of the block [begin, end) that some column of the panel sees.
int64_t seen(const AttentionColumns& columns, int64_t last_column, int64_t begin, int64_t end) {
  const int64_t v = visible(columns, last_column);
  return (v < end ? v : end) - begin;
}

// Scores that a column does not see become -inf. Columns see ever more keys, so those are the
// first columns of a row.
void hide_later_keys(const AttentionColumns& columns, Panel panel, int64_t key_begin, int64_t rows,
                     float* scores) {
  const int64_t first = visible(columns, panel.begin) - key_begin;
  int64_t hidden = 0;
  for (int64_t j = first < 0 ? 0 : first; j < rows; ++j) {
    while (hidden < panel.count && visible(columns, panel.begin + hidden) <= key_begin + j) {
      ++hidden;
    }
    for (int64_t c = 0; c < hidden; ++c) scores[j * kScoreStride + c] = -__builtin_inff();
  }
}

// What each tile of a panel's columns sees of the keys [begin, end); returns how many tiles.
template <Packing M>
int64_t seen_by_column_tiles(const AttentionColumns& columns, Panel panel, int64_t begin,
                             int64_t end, KeyRange* ranges) {
  const int64_t tiles = (panel.count + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t last = at_most((i + 1) * kTileRows, panel.count);
    ranges[i] = {0, inner_of<M>(seen(columns, panel.begin + last - 1, begin, end))};
  }
  return tiles;
}

struct Floats {  // hands out the workspace
  float* next;
  float* take(int64_t n) {
    float* p = next;
    next += n;
    return p;
  }
};

}  // namespace flash
}  // namespace
