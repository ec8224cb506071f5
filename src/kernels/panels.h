#pragma once
#include <cstdint>

namespace hadal {

// How int8 and int4 weights lie in memory and on disk (docs/decisions/0010-int8-int4.md): a matrix
// [N, K] is ceil(N / 16) panels of 16 rows, a panel is ceil(K / 32) blocks, one after the other. A
// block is 16 scales, BF16, one a row; then lines of 64 bytes, in which row i has bytes 4 i to 4 i
// + 3:
//   int8  8 lines; byte 4 i + j of line q: the code of column 4 q + j, -127 .. 127
//   int4  4 lines; byte 4 i + j of line q: column 8 q + j in the lower half, 8 q + 4 + j in the
//         upper, each the code -8 .. 7 plus 8
// number = code * scale. Rows and columns beyond the matrix are zeros.
inline constexpr int64_t kPanelRows = 16, kPanelCols = 32, kPanelLine = 64;
inline constexpr int64_t kPanelScaleBytes = 2 * kPanelRows;
inline constexpr int64_t kInt8BlockBytes = kPanelScaleBytes + 8 * kPanelLine;
inline constexpr int64_t kInt4BlockBytes = kPanelScaleBytes + 4 * kPanelLine;

}  // namespace hadal
