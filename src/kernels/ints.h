// Ints: kLanes sums of 32 bits, and the products of bytes that go into them. Included by isa.cpp
// only. All of it is exact, so every family gives the same bits; those that are emulated use the
// plain loops.
//
//   set_ints(a) load_bytes(p)          4 kLanes bytes at any address
//   shifted<n>(p)                      *p * 2^n in every lane
//   pin(a)                             keeps a compiler from another order of operations, for which
//                                      it would need more registers than there are
//   low_halves(b) high_halves(b)       of each byte: its lower or upper four bits
//   int8_operand(w)                    what dot_int8 takes in the place of signed bytes w
//   dot_int8(acc, w, x)                acc + four products of w and the signed bytes of x, a lane,
//                                      plus kInt8Offset times the four of x
//   begin_int4(a) dot_int4(acc, w, x) end_int4(acc, a)
//                                      a + four products, no offset, of unsigned w below 16 for
//                                      each of up to 8 dot_int4 in between: acc may be sums of 16
//                                      bits
//   to_floats(a)                       |a| < 2^24
#pragma once
#include <cstdint>

#include "kernels/vec.h"

namespace {

#if !defined(HADAL_EMULATED) && defined(__AVX512F__)

struct Ints {
  __m512i v;
};
inline Ints set_ints(int32_t a) {
  return {_mm512_set1_epi32(a)};
}
inline Ints load_bytes(const uint8_t* p) {
  return {_mm512_loadu_si512(p)};
}
template <int n>
inline Ints shifted(const int32_t* p) {
  return {_mm512_slli_epi32(_mm512_set1_epi32(*p), n)};
}
inline void pin(Ints& a) {
  asm("" : "+v"(a.v));
}
inline Ints low_halves(Ints b) {
  return {_mm512_and_si512(b.v, _mm512_set1_epi8(15))};
}
inline Ints high_halves(Ints b) {
  return {_mm512_and_si512(_mm512_srli_epi16(b.v, 4), _mm512_set1_epi8(15))};
}
inline Vec to_floats(Ints a) {
  return {_mm512_cvtepi32_ps(a.v)};
}
#if defined(__AVX512VNNI__)
constexpr int32_t kInt8Offset = 128;  // VPDPBUSD takes one operand unsigned
inline Ints int8_operand(Ints w) {
  return {_mm512_xor_si512(w.v, _mm512_set1_epi8(-128))};
}
inline Ints dot_int8(Ints acc, Ints w, int32_t x) {
  return {_mm512_dpbusd_epi32(acc.v, w.v, _mm512_set1_epi32(x))};
}
inline Ints begin_int4(Ints a) {
  return a;
}
inline Ints dot_int4(Ints acc, Ints w, int32_t x) {
  return dot_int8(acc, w, x);
}
inline Ints end_int4(Ints acc, Ints) {
  return acc;
}
#else
constexpr int32_t kInt8Offset = 0;
inline Ints int8_operand(Ints w) {
  return w;
}
inline Ints begin_int4(Ints) {
  return {_mm512_setzero_si512()};
}
inline Ints dot_int4(Ints acc, Ints w, int32_t x) {
  return {_mm512_add_epi16(acc.v, _mm512_maddubs_epi16(w.v, _mm512_set1_epi32(x)))};
}
inline Ints end_int4(Ints acc, Ints a) {
  return {_mm512_add_epi32(a.v, _mm512_madd_epi16(acc.v, _mm512_set1_epi16(1)))};
}
inline Ints dot_int8(Ints acc, Ints w, int32_t x) {  // the sign of w goes to x
  const __m512i bytes = _mm512_set1_epi32(x);
  const __m512i turned =
      _mm512_mask_sub_epi8(bytes, _mm512_movepi8_mask(w.v), _mm512_setzero_si512(), bytes);
  const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w.v), turned);
  return {_mm512_add_epi32(acc.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
}
#endif

#elif !defined(HADAL_EMULATED) && defined(__AVX2__)

struct Ints {
  __m256i v;
};
inline Ints set_ints(int32_t a) {
  return {_mm256_set1_epi32(a)};
}
inline Ints load_bytes(const uint8_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))};
}
template <int n>
inline Ints shifted(const int32_t* p) {
  return {_mm256_slli_epi32(_mm256_set1_epi32(*p), n)};
}
inline void pin(Ints& a) {
  asm("" : "+x"(a.v));
}
inline Ints low_halves(Ints b) {
  return {_mm256_and_si256(b.v, _mm256_set1_epi8(15))};
}
inline Ints high_halves(Ints b) {
  return {_mm256_and_si256(_mm256_srli_epi16(b.v, 4), _mm256_set1_epi8(15))};
}
inline Vec to_floats(Ints a) {
  return {_mm256_cvtepi32_ps(a.v)};
}
constexpr int32_t kInt8Offset = 0;
inline Ints int8_operand(Ints w) {
  return w;
}
inline Ints begin_int4(Ints) {
  return {_mm256_setzero_si256()};
}
inline Ints dot_int4(Ints acc, Ints w, int32_t x) {
  return {_mm256_add_epi16(acc.v, _mm256_maddubs_epi16(w.v, _mm256_set1_epi32(x)))};
}
inline Ints end_int4(Ints acc, Ints a) {
  return {_mm256_add_epi32(a.v, _mm256_madd_epi16(acc.v, _mm256_set1_epi16(1)))};
}
inline Ints dot_int8(Ints acc, Ints w, int32_t x) {  // the sign of w goes to x
  const __m256i pairs =
      _mm256_maddubs_epi16(_mm256_abs_epi8(w.v), _mm256_sign_epi8(_mm256_set1_epi32(x), w.v));
  return {_mm256_add_epi32(acc.v, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))};
}

#else

struct Ints {
  int32_t v[Vec::kLanes];
};
inline Ints set_ints(int32_t a) {
  Ints out;
  for (int32_t& v : out.v) v = a;
  return out;
}
inline Ints load_bytes(const uint8_t* p) {
  Ints out;
  __builtin_memcpy(out.v, p, sizeof out.v);
  return out;
}
template <int n>
inline Ints shifted(const int32_t* p) {
  return set_ints(*p * (1 << n));
}
inline void pin(Ints&) {
}
inline Ints low_halves(Ints b) {
  for (int32_t& v : b.v) v &= 0x0f0f0f0f;
  return b;
}
inline Ints high_halves(Ints b) {
  for (int32_t& v : b.v) v = (v >> 4) & 0x0f0f0f0f;
  return b;
}
inline Vec to_floats(Ints a) {
  float out[Vec::kLanes];
  for (int64_t i = 0; i < Vec::kLanes; ++i) out[i] = static_cast<float>(a.v[i]);
  return load(out);
}
constexpr int32_t kInt8Offset = 0;
inline Ints int8_operand(Ints w) {
  return w;
}
inline Ints dot_int8(Ints acc, Ints w, int32_t x) {
  int8_t b[4 * Vec::kLanes], c[4];
  __builtin_memcpy(b, w.v, sizeof b);
  __builtin_memcpy(c, &x, sizeof c);
  for (int64_t i = 0; i < 4 * Vec::kLanes; ++i) acc.v[i / 4] += b[i] * c[i % 4];
  return acc;
}
inline Ints begin_int4(Ints a) {
  return a;
}
inline Ints dot_int4(Ints acc, Ints w, int32_t x) {
  return dot_int8(acc, w, x);
}
inline Ints end_int4(Ints acc, Ints) {
  return acc;
}

#endif

}  // namespace
