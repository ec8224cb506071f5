// y = x W^T for a few rows of x, as experts get them: packing W would take a good part of the time.
// So the sides swap roles. Rows of x lie across as lanes, packed once for all of W; rows of W are
// read where they lie, a pair of BF16 at a time into all lanes. What does not lie as BF16 becomes
// it first, a few rows of a block of k at a time, in L1. A tile is rows of W by rows of x: C is
// transposed on its way out. Every number is the chain that gemm.inl tells of, bit for bit.
#if defined(HADAL_BF16_DOT)
namespace {
namespace few {

constexpr Packing kPairs = Packing::kPairs;
constexpr int64_t kLanes = Vec::kLanes;
constexpr int64_t kTileRows = 8;                   // of W
constexpr int64_t kBlockK = 2 * kBlockUnits;       // elements
constexpr int64_t kCopyStride = kBlockUnits + 16;  // floats from row to row of a copy
constexpr int64_t kTileK = 128;                    // of scales
constexpr int64_t kRowsAtOnce = 128;               // of x
constexpr int64_t kMostBlocks = 32;                // of a Vec of rows of x: half of a large L2
static_assert(kMostBlocks * kLanes >= kRowsAtOnce);

// With more rows, packing a W that is not large costs less than C does here.
bool takes(const hadal::Gemm& g) {
  const bool few = g.m <= kRowsAtOnce || (g.m <= 2 * kRowsAtOnce && g.n >= 4 * g.m);
  return few && g.op == hadal::GemmOp::kNT && g.k > 0 && g.a.scales.data == nullptr &&
         packing_of(g) == kPairs;
}

// Rows of a block of W as pairs of BF16, and what is fetched while they are used: as many rows,
// which come next.
struct Rows {
  const uint16_t* w;
  int64_t stride;
  const char* next;
  int64_t next_stride, unit_bytes;
};
// Where a tile goes: a row of W a row, floats apart.
struct Sums {
  float* at;
  int64_t stride;
  bool add_to;
};

// x: V vectors of rows and, with kHalf, half a one, `panel` floats apart. Not inlined: inside a
// larger function GCC 12 spills the accumulators.
template <int V, bool kHalf>
[[gnu::noinline]] void tile(const float* x, int64_t panel, const Rows& rows, int64_t units,
                            const Sums& sums) noexcept {
  Vec r[kTileRows][V];
  HalfVec half[kTileRows];
#pragma GCC unroll 8
  for (int64_t i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) r[i][v] = set(0);
    half[i] = low_half(set(0));
  }
  const uint16_t* w = rows.w;
  for (int64_t u = 0; u < units; u += 4) {
    // Of each line of a unit's rows once; FP32 has two lines where BF16 has one.
    const char* next = rows.next + (u / 2 & 6) * rows.next_stride + u * rows.unit_bytes;
    __builtin_prefetch(next, 0, 2);
    __builtin_prefetch(next + rows.next_stride, 0, 2);
    if (rows.unit_bytes > 4) {
      __builtin_prefetch(next + 64, 0, 2);
      __builtin_prefetch(next + rows.next_stride + 64, 0, 2);
    }
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s, x += kLanes, w += 2) {
      Vec lanes[V];
      HalfVec last;
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) {
        lanes[v] = load(x + v * panel);
        pin(lanes[v]);
      }
      if (kHalf) last = load_half(x + V * panel);
#pragma GCC unroll 8
      for (int64_t i = 0; i < kTileRows; ++i) {
        Vec row = broadcast_pair(w + i * rows.stride);
        pin(row);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) r[i][v] = dot_bf16(r[i][v], lanes[v], row);
        if (kHalf) half[i] = dot_bf16(half[i], last, low_half(row));
      }
    }
  }
#pragma GCC unroll 8
  for (int64_t i = 0; i < kTileRows; ++i) {
    float* to = sums.at + i * sums.stride;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v, to += kLanes) {
      store(to, sums.add_to ? add(r[i][v], load(to)) : r[i][v]);
    }
    if (kHalf) store_half(to, sums.add_to ? add(half[i], load_half(to)) : half[i]);
  }
}

// By half vectors of rows of x. A row more than 16 shall not cost as much as 16.
using TileFn = void (*)(const float*, int64_t, const Rows&, int64_t, const Sums&) noexcept;
constexpr TileFn kTiles[] = {nullptr,        tile<1, false>, tile<1, false>, tile<1, true>,
                             tile<2, false>, tile<2, true>,  tile<3, false>};

// ---- copies of rows of W: the bits that packing gives, zeros up to a whole unit

template <class E>
void copy_rows(const PackBlock& b, float* to) noexcept {
  const int64_t units = unit_count(kPairs, b.k_size);
  for (int64_t i = 0; i < b.lanes; ++i, to += kCopyStride) {
    const E* row = stored_row<E>(*b.from, b.lane + i) + b.k;
    for (int64_t u = 0; u < units; u += kLanes) {
      const int64_t left = b.k_size - 2 * u;
      if (left >= 2 * kLanes) {
        store(to + u, load_units<kPairs>(row + 2 * u));
      } else {
        store(to + u, left > 0 ? load_units_part<kPairs>(row + 2 * u, left) : set(0));
      }
    }
  }
}

