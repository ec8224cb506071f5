#include "core/dtype.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/rng.h"
#include "tests/support/testing.h"

namespace hadal {
namespace {

// A binary floating-point code by its definition, in double.
double value_of(uint32_t code, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const uint32_t mantissa = code & ((1u << mantissa_bits) - 1);
  const uint32_t exponent = (code >> mantissa_bits) & ((1u << exponent_bits) - 1);
  const double sign = (code >> (mantissa_bits + exponent_bits)) != 0 ? -1 : 1;
  const double fraction = std::ldexp(double(mantissa), -mantissa_bits);
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias);
  return sign * std::ldexp(1 + fraction, int(exponent) - bias);
}

// The largest float below x, and the smallest above it.
float below(float x) {
  return std::nextafter(x, -std::numeric_limits<float>::infinity());
}
float above(float x) {
  return std::nextafter(x, std::numeric_limits<float>::infinity());
}

// Between each pair of neighbouring codes 0, 1, ... last: what is nearer to one goes there, the
// middle goes to the even one. `middle` is exact in float for all formats here.
template <class Encode>
void check_rounding(uint32_t last, int exponent_bits, int mantissa_bits, uint32_t sign_bit,
                    Encode encode) {
  for (uint32_t code = 0; code < last; ++code) {
    const double low = value_of(code, exponent_bits, mantissa_bits);
    const double high = value_of(code + 1, exponent_bits, mantissa_bits);
    const auto middle = float((low + high) / 2);
    ASSERT_EQ(double(middle), (low + high) / 2);
    const uint32_t even = code % 2 == 0 ? code : code + 1;
    ASSERT_EQ(encode(float(low)), code);
    ASSERT_EQ(encode(below(middle)), code);
    ASSERT_EQ(encode(middle), even) << middle;
    ASSERT_EQ(encode(above(middle)), code + 1);
    ASSERT_EQ(encode(-middle), sign_bit | even);
    ASSERT_EQ(encode(-below(middle)), sign_bit | code);
  }
}

TEST(DType, table_round_trips_names_and_knows_sizes) {
  const std::vector<std::pair<std::string_view, int64_t>> known{
      {"F32", 4}, {"BF16", 2}, {"F16", 2}, {"F8_E4M3", 1}, {"F8_E8M0", 1}, {"F64", 8},
      {"I64", 8}, {"I32", 4},  {"I16", 2}, {"I8", 1},      {"U8", 1},      {"BOOL", 1}};
  for (const auto& [name, size] : known) {
    EXPECT_EQ(dtype_name(parse_dtype(name)), name);
    EXPECT_EQ(dtype_size(parse_dtype(name)), size) << name;
  }
  EXPECT_ERROR(parse_dtype("F4"), kFormat, "dtype \"F4\" is unknown; expected one of F32, BF16");
  EXPECT_ERROR(parse_dtype(""), kFormat, "is unknown");
  EXPECT_ERROR(parse_dtype("f32"), kFormat, "is unknown");
  EXPECT_ERROR(dtype_size(static_cast<DType>(99)), kInternal, "99");
}

TEST(Fp16, all_65536_codes_mean_what_the_standard_says) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const float got = to_float(fp16{uint16_t(code)});
    const bool negative = (code & 0x8000u) != 0;
    if ((code & 0x7c00u) == 0x7c00u) {
      if ((code & 0x3ffu) == 0) {
        ASSERT_EQ(got, negative ? -INFINITY : INFINITY);
      } else {
        ASSERT_TRUE(std::isnan(got));
        ASSERT_TRUE(std::isnan(to_float(to_fp16(got))));
      }
    } else {
      ASSERT_EQ(double(got), value_of(code, 5, 10));
      ASSERT_EQ(to_fp16(got).bits, code);
    }
    ASSERT_EQ(std::signbit(got), negative);
  }
}

TEST(Fp16, rounds_to_nearest_even_and_overflows_to_infinity) {
  check_rounding(0x7bff, 5, 10, 0x8000, [](float x) { return uint32_t(to_fp16(x).bits); });
  EXPECT_EQ(to_fp16(65504.f).bits, 0x7bff);
  EXPECT_EQ(to_fp16(below(65520.f)).bits, 0x7bff);
  EXPECT_EQ(to_fp16(65520.f).bits, 0x7c00);  // the middle between 65504 and 65536, which is even
  EXPECT_EQ(to_fp16(-1e30f).bits, 0xfc00);
  EXPECT_EQ(to_fp16(INFINITY).bits, 0x7c00);
  EXPECT_EQ(to_fp16(-0.f).bits, 0x8000);
  EXPECT_EQ(to_fp16(-1e-30f).bits, 0x8000);
}

