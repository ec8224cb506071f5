#pragma once
#include "quant/formats.h"

namespace hadal {

// Codes of -127 to 127 with a BF16 scale for every 32 of a row: scale = amax / 127, rounded to BF16
// before the codes are chosen, code = nearest of value / scale. Within (1/2 + 2^-8) scale of the
// value. The layout is kernels/panels.h. Codes and scales are the same bits on every machine.
void encode_int8(In2 in, const EncodedOut& out);
void decode_int8(const EncodedIn& in, Out2 out);

}  // namespace hadal