using CopyFn = void (*)(const PackBlock&, float*) noexcept;
CopyFn copy_function(const hadal::GemmOperand& w) {
  return w.fp16 ? copy_rows<Fp16Bits> : w.bf16 ? copy_rows<uint16_t> : copy_rows<float>;
}

// The numbers code * scale of a tile of scales.
void make_tables(float scale, E4m3Tables& to) {
  uint8_t codes[2 * kLanes];
  for (int m = 0; m < 128; m += 2 * kLanes) {
    for (int i = 0; i < 2 * kLanes; ++i) codes[i] = static_cast<uint8_t>(m + i);
    float pairs[kLanes];
    store(pairs, code_units<kPairs, true>(codes, set(scale), 0));
    uint16_t numbers[2 * kLanes];
    __builtin_memcpy(numbers, pairs, sizeof numbers);
    for (int i = 0; i < 2 * kLanes; ++i) {
      to.low[m + i] = static_cast<uint8_t>(numbers[i] & 0xffu);
      to.high[m + i] = static_cast<uint8_t>(numbers[i] >> 8);
    }
  }
}

// A row of k_size codes by the tables of their tiles.
void copy_codes(const uint8_t* row, int64_t k_size, const E4m3Tables* tables, float* to) noexcept {
  const int64_t whole = k_size / kE4m3Step * kE4m3Step;
  Vec w[kE4m3Parts];
  for (int64_t k = 0; k < whole; ++tables) {
    const E4m3Decoder decoder(*tables);
    for (const int64_t end = at_most(whole, k + kTileK); k < end; k += kE4m3Step) {
      decoder.decode_in_order(row + k, w);
      store(to + k / 2, w[0]);
      store(to + k / 2 + kLanes, w[1]);
    }
  }
  if (whole == k_size) return;
  uint8_t last[kE4m3Step] = {};
  __builtin_memcpy(last, row + whole, static_cast<size_t>(k_size - whole));
  E4m3Decoder(tables[whole % kTileK == 0 ? 0 : -1]).decode_in_order(last, w);
  store(to + whole / 2, w[0]);
  store(to + whole / 2 + kLanes, w[1]);
  const int64_t end = whole + kE4m3Step;  // an infinite scale makes NaN of 0
  __builtin_memset(reinterpret_cast<uint16_t*>(to) + k_size, 0,
                   static_cast<size_t>(2 * (end - k_size)));
}

// ---- the product

struct Layout {  // of the workspace, in floats
  int64_t rows, vecs, span, tables, copy, sums, end;
  explicit Layout(const hadal::Gemm& g) {
    const int64_t parts = (g.m + kRowsAtOnce - 1) / kRowsAtOnce;
    rows = parts > 1 ? round_up((g.m + parts - 1) / parts, kLanes) : g.m;
    vecs = (rows + kLanes - 1) / kLanes;
    span = at_most(round_up(g.k, kBlockK), kMostBlocks / (vecs > 0 ? vecs : 1) * kBlockK);
    tables = vecs * span / 2 * kLanes;
    copy = tables + (g.b.codes ? span / kTileK * int64_t{sizeof(E4m3Tables) / 4} : 0);
    sums = copy + kTileRows * kCopyStride;
    end = sums + kLanes * vecs * kLanes;
  }
};

class Product {
 public:
  Product(const hadal::Gemm& g, float* memory)
      : g_(g), layout_(g), memory_(memory), copy_(copy_function(g.b)) {}

  void run() {
    for (m0_ = 0; m0_ < g_.m; m0_ += layout_.rows) {
      m_size_ = at_most(layout_.rows, g_.m - m0_);
      for (k0_ = 0; k0_ < g_.k; k0_ += layout_.span) {
        k_end_ = at_most(g_.k, k0_ + layout_.span);
        band_ = -1;
        pack_x();
        for (int64_t n = 0; n < g_.n; n += kLanes) run_columns(n);
      }
    }
  }

 private:
  float* panels(int64_t k) const { return memory_ + (k - k0_) / 2 * layout_.vecs * kLanes; }

  void pack_x() {
    const PackFn pack = pack_function<kLanes, kPairs>(g_.a, true);
    for (int64_t k = k0_; k < k_end_; k += kBlockK) {
      pack({&g_.a, m0_, m_size_, k, at_most(kBlockK, k_end_ - k)}, panels(k));
    }
  }

