// Packing for gemm.inl: a block of op(A) or op(B) becomes panels of P lanes (rows of C for A,
// columns of C for B), one unit of k after another, lanes fastest. A unit is one float, or a pair
// of BF16 for dot_bf16. Whatever the block lacks is zero, so tiles need no edges.
namespace {

constexpr int64_t round_up(int64_t n, int64_t step) {
  return (n + step - 1) / step * step;
}
constexpr int64_t at_most(int64_t a, int64_t b) {
  return a < b ? a : b;
}

enum class Packing {
  kPlain,    // as floats
  kRounded,  // as floats, rounded to BF16
  kPairs,    // as pairs of BF16
};
constexpr int64_t unit_size(Packing p) {
  return p == Packing::kPairs ? 2 : 1;
}
// Units of a block of k elements: a multiple of the steps that tile() takes at once.
constexpr int64_t unit_count(Packing p, int64_t k) {
  return round_up((k + unit_size(p) - 1) / unit_size(p), 4);
}

// Elements [lane, lane + lanes) x [k, k + k_size) of an operand seen as lanes x k.
struct PackBlock {
  const hadal::GemmOperand* from;
  int64_t lane, lanes;
  int64_t k, k_size;
};

template <class E>
inline const E* stored_row(const hadal::GemmOperand& x, int64_t i) {
  const int64_t row = x.rows != nullptr ? x.rows[i] : i;
  return static_cast<const E*>(x.data) + row * x.stride;
}

// Elements that are neither floats nor, as uint16_t, BF16.
struct Fp16Bits {
  uint16_t bits;
};
struct E4m3Bits {
  uint8_t bits;
};
template <class E>
constexpr bool kIsBf16 = false;
template <>
constexpr bool kIsBf16<uint16_t> = true;

inline Vec load_any(const float* p) {
  return load(p);
}
inline Vec load_any(const Fp16Bits* p) {
  return load_fp16(&p->bits);
}
inline Vec load_any(const E4m3Bits* p) {
  return load_e4m3(&p->bits);
}
inline Vec load_any_part(const Fp16Bits* p, int64_t n) {
  return load_fp16_part(&p->bits, n);
}
inline Vec load_any_part(const E4m3Bits* p, int64_t n) {
  return load_e4m3_part(&p->bits, n);
}
inline Vec load_any(const uint16_t* p) {
  return load_bf16(p);
}
inline Vec load_any_part(const float* p, int64_t n) {
  return load_part(p, n);
}
inline Vec load_any_part(const uint16_t* p, int64_t n) {
  return load_bf16_part(p, n);
}

// kLanes units of one lane, from elements that follow each other.
template <Packing M, class E>
inline Vec load_units(const E* p) {
#if defined(HADAL_BF16_DOT)
  if constexpr (M == Packing::kPairs) {
    if constexpr (kIsBf16<E>) return load_bits(p);
    return pack_bf16(load_any(p), load_any(p + Vec::kLanes));
  }
#endif
  return M == Packing::kRounded ? round_bf16(load_any(p)) : load_any(p);
}

// Likewise from the first n elements, 0 <= n <= kLanes * unit_size.
template <Packing M, class E>
inline Vec load_units_part(const E* p, int64_t n) {
#if defined(HADAL_BF16_DOT)
  if constexpr (M == Packing::kPairs) {
    if constexpr (kIsBf16<E>) {
      return n == 2 * Vec::kLanes ? load_bits(p) : load_bits_part(p, n);
    }
    if (n <= Vec::kLanes) return pack_bf16(load_any_part(p, n), set(0));
    return pack_bf16(load_any(p), load_any_part(p + Vec::kLanes, n - Vec::kLanes));
  }
#endif
  const Vec part = load_any_part(p, n);
  return M == Packing::kRounded ? round_bf16(part) : part;
}

// One unit of n <= kLanes lanes that follow each other: of rows k and k + 1 for pairs, where
// `second` may be null, and of row k else.
template <Packing M, class E>
inline Vec load_lanes(const E* first, [[maybe_unused]] const E* second, int64_t n) {
  const bool full = n == Vec::kLanes;
  const Vec a = full ? load_any(first) : load_any_part(first, n);
#if defined(HADAL_BF16_DOT)
  if constexpr (M == Packing::kPairs) {
    if (second == nullptr) return pair_bf16(a, set(0));
    return pair_bf16(a, full ? load_any(second) : load_any_part(second, n));
  }
#endif
  return M == Packing::kRounded ? round_bf16(a) : a;
}

// k contiguous in memory: squares of kLanes x kLanes units are transposed. Where P < kLanes a store
// spills into the next unit, which is written next, or into the slack behind the last panel.
template <int P, Packing M, class E>
void pack_k_contiguous(const PackBlock& b, float* out) noexcept {
  constexpr int kLanes = Vec::kLanes, kLive = P < kLanes ? P : kLanes;
  static_assert(P < kLanes || P % kLanes == 0);
  constexpr int64_t kElements = kLanes * unit_size(M);
  const int64_t units = unit_count(M, b.k_size);
  for (int64_t l = 0; l < b.lanes; l += kLive) {
    float* panel = out + l / P * P * units + l % P;
    const int64_t live = at_most(kLive, b.lanes - l);
    const E* source[kLive];
    for (int64_t i = 0; i < live; ++i) source[i] = stored_row<E>(*b.from, b.lane + l + i) + b.k;
    for (int64_t u = 0; u < units; u += kLanes) {
      const int64_t k = u * unit_size(M), left = b.k_size - k;
      Vec r[kLanes];
      if (live == kLive && left >= kElements) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          r[i] = i < kLive ? load_units<M>(source[i] + k) : set(0);
        }
      } else {
        const int64_t n = left < 0 ? 0 : at_most(left, kElements);
        for (int64_t i = 0; i < kLanes; ++i) {
          r[i] = i < live && n > 0 ? load_units_part<M>(source[i] + k, n) : set(0);
        }
      }
      transpose(r);
      float* to = panel + u * P;
      if (units - u >= kLanes) {
#pragma GCC unroll 16
        for (int64_t i = 0; i < kLanes; ++i) store(to + i * P, r[i]);
      } else {
        for (int64_t i = 0; i < units - u; ++i) store(to + i * P, r[i]);
      }
    }
    // A panel's missing right half, when it is wider than a Vec.
    for (int64_t h = l % P + kLanes; l + kLive >= b.lanes && h < P; h += kLanes) {
      float* zeros = out + l / P * P * units + h;
      for (int64_t u = 0; u < units; ++u) store(zeros + u * P, set(0));
    }
  }
}

