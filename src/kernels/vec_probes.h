// What each operation of Vec does with chosen operands. Included after kernels/vec.h: with the real
// AVX-512 by tools/record_vectors.cpp, with the emulated one by vec_emulated_test.cpp, which
// compares.
#pragma once
#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace {

constexpr int kProbeVectors = 12;
constexpr uint32_t kProbeSpecials[] = {0x00000000, 0x80000000, 0x00000001, 0x807fffff, 0x00800000,
                                       0x3f800000, 0xbf800000, 0x7f7fffff, 0x7f800000, 0xff800000,
                                       0x7fc00000, 0xffc12345, 0x3f808000, 0x3f818000, 0x3f80ffff,
                                       0x007f8000, 0x7f7f8000, 0x42b17217, 0xc2cff1b5, 0x3f200000};

// Deterministic operands: special numbers, any bits, and numbers of moderate size.
struct Probe {
  uint64_t state;
  alignas(64) float a[16], b[16], c[16], d[16], out[16];
  uint16_t halves[64];  // the bits of a and b

  explicit Probe(uint64_t seed) : state(seed * 0x9e3779b97f4a7c15u) {
    for (float* p : {a, b, c, d}) {
      for (int i = 0; i < 16; ++i) p[i] = number();
    }
    for (float& x : out) x = 0;
    __builtin_memcpy(halves, a, sizeof a);
    __builtin_memcpy(halves + 32, b, sizeof b);
  }
  uint32_t next() {
    state += 0x9e3779b97f4a7c15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>((z ^ (z >> 31)) >> 32);
  }
  static float from(uint32_t bits) { return __builtin_bit_cast(float, bits); }
  float number() {
    const uint32_t kind = next() % 8, r = next();
    if (kind == 0) return from(kProbeSpecials[r % (sizeof kProbeSpecials / 4)]);
    if (kind == 1) return from(r);
    return from((r & 0x807fffffu) | (110 + next() % 34) << 23);  // 2^-17 .. 2^16
  }
  // For operations that promise nothing for other operands.
  void shrink_a() {  // to [0.5, 2]
    for (float& x : a) x = from((next() & 0x007fffffu) | (126 + next() % 2) << 23);
  }
  void whole_b() {  // to whole numbers from -250 to 250
    for (float& x : b) x = static_cast<float>(static_cast<int>(next() % 501) - 250);
  }
  void put(int i, uint32_t bits) { out[i] = from(bits); }
};

