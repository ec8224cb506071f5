// Matrix-vector products of generated tokens: as fast as memory gives the weights.
//
// y[r, i] is kLanes chains of fused multiply-adds in ascending k, one a lane, and their sum in
// fixed order: the same bits whatever other rows of x or w share the call.
namespace {

// Rows of w read at once, each from its own part of w. How many such streams a core likes best
// depends on the machine: AVX2 machines measured so far read half as much again from four as from
// one, AVX-512 ones do best with two, and without prefetching. But from a row of x so long that it
// leaves L1, four rows of w take less time than two.
#if defined(HADAL_EMULATED) || defined(__AVX512F__)
constexpr int kGemvStreams = 2, kGemvRows = 4;
constexpr int64_t kGemvPrefetch = 0;  // bytes ahead, 0: none
#elif defined(__AVX2__)
constexpr int kGemvStreams = 4, kGemvRows = 2;
constexpr int64_t kGemvPrefetch = 512;
#else
constexpr int kGemvStreams = 4, kGemvRows = 2;
constexpr int64_t kGemvPrefetch = 0;
#endif
constexpr int64_t kGemvLongK = 4096;
constexpr int kGemvManyStreams = 4;  // for long rows, and for several rows of x
// With several rows of x: k and rows of x whose numbers stay in L1 meanwhile.
constexpr int64_t kGemvBlockK = 256, kGemvBlockRows = 16;

struct Gemv {
  int64_t n, k, w_stride;
  const float* x;
  int64_t x_stride, rows;
  float* y;
  int64_t y_stride;
  bool accumulate;
};

// Part [j0, j1) of the chains of kStreams rows of w with the rows [r, r + kRows) of x. `sums` holds
// kLanes numbers for each, those of a row of w kGemvBlockRows apart.
template <class E, int kStreams, int kRows, int64_t kAhead>
[[gnu::noinline]] void gemv_part(const E* const* w, const float* x, int64_t x_stride, int64_t j0,
                                 int64_t j1, float* sums) noexcept {
  const E* source[kStreams];
  Vec acc[kStreams][kRows];
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
    source[s] = w[s];
#pragma GCC unroll 4
    for (int t = 0; t < kRows; ++t) {
      acc[s][t] = load(sums + (s * kGemvBlockRows + t) * Vec::kLanes);
    }
  }
  int64_t j = j0;
  for (; j + 2 * Vec::kLanes <= j1; j += 2 * Vec::kLanes) {
#pragma GCC unroll 2
    for (int64_t at = j; at < j + 2 * Vec::kLanes; at += Vec::kLanes) {
      Vec xs[kRows];
#pragma GCC unroll 4
      for (int t = 0; t < kRows; ++t) {
        xs[t] = load(x + t * x_stride + at);
        if (kRows > 1) pin(xs[t]);
      }
#pragma GCC unroll 4
      for (int s = 0; s < kStreams; ++s) {
        if (kAhead > 0 && (sizeof(E) == 4 || at == j)) {
          __builtin_prefetch(reinterpret_cast<const char*>(source[s] + at) + kAhead);
        }
        Vec weights = load_any(source[s] + at);
        if (kRows > 1) pin(weights);
#pragma GCC unroll 4
        for (int t = 0; t < kRows; ++t) add_product(acc[s][t], weights, xs[t]);
      }
    }
  }
  for (; j < j1; j += Vec::kLanes) {
    const int64_t left = at_most(j1 - j, Vec::kLanes);
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) {
      const Vec weights = load_any_part(source[s] + j, left);
#pragma GCC unroll 4
      for (int t = 0; t < kRows; ++t) {
        acc[s][t] = fma(weights, load_part(x + t * x_stride + j, left), acc[s][t]);
      }
    }
  }
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int t = 0; t < kRows; ++t) {
      store(sums + (s * kGemvBlockRows + t) * Vec::kLanes, acc[s][t]);
    }
  }
}

// The rows i, i + apart, i + 2 apart ... of w with up to kGemvBlockRows rows of x, from r0 on.
template <class E, int kStreams>
void gemv_group(const Gemv& g, const E* w, int64_t i, int64_t apart, int64_t r0) noexcept {
  const int64_t rows = at_most(g.rows - r0, kGemvBlockRows);
  alignas(64) float sums[kStreams * kGemvBlockRows * Vec::kLanes];
  const E* source[kStreams];
  for (int s = 0; s < kStreams; ++s) {
    source[s] = w + (i + s * apart) * g.w_stride;
    for (int64_t t = 0; t < rows; ++t) {
      store(sums + (s * kGemvBlockRows + t) * Vec::kLanes, set(0));
    }
  }
  const float* x = g.x + r0 * g.x_stride;
  if (rows == 1) {
    gemv_part<E, kStreams, 1, kGemvPrefetch>(source, x, g.x_stride, 0, g.k, sums);
  }
  for (int64_t j0 = 0; rows > 1 && j0 < g.k; j0 += kGemvBlockK) {
    const int64_t j1 = at_most(j0 + kGemvBlockK, g.k);
    // The first rows of x fetch the next block of w; the others find this one in L1.
    constexpr int64_t kNext = kGemvBlockK * static_cast<int64_t>(sizeof(E));
    int64_t r = 0;
    if (rows >= kGemvRows) {
      gemv_part<E, kStreams, kGemvRows, kNext>(source, x, g.x_stride, j0, j1, sums);
      for (r = kGemvRows; r + kGemvRows <= rows; r += kGemvRows) {
        gemv_part<E, kStreams, kGemvRows, 0>(source, x + r * g.x_stride, g.x_stride, j0, j1,
                                             sums + r * Vec::kLanes);
      }
    }
    for (; r < rows; ++r) {
      gemv_part<E, kStreams, 1, kNext>(source, x + r * g.x_stride, g.x_stride, j0, j1,
                                       sums + r * Vec::kLanes);
    }
  }
  for (int s = 0; s < kStreams; ++s) {
    for (int64_t t = 0; t < rows; ++t) {
      const float total = sum(load(sums + (s * kGemvBlockRows + t) * Vec::kLanes));
      float* y = g.y + (r0 + t) * g.y_stride + i + s * apart;
      *y = g.accumulate ? *y + total : total;
    }
  }
}

