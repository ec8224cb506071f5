// E4M3 weights as products with rows of x take them: kE4m3Step codes in a row at a time, each code
// decoded once for all rows of x. Included by isa.cpp only.
//
//   E4m3Decoder().decode(p, w)   kE4m3Step codes at any address -> kE4m3Parts Vec of weights; with
//                                dots of BF16 a decoder may have tables of its own, and
//                                decode_in_order(p, w) leaves the numbers in the order of the codes
//   e4m3_place(i)                where number i of a step of x is to be put before
//   e4m3_scale_step(x, a, out)   does a * x for a step put so: kE4m3Parts Vec at `out`
//   e4m3_dot(acc, w, x)          acc + products of a Vec of weights and one of x
//   kE4m3Root                    weights are decoded so much too small, squared: x is multiplied by
//                                it, and so is the result
//
// With dots of BF16, x is rounded to BF16 and codes become BF16 by a table of 128 entries, exactly.
// Elsewhere a code's bits are moved to where a float has them: a number 2^-120 as large, exactly,
// denormal where the code is.
#pragma once
#include <cstdint>

#include "kernels/vec.h"

namespace {

#if defined(HADAL_BF16_DOT)

constexpr int kE4m3Parts = 2;
constexpr int64_t kE4m3Step = 64;
constexpr float kE4m3Root = 1;

// The BF16 bits of a magnitude. Those below 2^-6 one by one: seven of them are denormal codes.
constexpr uint32_t e4m3_as_bf16(uint32_t m) {
  const uint32_t below_4 = m < 2 ? 0x3b00u * m : 0x3b80u + (m - 2) * 0x40u;
  const uint32_t denormal = m < 4 ? below_4 : 0x3c00u + (m - 4) * 0x20u;
  return m < 8 ? denormal : 0x3c00u + (m << 4);
}
struct E4m3Tables {
  alignas(64) uint8_t low[128], high[128];
};
constexpr E4m3Tables make_e4m3_tables() {
  E4m3Tables t{};
  for (uint32_t m = 0; m < 128; ++m) {
    t.low[m] = static_cast<uint8_t>(e4m3_as_bf16(m) & 0xffu);
    t.high[m] = static_cast<uint8_t>(e4m3_as_bf16(m) >> 8);
  }
  return t;
}
constexpr E4m3Tables kE4m3Tables = make_e4m3_tables();

// Groups of eight: 0 2 4 6 are the first Vec, 1 3 5 7 the second.
constexpr int64_t e4m3_place(int64_t i) {
  return i / 8 % 2 * 32 + i / 16 * 8 + i % 8;
}
inline void e4m3_scale_step(const float* x, Vec a, float* out) {
  for (int64_t i = 0; i < kE4m3Parts; ++i, x += 2 * Vec::kLanes) {
    const Vec first = mul(a, load(x)), second = mul(a, load(x + Vec::kLanes));
    store(out + i * Vec::kLanes, pack_bf16(first, second));
  }
}
inline Vec e4m3_dot(Vec acc, Vec w, Vec x) {
  return dot_bf16(acc, w, x);
}

class E4m3Decoder {
 public:
#if defined(HADAL_EMULATED)
  explicit E4m3Decoder(const E4m3Tables& tables = kE4m3Tables) : tables_(tables) {
  }
  void decode(const uint8_t* p, Vec (&w)[kE4m3Parts]) const {
    uint16_t numbers[kE4m3Step];
    for (int64_t i = 0; i < kE4m3Step; ++i) numbers[e4m3_place(i)] = number(p[i]);
    w[0] = load_bits(numbers);
    w[1] = load_bits(numbers + 32);
  }
  void decode_in_order(const uint8_t* p, Vec (&w)[kE4m3Parts]) const {
    uint16_t numbers[kE4m3Step];
    for (int64_t i = 0; i < kE4m3Step; ++i) numbers[i] = number(p[i]);
    w[0] = load_bits(numbers);
    w[1] = load_bits(numbers + 32);
  }

 private:
  uint16_t number(uint32_t code) const {
    const uint32_t m = code & 0x7fu, sign = (code & 0x80u) << 8;
    const uint32_t magnitude = static_cast<uint32_t>(tables_.high[m]) << 8 | tables_.low[m];
    return static_cast<uint16_t>(sign ^ magnitude);
  }
  const E4m3Tables& tables_;
#else
  explicit E4m3Decoder(const E4m3Tables& tables = kE4m3Tables)
      : low_{_mm512_load_si512(tables.low), _mm512_load_si512(tables.low + 64)},
        high_{_mm512_load_si512(tables.high), _mm512_load_si512(tables.high + 64)} {
  }
  void decode(const uint8_t* p, Vec (&w)[kE4m3Parts]) const {
    look_up(_mm512_loadu_si512(p), w);
  }
  void decode_in_order(const uint8_t* p, Vec (&w)[kE4m3Parts]) const {
    const __m512i groups = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0);
    look_up(_mm512_permutexvar_epi64(groups, _mm512_loadu_si512(p)), w);
  }

