#include "ops/rmsnorm.h"

#include <benchmark/benchmark.h>

namespace hadal {
namespace {

// A training step of 4096 tokens at width 256, a prompt at DeepSeek-V3's hidden size, one token.
void norm_shapes(benchmark::internal::Benchmark* b) {
  b->Args({4096, 256})->Args({512, 7168})->Args({1, 7168})->UseRealTime();
}

struct Norm {
  int64_t T, D;
  Tensor<float, 2> x{{T, D}}, y{{T, D}}, dy{{T, D}}, dx{{T, D}};
  Tensor<float, 1> gain{{D}}, dgain{{D}}, inv_rms{{T}};
  explicit Norm(const benchmark::State& state) : T(state.range(0)), D(state.range(1)) {
    for (int64_t i = 0; i < x.size(); ++i) x.data()[i] = dy.data()[i] = float(i % 7) - 3;
    for (int64_t d = 0; d < D; ++d) gain.data()[d] = 1;
    rmsnorm(x, gain, 1e-6f, y, inv_rms);  // also touches the pages that it writes
    rmsnorm_backward(dy, x, gain, inv_rms, dx, dgain);
  }
};

void rmsnorm_forward(benchmark::State& state) {
  const Norm n(state);
  for (auto _ : state) rmsnorm(n.x, n.gain, 1e-6f, n.y, n.inv_rms);
  state.SetBytesProcessed(state.iterations() * 2 * 4 * n.T * n.D);  // reads x, writes y
}
BENCHMARK(rmsnorm_forward)->Apply(norm_shapes);

void rmsnorm_gradient(benchmark::State& state) {
  const Norm n(state);
  for (auto _ : state) rmsnorm_backward(n.dy, n.x, n.gain, n.inv_rms, n.dx, n.dgain);
  state.SetBytesProcessed(state.iterations() * 4 * 4 * n.T * n.D);  // reads dy, x, dx; writes dx
}
BENCHMARK(rmsnorm_gradient)->Apply(norm_shapes);

}  // namespace
}  // namespace hadal
