// Products with int8 and int4 weights: the same bits in every family, as the contract writes them.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "core/dtype.h"
#include "core/rng.h"
#include "kernels/panels.h"
#include "kernels/testing.h"

namespace hadal {
namespace {

struct Rows {
  int64_t per_row;
  std::vector<CodedGroup> groups;

  Rows(const Kernels& table, const std::vector<float>& x, int64_t rows, int64_t k)
      : per_row((k + 31) / 32), groups(size_t(rows * per_row)) {
    for (int64_t r = 0; r < rows; ++r) {
      table.code_row(x.data() + r * k, k, groups.data() + r * per_row);
    }
  }
  int code(int64_t j) const { return groups[size_t(j / 32)].codes[j % 32]; }
};

std::vector<float> normal(int64_t n, uint64_t stream) {
  Rng rng(11, stream);
  std::vector<float> x(static_cast<size_t>(n));
  for (float& v : x) v = float(rng.normal());
  return x;
}

TEST(CodeRow, every_family_gives_the_same_bits) {
  for (const int64_t n : {1, 31, 32, 33, 64, 100, 576}) {
    std::vector<float> x = normal(n, 1);
    if (n > 64) std::fill(x.begin() + 32, x.begin() + 64, 0.0f);
    const Rows want(kScalarKernels, x, 1, n);
    for (int64_t g = 0; g < want.per_row; ++g) {
      float amax = 0;
      for (int64_t j = 32 * g; j < std::min(n, 32 * g + 32); ++j) {
        amax = std::max(amax, std::abs(x[size_t(j)]));
      }
      EXPECT_EQ(want.groups[size_t(g)].scale, amax / 127);
      for (int64_t j = 32 * g; j < std::min(n, 32 * g + 32); ++j) {
        const float code = amax == 0 ? 0 : std::nearbyint(x[size_t(j)] * (127 / amax));
        EXPECT_EQ(float(want.code(j)), code);
      }
    }
    for_each_tested_family([&](const Kernels& table, bool) {
      const Rows got(table, x, 1, n);
      for (size_t g = 0; g < want.groups.size(); ++g) {
        const CodedGroup &a = got.groups[g], &b = want.groups[g];
        EXPECT_EQ(a.scale, b.scale);
        EXPECT_EQ(a.minus, b.minus);
        EXPECT_EQ(a.minus, -std::accumulate(a.codes, a.codes + 32, 0));
        EXPECT_EQ(std::memcmp(a.codes, b.codes, sizeof a.codes), 0);
      }
    });
  }
}

TEST(CodeRow, what_is_not_finite_stays_visible_and_tiny_numbers_become_zeros) {
  for_each_tested_family([&](const Kernels& table, bool) {
    for (const float bad : {NAN, INFINITY, -INFINITY}) {
      std::vector<float> x = normal(70, 2);
      x[69] = bad;
      const Rows rows(table, x, 1, 70);
      EXPECT_FALSE(std::isnan(rows.groups[0].scale));
      EXPECT_TRUE(std::isnan(rows.groups[2].scale));
    }
    const Rows tiny(table, std::vector<float>(32, 1e-37f), 1, 32);
    EXPECT_EQ(tiny.groups[0].scale, 0);
    EXPECT_EQ(tiny.groups[0].minus, 0);
  });
}

struct Weights {
  int64_t n, k, block_bytes;
  std::vector<uint8_t> bytes;

  Weights(int64_t rows, int64_t cols, int64_t block) : n(rows), k(cols), block_bytes(block) {
    Rng rng(5, uint64_t(rows));
    bytes.resize(size_t((n + 15) / 16 * ((k + 31) / 32) * block));
    for (uint8_t& b : bytes) {
      b = uint8_t(rng.next_u64());
      if (b == 0x80) b = 0x81;
    }
    for (size_t at = 0; at < bytes.size(); at += size_t(block)) {
      for (size_t i = 0; i < 16; ++i) {
        const bf16 scale = to_bf16(float(rng.normal()));
        std::memcpy(bytes.data() + at + 2 * i, &scale, 2);
      }
    }
  }
  // The contract of panel.inl, in single precision, one number at a time.
  float times(const Rows& x, int64_t r, int64_t i) const {
    float y = 0;
    for (int64_t g = 0; g < x.per_row; ++g) {
      const uint8_t* block = bytes.data() + (i / 16 * x.per_row + g) * block_bytes;
      bf16 scale;
      std::memcpy(&scale, block + 2 * (i % 16), 2);
      int32_t total = 0;
      for (int64_t c = 0; c < 32; ++c) {
        const uint8_t* lines = block + 32 + 4 * (i % 16) + c % 4;
        const int code = block_bytes == kInt8BlockBytes ? int(int8_t(lines[64 * (c / 4)]))
                         : c % 8 < 4                    ? (lines[64 * (c / 8)] & 15) - 8
                                                        : (lines[64 * (c / 8)] >> 4) - 8;
        total += code * x.code((r * x.per_row + g) * 32 + c);
      }
      const float both = to_float(scale) * x.groups[size_t(r * x.per_row + g)].scale;
      y = y + float(total) * both;
    }
    return y;
  }
};

TEST(PanelProduct, every_family_gives_the_bits_of_the_contract) {
  for (const int64_t block : {kInt8BlockBytes, kInt4BlockBytes}) {
    for (const auto& size :
         {std::pair<int64_t, int64_t>{1, 1}, {16, 32}, {100, 67}, {7, 320}, {33, 96}, {40, 1111}}) {
      const int64_t n = size.first, k = size.second;
      const Weights w(n, k, block);
      for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 8, 9, 19}) {
        const std::vector<float> x = normal(rows * k, 4);
        const Rows coded(kScalarKernels, x, rows, k);
        std::vector<int32_t> order;
        for (int64_t r = 0; r < rows; ++r) order.push_back(int32_t(rows - 1 - r));
        for_each_tested_family([&](const Kernels& table, bool) {
          for (const bool listed : {false, true}) {
            std::vector<float> y(size_t(rows * (n + 3)), -5);
            PanelProduct p{w.bytes.data(), block, n, k};
            p.x = {coded.groups.data(), listed ? order.data() : nullptr};
            p.count = rows;
            p.y = y.data();
            p.y_stride = n + 3;
            table.panel_product(p);
            for (int64_t r = 0; r < rows; ++r) {
              for (int64_t i = 0; i < n + 3; ++i) {
                const float want = i < n ? w.times(coded, listed ? rows - 1 - r : r, i) : -5;
                ASSERT_EQ(y[size_t(r * (n + 3) + i)], want)
                    << n << " x " << k << ", row " << r << " of " << rows << ", " << i;
              }
            }
          }
        });
      }
    }
  }
}

}  // namespace
}  // namespace hadal