 private:
  void look_up(__m512i codes, Vec (&w)[kE4m3Parts]) const {
    asm("" : "+v"(codes));  // or GCC loads them three times
    const __m512i low = _mm512_permutex2var_epi8(low_[0], codes, low_[1]);
    const __m512i magnitude = _mm512_permutex2var_epi8(high_[0], codes, high_[1]);
    // magnitude ^ (codes & sign)
    const __m512i high = _mm512_ternarylogic_epi32(magnitude, codes, _mm512_set1_epi8(-128), 0x78);
    w[0].v = _mm512_castsi512_ps(_mm512_unpacklo_epi8(low, high));
    w[1].v = _mm512_castsi512_ps(_mm512_unpackhi_epi8(low, high));
  }

  __m512i low_[2], high_[2];
#endif
};

#else

constexpr int kE4m3Parts = 4;
constexpr int64_t kE4m3Step = 4 * Vec::kLanes;
constexpr float kE4m3Root = 0x1p60f;
constexpr int32_t kE4m3Bits = static_cast<int32_t>(0x87f087f0u);  // of two in their halves

// A 32-bit lane holds four codes that follow each other; part b is byte b of all lanes.
constexpr int64_t e4m3_place(int64_t i) {
  return i % 4 * Vec::kLanes + i / 4;
}
inline void e4m3_scale_step(const float* x, Vec a, float* out) {
  for (int64_t i = 0; i < kE4m3Step; i += Vec::kLanes) store(out + i, mul(a, load(x + i)));
}
inline Vec e4m3_dot(Vec acc, Vec w, Vec x) {
  return fma(w, x, acc);
}

class E4m3Decoder {
 public:
#if !defined(HADAL_EMULATED) && defined(__AVX512F__)
  void decode(const uint8_t* p, Vec (&w)[kE4m3Parts]) const {
    const __m512i both = _mm512_set1_epi32(kE4m3Bits);
    const __m512i upper = _mm512_set1_epi32(-65536);
    const __m512i codes = _mm512_loadu_si512(p);
    const __m512i odd = _mm512_and_si512(_mm512_srai_epi16(codes, 4), both);
    const __m512i even = _mm512_and_si512(_mm512_srai_epi16(_mm512_slli_epi16(codes, 8), 4), both);
    w[0].v = _mm512_castsi512_ps(_mm512_slli_epi32(even, 16));
    w[1].v = _mm512_castsi512_ps(_mm512_slli_epi32(odd, 16));
    w[2].v = _mm512_castsi512_ps(_mm512_and_si512(even, upper));
    w[3].v = _mm512_castsi512_ps(_mm512_and_si512(odd, upper));
  }
#elif !defined(HADAL_EMULATED) && defined(__AVX2__)
  void decode(const uint8_t* p, Vec (&w)[kE4m3Parts]) const {
    const __m256i both = _mm256_set1_epi32(kE4m3Bits);
    const __m256i upper = _mm256_set1_epi32(-65536);
    const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    const __m256i odd = _mm256_and_si256(_mm256_srai_epi16(codes, 4), both);
    const __m256i even = _mm256_and_si256(_mm256_srai_epi16(_mm256_slli_epi16(codes, 8), 4), both);
    w[0].v = _mm256_castsi256_ps(_mm256_slli_epi32(even, 16));
    w[1].v = _mm256_castsi256_ps(_mm256_slli_epi32(odd, 16));
    w[2].v = _mm256_castsi256_ps(_mm256_and_si256(even, upper));
    w[3].v = _mm256_castsi256_ps(_mm256_and_si256(odd, upper));
  }
#else
  void decode(const uint8_t* p, Vec (&w)[kE4m3Parts]) const {
    for (int b = 0; b < kE4m3Parts; ++b) {
      uint32_t lanes[Vec::kLanes];
      for (int64_t i = 0; i < Vec::kLanes; ++i) {
        const uint32_t code = p[4 * i + b];
        lanes[i] = (code & 0x80u) << 24 | (code & 0x7fu) << 20;
      }
      float numbers[Vec::kLanes];
      __builtin_memcpy(numbers, lanes, sizeof lanes);
      w[b] = load(numbers);
    }
  }
#endif
};

#endif

}  // namespace
