// Vec: the float vector of the CPU family this file is being compiled for. Kernel bodies (.inl) are
// written once over it. Included by isa.cpp only.
//
//   set(a) load(p) store(p, v)              p needs no alignment
//   load_part(p, n) store_part(p, v, n)     the first n lanes, 0 <= n <= kLanes; the rest load as 0
//   load_bf16 store_bf16 (..._part)         the same on BF16 storage; stores round to nearest even,
//                                           NaN stays NaN: the bits of core/dtype.h
//   round_bf16(a)                           store_bf16 then load_bf16
//   load_fp16 load_e4m3 (..._part)          exactly; the latter has no NaN and reads it as 480
//   add sub mul div sqrt neg abs
//   fma(a, b, c) = a * b + c                one rounding; two in "scalar" on a CPU without it
//   max(a, b) = a > b ? a : b               so b where either is NaN; min likewise
//   select_less(a, b, x, y)                 a < b ? x : y; y where either is NaN
//   sum(a)                                  upper half + lower half, until one is left
//   reduce_max(a)                           of lanes that are not NaN
//   swap_pairs(a)                           lanes 1 0 3 2 5 4 ...
//   broadcast(p)                            *p in every lane; any bits
//   transpose(r)                            r[i] lane j becomes r[j] lane i, kLanes x kLanes
//   pin(a)                                  keeps a compiler from reloading a at each use
//   scale_pow2(a, n)                        a * 2^n for a in [0.5, 2] and whole |n| <= 250, one
//                                           rounding
//   low_bits_as_pow2(a)                     the float whose bits are those of a, shifted left by 23
//   add_product(c, a, b) vexp(a) exp2_below(a) tanh(a) sigmoid(a)               below
//
// Where HADAL_BF16_DOT is defined, a Vec also carries 16 pairs of BF16 bits, the first in the lower
// half:
//   dot_bf16(acc, a, b)    VDPBF16PS: fma(a1, b1, acc) of the second of each pair, then
//                          fma(a0, b0, that) of the first; denormal operands and results count as 0
//   pack_bf16(a, b)        the pairs (a0 a1) (a2 a3) ... (b0 b1) ..., rounded to nearest even;
//                          denormal floats become 0
//   pair_bf16(a, b)        the pairs (a0 b0) (a1 b1) ..., likewise
//   load_bits(p) load_bits_part(p, n)    32 BF16 numbers as they lie; n counts numbers
//   broadcast_pair(p)      the pair at p in every lane
//   HalfVec                the first half of a Vec: low_half(a) load_half(p) store_half(p, h) add
//                          dot_bf16
#pragma once
#include <cstdint>

#if defined(__AVX512BF16__) || defined(HADAL_EMULATED_BF16)
#define HADAL_BF16_DOT 1
#endif

#if defined(HADAL_EMULATED)
#include "kernels/vec_emulated.h"
#elif defined(__AVX512F__)
#include "kernels/vec_avx512.h"
#elif defined(__AVX2__)
#include "kernels/vec_avx2.h"
#else
#include "kernels/vec_scalar.h"
#endif

namespace {

// c = fma(a, b, c), in c's own register: where a loop's sums take nearly all of sixteen, GCC 12
// lets them wander from one to another until it must spill.
inline void add_product(Vec& c, Vec a, Vec b) {
#if defined(__AVX2__) && !defined(__AVX512F__) && !defined(HADAL_EMULATED)
  asm("vfmadd231ps %2, %1, %0" : "+x"(c.v) : "x"(a.v), "x"(b.v));
#else
  c = fma(a, b, c);
#endif
}

inline Vec round_to_whole(Vec a) {  // nearest even; |a| < 2^22
  const Vec magic = set(12582912.0f);
  return sub(add(a, magic), magic);
}

// e^a within 2 ulp; 0 from -110 down (-inf too), denormals in between, +inf above 88.72, NaN stays.
inline Vec vexp(Vec a) {
  const Vec x = max(set(-110.0f), min(set(89.0f), a));  // a second: NaN passes
  const Vec n = round_to_whole(mul(x, set(1.44269504f)));
  Vec r = fma(n, set(-0.693359375f), x);  // ln 2 in two parts; n times the first is exact
  r = fma(n, set(2.12194440e-4f), r);
  Vec p = set(1.9875691500e-4f);
  p = fma(p, r, set(1.3981999507e-3f));
  p = fma(p, r, set(8.3334519073e-3f));
  p = fma(p, r, set(4.1665795894e-2f));
  p = fma(p, r, set(1.6666665459e-1f));
  p = fma(p, r, set(5.0000001201e-1f));
  p = add(fma(p, mul(r, r), r), set(1.0f));
  return scale_pow2(p, n);
}

// 2^a within 2 ulp for a < 127; 0 from -126.5 down (-inf too), and no denormals; NaN stays.
inline Vec exp2_below(Vec a) {
  const Vec x = max(set(-127.0f), a);
  const Vec magic = set(12582912.0f + 127.0f);
  const Vec t = add(x, magic);  // its low bits: the exponent of the result, biased
  const Vec f = sub(x, sub(t, magic));
  Vec p = set(1.3264727e-3f);
  p = fma(p, f, set(9.671513e-3f));
  p = fma(p, f, set(5.5507336e-2f));
  p = fma(p, f, set(2.4022242e-1f));
  p = fma(p, f, set(6.93147e-1f));
  return mul(fma(p, f, set(1.0f)), low_bits_as_pow2(t));
}

// 1 / (1 + e^-a); 0 below -88.72.
inline Vec sigmoid(Vec a) {
  return div(set(1.0f), add(set(1.0f), vexp(neg(a))));
}

// Within 3 ulp. A polynomial near 0, where the quotient would cancel.
inline Vec tanh(Vec a) {
  const Vec z = mul(a, a);
  Vec p = set(-5.70498872745e-3f);
  p = fma(p, z, set(2.06390887954e-2f));
  p = fma(p, z, set(-5.37397155531e-2f));
  p = fma(p, z, set(1.33314422036e-1f));
  p = fma(p, z, set(-3.33332819422e-1f));
  const Vec near = fma(mul(p, z), a, a);
  const Vec e = vexp(add(abs(a), abs(a)));
  const Vec far = sub(set(1.0f), div(set(2.0f), add(e, set(1.0f))));
  return select_less(abs(a), set(0.625f), near, select_less(a, set(0.0f), neg(far), far));
}

}  // namespace
