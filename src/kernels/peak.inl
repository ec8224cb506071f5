// The machine's roofs: arithmetic that never leaves registers, and reading without arithmetic.
namespace {

// Twelve chains: more than latency times throughput of any CPU met so far. Every loop over them is
// unrolled, or they would live in memory.
template <class Step>
inline double run_chains(int64_t steps, Step step, double operations_of_a_step) {
  Vec chains[12];
#pragma GCC unroll 12
  for (int c = 0; c < 12; ++c) chains[c] = set(1.0f);
  Vec a = set(1e-9f);
  pin(a);
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < 12; ++c) {
      chains[c] = step(a, chains[c]);
      pin(chains[c]);
    }
  }
  Vec rest = set(0);
#pragma GCC unroll 12
  for (int c = 0; c < 12; ++c) rest = add(rest, chains[c]);
  const float kept = sum(rest);
  asm volatile("" ::"m"(kept));
  return 12 * operations_of_a_step * static_cast<double>(steps);
}

double peak_fp32(int64_t steps) noexcept {
  return run_chains(
      steps, [](Vec a, Vec c) { return fma(a, a, c); }, 2.0 * Vec::kLanes);
}

// Of BF16 operands. Where nothing multiplies them as they are, they are widened: as many as FP32.
double peak_bf16(int64_t steps) noexcept {
#if defined(HADAL_BF16_DOT)
  return run_chains(
      steps, [](Vec a, Vec c) { return dot_bf16(c, a, a); }, 4.0 * Vec::kLanes);
#else
  return peak_fp32(steps);
#endif
}

#if !defined(HADAL_EMULATED) && defined(__AVX512VNNI__)
double peak_int8(int64_t steps) noexcept {
  __m512i a = _mm512_set1_epi8(1), chains[12];
  asm("" : "+v"(a));
#pragma GCC unroll 12
  for (int c = 0; c < 12; ++c) chains[c] = a;
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (int c = 0; c < 12; ++c) {
      chains[c] = _mm512_dpbusd_epi32(chains[c], a, a);
      asm("" : "+v"(chains[c]));
    }
  }
#pragma GCC unroll 12
  for (int c = 0; c < 12; ++c) asm volatile("" ::"v"(chains[c]));
  return 12 * 128.0 * static_cast<double>(steps);
}
#elif !defined(HADAL_EMULATED) && defined(__AVX512BW__)
double peak_int8(int64_t steps) noexcept {
  __m512i a = _mm512_set1_epi8(1), one = _mm512_set1_epi16(1), chains[6];
  asm("" : "+v"(a), "+v"(one));
#pragma GCC unroll 6
  for (int c = 0; c < 6; ++c) chains[c] = a;
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 6
    for (int c = 0; c < 6; ++c) {
      asm("" : "+v"(a));
      __m512i pairs = _mm512_maddubs_epi16(a, a);
      asm("" : "+v"(pairs));
      chains[c] = _mm512_add_epi32(chains[c], _mm512_madd_epi16(pairs, one));
      asm("" : "+v"(chains[c]));
    }
  }
#pragma GCC unroll 6
  for (int c = 0; c < 6; ++c) asm volatile("" ::"v"(chains[c]));
  return 6 * 128.0 * static_cast<double>(steps);
}
#elif !defined(HADAL_EMULATED) && defined(__AVX2__)
double peak_int8(int64_t steps) noexcept {
  __m256i a = _mm256_set1_epi8(1), one = _mm256_set1_epi16(1), chains[6];
  asm("" : "+x"(a), "+x"(one));
#pragma GCC unroll 6
  for (int c = 0; c < 6; ++c) chains[c] = a;
  for (int64_t i = 0; i < steps; ++i) {
#pragma GCC unroll 6
    for (int c = 0; c < 6; ++c) {
      asm("" : "+x"(a));
      __m256i pairs = _mm256_maddubs_epi16(a, a);
      asm("" : "+x"(pairs));
      chains[c] = _mm256_add_epi32(chains[c], _mm256_madd_epi16(pairs, one));
      asm("" : "+x"(chains[c]));
    }
  }
#pragma GCC unroll 6
  for (int c = 0; c < 6; ++c) asm volatile("" ::"x"(chains[c]));
  return 6 * 64.0 * static_cast<double>(steps);
}
#else
double peak_int8(int64_t steps) noexcept {
  int8_t a[64];
  int32_t sums[64] = {};
  for (int8_t& x : a) x = 1;
  for (int64_t i = 0; i < steps; ++i) {
    asm volatile("" ::"m"(a), "m"(sums));
    for (int j = 0; j < 64; ++j) sums[j] += int32_t{a[j]} * int32_t{a[j]};
  }
  return 2 * 64.0 * static_cast<double>(steps);
}
#endif

using Wide [[gnu::vector_size(4 * Vec::kLanes), gnu::aligned(8), gnu::may_alias]] = uint64_t;

// 128 bytes of each stream in turn.
template <int kStreams>
uint64_t read_streams(const char* p, int64_t apart) {
  constexpr int64_t kWidth = sizeof(Wide);
  Wide sums[4] = {};
  for (int64_t i = 0; i < apart; i += 128) {
#pragma GCC unroll 8
    for (int s = 0; s < kStreams; ++s) {
#pragma GCC unroll 8
      for (int64_t j = 0; j < 128; j += kWidth) {
        sums[j / kWidth % 4] ^= *reinterpret_cast<const Wide*>(p + s * apart + i + j);
      }
    }
  }
  const Wide all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
  uint64_t x = 0;
  for (int i = 0; i < kWidth / 8; ++i) x ^= all[i];
  return x;
}

uint64_t read_memory(const void* p, int64_t bytes, int64_t streams) noexcept {
  const char* from = static_cast<const char*>(p);
  const int64_t apart = bytes / streams;
  switch (streams) {
    case 1:
      return read_streams<1>(from, apart);
    case 2:
      return read_streams<2>(from, apart);
    case 4:
      return read_streams<4>(from, apart);
    default:
      return read_streams<8>(from, apart);
  }
}

}  // namespace
