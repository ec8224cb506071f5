// attention_gradient of ops/attention.h: probabilities again from lse, then the five products.
namespace {
namespace flash {

constexpr int64_t kGradientKeys = 2 * kKeys;

// What is read along one of its two indices lies there as pairs, if pairs are taken: keys, values,
// q_lanes and d_o_lanes along a head's numbers, keys_across and scores_across along the keys,
// q_rows, d_o_rows, scores and d_scores along the columns.
struct GradientBlock {
  int64_t begin, end;  // keys
  int64_t qk_stride, v_stride, qk_inner_stride, v_inner_stride;
  float *keys, *values, *keys_across;
  float *dk, *dv, *dq;
  float *q_lanes, *d_o_lanes, *q_rows, *d_o_rows;
  float *scores, *d_scores, *d_scores_across;
  float *lse, *delta;  // log2 e lse; <dO, O>
};

template <Packing M>
void load_panel(const AttentionGradient& t, Panel panel, const GradientBlock& b) {
  gather_lanes<M>(t.q, t.columns, panel, t.dims.qk, b.q_lanes);
  gather_lanes<M>(t.d_o, t.columns, panel, t.dims.v, b.d_o_lanes);
  gather_rows<M>(t.q, t.columns, panel, t.dims.qk, b.q_rows, b.qk_stride);
  gather_rows<M>(t.d_o, t.columns, panel, t.dims.v, b.d_o_rows, b.v_stride);
  for (int64_t c = 0; c < kColumns; ++c) {
    b.lse[c] = b.delta[c] = 0;
    if (c >= panel.count) continue;
    b.lse[c] = kLog2E * *head_row(t.lse, t.columns, panel.begin + c, 1);
    b.delta[c] = dot(head_row(t.d_o, t.columns, panel.begin + c, t.dims.v),
                     head_row(t.o, t.columns, panel.begin + c, t.dims.v), t.dims.v);
  }
  for (int64_t i = 0; i < kColumns * b.qk_stride; ++i) b.dq[i] = 0;
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

// dS as pairs along the keys beside it; then P and dS, each row in place, as pairs along the
// columns.
void pair_up(const GradientBlock& b, int64_t keys, int64_t rows) {
  for (int64_t j = 0; j < keys; j += 2) {
    const float* row = b.d_scores + j * kScoreStride;
    lay_across<Packing::kPairs>(row, j + 1 < keys ? row + kScoreStride : nullptr, kColumns,
                                b.d_scores_across + j / 2 * kScoreStride);
  }
  for (int64_t j = 0; j < rows; ++j) {
    for (float* row : {b.scores + j * kScoreStride, b.d_scores + j * kScoreStride}) {
      widen_row<Packing::kPairs>(row, kColumns, row);
    }
  }
}

// The keys [begin, end) of the block, its first at row `row` of it, against a panel of columns.
template <Packing M>
void gradient_of_panel(const AttentionGradient& t, Panel panel, const GradientBlock& b,
                       int64_t begin, int64_t end) {
  const AttentionColumns& columns = t.columns;
  const int64_t keys = seen(columns, panel.begin + panel.count - 1, begin, end);
  if (keys <= 0) return;
  const int64_t row = begin - b.begin, key_tiles = (keys + kTileRows - 1) / kTileRows;
  const int64_t qk_vecs = vecs_of(t.dims.qk), v_vecs = vecs_of(t.dims.v);
  KeyRange ranges[kKeys / kTileRows];

  for (int64_t i = 0; i < key_tiles; ++i) ranges[i] = {0, inner_of<M>(t.dims.qk)};
  product<M, false, Start::kZero>(b.keys + row * b.qk_inner_stride, b.qk_inner_stride, b.q_lanes,
                                  kColumns, key_tiles, kVecs, ranges, b.scores, kScoreStride,
                                  nullptr);
  for (int64_t i = 0; i < key_tiles; ++i) ranges[i] = {0, inner_of<M>(t.dims.v)};
  product<M, false, Start::kZero>(b.values + row * b.v_inner_stride, b.v_inner_stride, b.d_o_lanes,
                                  kColumns, key_tiles, kVecs, ranges, b.d_scores, kScoreStride,
                                  nullptr);
  hide_later_keys(columns, panel, begin, key_tiles * kTileRows, b.scores);
  probabilities(b, t.dims.scale * kLog2E, key_tiles * kTileRows);
  if (M == Packing::kPairs) pair_up(b, keys, key_tiles * kTileRows);

  for (int64_t i = 0; i < key_tiles; ++i) {
    const int64_t rows_before = begin + i * kTileRows + 1 - columns.visible;
    const int64_t first = rows_before * columns.group - panel.begin;
    ranges[i] = {first < 0 ? 0 : first / unit_size(M), inner_of<M>(panel.count)};
  }
  product<M, false, Start::kAdd>(b.scores, kScoreStride, b.d_o_rows, b.v_stride, key_tiles, v_vecs,
                                 ranges, b.dv + row * b.v_stride, b.v_stride, nullptr);
  product<M, false, Start::kAdd>(b.d_scores, kScoreStride, b.q_rows, b.qk_stride, key_tiles,
                                 qk_vecs, ranges, b.dk + row * b.qk_stride, b.qk_stride, nullptr);
  const int64_t tiles = seen_by_column_tiles<M>(columns, panel, begin, end, ranges);
  product<M, true, Start::kAdd>(b.d_scores_across, kScoreStride,
                                b.keys_across + row / unit_size(M) * b.qk_stride, b.qk_stride,
                                tiles, qk_vecs, ranges, b.dq, b.qk_stride, nullptr);
}

template <Packing M>
void gradient_of_block(const AttentionGradient& t, const GradientBlock& b) {
  const AttentionColumns& columns = t.columns;
  const int64_t rows_before = b.begin + 1 - columns.visible;
  int64_t first = rows_before * columns.group;
  if (first < columns.begin) first = columns.begin;
  for (int64_t c = first; c < columns.end; c += kColumns) {
    const Panel panel{c, at_most(columns.end - c, kColumns)};
    load_panel<M>(t, panel, b);
    for (int64_t j = b.begin; j < b.end; j += kKeys) {
      gradient_of_panel<M>(t, panel, b, j, b.end - j < kKeys ? b.end : j + kKeys);
    }
    for (int64_t i = 0; i < panel.count; ++i) {
      add_scaled_row(t.dims.scale, b.dq + i * b.qk_stride,
                     head_row(t.dq, columns, c + i, t.dims.qk), t.dims.qk);
    }
  }
  for (int64_t j = b.begin; j < b.end; ++j) {
    const int64_t r = j - b.begin;
    add_scaled_row(t.dims.scale, b.dk + r * b.qk_stride, t.dk + j * t.dk_stride, t.dims.qk);
    add_row(b.dv + r * b.v_stride, t.dv + j * t.dv_stride, t.dims.v);
  }
}

int64_t gradient_floats(int64_t qk, int64_t v) {
  return (3 * kGradientKeys + 2 * kColumns) * row_stride(qk) + kColumns * qk +
         (2 * kGradientKeys + kColumns) * row_stride(v) + kColumns * v + 3 * kKeys * kScoreStride +
         2 * kColumns;
}

template <Packing M>
void gradient(const AttentionGradient& t, float* workspace) {
  const int64_t qk = t.dims.qk, v = t.dims.v;
  Floats ws{workspace};
  GradientBlock b{};
  b.qk_stride = row_stride(qk);
  b.v_stride = row_stride(v);
  b.qk_inner_stride = row_stride(inner_of<M>(qk));
  b.v_inner_stride = row_stride(inner_of<M>(v));
  b.keys = ws.take(kGradientKeys * b.qk_inner_stride);
  b.values = ws.take(kGradientKeys * b.v_inner_stride);
  b.keys_across = M == Packing::kPairs ? ws.take(kGradientKeys / 2 * b.qk_stride) : b.keys;
  b.dk = ws.take(kGradientKeys * b.qk_stride);
  b.dv = ws.take(kGradientKeys * b.v_stride);
  b.q_rows = ws.take(kColumns * b.qk_stride);
  b.d_o_rows = ws.take(kColumns * b.v_stride);
  b.dq = ws.take(kColumns * b.qk_stride);
  b.q_lanes = ws.take(kColumns * inner_of<M>(qk));
  b.d_o_lanes = ws.take(kColumns * inner_of<M>(v));
  b.scores = ws.take(kKeys * kScoreStride);
  b.d_scores = ws.take(kKeys * kScoreStride);
  b.d_scores_across = M == Packing::kPairs ? ws.take(kKeys / 2 * kScoreStride) : b.d_scores;
  b.lse = ws.take(kColumns);
  b.delta = ws.take(kColumns);
  for (int64_t begin = t.key_begin; begin < t.key_end; begin += kGradientKeys) {
    const int64_t n = at_most(t.key_end - begin, kGradientKeys);
    b.begin = begin;
    b.end = begin + n;
    widen<M>(t.keys, begin, n, round_up(n, kTileRows), qk, b.keys, b.qk_inner_stride);
    widen<M>(t.values, begin, n, round_up(n, kTileRows), v, b.values, b.v_inner_stride);
    if (M == Packing::kPairs) lay_across<M>(t.keys, begin, n, qk, b.keys_across, b.qk_stride);
    for (int64_t i = 0; i < kGradientKeys * b.qk_stride; ++i) b.dk[i] = 0;
    for (int64_t i = 0; i < kGradientKeys * b.v_stride; ++i) b.dv[i] = 0;
    gradient_of_block<M>(t, b);
  }
}

void attention_gradient(const AttentionGradient& t, float* workspace) noexcept {
#if defined(HADAL_BF16_DOT)
  if (t.bf16_arithmetic) return gradient<Packing::kPairs>(t, workspace);
#endif
  gradient<Packing::kPlain>(t, workspace);
}

int64_t attention_workspace(int64_t qk_dim, int64_t v_dim) noexcept {
  const int64_t many = part_floats(qk_dim, v_dim), few = few_floats(qk_dim);
  const int64_t backward = gradient_floats(qk_dim, v_dim);
  const int64_t most = many > few ? many : few;
  return most > backward ? most : backward;
}

}  // namespace flash
}  // namespace
