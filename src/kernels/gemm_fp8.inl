// Products of E4M3 numbers with scales by tiles (V3 report, sec. 3.3.2), on the tiles of gemm.inl.
//
// For each 128 of k, in ascending order: the numbers' products are summed from zero in FP32, k in
// the order 1 0 3 2 5 4 ... (that of VDPBF16PS; a last one without a partner comes as it is), and
//   c = c + (scale_a * scale_b) * sum,    every operation rounded.
// E4M3 numbers are stored as BF16, which holds them; their products are exact in FP32, and no sum
// of them is denormal: the result is the same bits in every family, whatever m, n and the other
// rows and columns are.
namespace {
namespace fp8 {

#if defined(HADAL_BF16_DOT)
constexpr Packing kPacking = Packing::kPairs;
#else
constexpr Packing kPacking = Packing::kPlain;
#endif
constexpr int64_t kTilesAtOnce = 4;  // of k, packed together
constexpr int64_t kTileUnits = unit_count(kPacking, kTile);
constexpr int64_t kRows = 4 * kBlockRows, kCols = kBlockCols;  // packed together

// Where pairs are summed one product at a time, the second of each pair is put first.
constexpr bool kSwap = kPacking != Packing::kPairs;

// One operand seen as lanes x k: rows of C for A, columns of C for B.
struct Side {
  const hadal::GemmOperand& x;
  bool lanes_are_rows;  // as stored

  float scale(int64_t lane, int64_t tile) const {
    const hadal::TileScales& s = x.scales;
    const int64_t at = x.rows != nullptr ? x.rows[lane] : s.first_lane + lane;
    return s.data[at / s.lanes * s.lane_stride + tile * s.k_stride];
  }

  // Lanes [lane, lane + lanes) of one tile of k.
  template <int P>
  void pack(int64_t lane, int64_t lanes, int64_t k, int64_t k_size, float* panels) const {
    pack_function<P, kPacking>(x, lanes_are_rows)({&x, lane, lanes, k, k_size}, panels);
    for (int64_t l = 0; kSwap && l < lanes; l += P, panels += unit_count(kPacking, k_size) * P) {
      for (int64_t u = 0; u + 1 < k_size; u += 2) {
        float *first = panels + u * P, *second = first + P;
        for (int64_t i = 0; i < P; ++i) {
          const float one = first[i];
          first[i] = second[i];
          second[i] = one;
        }
      }
    }
  }
};

// c += (scale_a * scale_b) * product over one tile of C.
inline void promote(const float* product, const float* a_scales, const float* b_scales, float* c,
                    int64_t c_stride, int64_t m, int64_t n, bool from_zero) {
  const int64_t rows = at_most(m, kTileRows);
  const auto part = [&](int64_t i, int64_t j) {
    return mul(mul(set(a_scales[i]), load(b_scales + j)), load(product + i * kTileCols + j));
  };
  for (int64_t i = 0; i < rows && n >= kTileCols; ++i) {
#pragma GCC unroll 4
    for (int64_t j = 0; j < kTileCols; j += Vec::kLanes) {
      float* to = c + i * c_stride + j;
      store(to, add(from_zero ? set(0) : load(to), part(i, j)));
    }
  }
  for (int64_t i = 0; i < rows && n < kTileCols; ++i) {
    for (int64_t j = 0; j < n; j += Vec::kLanes) {
      const int64_t some = at_most(n - j, Vec::kLanes);
      float* to = c + i * c_stride + j;
      store_part(to, add(from_zero ? set(0) : load_part(to, some), part(i, j)), some);
    }
  }
}

// Offsets into the workspace, in floats.
struct Layout {
  int64_t a_lanes, b_lanes, tiles;  // lanes: whole panels
  int64_t a, b, a_scales, b_scales, product, end;

  explicit Layout(const hadal::Gemm& g)
      : a_lanes(round_up(at_most(g.m, kRows), kTileRows)),
        b_lanes(round_up(at_most(g.n, kCols), kTileCols)),
        tiles(at_most((g.k + kTile - 1) / kTile, kTilesAtOnce)) {
    int64_t at = 0;
    const auto take = [&at](int64_t floats) {
      const int64_t from = at;
      at += round_up(floats, 16);
      return from;
    };
    a = take(tiles * kTileUnits * a_lanes + Vec::kLanes);  // packing may write a Vec too much
    b = take(tiles * kTileUnits * b_lanes + Vec::kLanes);
    a_scales = take(tiles * a_lanes);
    b_scales = take(tiles * b_lanes);
    product = take(int64_t{kTileRows} * kTileCols);
    end = at;
  }
};

class Product {
 public:
  Product(const hadal::Gemm& g, float* workspace)
      : g_(g),
        layout_(g),
        memory_(workspace),
        a_{g.a, g.op != hadal::GemmOp::kTN},
        b_{g.b, g.op == hadal::GemmOp::kNT} {}

