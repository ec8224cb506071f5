#include "quant/fp8.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/testing.h"

namespace hadal {
namespace {

// A value's definition, in double: exact, to be rounded once.
double e4m3_value(int code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
  return (code & 128) != 0 ? -magnitude : magnitude;
}

struct Encoded {
  std::vector<std::byte> codes;
  Matrix scales;
  BlockShape block;

  Encoded(int64_t rows, int64_t cols, BlockShape b)
      : codes(static_cast<size_t>(rows * cols)),
        scales({blocks(rows, b.rows), blocks(cols, b.cols)}),
        block(b) {}
  EncodedIn in() const { return {codes.data(), scales, block}; }
  EncodedOut out() { return {codes.data(), scales, block}; }
  int code(int64_t index) const { return std::to_integer<int>(codes[static_cast<size_t>(index)]); }
};

Encoded encode(const Matrix& x, BlockShape block, const Fp8Encoding& how = {}) {
  Encoded e(x.dim(0), x.dim(1), block);
  encode_fp8(x, e.out(), how);
  return e;
}

TEST(DecodeFp8, is_the_product_of_code_and_scale_rounded_once) {
  // Edges inside, at and beyond blocks; as [576, 7168] has a last block of 64 rows.
  for (const auto& [rows, cols] :
       std::vector<std::pair<int64_t, int64_t>>{{1, 1}, {128, 128}, {129, 127}, {192, 300}}) {
    Encoded e(rows, cols, kFp8Block);
    Rng rng(1);
    for (std::byte& code : e.codes) {
      do code = static_cast<std::byte>(rng.below(256));
      while ((std::to_integer<int>(code) & 127) == 127);
    }
    for (int64_t i = 0; i < e.scales.size(); ++i) {
      e.scales.data()[i] = float(std::exp(4 * rng.normal()));
    }
    Matrix out({rows, cols});
    decode_fp8(e.in(), out);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t c = 0; c < cols; ++c) {
        const double scale = e.scales.row(r / 128)[c / 128];
        ASSERT_EQ(out.row(r)[c], float(e4m3_value(e.code(r * cols + c)) * scale)) << r << "," << c;
      }
    }
  }
}

TEST(DecodeFp8, every_code_and_other_blocks) {
  Encoded e(16, 16, {4, 8});
  for (int i = 0; i < 256; ++i) e.codes[size_t(i)] = static_cast<std::byte>(i);
  for (int64_t i = 0; i < e.scales.size(); ++i) e.scales.data()[i] = float(i + 1) * 0.3f;
  Matrix out({16, 16});
  decode_fp8(e.in(), out);
  for (int i = 0; i < 256; ++i) {
    const float got = out.data()[i];
    const double scale = e.scales.row(i / 16 / 4)[i % 16 / 8];
    if ((i & 127) == 127) {
      EXPECT_TRUE(std::isnan(got)) << "codes 7f and ff";
    } else {
      EXPECT_EQ(got, float(e4m3_value(i) * scale));
    }
  }
}

TEST(DecodeFp8, writes_into_a_window) {
  Encoded e(3, 5, kFp8Block);
  for (std::byte& code : e.codes) code = std::byte{0x38};  // 1
  e.scales.data()[0] = 2.5f;
  Matrix out = filled(4, 9, -1);
  decode_fp8(e.in(), Out2(out).rows(1, 4).cols(2, 7));
  for (int64_t r = 0; r < 4; ++r) {
    for (int64_t c = 0; c < 9; ++c) {
      EXPECT_EQ(out.row(r)[c], r >= 1 && c >= 2 && c < 7 ? 2.5f : -1.f);
    }
  }
}

TEST(EncodeFp8, scales_are_the_largest_magnitude_over_448) {
  Matrix x = random_matrix(130, 260, 1, 3);
  x.row(129)[259] = -70;
  const Encoded e = encode(x, kFp8Block);
  for (int64_t down = 0; down < 2; ++down) {
    for (int64_t across = 0; across < 3; ++across) {
      float amax = 0;
      for (int64_t r = down * 128; r < std::min<int64_t>(130, down * 128 + 128); ++r) {
        for (int64_t c = across * 128; c < std::min<int64_t>(260, across * 128 + 128); ++c) {
          amax = std::max(amax, std::abs(x.row(r)[c]));
        }
      }
      EXPECT_EQ(e.scales.row(down)[across], amax / 448.f);
    }
  }
  EXPECT_EQ(e.scales.row(1)[2], 70 / 448.f);
  EXPECT_EQ(e.code(129 * 260 + 259), 0xfe) << "the largest has the largest code";
}

