#pragma once
#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace hadal {

// How a cache holds what one layer remembers of one token: F32; BF16, rounded to nearest even; or
// F8E4M3 codes with a scale for every 128 numbers (V3 report, sec. 3.3.2) but for the last `exact`
// numbers, which stay BF16: rotated keys, few beside the latent and all that tells positions apart.
// In memory an FP8 row is its scales, then the exact numbers, then the codes, in whole floats.
struct CachedRow {
  DType dtype = DType::kF32;
  int64_t elements = 0;
  int64_t exact = 0;

  int64_t bytes() const;
  // A row at an address that is a multiple of four; x has `elements` numbers.
  void write(const float* x, std::byte* to) const;
  void read(const std::byte* from, float* x) const;
};

}  // namespace hadal
