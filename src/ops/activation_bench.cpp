#include "ops/activation.h"

#include <benchmark/benchmark.h>

namespace hadal {
namespace {

// Routed experts of a training step (4096 tokens x 4 of width 192); a prompt in a dense layer.
void swiglu_shapes(benchmark::internal::Benchmark* b) {
  b->Args({16384, 192})->Args({512, 2048})->UseRealTime();
}

struct Mlp {
  int64_t T, F;
  Tensor<float, 2> gate{{T, F}}, up{{T, F}}, y{{T, F}}, dy{{T, F}}, dgate{{T, F}}, dup{{T, F}};
  explicit Mlp(const benchmark::State& state) : T(state.range(0)), F(state.range(1)) {
    for (int64_t i = 0; i < gate.size(); ++i) {
      gate.data()[i] = up.data()[i] = dy.data()[i] = float(i % 7) - 3;
    }
    swiglu(gate, up, y);  // touches the pages that it writes
    swiglu_backward(dy, gate, up, y, dgate, dup);
  }
};

void swiglu_forward(benchmark::State& state) {
  const Mlp m(state);
  for (auto _ : state) swiglu(m.gate, m.up, m.y);
  state.SetBytesProcessed(state.iterations() * 3 * 4 * m.T * m.F);  // reads gate, up; writes y
}
BENCHMARK(swiglu_forward)->Apply(swiglu_shapes);

void swiglu_gradient(benchmark::State& state) {
  const Mlp m(state);
  for (auto _ : state) swiglu_backward(m.dy, m.gate, m.up, m.y, m.dgate, m.dup);
  state.SetBytesProcessed(state.iterations() * 6 * 4 * m.T * m.F);  // reads 3, writes 3
}
BENCHMARK(swiglu_gradient)->Apply(swiglu_shapes);

}  // namespace
}  // namespace hadal
