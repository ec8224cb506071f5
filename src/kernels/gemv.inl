// Matrix-vector products of generated tokens: as fast as memory gives the weights.
namespace {

void gemv(const void* w, bool w_bf16, int64_t w_stride, int64_t n, int64_t k, const float* x,
          int64_t x_stride, int64_t rows, float* y, int64_t y_stride, bool accumulate) noexcept {
  const int64_t w_size = w_bf16 ? 2 : 4;
  for (int64_t i = 0; i < n; ++i) {
    const char* wi = static_cast<const char*>(w) + i * w_stride * w_size;
    for (int64_t r = 0; r < rows; ++r) {
      Vec acc = set(0);
      for (int64_t j = 0; j < k; j += Vec::kLanes) {
        const int64_t part = k - j < Vec::kLanes ? k - j : Vec::kLanes;
        const Vec a = w_bf16 ? load_bf16_part(reinterpret_cast<const uint16_t*>(wi) + j, part)
                             : load_part(reinterpret_cast<const float*>(wi) + j, part);
        acc = fma(a, load_part(x + r * x_stride + j, part), acc);
      }
      float* out = y + r * y_stride + i;
      *out = accumulate ? *out + sum(acc) : sum(acc);
    }
  }
}

}  // namespace
