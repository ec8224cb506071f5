#include "ops/saved_rows.h"

#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr SavedRows::As kAll[] = {SavedRows::As::kFp8, SavedRows::As::kE5m6, SavedRows::As::kBf16};

TEST(SavedRowsTest, InFp32TheyAreTheRowsThemselves) {
  const Matrix x = random_matrix(5, 200, 1);
  for (SavedRows::As as : kAll) {
    Arena saved, scratch;
    const SavedRows rows(x, as, Precision::kFp32, saved);
    EXPECT_EQ(rows.get(scratch).data(), x.data());
    EXPECT_EQ(rows.get(2, 4, {}).data(), x.row(2));
    EXPECT_EQ(rows.operand().data, x.data());
    EXPECT_EQ(rows.operand(scratch).data, x.data());
    EXPECT_EQ(rows.bytes(), 0);
    EXPECT_EQ(saved.used() + scratch.used(), 0);
  }
}

TEST(SavedRowsTest, InBf16TheyAreRoundedWhateverTheyAre) {
  const Matrix x = random_matrix(5, 200, 1);
  for (SavedRows::As as : kAll) {
    Arena saved, scratch;
    const SavedRows rows(5, 200, as, Precision::kBf16, saved);
    rows.keep(0, In2(x).rows(0, 3));  // in parts, as experts do
    rows.keep(3, In2(x).rows(3, 5));
    EXPECT_EQ(rows.bytes(), 5 * 200 * 2);
    EXPECT_EQ(rows.operand().dtype, DType::kBF16);
    EXPECT_EQ(rows.operand(scratch).data, rows.operand().data);  // read as it is
    EXPECT_EQ(scratch.used(), 0);
    Matrix part = filled(2, 200, 0);
    const In2 all = rows.get(scratch), some = rows.get(2, 4, part);
    for (int64_t t = 0; t < 5; ++t) {
      for (int64_t c = 0; c < 200; ++c) {
        const float want = to_float(to_bf16(x.row(t)[c]));
        ASSERT_EQ(all.row(t)[c], want);
        if (t == 2 || t == 3) {
          ASSERT_EQ(some.row(t - 2)[c], want);
        }
      }
    }
  }
}

// Relative error of the largest and bytes of 7 rows of 300 numbers: tiles of 128, 128 and 44.
TEST(SavedRowsTest, InFp8TheyAreSmallCopies) {
  const int64_t scales = 7 * 3 * 4;
  const struct {
    SavedRows::As as;
    double error;
    int64_t bytes;
  } kinds[] = {{SavedRows::As::kFp8, 0x1p-4, 7 * 300 + scales},
               {SavedRows::As::kE5m6, 0x1p-7, 7 * 450 + scales},
               {SavedRows::As::kBf16, 0x1p-8, 7 * 600}};
  for (const auto& kind : kinds) {
    const Matrix wide = random_matrix(7, 310, 2);
    const Matrix x = clone(In2(wide).cols(4, 304));
    Arena saved, scratch;
    SavedRows rows(In2(wide).cols(4, 304), kind.as, Precision::kFp8, saved);
    for (int64_t i = 0; i < wide.size(); ++i) wide.data()[i] = 0;  // it was a copy
    EXPECT_EQ(rows.bytes(), kind.bytes);
    EXPECT_GE(saved.used(), kind.bytes);
    EXPECT_LE(saved.used(), kind.bytes + 2 * 64);
    const In2 back = rows.get(scratch);
    double worst = 0;
    for (int64_t t = 0; t < 7; ++t) {
      for (int64_t c = 0; c < 300; ++c) {
        worst = std::max(worst, double(std::abs(back.row(t)[c] - x.row(t)[c])) /
                                    (double(std::abs(x.row(t)[c])) + 0.01));
      }
    }
    EXPECT_LE(worst, kind.error);
    EXPECT_GE(worst, kind.error / 4);
  }
}

TEST(SavedRowsTest, NoRows) {
  for (SavedRows::As as : kAll) {
    Arena saved, scratch;
    EXPECT_EQ(SavedRows(In2(nullptr, {0, 30}), as, Precision::kFp8, saved).get(scratch).dim(0), 0);
  }
}

}  // namespace
}  // namespace hadal
