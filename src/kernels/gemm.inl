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
constexpr int64_t kBlockRows = 4 * kTileRows, kBlockCols = 512;
#elif defined(__AVX2__)
constexpr int kTileRows = 6, kTileVecs = 2;
constexpr int64_t kBlockRows = 16 * kTileRows, kBlockCols = 256;
#else
constexpr int kTileRows = 4, kTileVecs = 2;
constexpr int64_t kBlockRows = 16 * kTileRows, kBlockCols = 128;
#endif
constexpr int kTileCols = kTileVecs * static_cast<int>(Vec::kLanes);
constexpr int64_t kBlockUnits = 256;
// Rows whose packed panels are kept for the next block of columns.
constexpr int64_t kKeptRows = 16 * kBlockRows;

template <Packing M>
inline Vec multiply_add(Vec a, Vec b, Vec c) {
#if defined(HADAL_BF16_DOT)
  if constexpr (M == Packing::kPairs) return dot_bf16(c, a, b);
#endif
  return fma(a, b, c);
}

// c (+)= a b over one panel of each. Not inlined: inside a larger function GCC 12 spills the
// accumulators.
template <Packing M>
[[gnu::noinline]] void tile(const float* a, const float* b, int64_t units, float* c,
                            int64_t c_stride, int64_t m, int64_t n, bool add_to_c) noexcept {
  Vec r[kTileRows][kTileVecs];
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
    __builtin_prefetch(c + (i < m ? i : 0) * c_stride);
#pragma GCC unroll 4
    for (int j = 0; j < kTileVecs; ++j) r[i][j] = set(0);
  }
  for (int64_t u = 0; u < units; u += 4) {
#pragma GCC unroll 4
    for (int s = 0; s < 4; ++s, a += kTileRows, b += kTileCols) {
      Vec columns[kTileVecs];
#pragma GCC unroll 4
      for (int j = 0; j < kTileVecs; ++j) {
        columns[j] = load(b + j * Vec::kLanes);
        pin(columns[j]);
      }
#pragma GCC unroll 16
      for (int i = 0; i < kTileRows; ++i) {
        Vec row = broadcast(a + i);
        pin(row);
#pragma GCC unroll 4
        for (int j = 0; j < kTileVecs; ++j) {
          r[i][j] = multiply_add<M>(row, columns[j], r[i][j]);
        }
      }
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < kTileRows; ++i) {
    if (i >= m) return;
    float* to = c + i * c_stride;
#pragma GCC unroll 4
    for (int j = 0; j < kTileVecs; ++j) {
      const int64_t left = n - j * Vec::kLanes;
      float* p = to + j * Vec::kLanes;
      if (left >= Vec::kLanes) {
        store(p, add_to_c ? add(r[i][j], load(p)) : r[i][j]);
      } else if (left > 0) {
        store_part(p, add_to_c ? add(r[i][j], load_part(p, left)) : r[i][j], left);
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

// One block of k and the rows [m0, m0 + m_size): all columns.
template <Packing M>
void multiply_block(const hadal::Gemm& g, PackBlock a, PackBlock b, float* a_panels,
                    float* b_panels, bool add_to_c) noexcept {
  const PackFn pack_a = pack_function<kTileRows, M>(g.a, g.op != hadal::GemmOp::kTN);
  const PackFn pack_b = pack_function<kTileCols, M>(g.b, g.op == hadal::GemmOp::kNT);
  const int64_t units = unit_count(M, a.k_size), m0 = a.lane, m_size = a.lanes;
  const bool keep = g.n > kBlockCols;
  for (int64_t n0 = 0; n0 < g.n; n0 += kBlockCols) {
    b.lane = n0;
    b.lanes = at_most(kBlockCols, g.n - n0);
    pack_b(b, b_panels);
    for (int64_t i0 = 0; i0 < m_size; i0 += kBlockRows) {
      a.lane = m0 + i0;
      a.lanes = at_most(kBlockRows, m_size - i0);
      float* panels = a_panels + (keep ? i0 * units : 0);
      if (n0 == 0) pack_a(a, panels);
      for (int64_t i = 0; i < a.lanes; i += kTileRows) {
        float* c = g.c + (a.lane + i) * g.c_stride + n0;
        for (int64_t j = 0; j < b.lanes; j += kTileCols) {
          tile<M>(panels + i * units, b_panels + j * units, units, c + j, g.c_stride, a.lanes - i,
                  b.lanes - j, add_to_c);
        }
      }
    }
  }
}

template <Packing M>
void multiply(const hadal::Gemm& g, float* workspace) noexcept {
  float* b_panels = workspace;
  float* a_panels = workspace + workspace_of(g).b;
  constexpr int64_t kBlockK = kBlockUnits * unit_size(M);
  for (int64_t m0 = 0; m0 < g.m; m0 += kKeptRows) {
    for (int64_t k0 = 0; k0 < g.k; k0 += kBlockK) {
      const int64_t k_size = at_most(kBlockK, g.k - k0);
      multiply_block<M>(g, {&g.a, m0, at_most(kKeptRows, g.m - m0), k0, k_size},
                        {&g.b, 0, 0, k0, k_size}, a_panels, b_panels, g.accumulate || k0 > 0);
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
