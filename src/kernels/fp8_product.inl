// Matrix-vector products of generated tokens with E4M3 weights in blocks of 128 x 128, straight
// from a checkpoint's rows: as fast as memory gives the codes.
//
// A block's scale is the same for all 128 rows, so it goes to x: for each band of 128 rows, x times
// the band's scales (rounded) is put in the order in which codes are decoded (e4m3.h). That is less
// than a hundredth of the band's work, and products then know nothing of scales.
// y[r, i] is two chains a lane over k in ascending order, added and then summed over lanes: the
// same bits whatever other rows of x or w share the call.
namespace {
namespace fp8 {

// Rows of w read at once, as in gemv.inl, and with several rows of x; rows of x at once.
// Where four rows of 2,048 codes gave 70% of a read roof of 60 GB/s, two gave 79%.
#if defined(HADAL_BF16_DOT)
constexpr int kCodeStreams = 2, kCodeManyStreams = 2, kCodeRows = 4;
constexpr int64_t kCodePrefetch = 0;  // bytes ahead, 0: none
#elif defined(HADAL_EMULATED) || defined(__AVX512F__)
constexpr int kCodeStreams = 4, kCodeManyStreams = 2, kCodeRows = 4;
constexpr int64_t kCodePrefetch = 0;
#elif defined(__AVX2__)
constexpr int kCodeStreams = 4, kCodeManyStreams = 2, kCodeRows = 2;
constexpr int64_t kCodePrefetch = 512;
#else
constexpr int kCodeStreams = 2, kCodeManyStreams = 2, kCodeRows = 2;
constexpr int64_t kCodePrefetch = 0;
#endif
constexpr int kChains = 2;
constexpr int64_t kStepFloats = kE4m3Parts * Vec::kLanes;  // that a step of x takes when scaled
constexpr int64_t kSums = kChains * Vec::kLanes;
// With several rows of x: what they take of L1 meanwhile.
constexpr int64_t kCodeBlockK =
    int64_t{16 << 10} / hadal::kFp8RowsAtOnce / 4 / kStepFloats * kE4m3Step;

// Steps [j0, j1) of k of the chains of kStreams rows of w with kRows rows of x; `sums` holds kSums
// numbers for each, those of a row of w kFp8RowsAtOnce apart.
template <int kStreams, int kRows, int64_t kAhead>
[[gnu::noinline]] void code_part(const uint8_t* const* w, const float* x, int64_t x_stride,
                                 int64_t j0, int64_t j1, float* sums) noexcept {
  const E4m3Decoder decoder;
  const uint8_t* source[kStreams];
  Vec acc[kStreams][kRows][kChains];
  const auto sums_of = [&](int s, int t, int c) {
    return sums + (s * hadal::kFp8RowsAtOnce + t) * kSums + c * Vec::kLanes;
  };
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
    source[s] = w[s];
#pragma GCC unroll 4
    for (int t = 0; t < kRows; ++t) {
#pragma GCC unroll 2
      for (int c = 0; c < kChains; ++c) acc[s][t][c] = load(sums_of(s, t, c));
    }
  }
  const auto step = [&](const uint8_t* const* from, const float* at)
      __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) {
      Vec weights[kE4m3Parts];
      decoder.decode(from[s], weights);
#pragma GCC unroll 4
      for (int b = 0; b < kE4m3Parts; ++b) {
        if (kRows > 1) pin(weights[b]);
#pragma GCC unroll 4
        for (int t = 0; t < kRows; ++t) {
          Vec& a = acc[s][t][b % kChains];
          a = e4m3_dot(a, weights[b], load(at + t * x_stride + b * Vec::kLanes));
        }
      }
    }
  };
  int64_t j = j0;
  x += j0 / kE4m3Step * kStepFloats;
  for (; j + kE4m3Step <= j1; j += kE4m3Step, x += kStepFloats) {
    const uint8_t* from[kStreams];
#pragma GCC unroll 4
    for (int s = 0; s < kStreams; ++s) {
      from[s] = source[s] + j;
      if (kAhead > 0 && (kE4m3Step >= 64 || j % 64 == 0)) __builtin_prefetch(from[s] + kAhead);
    }
    step(from, x);
  }
  if (j < j1) {  // the end of the rows: nothing is read beyond it
    uint8_t codes[kStreams][kE4m3Step] = {};
    const uint8_t* from[kStreams];
    for (int s = 0; s < kStreams; ++s) {
      __builtin_memcpy(codes[s], source[s] + j, static_cast<size_t>(j1 - j));
      from[s] = codes[s];
    }
    step(from, x);
  }
#pragma GCC unroll 4
  for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 4
    for (int t = 0; t < kRows; ++t) {
#pragma GCC unroll 2
      for (int c = 0; c < kChains; ++c) store(sums_of(s, t, c), acc[s][t][c]);
    }
  }
}

