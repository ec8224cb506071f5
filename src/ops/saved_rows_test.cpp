#include "ops/saved_rows.h"

#include "tests/support/testing.h"

namespace hadal {
namespace {

constexpr SavedRows::As kAll[] = {SavedRows::As::kFp8, SavedRows::As::kE5m6, SavedRows::As::kBf16};

TEST(SavedRowsTest, OutsideFp8TheyAreTheRowsThemselves) {
  const Matrix x = random_matrix(5, 200, 1);
  for (Precision precision : {Precision::kFp32, Precision::kBf16}) {
    for (SavedRows::As as : kAll) {
      Arena saved, scratch;
      const SavedRows rows(x, as, precision, saved);
      EXPECT_EQ(rows.get(scratch).data(), x.data());
      EXPECT_EQ(rows.bytes(), 0);
      EXPECT_EQ(saved.used() + scratch.used(), 0);
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
