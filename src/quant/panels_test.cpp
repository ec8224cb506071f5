// int8 and int4: codes, scales and their places, against the rules in double precision.
#include "quant/panels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/support/testing.h"

namespace hadal {
namespace {

std::vector<std::byte> encoded(const Format& f, In2 x) {
  std::vector<std::byte> bytes(static_cast<size_t>(code_bytes(f, x.dim(0), x.dim(1))));
  f.encode(x, {bytes.data(), {}, f.block});
  return bytes;
}

Matrix decoded(const Format& f, const std::vector<std::byte>& bytes, int64_t rows, int64_t cols) {
  Matrix out({rows, cols});
  f.decode({bytes.data(), {}, f.block}, out);
  return out;
}

// The layout of kernels/panels.h, read number by number.
struct Place {
  double scale;
  int code;
};
Place place(const Format& f, const std::vector<std::byte>& bytes, int64_t cols, int64_t r,
            int64_t c) {
  const auto* block =
      bytes.data() + (r / 16 * ((cols + 31) / 32) + c / 32) * static_cast<int64_t>(f.block_bytes);
  const int64_t i = r % 16, k = c % 32;
  uint16_t bits = 0;
  std::memcpy(&bits, block + 2 * i, 2);
  const double scale = to_float(bf16{bits});
  if (f.name == "int8") return {scale, int(int8_t(block[32 + 64 * (k / 4) + 4 * i + k % 4]))};
  const int both = int(block[32 + 64 * (k / 8) + 4 * i + k % 4]);
  return {scale, (k % 8 < 4 ? both & 15 : both >> 4) - 8};
}

constexpr const char* kNames[] = {"int8", "int4"};

TEST(Panels, decode_is_code_times_scale_wherever_the_edges_are) {
  for (const char* name : kNames) {
    const Format& f = find_format(name);
    for (const auto& [rows, cols] :
         {std::pair<int64_t, int64_t>{1, 1}, {16, 32}, {17, 33}, {15, 31}, {40, 100}, {3, 576}}) {
      SCOPED_TRACE(str(name, " ", rows, " x ", cols));
      const Matrix x = random_matrix(rows, cols, 3, 0.02);
      const auto bytes = encoded(f, x);
      const Matrix y = decoded(f, bytes, rows, cols);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t c = 0; c < cols; ++c) {
          const Place p = place(f, bytes, cols, r, c);
          ASSERT_EQ(double(y.row(r)[c]), p.scale * p.code) << r << ", " << c;
        }
      }
      for (int64_t r = rows; r < (rows + 15) / 16 * 16; ++r) {
        for (int64_t c = 0; c < (cols + 31) / 32 * 32; ++c) {
          ASSERT_EQ(place(f, bytes, cols, r, c).code, 0);
        }
      }
    }
  }
}

TEST(Int8, scales_and_codes_follow_the_rule) {
  const Format& f = find_format("int8");
  const Matrix x = random_matrix(33, 96, 4, 3);
  const auto bytes = encoded(f, x);
  for (int64_t r = 0; r < 33; ++r) {
    for (int64_t left = 0; left < 96; left += 32) {
      float amax = 0;
      for (int64_t c = left; c < left + 32; ++c) amax = std::max(amax, std::abs(x.row(r)[c]));
      const double scale = place(f, bytes, 96, r, left).scale;
      EXPECT_NEAR(scale, double(amax) / 127, 0x1p-8 * double(amax) / 127);
      for (int64_t c = left; c < left + 32; ++c) {
        const int code = place(f, bytes, 96, r, c).code;
        EXPECT_LE(std::abs(code), 127);
        EXPECT_LE(std::abs(double(x.row(r)[c]) - code * scale), (0.5 + 0x1p-8) * scale);
      }
    }
  }
}

// The usual rule, in double: the largest number becomes -8.
double usual_error(const float* x) {
  double largest = 0, error = 0;
  for (int c = 0; c < 32; ++c) {
    if (std::abs(double(x[c])) > std::abs(largest)) largest = x[c];
  }
  const double scale = largest / -8;
  for (int c = 0; c < 32 && scale != 0; ++c) {
    const double code = std::min(15.0, std::floor(double(x[c]) / scale + 8.5)) - 8;
    error += (double(x[c]) - code * scale) * (double(x[c]) - code * scale);
  }
  return error;
}

TEST(Int4, no_group_is_worse_than_by_the_usual_rule) {
  const Format& f = find_format("int4");
  const Matrix x = random_matrix(64, 512, 5, 0.03);
  const Matrix y = decoded(f, encoded(f, x), 64, 512);
  double all = 0, usual = 0;
  for (int64_t r = 0; r < 64; ++r) {
    for (int64_t left = 0; left < 512; left += 32) {
      double error = 0;
      for (int64_t c = left; c < left + 32; ++c) {
        error += std::pow(double(x.row(r)[c]) - double(y.row(r)[c]), 2);
      }
      const double bound = usual_error(x.row(r) + left);
      EXPECT_LE(error, 1.02 * bound) << r << ", " << left;  // scales are BF16
      all += error;
      usual += bound;
    }
  }
  EXPECT_LT(all, 0.9 * usual);
}

TEST(Panels, numbers_of_any_size_come_back_within_half_a_step) {
  for (const char* name : kNames) {
    const Format& f = find_format(name);
    for (const double size : {1e-35, 1e-30, 1e-5, 1.0, 1e20, 1e38}) {
      Matrix x({1, 32});
      for (int64_t c = 0; c < 32; ++c) x.data()[c] = float(size * (double(c) - 16) / 16);
      const Matrix y = decoded(f, encoded(f, x), 1, 32);
      for (int64_t c = 0; c < 32; ++c) {
        EXPECT_NEAR(y.data()[c], x.data()[c], size * (f.name == "int8" ? 0.6 / 127 : 0.13)) << size;
      }
    }
    const Matrix zeros = filled(2, 40, -0.0f);
    EXPECT_TRUE(same_bits(decoded(f, encoded(f, zeros), 2, 40), filled(2, 40, 0)));
  }
}

TEST(Panels, refuse_what_is_not_finite) {
  for (const char* name : kNames) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      Matrix x = random_matrix(20, 70, 6);
      x.row(18)[69] = bad;
      EXPECT_ERROR(encoded(find_format(name), x), kFormat, str(name, ": number [18, 69] is "));
    }
  }
}

// The bits of the formats: a change of them would make files that are already written another
// model.
TEST(Panels, bits_stay_what_they_are) {
  const auto hash = [](const std::vector<std::byte>& bytes) {
    uint64_t h = 1469598103934665603u;
    for (const std::byte b : bytes) h = (h ^ std::to_integer<uint64_t>(b)) * 1099511628211u;
    return h;
  };
  Matrix x({17, 50});
  for (int64_t i = 0; i < x.size(); ++i) x.data()[i] = float((i * 7919) % 2003 - 1001) / 1024;
  EXPECT_EQ(hash(encoded(find_format("int8"), x)), 17026349623561100706u);
  EXPECT_EQ(hash(encoded(find_format("int4"), x)), 5340473220714752024u);
}

}  // namespace
}  // namespace hadal
