#pragma once
#include <bit>
#include <cstdint>
#include <string_view>

namespace hadal {

// Storage types of numbers, named as safetensors names them.
enum class DType : uint8_t {
  kF32,
  kBF16,
  kF16,
  kF8E4M3,
  kF64,
  kI64,
  kI32,
  kI16,
  kI8,
  kU8,
  kBool,
  kF8E8M0,  // of scales only
};

// Bytes of one element.
int64_t dtype_size(DType dtype);
// "F32", "BF16", "F16", "F8_E4M3", ... and back; the latter throws Error{kFormat} naming the text.
std::string_view dtype_name(DType dtype);
DType parse_dtype(std::string_view name);

// Storage-only 16- and 8-bit floats. Arithmetic happens in float; the conversions are exact
// upwards and round to nearest even downwards.
struct bf16 {
  uint16_t bits = 0;
};
struct fp16 {
  uint16_t bits = 0;
};
struct e4m3 {  // OCP E4M3FN: no infinities, NaN 0x7f / 0xff, largest 448
  uint8_t bits = 0;
};
struct e8m0 {  // OCP E8M0, of scales: 2^(bits - 127), NaN 0xff; neither zero nor a sign
  uint8_t bits = 0;
};

inline float to_float(bf16 x) {
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 16);
}
inline bf16 to_bf16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u)
    return {static_cast<uint16_t>((u >> 16) | 0x40u)};  // quiet NaN
  return {static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}
float to_float(fp16 x);
fp16 to_fp16(float x);  // overflows to infinity, as IEEE 754 says
float to_float(e4m3 x);
float to_float(e8m0 x);
e4m3 to_e4m3(float x);  // saturates at 448; NaN stays NaN

}  // namespace hadal
