#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/dtype.h"
#include "core/tensor.h"

namespace hadal {

// One scale for each block of rows x cols numbers; blocks at the right and lower edge may be
// partial, so the scales of a [R, C] matrix are [ceil(R/rows), ceil(C/cols)]. {0, 0}: no scales.
struct BlockShape {
  int64_t rows = 0;
  int64_t cols = 0;
  bool operator==(const BlockShape&) const = default;
};
inline int64_t blocks(int64_t n, int64_t block) {
  return block == 0 ? 0 : n / block + (n % block != 0 ? 1 : 0);
}

// A matrix as stored: codes row-major and dense, scales as above (empty when block is {0, 0}); or
// blocks that hold both (Format::block_bytes), no scales then.
template <class Byte, class Scales>
struct EncodedMatrix {
  Byte* codes = nullptr;
  Scales scales;
  BlockShape block;
};
using EncodedIn = EncodedMatrix<const std::byte, In2>;
using EncodedOut = EncodedMatrix<std::byte, Out2>;

// A number format: how a matrix is stored and what it means. Decoding is exact by definition: one
// float a number, the product code * scale rounded once. NaN and infinite codes are decoded as
// such; whoever reads a file refuses them.
struct Format {
  std::string_view name;  // "fp32", "bf16", "fp16", "fp8", "int8", "int4"
  DType dtype;            // of the codes; U8 where a block holds codes and scales
  BlockShape block;       // the usual one
  double bits_per_weight;
  // codes and scales -> out [R, C]. Split over threads by rows; any alignment of codes.
  void (*decode)(const EncodedIn& in, Out2 out);
  // in [R, C] -> codes and scales. Rounds to nearest even. Error{kFormat} for NaN or infinity
  // where the format cannot hold it.
  void (*encode)(In2 in, const EncodedOut& out);
  // Of a block that holds its codes and scales together (kernels/panels.h); 0: they lie apart.
  int64_t block_bytes = 0;
};
// Of the codes, or of the blocks that hold all, of a matrix [rows, cols].
int64_t code_bytes(const Format& format, int64_t rows, int64_t cols);
// Of FP32 scales that lie apart.
int64_t scale_bytes(const Format& format, int64_t rows, int64_t cols);

// The one table of formats.
std::span<const Format> formats();
// By name: Error{kUsage} names the known ones. By the dtype of the codes and the bytes of blocks
// that hold all: null when there is none.
const Format& find_format(std::string_view name);
const Format* format_of(DType dtype, int64_t block_bytes = 0);

}  // namespace hadal
