#include "ops/cached_row.h"

#include <cstring>

#include "kernels/kernels.h"

namespace hadal {
namespace {

constexpr int64_t kScaledCodes = 128;

// Of an FP8 row.
struct Parts {
  int64_t codes, scales;            // how many
  int64_t exact_at, codes_at, end;  // bytes

  explicit Parts(const CachedRow& row)
      : codes(row.elements - row.exact),
        scales((codes + kScaledCodes - 1) / kScaledCodes),
        exact_at(scales * int64_t{sizeof(float)}),
        codes_at(exact_at + row.exact * int64_t{sizeof(bf16)}),
        end((codes_at + codes + 3) / 4 * 4) {}
};

}  // namespace

int64_t CachedRow::bytes() const {
  return dtype == DType::kF8E4M3 ? Parts(*this).end : elements * dtype_size(dtype);
}

void CachedRow::write(const float* x, std::byte* to) const {
  const Kernels& kernel = kernels();
  const auto bits = [](std::byte* p) { return reinterpret_cast<uint16_t*>(p); };
  if (dtype == DType::kF32) {
    std::memcpy(to, x, static_cast<size_t>(elements) * sizeof(float));
  } else if (dtype == DType::kBF16) {
    kernel.to_bf16_row(x, bits(to), elements);
  } else {
    const Parts parts(*this);
    kernel.fp8_encode_row(x, parts.codes, reinterpret_cast<uint8_t*>(to + parts.codes_at),
                          reinterpret_cast<float*>(to));
    kernel.to_bf16_row(x + parts.codes, bits(to + parts.exact_at), exact);
  }
}

void CachedRow::read(const std::byte* from, float* x) const {
  const Kernels& kernel = kernels();
  const auto bits = [](const std::byte* p) { return reinterpret_cast<const uint16_t*>(p); };
  if (dtype == DType::kF32) {
    std::memcpy(x, from, static_cast<size_t>(elements) * sizeof(float));
  } else if (dtype == DType::kBF16) {
    kernel.from_bf16_row(bits(from), x, elements);
  } else {
    const Parts parts(*this);
    kernel.fp8_decode_row(reinterpret_cast<const uint8_t*>(from + parts.codes_at),
                          reinterpret_cast<const float*>(from), parts.codes, x);
    kernel.from_bf16_row(bits(from + parts.exact_at), x + parts.codes, exact);
  }
}

}  // namespace hadal
