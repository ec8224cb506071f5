// Packing of E4M3 weights for gemm.inl: what pack_k_contiguous makes of the numbers code * scale,
// rounded to FP32, bit for bit, without their ever lying in memory.
namespace {

// Units from n <= kLanes * unit_size codes of one tile; n is that many where kFull.
template <Packing M, bool kFull>
inline Vec code_units(const uint8_t* p, Vec scale, [[maybe_unused]] int64_t n) {
  const auto numbers = [&](int64_t at) {
    if (kFull) return mul(load_e4m3(p + at), scale);
    const int64_t left = n - at;
    return left <= 0 ? set(0) : mul(load_e4m3_part(p + at, at_most(left, Vec::kLanes)), scale);
  };
#if defined(HADAL_BF16_DOT)
  if constexpr (M == Packing::kPairs) return pack_bf16(numbers(0), numbers(Vec::kLanes));
#endif
  return M == Packing::kRounded ? round_bf16(numbers(0)) : numbers(0);
}

template <int P, Packing M>
void pack_codes(const PackBlock& b, float* out) noexcept {
  constexpr int kLanes = Vec::kLanes, kLive = P < kLanes ? P : kLanes;
  constexpr int64_t kElements = kLanes * unit_size(M), kTileK = 128;
  const hadal::TileScales& scales = b.from->scales;
  const int64_t units = unit_count(M, b.k_size);
  for (int64_t l = 0; l < b.lanes; l += kLive) {
    float* panel = out + l / P * P * units + l % P;
    const int64_t live = at_most(kLive, b.lanes - l);
    const uint8_t* source[kLive];
    const float* scale[kLive];
    for (int64_t i = 0; i < live; ++i) {
      const int64_t lane = b.lane + l + i;
      source[i] = static_cast<const uint8_t*>(b.from->data) + lane * b.from->stride + b.k;
      scale[i] = scales.data + (scales.first_lane + lane) / scales.lanes * scales.lane_stride;
    }
    for (int64_t u = 0; u < units; u += kLanes) {
      const int64_t k = u * unit_size(M), left = b.k_size - k;
      const int64_t tile = (b.k + k) / kTileK * scales.k_stride;
      Vec r[kLanes];
      if (live == kLive && left >= kElements) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) {
          r[i] = i < kLive ? code_units<M, true>(source[i] + k, set(scale[i][tile]), 0) : set(0);
        }
      } else {
        for (int64_t i = 0; i < kLanes; ++i) {
          r[i] = i < live && left > 0
                     ? code_units<M, false>(source[i] + k, set(scale[i][tile]), left)
                     : set(0);
        }
      }
      transpose(r);
      float* to = panel + u * P;
      if (units - u >= kLanes) {
#pragma GCC unroll 16
        for (int64_t i = 0; i < kLanes; ++i) store(to + i * P, r[i]);
      } else {
        for (int64_t i = 0; i < units - u; ++i) store(to + i * P, r[i]);
      }
    }
    // A panel's missing right half, when it is wider than a Vec.
    for (int64_t h = l % P + kLanes; l + kLive >= b.lanes && h < P; h += kLanes) {
      float* zeros = out + l / P * P * units + h;
      for (int64_t u = 0; u < units; ++u) store(zeros + u * P, set(0));
    }
  }
}

}  // namespace
