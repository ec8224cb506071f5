// Inner loops of ops/rope.h: `heads` heads, `stride` numbers apart, turned by the same angles; back
// with direction -1. Plain loops: the compiler shuffles the pairs as well as we could, and without
// fused operations every family gives the same bits.
namespace {

void rope_adjacent(float* x, const float* cos, const float* sin, float direction, int64_t pairs,
                   int64_t heads, int64_t stride) noexcept {
  for (int64_t h = 0; h < heads; ++h, x += stride) {
    for (int64_t i = 0; i < pairs; ++i) {
      const float a = x[2 * i], b = x[2 * i + 1], s = direction * sin[i];
      x[2 * i] = a * cos[i] - b * s;
      x[2 * i + 1] = b * cos[i] + a * s;
    }
  }
}

void rope_halves(float* x, const float* cos, const float* sin, float direction, int64_t pairs,
                 int64_t heads, int64_t stride) noexcept {
  for (int64_t h = 0; h < heads; ++h, x += stride) {
    for_lanes(pairs, [=](auto at) {
      const Vec a = at(x), b = at(x + pairs), c = at(cos), s = mul(set(direction), at(sin));
      at.put(x, sub(mul(a, c), mul(b, s)));
      at.put(x + pairs, add(mul(b, c), mul(a, s)));
    });
  }
}

}  // namespace
