// attention_part of ops/attention.h, for many columns: the online softmax.
namespace {
namespace flash {

// Scores, unscaled, become 2^(scale2 score - max), where the running max (of unscaled scores) takes
// them in first; sum takes the new powers in; factor = 2^(max before - max now) for what was summed
// before. `scale2 max` is rounded the same way wherever it stands, so that its error cancels. As
// pairs along the keys the powers end in the first half of the rows.
template <Packing M>
void soften(float* scores, int64_t keys, int64_t vecs, float scale2, float* max_c, float* sum_c,
            float* factor) {
  const Vec scale = set(scale2);
  for (int64_t n = 0; n < vecs * kLanes; n += kLanes) {
    float* s = scores + n;
    const Vec before = load(max_c + n);
    Vec top = before, top2 = before;
    int64_t j = 0;
    for (; j + 2 <= keys; j += 2) {
      top = max(load(s + j * kScoreStride), top);
      top2 = max(load(s + (j + 1) * kScoreStride), top2);
    }
    if (j < keys) top = max(load(s + j * kScoreStride), top);
    top = max(top, top2);
    const Vec shift = neg(mul(scale, top));
    const Vec f = exp2_below(add(mul(scale, before), shift));
    Vec total = mul(load(sum_c + n), f);
    const auto power = [&](int64_t key) __attribute__((always_inline)) {
      const Vec e = exp2_below(fma(load(s + key * kScoreStride), scale, shift));
      total = add(total, e);
      return e;
    };
    for (j = 0; j + unit_size(M) <= keys; j += unit_size(M)) {
      const Vec e = power(j);
      store(s + j / unit_size(M) * kScoreStride,
            M == Packing::kPairs ? pair<M>(e, power(j + 1)) : e);
    }
    if (j < keys) store(s + j / 2 * kScoreStride, pair<M>(power(j), set(0)));
    store(max_c + n, top);
    store(sum_c + n, total);
    store(factor + n, f);
  }
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

template <Packing M>
void panel_against_block(const AttentionPart& t, Panel panel, const Block& b, const float* q_lanes,
                         float* scores) {
  const AttentionColumns& columns = t.columns;
  const int64_t keys = seen(columns, panel.begin + panel.count - 1, b.begin, b.end);
  if (keys <= 0) return;
  const int64_t vecs = vecs_of(panel.count);
  KeyRange ranges[kKeys / kTileRows];
  const int64_t key_tiles = (keys + kTileRows - 1) / kTileRows;
  for (int64_t i = 0; i < key_tiles; ++i) ranges[i] = {0, inner_of<M>(t.dims.qk)};
  product<M, false, Start::kZero>(b.keys, b.key_stride, q_lanes, kColumns, key_tiles, vecs, ranges,
                                  scores, kScoreStride, nullptr);
  hide_later_keys(columns, panel, b.begin, keys, scores);

  const int64_t offset = panel.begin - columns.begin;
  alignas(64) float factor[kColumns];
  soften<M>(scores, keys, vecs, t.dims.scale * kLog2E, t.max + offset, t.sum + offset, factor);
  const int64_t tiles = seen_by_column_tiles<M>(columns, panel, b.begin, b.end, ranges);
  product<M, true, Start::kScale>(scores, kScoreStride, b.values, b.value_stride, tiles,
                                  vecs_of(t.dims.v), ranges, t.o + offset * t.o_stride, t.o_stride,
                                  factor);
}

int64_t part_floats(int64_t qk, int64_t v) {
  return kAttentionColumns * qk + kKeys * (row_stride(qk) + row_stride(v) + kScoreStride) + 16;
}

template <Packing M>
void part(const AttentionPart& t, float* workspace) {
  const AttentionColumns& columns = t.columns;
  Floats ws{workspace};
  Block b{0, 0, nullptr, nullptr, row_stride(inner_of<M>(t.dims.qk)), row_stride(t.dims.v)};
  float* keys = ws.take(kKeys * b.key_stride);
  const bool shared = M == Packing::kPlain && values_in_keys(t);
  float* values = shared ? nullptr : ws.take(kKeys * b.value_stride);
  float* scores = ws.take(kKeys * kScoreStride);
  float* q_lanes = ws.take(kAttentionColumns * t.dims.qk);
  b.keys = keys;
  b.values = values != nullptr ? values : keys + (t.values.first - t.keys.first);
  if (values == nullptr) b.value_stride = b.key_stride;

  const int64_t count = columns.end - columns.begin;
  for (int64_t i = 0; i < round_up(count, kTileRows) * t.o_stride; ++i) t.o[i] = 0;
  for (int64_t i = 0; i < round_up(count, kLanes); ++i) t.max[i] = -__FLT_MAX__, t.sum[i] = 0;
  const auto panel_at = [&](int64_t i) {
    return Panel{columns.begin + i, at_most(count - i, kColumns)};
  };
  for (int64_t i = 0; i < count; i += kColumns) {
    gather_lanes<M>(t.q, columns, panel_at(i), t.dims.qk, q_lanes + i * t.dims.qk);
  }
  const int64_t end = t.key_begin + seen(columns, columns.end - 1, t.key_begin, t.key_end);
  for (b.begin = t.key_begin; b.begin < end; b.begin = b.end) {
    b.end = at_most(end, b.begin + kKeys);
    const int64_t n = b.end - b.begin;
    widen<M>(t.keys, b.begin, n, round_up(n, kTileRows), t.dims.qk, keys, b.key_stride);
    if (!shared) lay_across<M>(t.values, b.begin, n, t.dims.v, values, b.value_stride);
    for (int64_t i = 0; i < count; i += kColumns) {
      panel_against_block<M>(t, panel_at(i), b, q_lanes + i * t.dims.qk, scores);
    }
  }
  for (int64_t i = 0; i < count; ++i) t.max[i] *= t.dims.scale * kLog2E;
}

void attention_part(const AttentionPart& t, float* workspace) noexcept {
#if defined(HADAL_BF16_DOT)
  if (t.bf16_arithmetic) return part<Packing::kPairs>(t, workspace);
#endif
  part<Packing::kPlain>(t, workspace);
}

}  // namespace flash
}  // namespace
