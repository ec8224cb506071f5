// Inner loops of ops/attention.h. Scores are held transposed, one row a key and one lane a column
// (a query head), so that the softmax of a column runs down its lane and needs no sums across
// lanes. Every number of the scores and of the outputs is one chain of fused multiply-adds, in the
// order of the inner index, wherever its tile lies: how queries are cut changes no bit.
namespace {

namespace flash {

using hadal::AttentionColumns;
using hadal::AttentionGradient;
using hadal::AttentionHeads;
using hadal::AttentionPart;
using hadal::AttentionRows;
using hadal::kAttentionColumns;
using hadal::kAttentionSlack;

constexpr int64_t kLanes = Vec::kLanes;
constexpr int kTileRows = kLanes == 16 ? 8 : kLanes == 8 ? 6 : 4;
constexpr int kTileVecs = kLanes == 16 ? 3 : 2;
constexpr int64_t kColumns = 48;  // of a panel: whole tiles either way in every family
constexpr int64_t kKeys = hadal::kAttentionKeys;
constexpr int64_t kGradientKeys = 2 * kKeys;
static_assert(kAttentionColumns % kColumns == 0);
static_assert(kTileRows <= kAttentionSlack && kLanes <= kAttentionSlack);
constexpr int64_t kVecs = kColumns / kLanes;

constexpr int64_t round_up(int64_t n, int64_t unit) {
  return (n + unit - 1) / unit * unit;
}
// Row strides. Tiles read some rows at once: an odd number of cache lines apart they lie in
// different sets of L1, and half a line more puts them into different banks of it.
constexpr int64_t kBank = kLanes == 16 ? 0 : 8;
constexpr int64_t row_stride(int64_t n) {
  const int64_t lines = round_up(n, 16) / 16;
  return (kBank > 0 ? lines : lines | 1) * 16 + kBank;
}
constexpr int64_t kScoreStride = kColumns + kBank;

struct KeyRange {
  int64_t begin, end;
};

enum class Start { kZero, kAdd, kScale };

// c = start + A B, a tile of C: A is kTileRows x k, a[i * lda + p] or, with kAcross,
// a[p * lda + i]; B is k x W vectors. Start: 0, C, or row i of C times factor[i].
template <int W, bool kAcross, Start kStart>
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
  for (int64_t p = 0; p < k; ++p, b += ldb, a += kAcross ? lda : 1) {
    Vec bv[W];
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) bv[w] = load(b + w * kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < kTileRows; ++i) {
      const Vec av = set(kAcross ? a[i] : a[i * lda]);
#pragma GCC unroll 4
      for (int w = 0; w < W; ++w) acc[i][w] = fma(av, bv[w], acc[i][w]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
    for (int w = 0; w < W; ++w) store(c + i * ldc + w * kLanes, acc[i][w]);
  }
}

// The product of `tiles` row tiles and n_vecs vectors of columns; ranges[i] is what tile i takes of
// the inner index.
template <bool kAcross, Start kStart>
void product(const float* a, int64_t lda, const float* b, int64_t ldb, int64_t tiles,
             int64_t n_vecs, const KeyRange* ranges, float* c, int64_t ldc, const float* factor) {
  for (int64_t n = 0; n < n_vecs;) {
    const int64_t w = n_vecs - n < kTileVecs ? n_vecs - n : kTileVecs;
    for (int64_t t = 0; t < tiles; ++t) {
      const KeyRange r = ranges[t];
      const int64_t i = t * kTileRows;
      if (r.begin >= r.end) continue;
      const float* at = a + (kAcross ? r.begin * lda + i : i * lda + r.begin);
      const float* bt = b + r.begin * ldb + n * kLanes;
      float* ct = c + i * ldc + n * kLanes;
      const float* ft = kStart == Start::kScale ? factor + i : nullptr;
      const int64_t k = r.end - r.begin;
      if (w == 1) tile<1, kAcross, kStart>(at, lda, bt, ldb, k, ct, ldc, ft);
      if (w == 2) tile<2, kAcross, kStart>(at, lda, bt, ldb, k, ct, ldc, ft);
      if constexpr (kTileVecs == 3) {
        if (w == 3) tile<3, kAcross, kStart>(at, lda, bt, ldb, k, ct, ldc, ft);
      }
    }
    n += w;
  }
}

// ---- copies of the inputs that the tiles read

// The columns of one panel.
struct Panel {
  int64_t begin, count;
};

template <class T>
T* head_row(AttentionHeads<T> h, const AttentionColumns& columns, int64_t column, int64_t width) {
  return h.data + column / columns.group * h.row_stride + column % columns.group * width;
}
int64_t visible(const AttentionColumns& columns, int64_t column) {
  return columns.visible + column / columns.group;
}

// Keys [begin, begin + count) as rows of floats, zeros up to a whole vector, then rows of zeros up
// to `rows`.
void widen(const AttentionRows& from, int64_t begin, int64_t count, int64_t rows, int64_t width,
           float* to, int64_t stride) {
  for (int64_t r = 0; r < count; ++r, to += stride) {
    const int64_t i = begin + r;
    const std::byte* page = from.pages[i / from.page_rows];
    const int64_t at = i % from.page_rows * from.row_stride + from.first;
    for (int64_t d = 0; d < width; d += kLanes) {
      const int64_t n = width - d < kLanes ? width - d : kLanes;
      if (from.bf16) {
        const uint16_t* p = reinterpret_cast<const uint16_t*>(page) + at + d;
        store(to + d, n == kLanes ? load_bf16(p) : load_bf16_part(p, n));
      } else {
        const float* p = reinterpret_cast<const float*>(page) + at + d;
        store(to + d, n == kLanes ? load(p) : load_part(p, n));
      }
    }
  }
  for (int64_t r = count; r < rows; ++r, to += stride) {
    for (int64_t d = 0; d < width; d += kLanes) store(to + d, set(0));
  }
}

// [width][kColumns]: the columns of a panel times scale, one lane each; zeros in lanes without one.
void gather_lanes(AttentionHeads<const float> from, const AttentionColumns& columns, Panel panel,
                  int64_t width, float scale, float* to) {
  const float* rows[kColumns];
  for (int64_t c = 0; c < panel.count; ++c) {
    rows[c] = head_row(from, columns, panel.begin + c, width);
  }
  for (int64_t d = 0; d < width; ++d, to += kColumns) {
    for (int64_t c = 0; c < panel.count; ++c) to[c] = scale * rows[c][d];
    for (int64_t c = panel.count; c < kColumns; ++c) to[c] = 0;
  }
}

// [kColumns][stride]: the columns of a panel as rows; zeros in rows without one.
void gather_rows(AttentionHeads<const float> from, const AttentionColumns& columns, Panel panel,
                 int64_t width, float* to, int64_t stride) {
  for (int64_t c = 0; c < kColumns; ++c, to += stride) {
    const float* row = c < panel.count ? head_row(from, columns, panel.begin + c, width) : nullptr;
    for (int64_t d = 0; d < width; d += kLanes) {
      const int64_t n = width - d < kLanes ? width - d : kLanes;
      store(to + d, row == nullptr ? set(0) : load_part(row + d, n));
    }
  }
}

// ---- scores

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

// One step of the online softmax for the columns of a panel: scores become e^(score - max), max
// and sum take the new keys in, factor = e^(max before - max now).
void soften(float* scores, int64_t keys, int64_t vecs, float* max_c, float* sum_c, float* factor) {
  for (int64_t n = 0; n < vecs; ++n) {
    float* s = scores + n * kLanes;
    const Vec before = load(max_c + n * kLanes);
    Vec top = before;
    for (int64_t j = 0; j < keys; ++j) top = max(load(s + j * kScoreStride), top);
    const Vec f = vexp(sub(before, top));
    Vec total = mul(load(sum_c + n * kLanes), f);
    for (int64_t j = 0; j < keys; ++j) {
      const Vec e = vexp(sub(load(s + j * kScoreStride), top));
      store(s + j * kScoreStride, e);
      total = add(total, e);
    }
    store(max_c + n * kLanes, top);
    store(sum_c + n * kLanes, total);
    store(factor + n * kLanes, f);
  }
}

// What each tile of a panel's columns sees of the keys [begin, end); returns how many tiles.
int64_t seen_by_column_tiles(const AttentionColumns& columns, Panel panel, int64_t begin,
                             int64_t end, KeyRange* ranges) {
  const int64_t tiles = (panel.count + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t last = (i + 1) * kTileRows < panel.count ? (i + 1) * kTileRows : panel.count;
    ranges[i] = {0, seen(columns, panel.begin + last - 1, begin, end)};
  }
  return tiles;
}

// ---- forward

// Numbers of the workspaces.
int64_t part_floats(int64_t qk, int64_t v) {
  return kAttentionColumns * qk + kKeys * (row_stride(qk) + row_stride(v) + kScoreStride) + 16;
}
int64_t gradient_floats(int64_t qk, int64_t v) {
  return (2 * kGradientKeys + 2 * kColumns) * row_stride(qk) + kColumns * qk +
         (2 * kGradientKeys + kColumns) * row_stride(v) + kColumns * v + 2 * kKeys * kScoreStride +
         2 * kColumns;
}

// Whether values are columns of the keys' own rows: the latent of MLA.
bool values_in_keys(const AttentionPart& t) {
  const AttentionRows &k = t.keys, &v = t.values;
  return k.pages == v.pages && k.page_rows == v.page_rows && k.row_stride == v.row_stride &&
         k.bf16 == v.bf16 && k.first <= v.first && v.first + t.dims.v <= k.first + t.dims.qk;
}

struct Block {  // keys [begin, end) in the workspace
  int64_t begin, end;
  const float *keys, *values;
  int64_t key_stride, value_stride;
};

void panel_against_block(const AttentionPart& t, Panel panel, const Block& b, const float* q_lanes,
                         float* scores) {
  const AttentionColumns& columns = t.columns;
  const int64_t keys = seen(columns, panel.begin + panel.count - 1, b.begin, b.end);
  if (keys <= 0) return;
  const int64_t vecs = (panel.count + kLanes - 1) / kLanes;
  KeyRange ranges[kKeys / kTileRows];
  const int64_t key_tiles = (keys + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < key_tiles; ++i) ranges[i] = {0, t.dims.qk};
  product<false, Start::kZero>(b.keys, b.key_stride, q_lanes, kColumns, key_tiles, vecs, ranges,
                               scores, kScoreStride, nullptr);
  hide_later_keys(columns, panel, b.begin, keys, scores);

  const int64_t offset = panel.begin - columns.begin;
  alignas(64) float factor[kColumns];
  soften(scores, keys, vecs, t.max + offset, t.sum + offset, factor);
  const int64_t tiles = seen_by_column_tiles(columns, panel, b.begin, b.end, ranges);
  product<true, Start::kScale>(scores, kScoreStride, b.values, b.value_stride, tiles,
                               (t.dims.v + kLanes - 1) / kLanes, ranges, t.o + offset * t.o_stride,
                               t.o_stride, factor);
}

// ---- backward

struct GradientBlock {
  Block keys;
  float *dk, *dv;  // strides of the keys and values
  float *q_lanes, *d_o_lanes, *q_rows, *d_o_rows, *dq;
  float *scores, *d_scores;
  float *lse, *delta;  // delta = <dO, O>
};

void load_panel(const AttentionGradient& t, Panel panel, const GradientBlock& b) {
  gather_lanes(t.q, t.columns, panel, t.dims.qk, t.dims.scale, b.q_lanes);
  gather_lanes(t.d_o, t.columns, panel, t.dims.v, 1, b.d_o_lanes);
  gather_rows(t.q, t.columns, panel, t.dims.qk, b.q_rows, b.keys.key_stride);
  gather_rows(t.d_o, t.columns, panel, t.dims.v, b.d_o_rows, b.keys.value_stride);
  for (int64_t c = 0; c < kColumns; ++c) {
    b.lse[c] = b.delta[c] = 0;
    if (c >= panel.count) continue;
    b.lse[c] = *head_row(t.lse, t.columns, panel.begin + c, 1);
    b.delta[c] = dot(head_row(t.d_o, t.columns, panel.begin + c, t.dims.v),
                     head_row(t.o, t.columns, panel.begin + c, t.dims.v), t.dims.v);
  }
  for (int64_t i = 0; i < kColumns * b.keys.key_stride; ++i) b.dq[i] = 0;
}

// Scores become P = e^(score - lse), and dP becomes dS = P * (dP - delta).
void probabilities(const GradientBlock& b, int64_t rows) {
  for (int64_t n = 0; n < kColumns; n += kLanes) {
    const Vec lse = load(b.lse + n), delta = load(b.delta + n);
    for (int64_t j = 0; j < rows; ++j) {
      float* s = b.scores + j * kScoreStride + n;
      float* d = b.d_scores + j * kScoreStride + n;
      const Vec p = vexp(sub(load(s), lse));
      store(s, p);
      store(d, mul(p, sub(load(d), delta)));
    }
  }
}

// The keys [begin, end) of the block, its first at row `row` of it, against a panel of columns.
void gradient_of_panel(const AttentionGradient& t, Panel panel, const GradientBlock& b,
                       int64_t begin, int64_t end) {
  const AttentionColumns& columns = t.columns;
  const int64_t keys = seen(columns, panel.begin + panel.count - 1, begin, end);
  if (keys <= 0) return;
  const int64_t ks = b.keys.key_stride, vs = b.keys.value_stride;
  const int64_t key_at = (begin - b.keys.begin) * ks, value_at = (begin - b.keys.begin) * vs;
  const int64_t qk_vecs = (t.dims.qk + kLanes - 1) / kLanes;
  const int64_t v_vecs = (t.dims.v + kLanes - 1) / kLanes;
  const int64_t key_tiles = (keys + kTileRows - 1) / kTileRows;
  KeyRange ranges[kKeys / kTileRows];

  for (int64_t i = 0; i < key_tiles; ++i) ranges[i] = {0, t.dims.qk};
  product<false, Start::kZero>(b.keys.keys + key_at, ks, b.q_lanes, kColumns, key_tiles, kVecs,
                               ranges, b.scores, kScoreStride, nullptr);
  for (int64_t i = 0; i < key_tiles; ++i) ranges[i] = {0, t.dims.v};
  product<false, Start::kZero>(b.keys.values + value_at, vs, b.d_o_lanes, kColumns, key_tiles,
                               kVecs, ranges, b.d_scores, kScoreStride, nullptr);
  hide_later_keys(columns, panel, begin, key_tiles * kTileRows, b.scores);
  probabilities(b, key_tiles * kTileRows);

  for (int64_t i = 0; i < key_tiles; ++i) {
    const int64_t rows_before = begin + i * kTileRows + 1 - columns.visible;
    const int64_t first = rows_before * columns.group - panel.begin;
    ranges[i] = {first < 0 ? 0 : first, panel.count};
  }
  product<false, Start::kAdd>(b.scores, kScoreStride, b.d_o_rows, vs, key_tiles, v_vecs, ranges,
                              b.dv + value_at, vs, nullptr);
  product<false, Start::kAdd>(b.d_scores, kScoreStride, b.q_rows, ks, key_tiles, qk_vecs, ranges,
                              b.dk + key_at, ks, nullptr);
  const int64_t tiles = seen_by_column_tiles(columns, panel, begin, end, ranges);
  product<true, Start::kAdd>(b.d_scores, kScoreStride, b.keys.keys + key_at, ks, tiles, qk_vecs,
                             ranges, b.dq, ks, nullptr);
}

void gradient_of_block(const AttentionGradient& t, const GradientBlock& b) {
  const AttentionColumns& columns = t.columns;
  const int64_t rows_before = b.keys.begin + 1 - columns.visible;
  int64_t first = rows_before * columns.group;
  if (first < columns.begin) first = columns.begin;
  for (int64_t c = first; c < columns.end; c += kColumns) {
    const Panel panel{c, columns.end - c < kColumns ? columns.end - c : kColumns};
    load_panel(t, panel, b);
    for (int64_t j = b.keys.begin; j < b.keys.end; j += kKeys) {
      gradient_of_panel(t, panel, b, j, b.keys.end - j < kKeys ? b.keys.end : j + kKeys);
    }
    for (int64_t i = 0; i < panel.count; ++i) {
      add_scaled_row(t.dims.scale, b.dq + i * b.keys.key_stride,
                     head_row(t.dq, columns, c + i, t.dims.qk), t.dims.qk);
    }
  }
  for (int64_t j = b.keys.begin; j < b.keys.end; ++j) {
    const int64_t r = j - b.keys.begin;
    add_scaled_row(t.dims.scale, b.dk + r * b.keys.key_stride, t.dk + j * t.dk_stride, t.dims.qk);
    add_row(b.dv + r * b.keys.value_stride, t.dv + j * t.dv_stride, t.dims.v);
  }
}

struct Floats {  // hands out the workspace
  float* next;
  float* take(int64_t n) {
    float* p = next;
    next += n;
    return p;
  }
};

int64_t attention_workspace(int64_t qk_dim, int64_t v_dim) noexcept {
  const int64_t part = part_floats(qk_dim, v_dim);
  const int64_t gradient = gradient_floats(qk_dim, v_dim);
  return part > gradient ? part : gradient;
}

void attention_part(const AttentionPart& t, float* workspace) noexcept {
  const AttentionColumns& columns = t.columns;
  Floats ws{workspace};
  Block b{0, 0, nullptr, nullptr, row_stride(t.dims.qk), row_stride(t.dims.v)};
  float* keys = ws.take(kKeys * b.key_stride);
  float* values = values_in_keys(t) ? nullptr : ws.take(kKeys * b.value_stride);
  float* scores = ws.take(kKeys * kScoreStride);
  float* q_lanes = ws.take(kAttentionColumns * t.dims.qk);
  b.keys = keys;
  b.values = values != nullptr ? values : keys + (t.values.first - t.keys.first);
  if (values == nullptr) b.value_stride = b.key_stride;

  const int64_t count = columns.end - columns.begin;
  for (int64_t i = 0; i < round_up(count, kTileRows) * t.o_stride; ++i) t.o[i] = 0;
  for (int64_t i = 0; i < round_up(count, kLanes); ++i) t.max[i] = -__FLT_MAX__, t.sum[i] = 0;
  const auto panel_at = [&](int64_t i) {
    return Panel{columns.begin + i, count - i < kColumns ? count - i : kColumns};
  };
  for (int64_t i = 0; i < count; i += kColumns) {
    gather_lanes(t.q, columns, panel_at(i), t.dims.qk, t.dims.scale, q_lanes + i * t.dims.qk);
  }
  const int64_t end = t.key_begin + seen(columns, columns.end - 1, t.key_begin, t.key_end);
  for (b.begin = t.key_begin; b.begin < end; b.begin = b.end) {
    b.end = end - b.begin < kKeys ? end : b.begin + kKeys;
    const int64_t n = b.end - b.begin;
    widen(t.keys, b.begin, n, round_up(n, kTileRows), t.dims.qk, keys, b.key_stride);
    if (values != nullptr) widen(t.values, b.begin, n, n, t.dims.v, values, b.value_stride);
    for (int64_t i = 0; i < count; i += kColumns) {
      panel_against_block(t, panel_at(i), b, q_lanes + i * t.dims.qk, scores);
    }
  }
}

void attention_gradient(const AttentionGradient& t, float* workspace) noexcept {
  const int64_t ks = row_stride(t.dims.qk), vs = row_stride(t.dims.v);
  Floats ws{workspace};
  float* keys = ws.take(kGradientKeys * ks);
  float* values = ws.take(kGradientKeys * vs);
  GradientBlock b{};
  b.keys = {0, 0, keys, values, ks, vs};
  b.dk = ws.take(kGradientKeys * ks);
  b.dv = ws.take(kGradientKeys * vs);
  b.q_rows = ws.take(kColumns * ks);
  b.d_o_rows = ws.take(kColumns * vs);
  b.dq = ws.take(kColumns * ks);
  b.q_lanes = ws.take(kColumns * t.dims.qk);
  b.d_o_lanes = ws.take(kColumns * t.dims.v);
  b.scores = ws.take(kKeys * kScoreStride);
  b.d_scores = ws.take(kKeys * kScoreStride);
  b.lse = ws.take(kColumns);
  b.delta = ws.take(kColumns);
  for (int64_t begin = t.key_begin; begin < t.key_end; begin += kGradientKeys) {
    const int64_t n = t.key_end - begin < kGradientKeys ? t.key_end - begin : kGradientKeys;
    b.keys.begin = begin;
    b.keys.end = begin + n;
    widen(t.keys, begin, n, round_up(n, kTileRows), t.dims.qk, keys, ks);
    widen(t.values, begin, n, round_up(n, kTileRows), t.dims.v, values, vs);
    for (int64_t i = 0; i < kGradientKeys * ks; ++i) b.dk[i] = 0;
    for (int64_t i = 0; i < kGradientKeys * vs; ++i) b.dv[i] = 0;
    gradient_of_block(t, b);
  }
}

}  // namespace flash
}  // namespace