// Eight units of a panel whose lanes are all there, from lane l of their rows on. `last`: no unit
// of the panel comes after them.
template <int P, Packing M, class E>
inline void pack_units(const E* const* rows, int64_t l, float* panel, bool last) {
  constexpr int kLanes = Vec::kLanes, kUnits = 8;
  constexpr int kSize = unit_size(M);
#pragma GCC unroll 8
  for (int64_t u = 0; u < kUnits; ++u) {
    const E *first = rows[u * kSize] + l, *second = rows[u * kSize + kSize - 1] + l;
#pragma GCC unroll 4
    for (int h = 0; h < P; h += kLanes) {
      const Vec v = load_lanes<M>(first + h, second + h, kLanes);
      // A store spills into the unit that is written next; behind the last one lies another panel,
      // whose first units are there already.
      if (P - h < kLanes && u + 1 == kUnits && last) {
        store_part(panel + u * P + h, v, P - h);
      } else {
        store(panel + u * P + h, v);
      }
    }
  }
}

// The first `run` of eight units, where rows from `live` on and lanes from `lanes` on are missing.
template <int P, Packing M, class E>
inline void pack_some_units(const E* const* rows, int64_t live, int64_t run, int64_t l,
                            int64_t lanes, float* panel) {
  constexpr int64_t kLanes = Vec::kLanes, kSize = unit_size(M);
  for (int64_t u = 0, i = 0; u < run; ++u, i += kSize) {
    for (int64_t h = 0; h < P; h += kLanes) {
      const int64_t left = at_most(lanes - l - h, kLanes);
      Vec v = set(0);
      if (i < live && left > 0) {
        const E* second = kSize == 2 && i + 1 < live ? rows[i + 1] + l + h : nullptr;
        v = load_lanes<M>(rows[i] + l + h, second, left);
      }
      store_part(panel + u * P + h, v, at_most(P - h, kLanes));
    }
  }
}

// Lanes contiguous in memory. Eight units at a time, so that each panel gets a run of lines:
// panels lie a power of two apart and would fight for the same cache sets. Meanwhile the rows of
// the next eight are fetched: listed rows lie anywhere.
template <int P, Packing M, class E>
void pack_lane_contiguous(const PackBlock& b, float* out) noexcept {
  constexpr int kLanes = Vec::kLanes;
  constexpr int64_t kUnits = 8, kSize = unit_size(M), kRows = kUnits * kSize;
  constexpr int64_t kLine = 64 / sizeof(E);
  const int64_t units = unit_count(M, b.k_size);
  const E *rows[kRows], *next[kRows];
  for (int64_t u0 = 0; u0 < units; u0 += kUnits) {
    const int64_t k0 = u0 * kSize, run = at_most(kUnits, units - u0);
    const int64_t live = at_most(run * kSize, b.k_size - k0);
    for (int64_t i = 0; i < live; ++i) rows[i] = stored_row<E>(*b.from, b.k + k0 + i) + b.lane;
    for (int64_t i = 0; i < kRows; ++i) {
      const int64_t k = at_most(k0 + kRows + i, b.k_size - 1);
      next[i] = stored_row<E>(*b.from, b.k + k) + b.lane;
    }
    for (int64_t l = 0; l < b.lanes; l += P) {
      float* panel = out + l * units + u0 * P;
      for (int64_t i = 0; i < kRows; ++i) {
        for (int64_t h = 0; h < P; h += kLine) __builtin_prefetch(next[i] + l + h);
      }
      if (live == kRows && l + round_up(P, kLanes) <= b.lanes) {
        pack_units<P, M>(rows, l, panel, u0 + kUnits >= units);
      } else {
        pack_some_units<P, M>(rows, live, run, l, b.lanes, panel);
      }
    }
  }
}

using PackFn = void (*)(const PackBlock&, float*) noexcept;

// E4M3 codes with scales, k contiguous: the numbers code * scale, as pack_k_contiguous would pack
// them. Blocks of k begin where tiles of 128 do.
template <int P, Packing M>
void pack_codes(const PackBlock& b, float* out) noexcept;

template <int P, Packing M>
PackFn pack_function(const hadal::GemmOperand& x, bool k_contiguous) {
  if (x.codes) return pack_codes<P, M>;
  if (x.fp16) {
    return k_contiguous ? pack_k_contiguous<P, M, Fp16Bits> : pack_lane_contiguous<P, M, Fp16Bits>;
  }
  if (x.bf16) {
    // What is stored as BF16 needs no rounding.
    constexpr Packing kStored = M == Packing::kPairs ? M : Packing::kPlain;
    return k_contiguous ? pack_k_contiguous<P, kStored, uint16_t>
                        : pack_lane_contiguous<P, kStored, uint16_t>;
  }
  return k_contiguous ? pack_k_contiguous<P, M, float> : pack_lane_contiguous<P, M, float>;
}

}  // namespace
