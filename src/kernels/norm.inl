// Inner loops of ops/rmsnorm.h and ops/layernorm.h.
namespace {

float rmsnorm_row(const float* x, const float* gain, float eps, float* y, int64_t n) noexcept {
  const float inv_rms = 1.0f / __builtin_sqrtf(dot(x, x, n) / static_cast<float>(n) + eps);
  for_lanes(n, [=](auto at) { at.put(y, mul(at(gain), mul(at(x), set(inv_rms)))); });
  return inv_rms;
}

// dx += r * (gain*dy) - (r^3 / n) * <gain*dy, x> * x and dgain += dy * (x * r), with r = inv_rms.
void rmsnorm_backward_row(const float* dy, const float* x, const float* gain, float r, float* dx,
                          float* dgain, int64_t n) noexcept {
  const float along_x =
      sum_lanes(n, [=](auto at, Vec acc) { return fma(mul(at(gain), at(dy)), at(x), acc); });
  const Vec r_v = set(r), c = set(-r * r * r / static_cast<float>(n) * along_x);
  for_lanes(n, [=](auto at) {
    const Vec x_v = at(x), dy_v = at(dy);
    at.put(dx, add(at(dx), fma(c, x_v, mul(r_v, mul(at(gain), dy_v)))));
    at.put(dgain, fma(dy_v, mul(x_v, r_v), at(dgain)));
  });
}

void layernorm_row(const float* x, const float* gain, const float* bias, float eps, float* y,
                   float* stats, int64_t n) noexcept {
  const auto count = static_cast<float>(n);
  const float mean = sum_lanes(n, [=](auto at, Vec acc) { return add(acc, at(x)); }) / count;
  for_lanes(n, [=](auto at) { at.put(y, sub(at(x), set(mean))); });
  const float inv_std = 1.0f / __builtin_sqrtf(dot(y, y, n) / count + eps);
  for_lanes(n, [=](auto at) { at.put(y, fma(at(gain), mul(at(y), set(inv_std)), at(bias))); });
  stats[0] = mean;
  stats[1] = inv_std;
}

// With h = (x - mean) * inv_std and g = gain * dy:
// dx += inv_std * (g - mean(g) - h * mean(g*h)), dgain += dy * h, dbias += dy.
void layernorm_backward_row(const float* dy, const float* x, const float* gain, const float* stats,
                            float* dx, float* dgain, float* dbias, int64_t n) noexcept {
  const Vec mean = set(stats[0]), inv_std = set(stats[1]);
  const auto count = static_cast<float>(n);
  const float sum_g = sum_lanes(n, [=](auto at, Vec acc) { return fma(at(gain), at(dy), acc); });
  const float sum_gh = sum_lanes(n, [=](auto at, Vec acc) {
    return fma(mul(at(gain), at(dy)), mul(sub(at(x), mean), inv_std), acc);
  });
  const Vec mean_g = set(sum_g / count), mean_gh = set(sum_gh / count);
  for_lanes(n, [=](auto at) {
    const Vec dy_v = at(dy), h = mul(sub(at(x), mean), inv_std);
    const Vec inner = sub(sub(mul(at(gain), dy_v), mean_g), mul(h, mean_gh));
    at.put(dx, fma(inv_std, inner, at(dx)));
    at.put(dgain, fma(dy_v, h, at(dgain)));
    at.put(dbias, add(at(dbias), dy_v));
  });
}

}  // namespace
