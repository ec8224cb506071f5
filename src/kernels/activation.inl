// Inner loops of ops/activation.h.
namespace {

void swiglu_row(const float* gate, const float* up, float* y, int64_t n) noexcept {
  for_lanes(n, [=](auto at) {
    const Vec g = at(gate);
    at.put(y, mul(mul(g, sigmoid(g)), at(up)));
  });
}

// silu'(z) = s (1 + z (1 - s)), s = sigmoid(z).
float swiglu_backward_row(const float* dy, float weight, const float* gate, const float* up,
                          float* y, float* dgate, float* dup, int64_t n) noexcept {
  const Vec one = set(1.0f), weight_v = set(weight);
  return sum_lanes(n, [=](auto at, Vec acc) {
    const Vec g = at(gate), u = at(up), s = sigmoid(g), silu = mul(g, s), dy_v = at(dy);
    const Vec slope = mul(s, fma(g, sub(one, s), one));
    const Vec product = mul(silu, u), d = mul(weight_v, dy_v);
    at.put(y, mul(weight_v, product));
    at.put(dgate, mul(mul(d, u), slope));
    at.put(dup, mul(d, silu));
    return fma(dy_v, product, acc);
  });
}

constexpr float kGeluScale = 0.7978845608f;  // sqrt(2 / pi)
constexpr float kGeluCubic = 0.044715f;

void gelu_row(const float* x, float* y, int64_t n) noexcept {
  for_lanes(n, [=](auto at) {
    const Vec x_v = at(x), scaled = mul(set(kGeluScale), x_v);
    const Vec t = tanh(fma(mul(set(kGeluCubic), scaled), mul(x_v, x_v), scaled));
    at.put(y, mul(mul(set(0.5f), x_v), add(set(1.0f), t)));
  });
}

// y' = (1 + t) / 2 + x/2 (1 - t^2) u', u = sqrt(2/pi) (x + a x^3), t = tanh(u).
void gelu_backward_row(const float* dy, const float* x, float* dx, int64_t n) noexcept {
  const Vec one = set(1.0f), half = set(0.5f);
  for_lanes(n, [=](auto at) {
    const Vec x_v = at(x), scaled = mul(set(kGeluScale), x_v), square = mul(x_v, x_v);
    const Vec t = tanh(fma(mul(set(kGeluCubic), scaled), square, scaled));
    const Vec du = mul(set(kGeluScale), fma(set(3 * kGeluCubic), square, one));
    const Vec bend = mul(mul(mul(half, x_v), sub(one, mul(t, t))), du);
    at.put(dx, fma(at(dy), fma(half, add(one, t), bend), at(dx)));
  });
}

}  // namespace
