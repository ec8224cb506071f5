// Vec of the "scalar" family: four lanes of the compiler's own vectors, which it turns into the
// base instruction set of any CPU. See vec.h.
#pragma once
#include <cstdint>

#include "kernels/plain_floats.h"

namespace {

using Float4 = float __attribute__((vector_size(16)));
using Bits4 = uint32_t __attribute__((vector_size(16)));

struct Vec {
  static constexpr int64_t kLanes = 4;
  Float4 v;
};

inline Vec set(float a) {
  return {Float4{a, a, a, a}};
}
inline Vec load(const float* p) {
  Vec a;
  __builtin_memcpy(&a.v, p, sizeof a.v);
  return a;
}
inline void store(float* p, Vec a) {
  __builtin_memcpy(p, &a.v, sizeof a.v);
}
inline Vec load_part(const float* p, int64_t n) {
  float part[4] = {};
  for (int64_t i = 0; i < n; ++i) part[i] = p[i];
  return load(part);
}
inline void store_part(float* p, Vec a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = a.v[i];
}
inline Vec broadcast(const float* p) {
  return set(*p);
}
inline void pin(Vec&) {
}

inline Vec add(Vec a, Vec b) {
  return {a.v + b.v};
}
inline Vec sub(Vec a, Vec b) {
  return {a.v - b.v};
}
inline Vec mul(Vec a, Vec b) {
  return {a.v * b.v};
}
inline Vec div(Vec a, Vec b) {
  return {a.v / b.v};
}
inline Vec fma(Vec a, Vec b, Vec c) {
#if defined(__FP_FAST_FMAF) || defined(__aarch64__)
  for (int i = 0; i < 4; ++i) c.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
  return c;
#else
  return {a.v * b.v + c.v};  // a library call a lane would cost thirty times as much
#endif
}
inline Vec sqrt(Vec a) {
  for (int i = 0; i < 4; ++i) a.v[i] = __builtin_sqrtf(a.v[i]);
  return a;
}
inline Bits4 bits(Vec a) {
  return reinterpret_cast<Bits4>(a.v);
}
inline Vec from_bits(Bits4 b) {
  return {reinterpret_cast<Float4>(b)};
}
inline Vec neg(Vec a) {
  return from_bits(bits(a) ^ 0x80000000u);
}
inline Vec abs(Vec a) {
  return from_bits(bits(a) & 0x7fffffffu);
}
inline Vec blend(Bits4 mask, Vec x, Vec y) {
  return from_bits((bits(x) & mask) | (bits(y) & ~mask));
}
inline Vec select_less(Vec a, Vec b, Vec x, Vec y) {
  return blend(reinterpret_cast<Bits4>(a.v < b.v), x, y);
}
inline Vec max(Vec a, Vec b) {
  return select_less(b, a, a, b);
}
inline Vec min(Vec a, Vec b) {
  return select_less(a, b, a, b);
}
inline Vec swap_pairs(Vec a) {
  return {Float4{a.v[1], a.v[0], a.v[3], a.v[2]}};
}
// In two steps, the first of which is exact: 2^n itself may be no normal number.
inline Vec scale_pow2(Vec a, Vec n) {
  const Float4 magic = set(12582912.0f).v;  // its last bits take up the whole number
  using Int4 = int32_t __attribute__((vector_size(16)));
  const Int4 whole = reinterpret_cast<Int4>(n.v + magic) - 0x4b400000;
  const Int4 half = whole >> 1;
  const Bits4 first = reinterpret_cast<Bits4>(half + 127) << 23;
  const Bits4 rest = reinterpret_cast<Bits4>(whole - half + 127) << 23;
  return mul(mul(a, from_bits(first)), from_bits(rest));
}
inline Vec low_bits_as_pow2(Vec a) {
  return from_bits(reinterpret_cast<Bits4>(a.v) << 23);
}

inline float sum(Vec a) {
  return (a.v[2] + a.v[0]) + (a.v[3] + a.v[1]);
}
inline float reduce_max(Vec a) {
  float m = -__builtin_inff();
  for (int i = 0; i < 4; ++i) m = a.v[i] > m ? a.v[i] : m;
  return m;
}

// ---- BF16 storage
inline Bits4 round_bf16_bits(Vec a) {  // in the upper halves; the lower ones are zero
  const Bits4 u = bits(a), near = u + 0x7fffu + ((u >> 16) & 1u), quiet = u | 0x400000u;
  return bits(blend(reinterpret_cast<Bits4>(a.v == a.v), from_bits(near), from_bits(quiet))) &
         0xffff0000u;
}
inline Vec load_bf16_part(const uint16_t* p, int64_t n) {
  uint32_t part[4] = {};
  for (int64_t i = 0; i < n; ++i) part[i] = static_cast<uint32_t>(p[i]) << 16;
  Vec a;
  __builtin_memcpy(&a.v, part, sizeof a.v);
  return a;
}
inline void store_bf16_part(uint16_t* p, Vec a, int64_t n) {
  const Bits4 b = round_bf16_bits(a);
  for (int64_t i = 0; i < n; ++i) p[i] = static_cast<uint16_t>(b[i] >> 16);
}
inline Vec load_bf16(const uint16_t* p) {
  return load_bf16_part(p, 4);
}
inline void store_bf16(uint16_t* p, Vec a) {
  store_bf16_part(p, a, 4);
}
inline Vec round_bf16(Vec a) {
  return from_bits(round_bf16_bits(a));
}

// ---- FP16 and E4M3 storage
inline Vec load_fp16_part(const uint16_t* p, int64_t n) {
  float part[4] = {};
  for (int64_t i = 0; i < n; ++i) part[i] = plain_fp16(p[i]);
  return load(part);
}
inline Vec load_fp16(const uint16_t* p) {
  return load_fp16_part(p, 4);
}
inline Vec load_e4m3_part(const uint8_t* p, int64_t n) {
  float part[4] = {};
  for (int64_t i = 0; i < n; ++i) part[i] = plain_e4m3(p[i]);
  return load(part);
}
inline Vec load_e4m3(const uint8_t* p) {
  return load_e4m3_part(p, 4);
}

inline void transpose(Vec (&r)[4]) {
  const Float4 a = r[0].v, b = r[1].v, c = r[2].v, d = r[3].v;
  for (int i = 0; i < 4; ++i) r[i].v = Float4{a[i], b[i], c[i], d[i]};
}

}  // namespace