template <int kStreams, class E>
void gemv_streams(const Gemv& g, const E* w) noexcept {
  const int64_t apart = g.n / kStreams;
  for (int64_t r = 0; r < g.rows; r += kGemvBlockRows) {
    for (int64_t i = 0; i < apart; ++i) gemv_group<E, kStreams>(g, w, i, apart, r);
    for (int64_t i = kStreams * apart; i < g.n; ++i) gemv_group<E, 1>(g, w, i, 0, r);
  }
}

template <class E>
void gemv_typed(const Gemv& g, const E* w) noexcept {
  if (g.rows == 1 && g.k <= kGemvLongK) return gemv_streams<kGemvStreams>(g, w);
  gemv_streams<kGemvManyStreams>(g, w);
}

void gemv(const void* w, hadal::Stored stored, int64_t w_stride, int64_t n, int64_t k,
          const float* x, int64_t x_stride, int64_t rows, float* y, int64_t y_stride,
          bool accumulate) noexcept {
  const Gemv g{n, k, w_stride, x, x_stride, rows, y, y_stride, accumulate};
  if (stored == hadal::Stored::kBF16) return gemv_typed(g, static_cast<const uint16_t*>(w));
  if (stored == hadal::Stored::kF16) return gemv_typed(g, static_cast<const Fp16Bits*>(w));
  gemv_typed(g, static_cast<const float*>(w));
}

// ---- the same with w as it stands
//
// y[r, j] is one chain over the rows of w: the first of each quarter, the second of each, and so
// on; then those that four quarters leave over. A core follows four streams far apart better than
// rows that lie side by side.

using hadal::AcrossProduct;
using hadal::kAcrossBlock;

// kCount rows of w, `apart` from each other, into y, which begins with them if `first`. x[s] is row
// s's number, those of one row `apart_x` from the next.
template <class E, int kCount>
void add_rows_of_w(const E* w, int64_t apart, int64_t n, const float* x, int64_t apart_x,
                   bool first, float* y) noexcept {
  Vec factor[kCount];
#pragma GCC unroll 4
  for (int s = 0; s < kCount; ++s) {
    factor[s] = broadcast(x + s * apart_x);
    pin(factor[s]);
  }
  const auto step = [&](int64_t j, auto load_y, auto load_w) __attribute__((always_inline)) {
    Vec acc = first ? set(0) : load_y(y + j);
#pragma GCC unroll 4
    for (int s = 0; s < kCount; ++s) acc = fma(factor[s], load_w(w + s * apart + j), acc);
    return acc;
  };
  int64_t j = 0;
  for (; j + Vec::kLanes <= n; j += Vec::kLanes) {
    const Vec acc = step(
        j, [](const float* p) { return load(p); }, [](const E* p) { return load_any(p); });
    store(y + j, acc);
  }
  const int64_t left = n - j;
  if (left <= 0) return;
  const Vec acc = step(
      j, [=](const float* p) { return load_part(p, left); },
      [=](const E* p) { return load_any_part(p, left); });
  store_part(y + j, acc, left);
}

// Row i of w and those `apart` rows behind it, kCount in all, for every row of x.
template <class E, int kCount>
void add_rows_of_w(const AcrossProduct& p, int64_t i, int64_t apart) noexcept {
  const E* w = static_cast<const E*>(p.w) + i * p.w_stride;
  const int64_t block = p.x_block == 0 ? p.n : kAcrossBlock;
  for (int64_t r = 0; r < p.rows; ++r) {
    const float* x = p.x + r * p.x_stride + i;
    for (int64_t j = 0; j < p.n; j += block, x += p.x_block) {
      add_rows_of_w<E, kCount>(w + j, apart * p.w_stride, at_most(p.n - j, block), x, apart, i == 0,
                               p.y + r * p.y_stride + j);
    }
  }
}

template <class E>
void gemv_across_typed(const AcrossProduct& p) noexcept {
  constexpr int kStreams = 4;  // so few rows of w stay in L1 for all rows of x
  const int64_t quarter = p.k / kStreams;
  for (int64_t i = 0; i < quarter; ++i) add_rows_of_w<E, kStreams>(p, i, quarter);
  for (int64_t i = kStreams * quarter; i < p.k; ++i) add_rows_of_w<E, 1>(p, i, 1);
}

void gemv_across(const AcrossProduct& p) noexcept {
  for (int64_t r = 0; p.k == 0 && r < p.rows; ++r) {
    for (int64_t j = 0; j < p.n; ++j) p.y[r * p.y_stride + j] = 0;
  }
  if (p.stored == hadal::Stored::kBF16) return gemv_across_typed<uint16_t>(p);
  if (p.stored == hadal::Stored::kF16) return gemv_across_typed<Fp16Bits>(p);
  if (p.stored == hadal::Stored::kE4M3) return gemv_across_typed<E4m3Bits>(p);
  gemv_across_typed<float>(p);
}

}  // namespace
