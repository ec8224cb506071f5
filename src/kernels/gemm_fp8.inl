// Products of E4M3 codes with scales by tiles (V3 report, sec. 3.3.2), on the tiles of gemm.inl.
//
// For each 128 of k, in ascending order: the codes' products are summed from zero in FP32, k in the
// order 1 0 3 2 5 4 ... (that of VDPBF16PS; a last one without a partner comes as it is), and
//   c = c + (scale_a * scale_b) * sum,    every operation rounded.
// E4M3 numbers are exact in BF16, their products in FP32, and no sum of them is denormal: the
// result is the same bits in every family, whatever m, n and the other rows and columns are.
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
// Lanes decoded at once, in L1: whole panels.
constexpr int64_t kDecodedRows = kBlockRows, kDecodedCols = 2 * kTileCols;
constexpr int64_t kDecoded = kTile * (kDecodedRows > kDecodedCols ? kDecodedRows : kDecodedCols);

// The BF16 number of a code. Those below 2^-6 one by one: seven of them are denormal codes.
inline uint16_t bf16_of(uint8_t code) {
  const uint32_t m = code & 0x7fu;
  const uint32_t below_4 = m < 2 ? 0x3b00u * m : 0x3b80u + (m - 2) * 0x40u;
  const uint32_t denormal = m < 4 ? below_4 : 0x3c00u + (m - 4) * 0x20u;
  const uint32_t magnitude = m < 8 ? denormal : 0x3c00u + (m << 4);
  return static_cast<uint16_t>((code & 0x80u) << 8 | magnitude);
}

inline void decode_codes(const uint8_t* codes, int64_t n, uint16_t* out) {
  for (int64_t i = 0; i < n; ++i) out[i] = bf16_of(codes[i]);
}

// Where pairs are summed one product at a time, the second of each pair is put first.
constexpr bool kSwap = kPacking != Packing::kPairs;

// One operand seen as lanes x k: rows of C for A, columns of C for B.
struct Side {
  const hadal::GemmOperand& x;
  bool lanes_are_rows;  // as stored

  const uint8_t* stored(int64_t row) const {
    return static_cast<const uint8_t*>(x.data) +
           (lanes_are_rows && x.rows != nullptr ? x.rows[row] : row) * x.stride;
  }
  float scale(int64_t lane, int64_t tile) const {
    const hadal::TileScales& s = x.scales;
    const int64_t at = x.rows != nullptr ? x.rows[lane] : s.first_lane + lane;
    return s.data[at / s.lanes * s.lane_stride + tile * s.k_stride];
  }

  // Lanes [lane, lane + lanes) of one tile of k, as a dense BF16 matrix stored as x is.
  void decode(int64_t lane, int64_t lanes, int64_t k, int64_t k_size, uint16_t* out) const {
    if (lanes_are_rows) {
      for (int64_t l = 0; l < lanes; ++l, out += k_size) {
        decode_codes(stored(lane + l) + k, k_size, out);
        for (int64_t i = 0; kSwap && i + 1 < k_size; i += 2) {
          const uint16_t first = out[i];
          out[i] = out[i + 1];
          out[i + 1] = first;
        }
      }
      return;
    }
    for (int64_t i = 0; i < k_size; ++i) {
      const int64_t place = kSwap && (i ^ 1) < k_size ? i ^ 1 : i;
      decode_codes(stored(k + i) + lane, lanes, out + place * lanes);
    }
  }

  template <int P>
  void pack(int64_t lane, int64_t lanes, int64_t k, int64_t k_size, int64_t step, uint16_t* decoded,
            float* panels) const {
    const int64_t units = unit_count(kPacking, k_size);
    for (int64_t l = 0; l < lanes; l += step) {
      const int64_t some = at_most(step, lanes - l);
      decode(lane + l, some, k, k_size, decoded);
      const hadal::GemmOperand dense{
          .data = decoded, .stride = lanes_are_rows ? k_size : some, .bf16 = true};
      pack_function<P, kPacking>(dense, lanes_are_rows)({&dense, 0, some, 0, k_size},
                                                        panels + l * units);
    }
  }
};

// c += (scale_a * scale_b) * product over one tile of C.
inline void promote(const float* product, const float* a_scales, const float* b_scales, float* c,
                    int64_t c_stride, int64_t m, int64_t n, bool from_zero) {
  const int64_t rows = at_most(m, kTileRows);
  for (int64_t i = 0; i < rows; ++i, c += c_stride, product += kTileCols) {
    const Vec a = set(a_scales[i]);
    for (int64_t j = 0; j < at_most(n, kTileCols); j += Vec::kLanes) {
      const Vec part = mul(mul(a, load(b_scales + j)), load(product + j));
      const int64_t left = n - j;
      if (left >= Vec::kLanes) {
        store(c + j, add(from_zero ? set(0) : load(c + j), part));
      } else {
        store_part(c + j, add(from_zero ? set(0) : load_part(c + j, left), part), left);
      }
    }
  }
}

// Offsets into the workspace, in floats.
struct Layout {
  int64_t a_lanes, b_lanes, tiles;  // lanes: whole panels
  int64_t a, b, a_scales, b_scales, product, decoded, end;

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
    product = take(kTileRows * kTileCols);
    decoded = take(kDecoded / 2);
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
        pack<kTileCols>(b_, j0, n, k0, kDecodedCols, layout_.b, layout_.b_lanes, layout_.b_scales);
        for (int64_t i0 = 0; i0 < g_.m; i0 += kRows) {
          const int64_t m = at_most(kRows, g_.m - i0);
          pack<kTileRows>(a_, i0, m, k0, kDecodedRows, layout_.a, layout_.a_lanes,
                          layout_.a_scales);
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
  void pack(const Side& side, int64_t lane, int64_t lanes, int64_t k0, int64_t step, int64_t panels,
            int64_t panel_lanes, int64_t scales) {
    auto* decoded = reinterpret_cast<uint16_t*>(memory_ + layout_.decoded);
    for (int64_t t = 0; t < tiles_from(k0); ++t) {
      const int64_t k = k0 + t * kTile;
      side.template pack<P>(lane, lanes, k, at_most(kTile, g_.k - k), step, decoded,
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
                    product, kTileCols, kTileRows, kTileCols, false);
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

// What the table holds: codes have scales.
int64_t any_gemm_workspace(const hadal::Gemm& g) noexcept {
  if (g.a.scales.data == nullptr) return gemm_workspace(g);
  return fp8::Layout(g).end * static_cast<int64_t>(sizeof(float));
}

void any_gemm(const hadal::Gemm& g, void* workspace) noexcept {
  if (g.a.scales.data == nullptr || g.k <= 0) return gemm(g, workspace);
  fp8::Product(g, static_cast<float*>(workspace)).run();
}

}  // namespace
