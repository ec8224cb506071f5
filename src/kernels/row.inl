// Loops over a row of n numbers, whole vectors first and then the part of one that is left; and the
// plain kernels on rows. A body is written once and sees its place through `at`:
//   at(p)          the lanes of p here, FP32 or bits of BF16; past the end of the row, zeros
//   at.put(p, v)   stores the lanes that are in the row
//   at.or_else(v, fill)   v, and `fill` past the end of the row
namespace {

struct WholeLanes {
  int64_t i;
  Vec operator()(const float* p) const { return load(p + i); }
  Vec operator()(const uint16_t* p) const { return load_bf16(p + i); }
  void put(float* p, Vec v) const { store(p + i, v); }
  void put(uint16_t* p, Vec v) const { store_bf16(p + i, v); }
  Vec or_else(Vec v, Vec) const { return v; }
};

alignas(64) constexpr float kLaneNumbers[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                8, 9, 10, 11, 12, 13, 14, 15};
struct LastLanes {
  int64_t i, n;
  Vec operator()(const float* p) const { return load_part(p + i, n); }
  Vec operator()(const uint16_t* p) const { return load_bf16_part(p + i, n); }
  void put(float* p, Vec v) const { store_part(p + i, v, n); }
  void put(uint16_t* p, Vec v) const { store_bf16_part(p + i, v, n); }
  Vec or_else(Vec v, Vec fill) const {
    return select_less(load(kLaneNumbers), set(static_cast<float>(n)), v, fill);
  }
};

template <class Body>
inline void for_lanes(int64_t n, Body body) {
  int64_t i = 0;
  for (; i + Vec::kLanes <= n; i += Vec::kLanes) body(WholeLanes{i});
  if (i < n) body(LastLanes{i, n - i});
}

// join(step(...), ...) over the row, in four chains so that the additions need not wait for each
// other. step(at, chain) returns the chain one place on; the order is a function of n alone.
template <class Step, class Join>
inline Vec fold_lanes(int64_t n, Vec start, Step step, Join join) {
  constexpr int64_t kLanes = Vec::kLanes;
  Vec a = start, b = start, c = start, d = start;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    a = step(WholeLanes{i}, a);
    b = step(WholeLanes{i + kLanes}, b);
    c = step(WholeLanes{i + 2 * kLanes}, c);
    d = step(WholeLanes{i + 3 * kLanes}, d);
  }
  for (; i + kLanes <= n; i += kLanes) a = step(WholeLanes{i}, a);
  if (i < n) b = step(LastLanes{i, n - i}, b);
  return join(join(a, b), join(c, d));
}

template <class Step>
inline float sum_lanes(int64_t n, Step step) {
  return sum(fold_lanes(n, set(0), step, [](Vec a, Vec b) { return add(a, b); }));
}

float dot(const float* a, const float* b, int64_t n) noexcept {
  return sum_lanes(n, [=](auto at, Vec acc) { return fma(at(a), at(b), acc); });
}

float row_max(const float* x, int64_t n) noexcept {
  const Vec low = set(-__builtin_inff());
  return reduce_max(fold_lanes(
      n, low, [=](auto at, Vec acc) { return max(at.or_else(at(x), low), acc); },
      [](Vec a, Vec b) { return max(a, b); }));
}

float exp_row(const float* x, float shift, float* y, int64_t n) noexcept {
  return sum_lanes(n, [=](auto at, Vec acc) {
    const Vec e = vexp(sub(at(x), set(shift)));
    at.put(y, e);
    return add(acc, at.or_else(e, set(0)));
  });
}

void sigmoid_row(const float* x, float* y, int64_t n) noexcept {
  for_lanes(n, [=](auto at) { at.put(y, sigmoid(at(x))); });
}

void scale_row(float a, float* y, int64_t n) noexcept {
  for_lanes(n, [=](auto at) { at.put(y, mul(set(a), at(y))); });
}

void add_row(const float* x, float* y, int64_t n) noexcept {
  for_lanes(n, [=](auto at) { at.put(y, add(at(y), at(x))); });
}

void to_bf16_row(const float* x, uint16_t* y, int64_t n) noexcept {
  for_lanes(n, [=](auto at) { at.put(y, at(x)); });
}

void from_bf16_row(const uint16_t* x, float* y, int64_t n) noexcept {
  for_lanes(n, [=](auto at) { at.put(y, at(x)); });
}

void add_scaled_row(float a, const float* x, float* y, int64_t n) noexcept {
  for_lanes(n, [=](auto at) { at.put(y, add(at(y), mul(set(a), at(x)))); });
}

}  // namespace
