#pragma once
#include "quant/formats.h"

namespace hadal {

// Codes of -8 to 7 with a BF16 scale of either sign for every 32 of a row. Of a fixed list of
// scales, that with the smallest sum of squared errors is taken; among them the one that maps the
// largest number to -8, as is usual, so that no group is worse than by that rule (but for the
// rounding of a scale to BF16). The layout is kernels/panels.h. Codes and scales are the same bits
// on every machine.
void encode_int4(In2 in, const EncodedOut& out);
void decode_int4(const EncodedIn& in, Out2 out);

}  // namespace hadal
