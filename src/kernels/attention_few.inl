// attention_few_part of ops/attention.h: few columns to a key head, where tiles would be mostly
// empty and reading the keys is what costs. Dot products along a key; rows are read once and in
// order, all heads of some rows before the next rows.
namespace {
namespace flash {

using hadal::kAttentionFewColumns;

constexpr int64_t kFewStride = round_up(kKeys, 16);
constexpr int64_t kFewKeys = 8;  // rows that are read together

// Columns x keys, or columns x vectors of values, that are taken together: enough chains to hide
// the latency of an addition, and no more than the registers hold.
template <int N>
constexpr int kFewTile = at_most((kLanes == 16 ? 16 : 8) / N, 8);

template <int N>
struct Count {
  static constexpr int value = N;
};
// Calls fn(first, Count) for all of `columns`.
template <class Fn>
inline void in_fours(int64_t columns, Fn fn) {
  int64_t c = 0;
  for (; c + 4 <= columns; c += 4) fn(c, Count<4>());
  for (; c + 2 <= columns; c += 2) fn(c, Count<2>());
  if (c < columns) fn(c, Count<1>());
}

// scores[c * kFewStride + j] = q_c . key_j for N columns and K keys, `at` numbers into their rows.
template <class E, int N, int K>
[[gnu::noinline]] void few_scores(const E* const* keys, int64_t at, int64_t width, const float* q,
                                  int64_t q_stride, float* scores) {
  Vec acc[N][K];
#pragma GCC unroll 16
  for (int i = 0; i < N * K; ++i) acc[i / K][i % K] = set(0);
  const auto step = [&](int64_t d, auto load_key) __attribute__((always_inline)) {
    Vec key[K];
#pragma GCC unroll 16
    for (int j = 0; j < K; ++j) key[j] = load_key(keys[j] + at + d);
#pragma GCC unroll 16
    for (int c = 0; c < N; ++c) {
      const Vec column = load(q + c * q_stride + d);
#pragma GCC unroll 16
      for (int j = 0; j < K; ++j) add_product(acc[c][j], column, key[j]);
    }
  };
  int64_t d = 0;
  for (; d + kLanes <= width; d += kLanes) step(d, [](const E* p) { return load_any(p); });
  if (d < width) step(d, [=](const E* p) { return load_any_part(p, width - d); });
#pragma GCC unroll 16
  for (int i = 0; i < N * K; ++i) scores[i / K * kFewStride + i % K] = sum(acc[i / K][i % K]);
}

// o = factor o + sum_j p_j v_j for N columns and W vectors, the last of which has `last` lanes;
// values lie `at` numbers into their rows.
template <class E, int N, int W>
[[gnu::noinline]] void few_values(const E* const* values, int64_t keys, int64_t at, int64_t last,
                                  const float* p, const float* factor, float* o, int64_t o_stride) {
  Vec acc[N][W];
#pragma GCC unroll 16
  for (int i = 0; i < N * W; ++i) {
    acc[i / W][i % W] = mul(set(factor[i / W]), load(o + i / W * o_stride + i % W * kLanes));
  }
  for (int64_t j = 0; j < keys; ++j) {
    const E* row = values[j] + at;
    Vec v[W];
#pragma GCC unroll 16
    for (int w = 0; w + 1 < W; ++w) v[w] = load_any(row + w * kLanes);
    const E* end = row + (W - 1) * kLanes;
    v[W - 1] = last == kLanes ? load_any(end) : load_any_part(end, last);
#pragma GCC unroll 16
    for (int c = 0; c < N; ++c) {
      const Vec weight = broadcast(p + c * kFewStride + j);
#pragma GCC unroll 16
      for (int w = 0; w < W; ++w) add_product(acc[c][w], weight, v[w]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < N * W; ++i) store(o + i / W * o_stride + i % W * kLanes, acc[i / W][i % W]);
}

// As soften(), for one column whose `count` scores lie in a row.
void soften_row(float* scores, int64_t count, float scale2, float* max_c, float* sum_c,
                float* factor) {
  const int64_t whole = vecs_of(count) * kLanes;
  for (int64_t j = count; j < whole; ++j) scores[j] = -__builtin_inff();
  Vec tops = set(*max_c);
  for (int64_t j = 0; j < whole; j += kLanes) tops = max(load(scores + j), tops);
  const float top = reduce_max(tops), shift = -(scale2 * top);
  float f[kLanes];
  store(f, exp2_below(set(scale2 * *max_c + shift)));
  Vec total = set(0);
  for (int64_t j = 0; j < whole; j += kLanes) {
    const Vec e = exp2_below(fma(load(scores + j), set(scale2), set(shift)));
    store(scores + j, e);
    total = add(total, e);
  }
  *factor = f[0];
  *max_c = top;
  *sum_c = *sum_c * f[0] + sum(total);
}

// What the loops below share: `heads` key heads of `group` columns each.
template <class E>
struct FewBlock {
  const AttentionPart& t;
  int64_t heads, group;
  const float* q;
  int64_t q_stride;
  float *scores, *factor;
  int64_t count;  // of the keys of the block
  const E* keys[kKeys];
  const E* values[kKeys];
};

// Scores of all columns against n <= kFewKeys keys from j on.
template <class E>
void few_keys(const FewBlock<E>& b, int64_t j, int64_t n) {
  const int64_t width = b.t.dims.qk, next = at_most(b.count, j + 2 * kFewKeys);
  for (int64_t g = 0; g < b.heads; ++g) {
    const int64_t at = g * b.t.key_step;
    for (int64_t i = j + kFewKeys; i < next; ++i) prefetch_row(b.keys[i] + at, width);
    in_fours(b.group, [&](int64_t first, auto columns) {
      constexpr int N = decltype(columns)::value, K = kFewTile<N>;
      const int64_t c = g * b.group + first;
      const float* q = b.q + c * b.q_stride;
      float* scores = b.scores + c * kFewStride;
      int64_t i = j;
      for (; i + K <= j + n; i += K) {
        few_scores<E, N, K>(b.keys + i, at, width, q, b.q_stride, scores + i);
      }
      for (; i < j + n; ++i) {
        few_scores<E, N, 1>(b.keys + i, at, width, q, b.q_stride, scores + i);
      }
    });
  }
}

// Adds to all columns' o what n values from j on give.
template <class E>
void few_outputs(const FewBlock<E>& b, int64_t j, int64_t n, const float* factor) {
  const int64_t width = b.t.dims.v, stride = b.t.o_stride;
  const int64_t next = at_most(b.count, j + 2 * n);
  for (int64_t g = 0; g < b.heads; ++g) {
    const int64_t at = g * b.t.value_step;
    for (int64_t i = j + n; i < next; ++i) prefetch_row(b.values[i] + at, width);
    in_fours(b.group, [&](int64_t first, auto columns) {
      constexpr int N = decltype(columns)::value, W = kFewTile<N>;
      const int64_t c = g * b.group + first;
      const float* p = b.scores + c * kFewStride + j;
      float* o = b.t.o + c * stride;
      int64_t d = 0;
      for (; d + W * kLanes <= width; d += W * kLanes) {
        few_values<E, N, W>(b.values + j, n, at + d, kLanes, p, factor + c, o + d, stride);
      }
      for (; d < width; d += kLanes) {
        const int64_t last = at_most(kLanes, width - d);
        few_values<E, N, 1>(b.values + j, n, at + d, last, p, factor + c, o + d, stride);
      }
    });
  }
}

template <class E>
void few_part(FewBlock<E>& b) {
  const AttentionPart& t = b.t;
  float ones[kAttentionFewColumns];
  for (float& one : ones) one = 1;
  for (int64_t begin = t.key_begin; begin < t.key_end; begin += kKeys) {
    b.count = at_most(t.key_end - begin, kKeys);
    for_rows<E>(t.keys, begin, b.count, [&](int64_t r, const E* row) { b.keys[r] = row; });
    for_rows<E>(t.values, begin, b.count, [&](int64_t r, const E* row) { b.values[r] = row; });
    for (int64_t j = 0; j < b.count; j += kFewKeys) {
      few_keys(b, j, at_most(b.count - j, kFewKeys));
    }
    for (int64_t c = 0; c < b.heads * b.group; ++c) {
      soften_row(b.scores + c * kFewStride, b.count, t.dims.scale * kLog2E, t.max + c, t.sum + c,
                 b.factor + c);
    }
    // One key head's values are read in order anyway, and its outputs stay in registers longer.
    const int64_t step = b.heads == 1 ? kKeys : kFewKeys;
    for (int64_t j = 0; j < b.count; j += step) {
      few_outputs(b, j, at_most(b.count - j, step), j == 0 ? b.factor : ones);
    }
  }
}

int64_t few_floats(int64_t qk) {
  return kAttentionFewColumns * (row_stride(qk) + kFewStride + 1);
}

void attention_few_part(const AttentionPart& t, float* workspace) noexcept {
  const int64_t columns = t.columns.end - t.columns.begin, q_stride = row_stride(t.dims.qk);
  Floats ws{workspace};
  float* q = ws.take(kAttentionFewColumns * q_stride);
  float* scores = ws.take(kAttentionFewColumns * kFewStride);
  float* factor = ws.take(kAttentionFewColumns);
  for (int64_t c = 0; c < columns; ++c) {
    widen_row<Packing::kPlain>(t.q.data + c * t.dims.qk, t.dims.qk, q + c * q_stride);
  }
  for (int64_t i = 0; i < columns * t.o_stride; ++i) t.o[i] = 0;
  for (int64_t c = 0; c < columns; ++c) t.max[c] = -__FLT_MAX__, t.sum[c] = 0;
  const int64_t group = t.columns.group, heads = columns / group;
  if (t.keys.bf16) {
    FewBlock<uint16_t> b{t, heads, group, q, q_stride, scores, factor, 0, {}, {}};
    few_part(b);
  } else {
    FewBlock<float> b{t, heads, group, q, q_stride, scores, factor, 0, {}, {}};
    few_part(b);
  }
  for (int64_t c = 0; c < columns; ++c) t.max[c] *= t.dims.scale * kLog2E;
}

}  // namespace flash
}  // namespace
