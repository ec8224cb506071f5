#include "ops/cached_row.h"

#include "tests/support/testing.h"

namespace hadal {
namespace {

TEST(CachedRow, TakesTheBytesOfItsParts) {
  EXPECT_EQ((CachedRow{DType::kF32, 7}.bytes()), 28);
  EXPECT_EQ((CachedRow{DType::kBF16, 7}.bytes()), 14);
  EXPECT_EQ((CachedRow{DType::kF8E4M3, 576, 64}.bytes()), 4 * 4 + 64 * 2 + 512);  // DeepSeek-V3
  EXPECT_EQ((CachedRow{DType::kF8E4M3, 130, 0}.bytes()), 2 * 4 + 132);
}

TEST(CachedRow, WhatIsReadIsNearWhatWasWritten) {
  for_each_family([] {
    for (const CachedRow& row : {CachedRow{DType::kF32, 77}, CachedRow{DType::kBF16, 77},
                                 CachedRow{DType::kF8E4M3, 300, 20}, CachedRow{DType::kF8E4M3, 5},
                                 CachedRow{DType::kF8E4M3, 6, 6}}) {
      const Matrix x = random_matrix(1, row.elements, 3);
      Matrix y = filled(1, row.elements, 9);
      const Buffer memory(row.bytes() + 4);
      std::fill_n(memory.data(), row.bytes() + 4, std::byte{0xa5});
      row.write(x.data(), memory.data());
      row.read(memory.data(), y.data());
      EXPECT_EQ(memory.data()[row.bytes()], std::byte{0xa5});
      for (int64_t i = 0; i < row.elements; ++i) {
        const float want = x.data()[i], got = y.data()[i];
        if (row.dtype == DType::kF32) {
          EXPECT_EQ(got, want);
        } else if (row.dtype == DType::kBF16 || i >= row.elements - row.exact) {
          EXPECT_EQ(got, to_float(to_bf16(want))) << i;
        } else {
          EXPECT_NEAR(got, want, std::abs(want) * 0x1.01p-4f + 0x1p-9f) << i;
        }
      }
    }
  });
}

}  // namespace
}  // namespace hadal