  // As many columns of C as there are lanes, for all rows of x and of this span of k.
  void run_columns(int64_t n) {
    float* sums = memory_ + layout_.sums;
    const int64_t stride = layout_.vecs * kLanes;
    const bool onto_c = g_.accumulate || k0_ > 0;
    if (onto_c) take_c(n, sums);
    for (int64_t row = n; row < at_most(n + kLanes, g_.n); row += kTileRows) {
      float* to = sums + (row - n) * stride;
      for (int64_t k = k0_; k < k_end_; k += kBlockK) {
        const PackBlock b{&g_.b, row, at_most(kTileRows, g_.n - row), k,
                          at_most(kBlockK, k_end_ - k)};
        run_tiles(panels(k), rows_of(b), unit_count(kPairs, b.k_size),
                  {to, stride, onto_c || k > k0_});
      }
    }
    give_c(n, sums);
  }

  void run_tiles(const float* x, Rows rows, int64_t units, Sums sums) const {
    const int64_t panel = units * kLanes;
    for (int64_t left = (m_size_ + kLanes / 2 - 1) / (kLanes / 2); left > 0;) {  // half vectors
      const int64_t some = left <= 6 ? left : left <= 9 ? 4 : 6;
      kTiles[some](x, panel, rows, units, sums);
      rows.next = reinterpret_cast<const char*>(rows.w), rows.next_stride = 0, rows.unit_bytes = 0;
      x += some / 2 * panel;
      sums.at += some / 2 * kLanes;
      left -= some;
    }
  }

  Rows rows_of(const PackBlock& b) {
    const int64_t size = g_.b.element_bytes();
    const bool listed = g_.b.rows != nullptr, follows = !listed && b.lane + 2 * kTileRows <= g_.n;
    const int64_t next = follows ? b.lane + kTileRows : listed ? 0 : b.lane;
    Rows rows{nullptr, g_.b.stride,
              static_cast<const char*>(g_.b.data) + (next * g_.b.stride + b.k) * size,
              follows ? g_.b.stride * size : 0, 2 * size};
    if (g_.b.bf16 && !listed && b.lanes == kTileRows && b.k_size % 8 == 0) {
      rows.w = stored_row<uint16_t>(g_.b, b.lane) + b.k;
      return rows;
    }
    float* copy = memory_ + layout_.copy;
    g_.b.codes ? copy_codes_of(b, copy) : copy_(b, copy);
    rows.w = reinterpret_cast<const uint16_t*>(copy);
    rows.stride = 2 * kCopyStride;
    return rows;
  }

  void copy_codes_of(const PackBlock& b, float* to) {
    const hadal::TileScales& scales = g_.b.scales;
    auto* tables = reinterpret_cast<E4m3Tables*>(memory_ + layout_.tables);
    for (int64_t i = b.lane; i < b.lane + b.lanes; ++i, to += kCopyStride) {
      const int64_t band = (scales.first_lane + i) / scales.lanes;
      if (band != band_) {
        const float* scale = scales.data + band * scales.lane_stride;
        for (int64_t k = k0_; k < k_end_; k += kTileK) {
          make_tables(scale[k / kTileK * scales.k_stride], tables[(k - k0_) / kTileK]);
        }
        band_ = band;
      }
      copy_codes(static_cast<const uint8_t*>(g_.b.data) + i * g_.b.stride + b.k, b.k_size,
                 tables + (b.k - k0_) / kTileK, to);
    }
  }

  void take_c(int64_t n, float* sums) const {
    const int64_t columns = at_most(kLanes, g_.n - n);
    const float* c = g_.c + m0_ * g_.c_stride + n;
    for (int64_t i = 0; i < m_size_; i += kLanes) {
      Vec r[kLanes];
      for (int64_t l = 0; l < kLanes; ++l) {
        r[l] = i + l < m_size_ ? load_part(c + (i + l) * g_.c_stride, columns) : set(0);
      }
      transpose(r);
      for (int64_t l = 0; l < kLanes; ++l) store(sums + l * layout_.vecs * kLanes + i, r[l]);
    }
  }

  void give_c(int64_t n, const float* sums) const {
    const int64_t columns = at_most(kLanes, g_.n - n);
    float* c = g_.c + m0_ * g_.c_stride + n;
    for (int64_t i = 0; i < m_size_; i += kLanes) {
      Vec r[kLanes];
#pragma GCC unroll 16
      for (int l = 0; l < kLanes; ++l) r[l] = load(sums + l * layout_.vecs * kLanes + i);
      transpose(r);
      for (int64_t l = 0; l < at_most(kLanes, m_size_ - i); ++l) {
        float* to = c + (i + l) * g_.c_stride;
        columns == kLanes ? store(to, r[l]) : store_part(to, r[l], columns);
      }
    }
  }

  const hadal::Gemm& g_;
  Layout layout_;
  float* memory_;
  CopyFn copy_;
  int64_t m0_ = 0, m_size_ = 0, k0_ = 0, k_end_ = 0;
  int64_t band_ = -1;  // of rows of scales: whose tables there are
};

}  // namespace few
}  // namespace
#endif
