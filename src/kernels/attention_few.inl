// attention_part of ops/attention.h for a few columns (kAttentionFew), where tiles would be mostly
// empty and reading the keys is what costs: dot products along a key, each row read once.
namespace {
namespace flash {

constexpr int64_t kFewStride = round_up(kKeys, 16);
constexpr int kAhead = 8;  // rows that are asked for early: pages and strides defeat the hardware

// Columns x keys, or columns x vectors of values, that are taken together: enough chains to hide
// the latency of an addition, and no more than the registers hold.
template <int N>
constexpr int kFewTile = at_most((kLanes == 16 ? 16 : 8) / N, 8);

// scores[c * kFewStride + j] = q_c . key_j for N columns and K keys.
template <class E, int N, int K>
[[gnu::noinline]] void few_scores(const E* const* keys, int64_t width, const float* q,
                                  int64_t q_stride, float* scores) {
  Vec acc[N][K];
#pragma GCC unroll 16
  for (int i = 0; i < N * K; ++i) acc[i / K][i % K] = set(0);
  const auto step = [&](int64_t d, auto load_key) __attribute__((always_inline)) {
    Vec key[K];
#pragma GCC unroll 16
    for (int j = 0; j < K; ++j) key[j] = load_key(keys[j] + d);
#pragma GCC unroll 16
    for (int c = 0; c < N; ++c) {
      const Vec column = load(q + c * q_stride + d);
#pragma GCC unroll 16
      for (int j = 0; j < K; ++j) acc[c][j] = fma(column, key[j], acc[c][j]);
    }
  };
  int64_t d = 0;
  for (; d + kLanes <= width; d += kLanes) step(d, [](const E* p) { return load_any(p); });
  if (d < width) step(d, [=](const E* p) { return load_any_part(p, width - d); });
#pragma GCC unroll 16
  for (int i = 0; i < N * K; ++i) scores[i / K * kFewStride + i % K] = sum(acc[i / K][i % K]);
}

// o = factor o + sum_j p_j v_j for N columns and W vectors, the last of which has `last` lanes.
template <class E, int N, int W>
[[gnu::noinline]] void few_values(const E* const* values, int64_t keys, int64_t first, int64_t last,
                                  const float* p, const float* factor, float* o, int64_t o_stride) {
  Vec acc[N][W];
#pragma GCC unroll 16
  for (int i = 0; i < N * W; ++i) {
    acc[i / W][i % W] =
        mul(set(factor[i / W]), load(o + i / W * o_stride + first + i % W * kLanes));
  }
  for (int64_t j = 0; j < keys; ++j) {
    const E* row = values[j] + first;
    Vec v[W];
#pragma GCC unroll 16
    for (int w = 0; w + 1 < W; ++w) v[w] = load_any(row + w * kLanes);
    const E* end = row + (W - 1) * kLanes;
    v[W - 1] = last == kLanes ? load_any(end) : load_any_part(end, last);
#pragma GCC unroll 16
    for (int c = 0; c < N; ++c) {
      const Vec weight = broadcast(p + c * kFewStride + j);
#pragma GCC unroll 16
      for (int w = 0; w < W; ++w) acc[c][w] = fma(weight, v[w], acc[c][w]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < N * W; ++i) {
    store(o + i / W * o_stride + first + i % W * kLanes, acc[i / W][i % W]);
  }
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

template <class E>
struct FewKeys {  // a block of keys
  int64_t count;
  const E* keys[kKeys];
  const E* values[kKeys];
};

// N columns, from `column` of the part on, against a block.
template <class E, int N>
void few_against_block(const AttentionPart& t, const FewKeys<E>& b, int64_t column, const float* q,
                       int64_t q_stride, float* scores) {
  constexpr int K = kFewTile<N>, W = kFewTile<N>;
  for (int64_t j = 0, n = 0; j < b.count; j += n) {
    n = j + K <= b.count ? K : 1;
    for (int64_t i = j; i < j + n && column == 0; ++i) {
      prefetch_row(b.values[i], t.dims.v);
      if (i + kAhead < b.count) prefetch_row(b.keys[i + kAhead], t.dims.qk);
    }
    if (n == K) {
      few_scores<E, N, K>(b.keys + j, t.dims.qk, q, q_stride, scores + j);
    } else {
      few_scores<E, N, 1>(b.keys + j, t.dims.qk, q, q_stride, scores + j);
    }
  }
  float factor[N];
  for (int c = 0; c < N; ++c) {
    soften_row(scores + c * kFewStride, b.count, t.dims.scale * kLog2E, t.max + column + c,
               t.sum + column + c, factor + c);
  }
  float* o = t.o + column * t.o_stride;
  int64_t d = 0;
  for (; d + W * kLanes <= t.dims.v; d += W * kLanes) {
    few_values<E, N, W>(b.values, b.count, d, kLanes, scores, factor, o, t.o_stride);
  }
  for (; d < t.dims.v; d += kLanes) {
    const int64_t last = at_most(kLanes, t.dims.v - d);
    few_values<E, N, 1>(b.values, b.count, d, last, scores, factor, o, t.o_stride);
  }
}

template <class E>
void few_part(const AttentionPart& t, const float* q, int64_t q_stride, float* scores) {
  const int64_t columns = t.columns.end - t.columns.begin;
  FewKeys<E> b;
  for (int64_t begin = t.key_begin; begin < t.key_end; begin += kKeys) {
    b.count = at_most(t.key_end - begin, kKeys);
    for_rows<E>(t.keys, begin, b.count, [&](int64_t r, const E* row) { b.keys[r] = row; });
    for_rows<E>(t.values, begin, b.count, [&](int64_t r, const E* row) { b.values[r] = row; });
    for (int64_t c = 0; c < columns;) {
      const float* qc = q + c * q_stride;
      if (columns - c >= 4) {
        few_against_block<E, 4>(t, b, c, qc, q_stride, scores);
        c += 4;
      } else if (columns - c >= 2) {
        few_against_block<E, 2>(t, b, c, qc, q_stride, scores);
        c += 2;
      } else {
        few_against_block<E, 1>(t, b, c, qc, q_stride, scores);
        c += 1;
      }
    }
  }
}

int64_t few_floats(int64_t qk) {
  return kAttentionFew * row_stride(qk) + 4 * kFewStride;
}

// Every column sees all the keys of the part.
void attention_few_part(const AttentionPart& t, float* workspace) noexcept {
  const int64_t columns = t.columns.end - t.columns.begin, q_stride = row_stride(t.dims.qk);
  Floats ws{workspace};
  float* q = ws.take(kAttentionFew * q_stride);
  float* scores = ws.take(4 * kFewStride);
  gather_rows(t.q, t.columns, {t.columns.begin, columns}, t.dims.qk, q, q_stride);
  for (int64_t i = 0; i < columns * t.o_stride; ++i) t.o[i] = 0;
  for (int64_t i = 0; i < columns; ++i) t.max[i] = -__FLT_MAX__, t.sum[i] = 0;
  if (t.keys.bf16) {
    few_part<uint16_t>(t, q, q_stride, scores);
  } else {
    few_part<float>(t, q, q_stride, scores);
  }
  for (int64_t i = 0; i < columns; ++i) t.max[i] *= t.dims.scale * kLog2E;
}

}  // namespace flash
}  // namespace
