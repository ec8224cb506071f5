// The optimizer beside what memory gives to a loop that reads and writes: y += x over as many
// bytes, timed in turn with it. Bytes are those read and those written.
#include "train/adamw.h"

#include <benchmark/benchmark.h>

#include "core/parallel.h"
#include "kernels/kernels.h"

namespace hadal {
namespace {

constexpr int64_t kNumbers = int64_t{1} << 24;  // far more than caches hold

// Parameters of one matrix with small gradients.
struct OneMatrix {
  Params params;
  OneMatrix() {
    params.add("weight", {kNumbers / 1024, 1024}, ParamGroup::kMatrix);
    params.allocate_training();
    params.initialise(1, 0.02);
    Param& p = params.all()[0];
    for (int64_t i = 0; i < p.size(); ++i) p.gradient[i] = 1e-3f * p.vec().data()[i];
  }
};

void adamw(benchmark::State& state, DType moments, int64_t bytes) {
  OneMatrix model;
  AdamWOptions options;
  options.moments = moments;
  AdamW optimizer(model.params, options);
  for (auto _ : state) optimizer.step(1e-6, 0.5);
  state.SetBytesProcessed(state.iterations() * kNumbers * bytes);
}
void adamw_fp32(benchmark::State& state) {
  adamw(state, DType::kF32, 16 + 12);  // reads g w m v, writes w m v
}
void adamw_bf16(benchmark::State& state) {
  adamw(state, DType::kBF16, 12 + 8);
}
BENCHMARK(adamw_fp32)->UseRealTime();
BENCHMARK(adamw_bf16)->UseRealTime();

void read_and_write(benchmark::State& state) {
  Tensor<float, 1> x({2 * kNumbers}), y({2 * kNumbers});
  const Kernels& k = kernels();
  for (auto _ : state) {
    parallel_for(2 * kNumbers, 1 << 15, [&](int64_t begin, int64_t end) {
      k.add_row(x.data() + begin, y.data() + begin, end - begin);
    });
  }
  state.SetBytesProcessed(state.iterations() * 2 * kNumbers * 12);
}
BENCHMARK(read_and_write)->UseRealTime();

}  // namespace
}  // namespace hadal
