// attention_gradient of ops/attention.h: probabilities again from lse, then the five products.
namespace {
namespace flash {

constexpr int64_t kGradientKeys = 2 * kKeys;

struct GradientBlock {
  Block keys;
  float *dk, *dv;  // strides of the keys and values
  float *q_lanes, *d_o_lanes, *q_rows, *d_o_rows, *dq;
  float *scores, *d_scores;
  float *lse, *delta;  // log2 e lse; <dO, O>
};

void load_panel(const AttentionGradient& t, Panel panel, const GradientBlock& b) {
  gather_lanes(t.q, t.columns, panel, t.dims.qk, b.q_lanes);
  gather_lanes(t.d_o, t.columns, panel, t.dims.v, b.d_o_lanes);
  gather_rows(t.q, t.columns, panel, t.dims.qk, b.q_rows, b.keys.key_stride);
  gather_rows(t.d_o, t.columns, panel, t.dims.v, b.d_o_rows, b.keys.value_stride);
  for (int64_t c = 0; c < kColumns; ++c) {
    b.lse[c] = b.delta[c] = 0;
    if (c >= panel.count) continue;
    b.lse[c] = kLog2E * *head_row(t.lse, t.columns, panel.begin + c, 1);
    b.delta[c] = dot(head_row(t.d_o, t.columns, panel.begin + c, t.dims.v),
                     head_row(t.o, t.columns, panel.begin + c, t.dims.v), t.dims.v);
  }
  for (int64_t i = 0; i < kColumns * b.keys.key_stride; ++i) b.dq[i] = 0;
}

// Scores, unscaled, become P = e^(scale score - lse), and dP becomes dS = P * (dP - delta).
void probabilities(const GradientBlock& b, float scale2, int64_t rows) {
  const Vec scale = set(scale2);
  for (int64_t n = 0; n < kColumns; n += kLanes) {
    const Vec shift = neg(load(b.lse + n)), delta = load(b.delta + n);
    for (int64_t j = 0; j < rows; ++j) {
      float* s = b.scores + j * kScoreStride + n;
      float* d = b.d_scores + j * kScoreStride + n;
      const Vec p = exp2_below(fma(load(s), scale, shift));
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
  const int64_t qk_vecs = vecs_of(t.dims.qk);
  const int64_t v_vecs = vecs_of(t.dims.v);
  const int64_t key_tiles = (keys + kTileRows - 1) / kTileRows;
  KeyRange ranges[kKeys / kTileRows];

  for (int64_t i = 0; i < key_tiles; ++i) ranges[i] = {0, t.dims.qk};
  product<false, Start::kZero>(b.keys.keys + key_at, ks, b.q_lanes, kColumns, key_tiles, kVecs,
                               ranges, b.scores, kScoreStride, nullptr);
  for (int64_t i = 0; i < key_tiles; ++i) ranges[i] = {0, t.dims.v};
  product<false, Start::kZero>(b.keys.values + value_at, vs, b.d_o_lanes, kColumns, key_tiles,
                               kVecs, ranges, b.d_scores, kScoreStride, nullptr);
  hide_later_keys(columns, panel, begin, key_tiles * kTileRows, b.scores);
  probabilities(b, t.dims.scale * kLog2E, key_tiles * kTileRows);

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
    const Panel panel{c, at_most(columns.end - c, kColumns)};
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

int64_t gradient_floats(int64_t qk, int64_t v) {
  return (2 * kGradientKeys + 2 * kColumns) * row_stride(qk) + kColumns * qk +
         (2 * kGradientKeys + kColumns) * row_stride(v) + kColumns * v + 2 * kKeys * kScoreStride +
         2 * kColumns;
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
    const int64_t n = at_most(t.key_end - begin, kGradientKeys);
    b.keys.begin = begin;
    b.keys.end = begin + n;
    widen(t.keys, begin, n, round_up(n, kTileRows), t.dims.qk, keys, ks);
    widen(t.values, begin, n, round_up(n, kTileRows), t.dims.v, values, vs);
    for (int64_t i = 0; i < kGradientKeys * ks; ++i) b.dk[i] = 0;
    for (int64_t i = 0; i < kGradientKeys * vs; ++i) b.dv[i] = 0;
    gradient_of_block(t, b);
  }
}

int64_t attention_workspace(int64_t qk_dim, int64_t v_dim) noexcept {
  const int64_t part = part_floats(qk_dim, v_dim), few = few_floats(qk_dim);
  const int64_t gradient = gradient_floats(qk_dim, v_dim);
  const int64_t most = part > few ? part : few;
  return most > gradient ? most : gradient;
}

}  // namespace flash
}  // namespace
