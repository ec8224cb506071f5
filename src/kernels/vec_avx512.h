// Vec of the AVX-512 families (F, BW, VL, DQ): see vec.h.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace {

struct Vec {
  static constexpr int64_t kLanes = 16;
  __m512 v;
};

inline __mmask16 first_lanes(int64_t n) {
  return static_cast<__mmask16>((1u << n) - 1u);
}
inline Vec set(float a) {
  return {_mm512_set1_ps(a)};
}
inline Vec load(const float* p) {
  return {_mm512_loadu_ps(p)};
}
inline void store(float* p, Vec a) {
  _mm512_storeu_ps(p, a.v);
}
inline Vec load_part(const float* p, int64_t n) {
  return {_mm512_maskz_loadu_ps(first_lanes(n), p)};
}
inline void store_part(float* p, Vec a, int64_t n) {
  _mm512_mask_storeu_ps(p, first_lanes(n), a.v);
}
inline Vec broadcast(const float* p) {
  return {_mm512_set1_ps(*p)};
}
inline void pin(Vec& a) {
  asm("" : "+v"(a.v));
}

inline Vec add(Vec a, Vec b) {
  return {_mm512_add_ps(a.v, b.v)};
}
inline Vec sub(Vec a, Vec b) {
  return {_mm512_sub_ps(a.v, b.v)};
}
inline Vec mul(Vec a, Vec b) {
  return {_mm512_mul_ps(a.v, b.v)};
}
inline Vec div(Vec a, Vec b) {
  return {_mm512_div_ps(a.v, b.v)};
}
inline Vec fma(Vec a, Vec b, Vec c) {
  return {_mm512_fmadd_ps(a.v, b.v, c.v)};
}
inline Vec sqrt(Vec a) {
  return {_mm512_sqrt_ps(a.v)};
}
inline Vec neg(Vec a) {
  return {_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))};
}
inline Vec abs(Vec a) {
  return {_mm512_andnot_ps(_mm512_set1_ps(-0.0f), a.v)};
}
inline Vec max(Vec a, Vec b) {
  return {_mm512_max_ps(a.v, b.v)};
}
inline Vec min(Vec a, Vec b) {
  return {_mm512_min_ps(a.v, b.v)};
}
inline Vec select_less(Vec a, Vec b, Vec x, Vec y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
inline Vec swap_pairs(Vec a) {
  return {_mm512_permute_ps(a.v, 0xb1)};
}
inline Vec scale_pow2(Vec a, Vec n) {
  return {_mm512_scalef_ps(a.v, n.v)};
}
inline Vec low_bits_as_pow2(Vec a) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(a.v), 23))};
}

inline float sum(Vec a) {
  const __m256 u = _mm256_add_ps(_mm512_extractf32x8_ps(a.v, 1), _mm512_castps512_ps256(a.v));
  __m128 s = _mm_add_ps(_mm256_extractf128_ps(u, 1), _mm256_castps256_ps128(u));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float reduce_max(Vec a) {
  const __m512 low = _mm512_set1_ps(-__builtin_inff());
  const __m512 v = _mm512_max_ps(a.v, low);  // NaN becomes -inf
  const __m256 u = _mm256_max_ps(_mm512_extractf32x8_ps(v, 1), _mm512_castps512_ps256(v));
  __m128 s = _mm_max_ps(_mm256_extractf128_ps(u, 1), _mm256_castps256_ps128(u));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

// ---- BF16 storage
inline Vec widen_bf16(__m256i h) {
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
}
// VCVTNEPS2BF16 would flush denormals; these are the bits of to_bf16.
inline __m256i narrow_bf16(Vec a) {
  const __m512i u = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
  const __m512i near = _mm512_add_epi32(_mm512_add_epi32(u, _mm512_set1_epi32(0x7fff)), odd);
  const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_blend_epi32(nan, near, quiet), 16));
}
inline Vec load_bf16(const uint16_t* p) {
  return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_bf16(uint16_t* p, Vec a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow_bf16(a));
}
inline Vec load_bf16_part(const uint16_t* p, int64_t n) {
  return widen_bf16(_mm256_maskz_loadu_epi16(first_lanes(n), p));
}
inline void store_bf16_part(uint16_t* p, Vec a, int64_t n) {
  _mm256_mask_storeu_epi16(p, first_lanes(n), narrow_bf16(a));
}
inline Vec round_bf16(Vec a) {
  return widen_bf16(narrow_bf16(a));
}

