// Vec of the AVX-512 families in plain C++, with the semantics Intel documents, so that 512-bit
// bodies are tested on any machine. Checked against vectors recorded on hardware. See vec.h.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/plain_floats.h"

// A function each, not loops over lanes spread over every kernel: a fifth of the time to compile.
#define HADAL_OP [[gnu::noinline]] inline

namespace {

struct Vec {
  static constexpr int64_t kLanes = 16;
  float v[16];
};

template <class Fn>
inline Vec each_lane(Fn fn) {
  Vec r;
  for (int i = 0; i < 16; ++i) r.v[i] = fn(i);
  return r;
}
inline uint32_t bits(float a) {
  return __builtin_bit_cast(uint32_t, a);
}
inline float from_bits(uint32_t b) {
  return __builtin_bit_cast(float, b);
}

HADAL_OP Vec set(float a) {
  return each_lane([&](int) { return a; });
}
HADAL_OP Vec load(const float* p) {
  return each_lane([&](int i) { return p[i]; });
}
HADAL_OP void store(float* p, Vec a) {
  for (int i = 0; i < 16; ++i) p[i] = a.v[i];
}
HADAL_OP Vec load_part(const float* p, int64_t n) {
  return each_lane([&](int i) { return i < n ? p[i] : 0.0f; });
}
HADAL_OP void store_part(float* p, Vec a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = a.v[i];
}
HADAL_OP Vec broadcast(const float* p) {
  return set(*p);
}
inline void pin(Vec&) {
}

HADAL_OP Vec add(Vec a, Vec b) {
  return each_lane([&](int i) { return a.v[i] + b.v[i]; });
}
HADAL_OP Vec sub(Vec a, Vec b) {
  return each_lane([&](int i) { return a.v[i] - b.v[i]; });
}
HADAL_OP Vec mul(Vec a, Vec b) {
  return each_lane([&](int i) { return a.v[i] * b.v[i]; });
}
HADAL_OP Vec div(Vec a, Vec b) {
  return each_lane([&](int i) { return a.v[i] / b.v[i]; });
}
HADAL_OP Vec fma(Vec a, Vec b, Vec c) {
  return each_lane([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
}
HADAL_OP Vec sqrt(Vec a) {
  return each_lane([&](int i) { return __builtin_sqrtf(a.v[i]); });
}
HADAL_OP Vec neg(Vec a) {
  return each_lane([&](int i) { return from_bits(bits(a.v[i]) ^ 0x80000000u); });
}
HADAL_OP Vec abs(Vec a) {
  return each_lane([&](int i) { return from_bits(bits(a.v[i]) & 0x7fffffffu); });
}
HADAL_OP Vec max(Vec a, Vec b) {
  return each_lane([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
}
HADAL_OP Vec min(Vec a, Vec b) {
  return each_lane([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
}
HADAL_OP Vec select_less(Vec a, Vec b, Vec x, Vec y) {
  return each_lane([&](int i) { return a.v[i] < b.v[i] ? x.v[i] : y.v[i]; });
}
HADAL_OP Vec swap_pairs(Vec a) {
  return each_lane([&](int i) { return a.v[i ^ 1]; });
}
HADAL_OP Vec scale_pow2(Vec a, Vec n) {
  return each_lane([&](int i) {
    return n.v[i] == n.v[i] ? __builtin_ldexpf(a.v[i], static_cast<int>(n.v[i])) : n.v[i];
  });
}
HADAL_OP Vec low_bits_as_pow2(Vec a) {
  return each_lane([&](int i) { return from_bits(bits(a.v[i]) << 23); });
}

inline float sum(Vec a) {
  for (int half = 8; half > 0; half /= 2) {
    for (int i = 0; i < half; ++i) a.v[i] = a.v[i + half] + a.v[i];
  }
  return a.v[0];
}
inline float reduce_max(Vec a) {
  float m = -__builtin_inff();
  for (float x : a.v) m = x > m ? x : m;
  return m;
}

// ---- BF16 storage
inline uint16_t narrow_bf16(float a) {
  const uint32_t u = bits(a);
  const bool nan = (u & 0x7fffffffu) > 0x7f800000u;
  return static_cast<uint16_t>((nan ? u | 0x400000u : u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
inline float widen_bf16(uint16_t h) {
  return from_bits(static_cast<uint32_t>(h) << 16);
}
HADAL_OP Vec load_bf16_part(const uint16_t* p, int64_t n) {
  return each_lane([&](int i) { return i < n ? widen_bf16(p[i]) : 0.0f; });
}
HADAL_OP void store_bf16_part(uint16_t* p, Vec a, int64_t n) {
  for (int64_t i = 0; i < n; ++i) p[i] = narrow_bf16(a.v[i]);
}
HADAL_OP Vec load_bf16(const uint16_t* p) {
  return load_bf16_part(p, 16);
}
HADAL_OP void store_bf16(uint16_t* p, Vec a) {
  store_bf16_part(p, a, 16);
}
HADAL_OP Vec round_bf16(Vec a) {
  return each_lane([&](int i) { return widen_bf16(narrow_bf16(a.v[i])); });
}

// ---- FP16 and E4M3 storage
HADAL_OP Vec load_fp16_part(const uint16_t* p, int64_t n) {
  return each_lane([&](int i) { return i < n ? plain_fp16(p[i]) : 0.0f; });
}
HADAL_OP Vec load_fp16(const uint16_t* p) {
  return load_fp16_part(p, 16);
}
HADAL_OP Vec load_e4m3_part(const uint8_t* p, int64_t n) {
  return each_lane([&](int i) { return i < n ? plain_e4m3(p[i]) : 0.0f; });
}
HADAL_OP Vec load_e4m3(const uint8_t* p) {
  return load_e4m3_part(p, 16);
}

#if defined(HADAL_BF16_DOT)
inline float flush(float a) {  // denormals count as 0, whatever MXCSR says
  return (bits(a) & 0x7f800000u) == 0 ? from_bits(bits(a) & 0x80000000u) : a;
}
HADAL_OP Vec dot_bf16(Vec acc, Vec a, Vec b) {
  return each_lane([&](int i) {
    const uint32_t x = bits(a.v[i]), y = bits(b.v[i]);
    const float x0 = flush(from_bits(x << 16)), x1 = flush(from_bits(x & 0xffff0000u));
    const float y0 = flush(from_bits(y << 16)), y1 = flush(from_bits(y & 0xffff0000u));
    const float second = flush(__builtin_fmaf(x1, y1, flush(acc.v[i])));
    return flush(__builtin_fmaf(x0, y0, second));
  });
}
inline float bf16_pair(float a, float b) {
  const uint32_t low = narrow_bf16(flush(a)), high = narrow_bf16(flush(b));
  return from_bits(low | high << 16);
}
HADAL_OP Vec pack_bf16(Vec a, Vec b) {
  return each_lane([&](int i) {
    const int64_t first = int64_t{2} * i;
    const float* from = i < 8 ? a.v + first : b.v + (first - 16);
    return bf16_pair(from[0], from[1]);
  });
}
HADAL_OP Vec pair_bf16(Vec a, Vec b) {
  return each_lane([&](int i) { return bf16_pair(a.v[i], b.v[i]); });
}
HADAL_OP Vec load_bits(const uint16_t* p) {
  Vec a;
  __builtin_memcpy(a.v, p, sizeof a.v);
  return a;
}
HADAL_OP Vec load_bits_part(const uint16_t* p, int64_t n) {
  Vec a = set(0);
  __builtin_memcpy(a.v, p, static_cast<size_t>(2 * n));
  return a;
}
HADAL_OP Vec broadcast_pair(const uint16_t* p) {
  float pair;
  __builtin_memcpy(&pair, p, sizeof pair);
  return set(pair);
}
struct HalfVec {
  Vec v;  // whose upper half is 0
};
HADAL_OP HalfVec low_half(Vec a) {
  return {each_lane([&](int i) { return i < 8 ? a.v[i] : 0.0f; })};
}
HADAL_OP HalfVec load_half(const float* p) {
  return {load_part(p, 8)};
}
HADAL_OP void store_half(float* p, HalfVec a) {
  store_part(p, a.v, 8);
}
HADAL_OP HalfVec add(HalfVec a, HalfVec b) {
  return {add(a.v, b.v)};
}
HADAL_OP HalfVec dot_bf16(HalfVec acc, HalfVec a, HalfVec b) {
  return {dot_bf16(acc.v, a.v, b.v)};
}
#endif

HADAL_OP void transpose(Vec (&r)[16]) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < i; ++j) {
      const float t = r[i].v[j];
      r[i].v[j] = r[j].v[i];
      r[j].v[i] = t;
    }
  }
}

}  // namespace
