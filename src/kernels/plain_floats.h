// Small floats without vector instructions, for families that have none for them. Exact.
#pragma once
#include <cstdint>

namespace {

// The bits of a small float moved to where a float has them are its value, denormals included, but
// for the difference of the exponents' offsets.
inline float plain_fp16(uint16_t h) {
  const uint32_t bits = (h & 0x8000u) << 16 | (h & 0x7fffu) << 13;
  if ((h & 0x7c00u) == 0x7c00u) {  // infinity, or NaN, which is quiet then
    const uint32_t quiet = (h & 0x3ffu) != 0 ? 0x400000u : 0u;
    return __builtin_bit_cast(float, bits | 0x7f800000u | quiet);
  }
  return __builtin_bit_cast(float, bits) * 0x1p112f;
}
// NaN is read as 480: who reads files refuses it.
inline float plain_e4m3(uint8_t code) {
  const uint32_t bits = (code & 0x80u) << 24 | (code & 0x7fu) << 20;
  return __builtin_bit_cast(float, bits) * 0x1p120f;
}

}  // namespace