// ---- FP16 and E4M3 storage
inline Vec load_fp16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline Vec load_fp16_part(const uint16_t* p, int64_t n) {
  return {_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first_lanes(n), p))};
}
inline Vec widen_e4m3(__m128i codes) {
  const __m512i bits = _mm512_slli_epi32(_mm512_cvtepi8_epi32(codes), 20);
  const __m512i number = _mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0x87f00000u)));
  return {_mm512_mul_ps(_mm512_castsi512_ps(number), _mm512_set1_ps(0x1p120f))};
}
inline Vec load_e4m3(const uint8_t* p) {
  return widen_e4m3(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Vec load_e4m3_part(const uint8_t* p, int64_t n) {
  return widen_e4m3(_mm_maskz_loadu_epi8(first_lanes(n), p));
}

#if defined(HADAL_BF16_DOT)
inline Vec dot_bf16(Vec acc, Vec a, Vec b) {
  return {_mm512_dpbf16_ps(acc.v, __m512bh(a.v), __m512bh(b.v))};
}
inline Vec pack_bf16(Vec a, Vec b) {
  return {__m512(_mm512_cvtne2ps_pbh(b.v, a.v))};
}
inline Vec pair_bf16(Vec a, Vec b) {
  const __m512i low_then_high = __m512i(_mm512_cvtne2ps_pbh(b.v, a.v));
  alignas(64) static constexpr uint16_t kInterleave[32] = {
      0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
      8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return {
      _mm512_castsi512_ps(_mm512_permutexvar_epi16(_mm512_load_si512(kInterleave), low_then_high))};
}
inline Vec load_bits(const uint16_t* p) {
  return {_mm512_loadu_ps(p)};
}
inline Vec broadcast_pair(const uint16_t* p) {
  int32_t pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return {_mm512_castsi512_ps(_mm512_set1_epi32(pair))};
}
inline Vec load_bits_part(const uint16_t* p, int64_t n) {
  const auto mask = static_cast<__mmask32>((uint64_t{1} << n) - 1u);
  return {_mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, p))};
}
struct HalfVec {
  __m256 v;
};
inline HalfVec low_half(Vec a) {
  return {_mm512_castps512_ps256(a.v)};
}
inline HalfVec load_half(const float* p) {
  return {_mm256_loadu_ps(p)};
}
inline void store_half(float* p, HalfVec a) {
  _mm256_storeu_ps(p, a.v);
}
inline HalfVec add(HalfVec a, HalfVec b) {
  return {_mm256_add_ps(a.v, b.v)};
}
inline HalfVec dot_bf16(HalfVec acc, HalfVec a, HalfVec b) {
  return {_mm256_dpbf16_ps(acc.v, __m256bh(a.v), __m256bh(b.v))};
}
#endif

// ---- 16 x 16 transpose: pairs of lanes, of doubles, of quarters, of halves
inline void transpose(Vec (&r)[16]) {
  __m512 t[16];
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    t[i] = _mm512_unpacklo_ps(r[i].v, r[i + 1].v);
    t[i + 1] = _mm512_unpackhi_ps(r[i].v, r[i + 1].v);
  }
  const auto low = [](__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpacklo_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  const auto high = [](__m512 a, __m512 b) {
    return _mm512_castpd_ps(_mm512_unpackhi_pd(_mm512_castps_pd(a), _mm512_castps_pd(b)));
  };
  __m512 u[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    u[i] = low(t[i], t[i + 2]);
    u[i + 1] = high(t[i], t[i + 2]);
    u[i + 2] = low(t[i + 1], t[i + 3]);
    u[i + 3] = high(t[i + 1], t[i + 3]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    const __m512 a = _mm512_shuffle_f32x4(u[i], u[i + 4], 0x88);
    const __m512 b = _mm512_shuffle_f32x4(u[i], u[i + 4], 0xdd);
    const __m512 c = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0x88);
    const __m512 d = _mm512_shuffle_f32x4(u[i + 8], u[i + 12], 0xdd);
    r[i].v = _mm512_shuffle_f32x4(a, c, 0x88);
    r[i + 4].v = _mm512_shuffle_f32x4(b, d, 0x88);
    r[i + 8].v = _mm512_shuffle_f32x4(a, c, 0xdd);
    r[i + 12].v = _mm512_shuffle_f32x4(b, d, 0xdd);
  }
}

}  // namespace
