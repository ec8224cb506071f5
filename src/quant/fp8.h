#pragma once
#include "quant/formats.h"

namespace hadal {

// FP8 weights as DeepSeek-V3 publishes them (V3 report, 3.3.2): E4M3 codes with one FP32 scale for
// each block of 128 x 128, which multiplies: value = code * weight_scale_inv.

inline constexpr BlockShape kFp8Block{kFp8BlockRows, kFp8BlockCols};
inline constexpr float kE4m3Max = 448;

// out[r, c] = float(code[r, c]) * scale[r / block.rows, c / block.cols], one float product.
// in: codes [R, C], scales [ceil(R / block.rows), ceil(C / block.cols)]; out [R, C].
void decode_fp8(const EncodedIn& in, Out2 out);

struct Fp8Encoding {
  // Scales rounded up to a power of two (`scale_fmt: ue8m0` of V3.1).
  bool ue8m0 = false;
  // The largest magnitude of a block is taken as at least this (1e-4 for activations). Blocks of
  // zeros alone have scale 1 when it is 0.
  float min_amax = 0;
};
// Every block: scale = amax / 448, code = nearest E4M3 of value / scale. The same bits for any
// number of threads. Error{kFormat} names the position of a NaN or infinity.
void encode_fp8(In2 in, const EncodedOut& out, const Fp8Encoding& how = {});

}  // namespace hadal
