// Inner loops of train/adamw.h and train/ema.h. Only operations that every family rounds alike, and
// no fused ones: the weights that a run ends with do not depend on the family for this part.
namespace {

// Moment: float, or uint16_t for BF16 bits. What is stored is rounded, what is used now is not.
template <class Moment>
inline void adamw(const hadal::AdamWRow& u, const float* g, float* w, Moment* m, Moment* v,
                  int64_t n) {
  const Vec scale = set(u.scale), first_share = set(u.first_share);
  const Vec second_share = set(u.second_share), step = set(u.step), inv_root = set(u.inv_root);
  const Vec eps = set(u.eps), decay = set(u.decay);
  for_lanes(n, [=](auto at) {
    const Vec gradient = mul(at(g), scale);
    const Vec m_old = at(m), v_old = at(v), weight = at(w);
    const Vec first = add(m_old, mul(first_share, sub(gradient, m_old)));
    const Vec second = add(v_old, mul(second_share, sub(mul(gradient, gradient), v_old)));
    at.put(m, first);
    at.put(v, second);
    const Vec denominator = add(mul(sqrt(second), inv_root), eps);
    const Vec change = add(div(mul(step, first), denominator), mul(decay, weight));
    at.put(w, sub(weight, change));
  });
}

void adamw_row(const hadal::AdamWRow& u, const float* g, float* w, float* m, float* v,
               int64_t n) noexcept {
  adamw(u, g, w, m, v, n);
}

void adamw_bf16_row(const hadal::AdamWRow& u, const float* g, float* w, uint16_t* m, uint16_t* v,
                    int64_t n) noexcept {
  adamw(u, g, w, m, v, n);
}

void average_row(float share, const float* x, float* y, int64_t n) noexcept {
  for_lanes(n, [=](auto at) {
    const Vec old = at(y);
    at.put(y, add(old, mul(set(share), sub(at(x), old))));
  });
}

}  // namespace