TEST(EncodeFp8, decoding_gives_the_nearest_number_of_the_block) {
  const Matrix x = random_matrix(140, 150, 2);
  const Encoded e = encode(x, kFp8Block);
  Matrix y({140, 150});
  decode_fp8(e.in(), y);
  for (int64_t r = 0; r < 140; ++r) {
    for (int64_t c = 0; c < 150; ++c) {
      const double scale = e.scales.row(r / 128)[c / 128], value = x.row(r)[c];
      // Half a unit in the last place of 3 mantissa bits, or of the smallest step.
      const double bound = std::max(std::abs(value) / 16, scale * 0x1p-10) * 1.000001;
      ASSERT_LE(std::abs(y.row(r)[c] - value), bound);
    }
  }
  // What is representable comes back as it was.
  const Encoded again = encode(y, kFp8Block);
  Matrix z({140, 150});
  decode_fp8(again.in(), z);
  EXPECT_TRUE(same_bits(y, z));
}

TEST(EncodeFp8, ue8m0_rounds_scales_up_to_powers_of_two) {
  for (const auto& [amax, scale] : std::vector<std::pair<float, float>>{{448, 1},
                                                                        {449, 2},
                                                                        {896, 2},
                                                                        {447, 1},
                                                                        {225, 1},
                                                                        {224, 0.5},
                                                                        {1, 1.f / 256},
                                                                        {1e-3f, 0x1p-18f}}) {
    Matrix x({1, 2});
    x.data()[1] = -amax;
    EXPECT_EQ(encode(x, kFp8Block, {.ue8m0 = true}).scales.data()[0], scale) << amax;
  }
}

TEST(EncodeFp8, zeros_and_tiny_numbers_have_usable_scales) {
  Matrix zeros({2, 2});
  EXPECT_EQ(encode(zeros, kFp8Block).scales.data()[0], 1.f);
  EXPECT_EQ(encode(zeros, kFp8Block, {.min_amax = 1e-4f}).scales.data()[0], 1e-4f / 448);
  Matrix x = filled(1, 1, 1e-6f);
  EXPECT_EQ(encode(x, kFp8Block, {.min_amax = 1e-4f}).scales.data()[0], 1e-4f / 448);
  for (float tiny : {1e-45f, 1e-40f, 1e-37f}) {  // amax / 448 is subnormal or zero
    x = filled(1, 1, tiny);
    for (bool ue8m0 : {false, true}) {
      const Encoded e = encode(x, kFp8Block, {.ue8m0 = ue8m0});
      EXPECT_EQ(e.scales.data()[0], std::numeric_limits<float>::min());
      EXPECT_NE(e.code(0) & 127, 127);
    }
  }
  x = filled(1, 1, std::numeric_limits<float>::max());
  const Encoded e = encode(x, kFp8Block);
  EXPECT_EQ(e.code(0), 0x7e);
}

TEST(EncodeFp8, nan_and_infinity_are_refused_where_they_are) {
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    Matrix x = random_matrix(130, 130, 3);
    x.row(129)[128] = bad;
    EXPECT_ERROR(encode(x, kFp8Block), kFormat, str("number [129, 128] is ", bad, ", expected"));
  }
}

TEST(Fp8, scales_of_the_wrong_shape_are_refused) {
  Encoded right(130, 128, kFp8Block);
  Matrix x({130, 128});
  EXPECT_EQ(right.scales.dim(0), 2);
  const EncodedOut bad{right.codes.data(), Out2(right.scales).rows(0, 1), kFp8Block};
  EXPECT_ERROR(encode_fp8(x, bad), kShape,
               "scales [1, 1] for a matrix [130, 128] in blocks of 128 x 128, expected [2, 1]");
  EXPECT_ERROR(decode_fp8({right.codes.data(), bad.scales, kFp8Block}, x), kShape,
               "expected [2, 1]");
  EXPECT_ERROR(decode_fp8({right.codes.data(), right.scales, {0, 128}}, x), kShape,
               "blocks of 0 x 128");
}

TEST(Fp8, any_number_of_threads_gives_the_same_bits) {
  const Matrix x = random_matrix(700, 300, 4);
  std::vector<Matrix> decoded;
  std::vector<Encoded> encoded;
  for (int64_t threads : {1, 3}) {
    const ScopedThreads scope(threads);
    encoded.push_back(encode(x, kFp8Block));
    decoded.emplace_back(std::array<int64_t, 2>{700, 300});
    decode_fp8(encoded.back().in(), decoded.back());
  }
  EXPECT_EQ(encoded[0].codes, encoded[1].codes);
  EXPECT_TRUE(same_bits(encoded[0].scales, encoded[1].scales));
  EXPECT_TRUE(same_bits(decoded[0], decoded[1]));
}

}  // namespace
}  // namespace hadal
