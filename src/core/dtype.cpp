#include "core/dtype.h"

#include <array>
#include <cmath>

#include "core/error.h"

namespace hadal {
namespace {

struct DTypeRow {
  DType dtype;
  std::string_view name;
  int64_t size;
};

constexpr std::array kDTypes{
    DTypeRow{DType::kF32, "F32", 4},        DTypeRow{DType::kBF16, "BF16", 2},
    DTypeRow{DType::kF16, "F16", 2},        DTypeRow{DType::kF8E4M3, "F8_E4M3", 1},
    DTypeRow{DType::kF8E8M0, "F8_E8M0", 1}, DTypeRow{DType::kF64, "F64", 8},
    DTypeRow{DType::kI64, "I64", 8},        DTypeRow{DType::kI32, "I32", 4},
    DTypeRow{DType::kI16, "I16", 2},        DTypeRow{DType::kI8, "I8", 1},
    DTypeRow{DType::kU8, "U8", 1},          DTypeRow{DType::kBool, "BOOL", 1},
};

const DTypeRow& row(DType dtype) {
  for (const DTypeRow& r : kDTypes) {
    if (r.dtype == dtype) return r;
  }
  throw Error(ErrorKind::kInternal, str("dtype ", static_cast<int>(dtype), " is not in the table"));
}

}  // namespace

int64_t dtype_size(DType dtype) {
  return row(dtype).size;
}

std::string_view dtype_name(DType dtype) {
  return row(dtype).name;
}

DType parse_dtype(std::string_view name) {
  std::string known;
  for (const DTypeRow& r : kDTypes) {
    if (r.name == name) return r.dtype;
    known += (known.empty() ? "" : ", ") + std::string(r.name);
  }
  throw Error(ErrorKind::kFormat, str("dtype \"", name, "\" is unknown; expected one of ", known));
}

float to_float(fp16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fu;
  const uint32_t mantissa = x.bits & 0x3ffu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return sign != 0 ? -magnitude : magnitude;
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

fp16 to_fp16(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint16_t>((u >> 16) & 0x8000u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00u)};
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00u)};  // >= 65520
  if (magnitude < 0x38800000u) {  // below 2^-14: count units of 2^-24, ties to even
    const float units = std::nearbyint(std::ldexp(std::bit_cast<float>(magnitude), 24));
    return {static_cast<uint16_t>(sign | static_cast<uint16_t>(units))};
  }
  const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return {static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
}

float to_float(e4m3 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x80u) << 24;
  const uint32_t exponent = (x.bits >> 3) & 0xfu;
  const uint32_t mantissa = x.bits & 7u;
  if (exponent == 15 && mantissa == 7) return std::bit_cast<float>(sign | 0x7fc00000u);
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-9f;
    return sign != 0 ? -magnitude : magnitude;
  }
  return std::bit_cast<float>(sign | ((exponent + 120) << 23) | (mantissa << 20));
}

float to_float(e8m0 x) {
  if (x.bits == 0xff) return std::bit_cast<float>(0x7fc00000u);
  if (x.bits == 0) return 0x1p-127f;  // below the normal floats
  return std::bit_cast<float>(static_cast<uint32_t>(x.bits) << 23);
}

e4m3 to_e4m3(float x) {
  const uint32_t u = std::bit_cast<uint32_t>(x);
  const auto sign = static_cast<uint8_t>((u >> 24) & 0x80u);
  const uint32_t magnitude = u & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint8_t>(sign | 0x7fu)};
  if (magnitude >= 0x43e00000u) return {static_cast<uint8_t>(sign | 0x7eu)};  // >= 448
  if (magnitude < 0x3c800000u) {  // below 2^-6: count units of 2^-9, ties to even
    const float units = std::nearbyint(std::ldexp(std::bit_cast<float>(magnitude), 9));
    return {static_cast<uint8_t>(sign | static_cast<uint8_t>(units))};
  }
  const uint32_t rounded = magnitude + 0x7ffffu + ((magnitude >> 20) & 1u);
  const uint32_t code = (rounded - 0x3c000000u) >> 20;
  return {static_cast<uint8_t>(sign | (code > 0x7eu ? 0x7eu : code))};
}

}  // namespace hadal