// visit(name, fn) for each; fn(probe) fills probe.out.
template <class Visit>
void for_each_probe(Visit visit) {
  visit("load", [](Probe& p) { store(p.out, load(p.a)); });
  visit("load_part", [](Probe& p) { store(p.out, load_part(p.a, p.next() % 17)); });
  visit("store_part", [](Probe& p) { store_part(p.out, load(p.a), p.next() % 17); });
  visit("set", [](Probe& p) { store(p.out, set(p.a[0])); });
  visit("broadcast", [](Probe& p) { store(p.out, broadcast(p.a + 3)); });
  visit("add", [](Probe& p) { store(p.out, add(load(p.a), load(p.b))); });
  visit("sub", [](Probe& p) { store(p.out, sub(load(p.a), load(p.b))); });
  visit("mul", [](Probe& p) { store(p.out, mul(load(p.a), load(p.b))); });
  visit("div", [](Probe& p) { store(p.out, div(load(p.a), load(p.b))); });
  visit("fma", [](Probe& p) { store(p.out, fma(load(p.a), load(p.b), load(p.c))); });
  visit("fma_cancels", [](Probe& p) {
    const Vec a = load(p.a), b = load(p.b);
    store(p.out, fma(a, b, neg(mul(a, b))));
  });
  visit("sqrt", [](Probe& p) { store(p.out, sqrt(load(p.a))); });
  visit("neg", [](Probe& p) { store(p.out, neg(load(p.a))); });
  visit("abs", [](Probe& p) { store(p.out, abs(load(p.a))); });
  visit("max", [](Probe& p) { store(p.out, max(load(p.a), load(p.b))); });
  visit("min", [](Probe& p) { store(p.out, min(load(p.a), load(p.b))); });
  visit("select_less",
        [](Probe& p) { store(p.out, select_less(load(p.a), load(p.b), load(p.c), load(p.d))); });
  visit("swap_pairs", [](Probe& p) { store(p.out, swap_pairs(load(p.a))); });
  visit("scale_pow2", [](Probe& p) {
    p.shrink_a();
    p.whole_b();
    store(p.out, scale_pow2(load(p.a), load(p.b)));
  });
  visit("vexp", [](Probe& p) { store(p.out, vexp(load(p.a))); });
  visit("tanh", [](Probe& p) { store(p.out, tanh(load(p.a))); });
  visit("sigmoid", [](Probe& p) { store(p.out, sigmoid(load(p.a))); });
  visit("sum", [](Probe& p) { p.out[0] = sum(load(p.a)); });
  visit("reduce_max", [](Probe& p) { p.out[0] = reduce_max(load(p.a)); });
  visit("transpose", [](Probe& p) {
    Vec rows[16];
    for (int i = 0; i < 16; ++i) rows[i] = load(i % 2 == 0 ? p.a : p.b);
    rows[5] = load(p.c);
    rows[10] = load(p.d);
    transpose(rows);
    store(p.out, rows[p.next() % 16]);
  });
  visit("load_bf16", [](Probe& p) { store(p.out, load_bf16(p.halves + 7)); });
  visit("load_bf16_part",
        [](Probe& p) { store(p.out, load_bf16_part(p.halves + 7, p.next() % 17)); });
  visit("store_bf16", [](Probe& p) {
    uint16_t h[16] = {};
    store_bf16(h, load(p.a));
    for (int i = 0; i < 16; ++i) p.put(i, h[i]);
  });
  visit("store_bf16_part", [](Probe& p) {
    uint16_t h[16] = {};
    store_bf16_part(h, load(p.a), p.next() % 17);
    for (int i = 0; i < 16; ++i) p.put(i, h[i]);
  });
  visit("round_bf16", [](Probe& p) { store(p.out, round_bf16(load(p.a))); });
  visit("load_fp16", [](Probe& p) { store(p.out, load_fp16(p.halves + 7)); });
  visit("load_fp16_part",
        [](Probe& p) { store(p.out, load_fp16_part(p.halves + 7, p.next() % 17)); });
  visit("load_e4m3",
        [](Probe& p) { store(p.out, load_e4m3(reinterpret_cast<const uint8_t*>(p.halves) + 13)); });
  visit("load_e4m3_part", [](Probe& p) {
    store(p.out, load_e4m3_part(reinterpret_cast<const uint8_t*>(p.halves) + 13, p.next() % 17));
  });
  visit("dot_bf16", [](Probe& p) { store(p.out, dot_bf16(load(p.a), load(p.b), load(p.c))); });
  visit("dot_bf16_of_small", [](Probe& p) {  // products, sums and addends around the denormals
    for (float* q : {p.a, p.b, p.c}) {
      const uint32_t least = q == p.a ? 0 : 58;
      for (int i = 0; i < 16; ++i) {
        const uint32_t r = p.next(), high = least + p.next() % 8, low = least + p.next() % 8;
        q[i] = Probe::from((r & 0x807f807fu) | high << 23 | low << 7);
      }
    }
    store(p.out, dot_bf16(load(p.a), load(p.b), load(p.c)));
  });
  visit("pack_bf16", [](Probe& p) { store(p.out, pack_bf16(load(p.a), load(p.b))); });
  visit("pair_bf16", [](Probe& p) { store(p.out, pair_bf16(load(p.a), load(p.b))); });
  visit("load_bits", [](Probe& p) { store(p.out, load_bits(p.halves)); });
  visit("load_bits_part", [](Probe& p) { store(p.out, load_bits_part(p.halves, p.next() % 32)); });
  visit("broadcast_pair", [](Probe& p) { store(p.out, broadcast_pair(p.halves + 1)); });
  visit("add_halves", [](Probe& p) {
    store(p.out, set(0));
    store_half(p.out, add(load_half(p.a + 3), low_half(load(p.b))));
  });
  visit("dot_bf16_of_halves", [](Probe& p) {
    store(p.out, set(0));
    store_half(p.out, dot_bf16(load_half(p.a), low_half(load(p.b)), load_half(p.c)));
  });
}

}  // namespace