// One band: `rows` <= kFp8RowsAtOnce scaled rows of x, x_stride apart.
struct Band {
  const uint8_t* w;
  int64_t w_stride, n, k;
  const float* x;
  int64_t x_stride, rows;
  float* y;
  int64_t y_stride;
};

// The rows i, i + apart, i + 2 apart ... of w.
template <int kStreams>
void code_group(const Band& g, int64_t i, int64_t apart) noexcept {
  alignas(64) float sums[kStreams * hadal::kFp8RowsAtOnce * kSums];
  const uint8_t* source[kStreams];
  for (int s = 0; s < kStreams; ++s) {
    source[s] = g.w + (i + s * apart) * g.w_stride;
    for (int64_t t = 0; t < g.rows * kSums; t += Vec::kLanes) {
      store(sums + s * hadal::kFp8RowsAtOnce * kSums + t, set(0));
    }
  }
  if (g.rows == 1) {
    code_part<kStreams, 1, kCodePrefetch>(source, g.x, g.x_stride, 0, g.k, sums);
  }
  for (int64_t j0 = 0; g.rows > 1 && j0 < g.k; j0 += kCodeBlockK) {
    const int64_t j1 = at_most(j0 + kCodeBlockK, g.k);
    int64_t r = 0;
    // The first rows of x fetch the next block of w; the others find this one in L1.
    if (g.rows >= kCodeRows) {
      code_part<kStreams, kCodeRows, kCodeBlockK>(source, g.x, g.x_stride, j0, j1, sums);
      for (r = kCodeRows; r + kCodeRows <= g.rows; r += kCodeRows) {
        code_part<kStreams, kCodeRows, 0>(source, g.x + r * g.x_stride, g.x_stride, j0, j1,
                                          sums + r * kSums);
      }
    }
    for (; r < g.rows; ++r) {
      code_part<kStreams, 1, kCodePrefetch>(source, g.x + r * g.x_stride, g.x_stride, j0, j1,
                                            sums + r * kSums);
    }
  }
  for (int s = 0; s < kStreams; ++s) {
    for (int64_t t = 0; t < g.rows; ++t) {
      const float* chains = sums + (s * hadal::kFp8RowsAtOnce + t) * kSums;
      g.y[t * g.y_stride + i + s * apart] =
          sum(add(load(chains), load(chains + Vec::kLanes))) * kE4m3Root;
    }
  }
}

template <int kStreams>
void code_band(const Band& g) noexcept {
  const int64_t apart = g.n / kStreams;
  for (int64_t i = 0; i < apart; ++i) code_group<kStreams>(g, i, apart);
  for (int64_t i = kStreams * apart; i < g.n; ++i) code_group<1>(g, i, 0);
}

// x in the order of e4m3.h, filled up with zeros to a whole step.
void put_in_order(const float* x, int64_t k, float* out) noexcept {
  for (int64_t j = 0; j < k; j += kE4m3Step) {
    const int64_t left = at_most(k - j, kE4m3Step);
    if (left == kE4m3Step) {
#pragma GCC unroll 64
      for (int64_t i = 0; i < kE4m3Step; ++i) out[j + e4m3_place(i)] = x[j + i];
      continue;
    }
    for (int64_t i = 0; i < kE4m3Step; ++i) out[j + e4m3_place(i)] = i < left ? x[j + i] : 0.0f;
  }
}

void product(const hadal::Fp8Product& p, float* workspace) noexcept {
  const int64_t steps = (p.k + kE4m3Step - 1) / kE4m3Step, padded = steps * kE4m3Step;
  for (int64_t r = 0; r < p.rows; r += hadal::kFp8RowsAtOnce) {
    const int64_t rows = at_most(p.rows - r, hadal::kFp8RowsAtOnce);
    float* ordered = workspace;
    float* scaled = workspace + rows * padded;
    for (int64_t t = 0; t < rows; ++t) {
      put_in_order(p.x + (r + t) * p.x_stride, p.k, ordered + t * padded);
    }
    for (int64_t i = 0, end = 0; i < p.n; i = end) {
      const int64_t row = p.first_row + i;
      end = at_most(p.n, i + kTile - row % kTile);
      const float* scales = p.scales + row / kTile * p.scale_stride;
      for (int64_t t = 0; t < rows; ++t) {
        for (int64_t s = 0; s < steps; ++s) {
          const Vec scale = set(scales[s * kE4m3Step / kTile] * kE4m3Root);
          e4m3_scale_step(ordered + t * padded + s * kE4m3Step, scale,
                          scaled + (t * steps + s) * kStepFloats);
        }
      }
      const Band band{
          p.w + i * p.w_stride,     p.w_stride, end - i, p.k, scaled, steps * kStepFloats, rows,
          p.y + r * p.y_stride + i, p.y_stride};
      if (rows == 1) {
        code_band<kCodeStreams>(band);
      } else {
        code_band<kCodeManyStreams>(band);
      }
    }
  }
}

}  // namespace fp8
}  // namespace