  void run() {
    for (int64_t k0 = 0; k0 < g_.k; k0 += kTilesAtOnce * kTile) {
      for (int64_t j0 = 0; j0 < g_.n; j0 += kCols) {
        const int64_t n = at_most(kCols, g_.n - j0);
        pack<kTileCols>(b_, j0, n, k0, layout_.b, layout_.b_lanes, layout_.b_scales);
        for (int64_t i0 = 0; i0 < g_.m; i0 += kRows) {
          const int64_t m = at_most(kRows, g_.m - i0);
          pack<kTileRows>(a_, i0, m, k0, layout_.a, layout_.a_lanes, layout_.a_scales);
          run_tiles(i0, m, j0, n, k0);
        }
      }
    }
  }

 private:
  int64_t tiles_from(int64_t k0) const {
    return at_most(kTilesAtOnce, (g_.k - k0 + kTile - 1) / kTile);
  }

  template <int P>
  void pack(const Side& side, int64_t lane, int64_t lanes, int64_t k0, int64_t panels,
            int64_t panel_lanes, int64_t scales) {
    for (int64_t t = 0; t < tiles_from(k0); ++t) {
      const int64_t k = k0 + t * kTile;
      side.template pack<P>(lane, lanes, k, at_most(kTile, g_.k - k),
                            memory_ + panels + t * kTileUnits * panel_lanes);
      float* to = memory_ + scales + t * panel_lanes;
      for (int64_t l = 0; l < lanes; ++l) to[l] = side.scale(lane + l, k / kTile);
      for (int64_t l = lanes; l < panel_lanes; ++l) to[l] = 0;
    }
  }

  void run_tiles(int64_t i0, int64_t m, int64_t j0, int64_t n, int64_t k0) {
    float* product = memory_ + layout_.product;
    for (int64_t i = 0; i < m; i += kTileRows) {
      const auto some_rows =
          m - i > kTileRows / 2 ? tile<kPacking, kTileRows> : tile<kPacking, kTileRows / 2>;
      for (int64_t j = 0; j < n; j += kTileCols) {
        float* c = g_.c + (i0 + i) * g_.c_stride + j0 + j;
        for (int64_t t = 0; t < tiles_from(k0); ++t) {
          const int64_t k = k0 + t * kTile;
          const int64_t units = unit_count(kPacking, at_most(kTile, g_.k - k));
          some_rows(memory_ + layout_.a + t * kTileUnits * layout_.a_lanes + i * units,
                    memory_ + layout_.b + t * kTileUnits * layout_.b_lanes + j * units, units,
                    {product, kTileCols, kTileRows, kTileCols, false, product});
          promote(product, memory_ + layout_.a_scales + t * layout_.a_lanes + i,
                  memory_ + layout_.b_scales + t * layout_.b_lanes + j, c, g_.c_stride, m - i,
                  n - j, k == 0 && !g_.accumulate);
        }
      }
    }
  }

  const hadal::Gemm& g_;
  Layout layout_;
  float* memory_;
  Side a_, b_;
};

}  // namespace fp8

// What the table holds: few rows, numbers of FP8, which have scales, and all others.
int64_t any_gemm_workspace(const hadal::Gemm& g) noexcept {
#if defined(HADAL_BF16_DOT)
  if (few::takes(g)) return few::Layout(g).end * static_cast<int64_t>(sizeof(float));
#endif
  if (g.a.scales.data == nullptr) return gemm_workspace(g);
  return fp8::Layout(g).end * static_cast<int64_t>(sizeof(float));
}

void any_gemm(const hadal::Gemm& g, void* workspace) noexcept {
#if defined(HADAL_BF16_DOT)
  if (few::takes(g)) return few::Product(g, static_cast<float*>(workspace)).run();
#endif
  if (g.a.scales.data == nullptr || g.k <= 0) return gemm(g, workspace);
  fp8::Product(g, static_cast<float*>(workspace)).run();
}

}  // namespace
