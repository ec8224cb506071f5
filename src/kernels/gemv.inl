// Matrix-vector products of generated tokens: as fast as memory gives the weights.
//
// y[r, i] is kChains chains of fused multiply-adds over every kChains-th Vec of the row, then their
// sum in fixed order: the same bits whatever other rows of x or w share the call.
namespace {

// Rows of w read at once, each from its own part of w: how many streams a core likes best depends
// on the machine. AVX2 machines measured so far read half as much again from four as from one,
// AVX-512 ones do best with two.
#if defined(HADAL_EMULATED) || defined(__AVX512F__)
constexpr int kGemvStreams = 2, kGemvChains = 2, kGemvMaxRows = 4;
constexpr int64_t kGemvPrefetchBytes = 0;
#elif defined(__AVX2__)
constexpr int kGemvStreams = 4, kGemvChains = 1, kGemvMaxRows = 2;
constexpr int64_t kGemvPrefetchBytes = 512;
#else
constexpr int kGemvStreams = 4, kGemvChains = 1, kGemvMaxRows = 2;
constexpr int64_t kGemvPrefetchBytes = 0;
#endif

struct Gemv {
  int64_t n, k, w_stride;
  const float* x;
  int64_t x_stride, rows;
  float* y;
  int64_t y_stride;
  bool accumulate;
};

// The rows i, i + apart, i + 2 apart ... of w with the rows [r, r + kRows) of x.
template <class E, int kStreams, int kRows, bool kPrefetch>
[[gnu::noinline]] void gemv_rows(const Gemv& g, const E* w, int64_t i, int64_t apart,
                                 int64_t r) noexcept {
  constexpr int64_t kStep = kGemvChains * Vec::kLanes;
  const E* source[kStreams];
  const float* x[kRows];
  Vec acc[kStreams][kRows][kGemvChains];
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
    source[s] = w + (i + s * apart) * g.w_stride;
#pragma GCC unroll 4
    for (int t = 0; t < kRows; ++t) {
      x[t] = g.x + (r + t) * g.x_stride;
#pragma GCC unroll 2
      for (int c = 0; c < kGemvChains; ++c) acc[s][t][c] = set(0);
    }
  }
  int64_t j = 0;
  for (; j + kStep <= g.k; j += kStep) {
#pragma GCC unroll 2
    for (int c = 0; c < kGemvChains; ++c) {
      const int64_t at = j + c * Vec::kLanes;
      Vec xs[kRows];
#pragma GCC unroll 4
      for (int t = 0; t < kRows; ++t) xs[t] = load(x[t] + at);
#pragma GCC unroll 4
      for (int s = 0; s < kStreams; ++s) {
        if (kPrefetch && kGemvPrefetchBytes > 0) {
          __builtin_prefetch(reinterpret_cast<const char*>(source[s] + at) + kGemvPrefetchBytes);
        }
        const Vec weights = load_any(source[s] + at);
#pragma GCC unroll 4
        for (int t = 0; t < kRows; ++t) acc[s][t][c] = fma(weights, xs[t], acc[s][t][c]);
      }
    }
  }
#pragma GCC unroll 2
  for (int c = 0; c < kGemvChains; ++c, j += Vec::kLanes) {
    const int64_t left = at_most(g.k - j, Vec::kLanes);
    if (left <= 0) break;
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) {
      const Vec weights = load_any_part(source[s] + j, left);
#pragma GCC unroll 4
      for (int t = 0; t < kRows; ++t) {
        acc[s][t][c] = fma(weights, load_part(x[t] + j, left), acc[s][t][c]);
      }
    }
  }
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int t = 0; t < kRows; ++t) {
      const Vec total =
          kGemvChains == 1 ? acc[s][t][0] : add(acc[s][t][0], acc[s][t][kGemvChains - 1]);
      float* y = g.y + (r + t) * g.y_stride + i + s * apart;
      *y = g.accumulate ? *y + sum(total) : sum(total);
    }
  }
}

// All rows of x; the weights come from memory for the first few and from cache for the others.
template <class E, int kStreams>
void gemv_group(const Gemv& g, const E* w, int64_t i, int64_t apart) noexcept {
  int64_t r = 0;
  if (g.rows >= kGemvMaxRows) {
    gemv_rows<E, kStreams, kGemvMaxRows, true>(g, w, i, apart, r);
    for (r = kGemvMaxRows; r + kGemvMaxRows <= g.rows; r += kGemvMaxRows) {
      gemv_rows<E, kStreams, kGemvMaxRows, false>(g, w, i, apart, r);
    }
  }
  for (; r < g.rows; ++r) gemv_rows<E, kStreams, 1, true>(g, w, i, apart, r);
}

template <class E>
void gemv_typed(const Gemv& g, const E* w) noexcept {
  const int64_t apart = g.n / kGemvStreams;
  for (int64_t i = 0; i < apart; ++i) gemv_group<E, kGemvStreams>(g, w, i, apart);
  for (int64_t i = kGemvStreams * apart; i < g.n; ++i) gemv_group<E, 1>(g, w, i, 0);
}

void gemv(const void* w, bool w_bf16, int64_t w_stride, int64_t n, int64_t k, const float* x,
          int64_t x_stride, int64_t rows, float* y, int64_t y_stride, bool accumulate) noexcept {
  const Gemv g{n, k, w_stride, x, x_stride, rows, y, y_stride, accumulate};
  if (w_bf16) return gemv_typed(g, static_cast<const uint16_t*>(w));
  gemv_typed(g, static_cast<const float*>(w));
}

}  // namespace