TEST(Bf16, all_65536_codes_mean_the_upper_half_of_a_float) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const float got = to_float(bf16{uint16_t(code)});
    if ((code & 0x7f80u) == 0x7f80u) {
      ASSERT_EQ(std::isnan(got), (code & 0x7fu) != 0);
      if (std::isnan(got)) {
        ASSERT_TRUE(std::isnan(to_float(to_bf16(got))));
        continue;
      }
    } else {
      ASSERT_EQ(double(got), value_of(code, 8, 7));
    }
    ASSERT_EQ(to_bf16(got).bits, code);
  }
}

TEST(Bf16, rounds_to_nearest_even_and_overflows_to_infinity) {
  check_rounding(0x7f7f, 8, 7, 0x8000, [](float x) { return uint32_t(to_bf16(x).bits); });
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_EQ(to_bf16(-INFINITY).bits, 0xff80);
  EXPECT_EQ(to_bf16(-0.f).bits, 0x8000);
}

TEST(Bf16, a_nan_whose_payload_is_cut_off_stays_a_nan) {
  for (uint32_t bits : {0x7f800001u, 0xff800001u, 0x7fffffffu, 0x7f80ffffu, 0x7fc00000u}) {
    EXPECT_TRUE(std::isnan(to_float(to_bf16(std::bit_cast<float>(bits))))) << bits;
  }
}

TEST(E4m3, all_256_codes_mean_what_the_ocp_paper_says) {
  for (uint32_t code = 0; code < 256; ++code) {
    const float got = to_float(e4m3{uint8_t(code)});
    ASSERT_EQ(std::signbit(got), code >= 128);
    if ((code & 0x7fu) == 0x7fu) {
      ASSERT_TRUE(std::isnan(got));
      ASSERT_EQ(to_e4m3(got).bits, code);
    } else {
      ASSERT_EQ(double(got), value_of(code, 4, 3));
      ASSERT_EQ(to_e4m3(got).bits, code);
      ASSERT_EQ(to_float(to_bf16(got)), got) << "every E4M3 number is exact in BF16";
    }
  }
  EXPECT_EQ(to_float(e4m3{0x7e}), 448.f);
  EXPECT_EQ(to_float(e4m3{0x01}), 0x1p-9f);
}

TEST(E4m3, rounds_to_nearest_even_and_saturates) {
  check_rounding(0x7e, 4, 3, 0x80, [](float x) { return uint32_t(to_e4m3(x).bits); });
  for (float x : {448.f, 449.f, 464.f, 480.f, 1e30f, INFINITY}) {
    EXPECT_EQ(to_e4m3(x).bits, 0x7e) << x;
    EXPECT_EQ(to_e4m3(-x).bits, 0xfe) << x;
  }
  EXPECT_EQ(to_e4m3(-0.f).bits, 0x80);
  EXPECT_EQ(to_e4m3(0x1p-10f).bits, 0) << "the middle between 0 and the smallest number";
  EXPECT_EQ(to_e4m3(above(0x1p-10f)).bits, 1);
}

TEST(E8m0, is_a_power_of_two) {
  for (int bits = 0; bits < 0xff; ++bits) {
    EXPECT_EQ(to_float(e8m0{uint8_t(bits)}), std::ldexp(1.0, bits - 127)) << bits;
  }
  EXPECT_TRUE(std::isnan(to_float(e8m0{0xff})));
}

// The nearest of all codes by search, against the arithmetic of the conversions.
TEST(E4m3, random_floats_go_to_the_nearest_code) {
  Rng rng(7);
  for (int i = 0; i < 20000; ++i) {
    const auto x = float(std::ldexp(rng.normal(), int(rng.below(24)) - 14));
    double best = INFINITY;
    for (uint32_t code = 0; code < 0x7f; ++code) {
      best = std::min(best, std::abs(std::abs(double(x)) - value_of(code, 4, 3)));
    }
    const double got = to_float(to_e4m3(x));
    ASSERT_EQ(std::abs(got - double(x)), best) << x;
  }
}

}  // namespace
}  // namespace hadal
