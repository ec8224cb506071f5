// Packed, register-tiled matrix products. Three loops around a tile, after Goto: blocks of k, so
// that a panel of A stays in L1 and a block of B in L2; blocks of columns; panels of rows.
//
// c[i, j] is, for each block of kBlockK units, one chain of fused multiply-adds from zero in
// ascending k, and these chains' results are added to c in ascending order. Nothing of that depends
// on m, n or on other rows and columns.
// BF16 arithmetic: operands are rounded to nearest even, products are exact and summed in FP32. The
// AVX-512 BF16 family takes two k at a time, the second first, and counts denormals as zero: that
// is VDPBF16PS. Families therefore agree to FP32's rounding of the sum, not to the bit.
namespace {

// kRows x (kCols * kLanes) accumulators, two Vec of B, one broadcast of A.
#if defined(HADAL_EMULATED) || defined(__AVX512F__)
constexpr int kTileRows = 14, kTileVecs = 2;
constexpr int64_t kBlockRows = int64_t{4} * kTileRows, kBlockCols = 512;
#elif defined(__AVX2__)
constexpr int kTileRows = 6, kTileVecs = 2;
constexpr int64_t kBlockRows = int64_t{16} * kTileRows, kBlockCols = 64;
#else
constexpr int kTileRows = 4, kTileVecs = 2;
constexpr int64_t kBlockRows = int64_t{16} * kTileRows, kBlockCols = 128;
#endif
constexpr int kTileCols = kTileVecs * static_cast<int>(Vec::kLanes);
constexpr int64_t kBlockUnits = 256;
// Rows whose packed panels are kept for the next block of columns.
constexpr int64_t kKeptRows = 16 * kBlockRows;

template <Packing M>
inline void add_product(Vec& c, Vec a, Vec b) {
#if defined(HADAL_BF16_DOT)
  if constexpr (M == Packing::kPairs) {
    c = dot_bf16(c, a, b);
    return;
  }
#endif
  add_product(c, a, b);
}

// Where a tile goes: m x n of C. The tile that comes after it is fetched while this one is
// computed, a row at a time: all rows at once would hold up the panels' own lines.
struct TileOut {
  float* c;
  int64_t stride, m, n;
  bool add_to_c;
  const float* next_c;
};

// c (+)= a b over one panel of each, its first R rows: a panel that is mostly empty takes half the
// time. Not inlined: inside a larger function GCC 12 spills the accumulators.
template <Packing M, int R>
[[gnu::noinline]] void tile(const float* a, const float* b, int64_t units,
                            const TileOut& out) noexcept {
  Vec r[R][kTileVecs];
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < kTileVecs; ++j) r[i][j] = set(0);
  }
  const float* next = out.next_c;
  for (int64_t u = 0; u < units; u += 4) {
    __builtin_prefetch(next, 1);
    __builtin_prefetch(next + kTileCols - 1, 1);
    next += u < 4 * (kTileRows - 1) ? out.stride : 0;
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s, a += kTileRows, b += kTileCols) {
      Vec columns[kTileVecs];
#pragma GCC unroll 4
      for (int j = 0; j < kTileVecs; ++j) {
        columns[j] = load(b + j * Vec::kLanes);
        pin(columns[j]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < R; ++i) {
        Vec row = broadcast(a + i);
        pin(row);
#pragma GCC unroll 4
        for (int j = 0; j < kTileVecs; ++j) add_product<M>(r[i][j], row, columns[j]);
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < R; ++i) {
    if (i >= out.m) return;
    float* to = out.c + i * out.stride;
#pragma GCC unroll 4
    for (int j = 0; j < kTileVecs; ++j) {
      const int64_t left = out.n - j * Vec::kLanes;
      float* p = to + j * Vec::kLanes;
      if (left >= Vec::kLanes) {
        store(p, out.add_to_c ? add(r[i][j], load(p)) : r[i][j]);
      } else if (left > 0) {
        store_part(p, out.add_to_c ? add(r[i][j], load_part(p, left)) : r[i][j], left);
      }
    }
  }
}

Packing packing_of(const hadal::Gemm& g) {
  if (!g.bf16_arithmetic) return Packing::kPlain;
#if defined(HADAL_BF16_DOT)
  return Packing::kPairs;
#else
  return g.a.bf16 && g.b.bf16 ? Packing::kPlain : Packing::kRounded;
#endif
}

struct Workspace {  // in floats
  int64_t a, b;
};
Workspace workspace_of(const hadal::Gemm& g) {
  const int64_t units = at_most(unit_count(packing_of(g), g.k), kBlockUnits);
  const int64_t rows = g.n <= kBlockCols ? kBlockRows : kKeptRows;
  return {units * round_up(at_most(g.m, rows), kTileRows) + Vec::kLanes,
          units * round_up(at_most(g.n, kBlockCols), kTileCols) + Vec::kLanes};
}

int64_t gemm_workspace(const hadal::Gemm& g) noexcept {
  const Workspace w = workspace_of(g);
  return round_up((w.a + w.b) * static_cast<int64_t>(sizeof(float)), 64);
}

// Fetches into L2, a few lines at a time, what will be packed next: packing right from memory would
// cost as much as a third of the arithmetic.
class Ahead {
 public:
  Ahead() = default;
  Ahead(const PackBlock& b, bool k_contiguous, int64_t most_lines)
      : from_(b.from),
        row_(k_contiguous ? b.lane : b.k),
        size_(b.from->element_bytes()),
        offset_((k_contiguous ? b.k : b.lane) * size_),
        bytes_((k_contiguous ? b.k_size : b.lanes) * size_),
        lines_(at_most((k_contiguous ? b.lanes : b.k_size) * ((bytes_ + 63) / 64), most_lines)) {}
  int64_t lines() const { return lines_; }
  void fetch(int64_t count) {
    for (count = at_most(count, lines_); count > 0; --count, --lines_) {
      const int64_t row = from_->rows != nullptr ? from_->rows[row_] : row_;
      const char* p = static_cast<const char*>(from_->data) + row * from_->stride * size_;
      __builtin_prefetch(p + offset_ + done_, 0, 2);
      done_ += 64;
      if (done_ >= bytes_) done_ = 0, ++row_;
    }
  }

 private:
  const hadal::GemmOperand* from_ = nullptr;
  int64_t row_ = 0, size_ = 0, offset_ = 0, bytes_ = 0, done_ = 0, lines_ = 0;
};
constexpr int64_t kAheadLines = 4096;  // a quarter of a large L2

// One block of k and the rows [m0, m0 + m_size): all columns.
template <Packing M>
class BlockProduct {
 public:
  BlockProduct(const hadal::Gemm& g, int64_t m0, int64_t k0, float* a_panels, float* b_panels)
      : g_(g),
        m0_(m0),
        m_size_(at_most(kKeptRows, g.m - m0)),
        k0_(k0),
        k_size_(at_most(kBlockK, g.k - k0)),
        units_(unit_count(M, k_size_)),
        a_panels_(a_panels),
        b_panels_(b_panels) {}

  void run(bool add_to_c) {
    const PackFn pack_a = pack_function<kTileRows, M>(g_.a, a_k_contiguous());
    const PackFn pack_b = pack_function<kTileCols, M>(g_.b, b_k_contiguous());
    const bool keep = g_.n > kBlockCols;
    for (int64_t n0 = 0; n0 < g_.n; n0 += kBlockCols) {
      const PackBlock b = block_of_b(n0);
      pack_b(b, b_panels_);
      next_b_ = Ahead(following_b(n0), b_k_contiguous(), kAheadLines);
      const int64_t tiles = tile_count(m_size_, b.lanes);
      b_lines_ = (next_b_.lines() + tiles - 1) / tiles;
      for (int64_t i0 = 0; i0 < m_size_; i0 += kBlockRows) {
        const PackBlock a = block_of_a(i0);
        float* panels = a_panels_ + (keep ? i0 * units_ : 0);
        if (n0 == 0) {
          pack_a(a, panels);
          next_a_ = Ahead(following_a(i0), a_k_contiguous(), kAheadLines);
          const int64_t a_tiles = tile_count(a.lanes, b.lanes);
          a_lines_ = (next_a_.lines() + a_tiles - 1) / a_tiles;
        }
        run_tiles(a, b, panels, add_to_c);
      }
    }
  }

 private:
  static constexpr int64_t kBlockK = kBlockUnits * unit_size(M);
  static int64_t tile_count(int64_t m, int64_t n) {
    return ((m + kTileRows - 1) / kTileRows) * ((n + kTileCols - 1) / kTileCols);
  }
  bool a_k_contiguous() const { return g_.op != hadal::GemmOp::kTN; }
  bool b_k_contiguous() const { return g_.op == hadal::GemmOp::kNT; }
  PackBlock block_of_a(int64_t i0) const {
    return {&g_.a, m0_ + i0, at_most(kBlockRows, m_size_ - i0), k0_, k_size_};
  }
  PackBlock block_of_b(int64_t n0) const {
    return {&g_.b, n0, at_most(kBlockCols, g_.n - n0), k0_, k_size_};
  }
  // The block that is packed after this one; of nothing when there is none.
  PackBlock following_a(int64_t i0) const {
    if (i0 + kBlockRows < m_size_) return block_of_a(i0 + kBlockRows);
    return in_next_k(block_of_a(0));
  }
  PackBlock following_b(int64_t n0) const {
    if (n0 + kBlockCols < g_.n) return block_of_b(n0 + kBlockCols);
    return in_next_k(block_of_b(0));
  }
  PackBlock in_next_k(PackBlock b) const {
    b.k = k0_ + k_size_;
    b.k_size = at_most(kBlockK, g_.k - b.k);
    return b;
  }

  void run_tiles(const PackBlock& a, const PackBlock& b, const float* panels, bool add_to_c) {
    for (int64_t i = 0; i < a.lanes; i += kTileRows) {
      float* c = g_.c + (a.lane + i) * g_.c_stride + b.lane;
      const auto some_rows =
          a.lanes - i > kTileRows / 2 ? tile<M, kTileRows> : tile<M, kTileRows / 2>;
      for (int64_t j = 0; j < b.lanes; j += kTileCols) {
        next_a_.fetch(a_lines_);
        next_b_.fetch(b_lines_);
        const float* next = j + kTileCols < b.lanes   ? c + j + kTileCols
                            : i + kTileRows < a.lanes ? c + kTileRows * g_.c_stride
                                                      : c;
        some_rows(panels + i * units_, b_panels_ + j * units_, units_,
                  {c + j, g_.c_stride, a.lanes - i, b.lanes - j, add_to_c, next});
      }
    }
  }

  const hadal::Gemm& g_;
  int64_t m0_, m_size_, k0_, k_size_, units_;
  float *a_panels_, *b_panels_;
  Ahead next_a_, next_b_;
  int64_t a_lines_ = 0, b_lines_ = 0;  // of these, before each tile
};

template <Packing M>
void multiply(const hadal::Gemm& g, float* workspace) noexcept {
  float* b_panels = workspace;
  float* a_panels = workspace + workspace_of(g).b;
  for (int64_t m0 = 0; m0 < g.m; m0 += kKeptRows) {
    for (int64_t k0 = 0; k0 < g.k; k0 += kBlockUnits * unit_size(M)) {
      BlockProduct<M>(g, m0, k0, a_panels, b_panels).run(g.accumulate || k0 > 0);
    }
  }
}

void gemm(const hadal::Gemm& g, void* workspace) noexcept {
  if (g.k <= 0) {
    for (int64_t i = 0; i < g.m && !g.accumulate; ++i) {
      for (int64_t j = 0; j < g.n; ++j) g.c[i * g.c_stride + j] = 0;
    }
    return;
  }
  float* memory = static_cast<float*>(workspace);
  switch (packing_of(g)) {
    case Packing::kPlain:
      return multiply<Packing::kPlain>(g, memory);
#if defined(HADAL_BF16_DOT)
    case Packing::kRounded:
      return;
    case Packing::kPairs:
      return multiply<Packing::kPairs>(g, memory);
#else
    case Packing::kRounded:
      return multiply<Packing::kRounded>(g, memory);
    case Packing::kPairs:
      return;
#endif
  }
}

}  // namespace
