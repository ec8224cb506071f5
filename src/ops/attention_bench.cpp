#include "ops/attention.h"

#include <benchmark/benchmark.h>

#include <cmath>
#include <string>

#include "core/rng.h"
#include "kernels/selftest.h"

namespace hadal {
namespace {

using Matrix = Tensor<float, 2>;

Matrix random_matrix(int64_t rows, int64_t columns, uint64_t stream) {
  Matrix m({rows, columns});
  Rng rng(1, stream);
  for (int64_t i = 0; i < m.size(); ++i) m.data()[i] = static_cast<float>(rng.normal());
  return m;
}

// GFLOP/s, and what part that is of the multiply-adds that all threads can do here.
void report(benchmark::State& state, double flops) {
  static const double roof = measure_roofs({int64_t{1} << 20, 3, 0.02}).fp32_gflops.all_threads;
  const double gflops = flops * static_cast<double>(state.iterations()) / 1e9;
  state.counters["GFLOP/s"] = {gflops, benchmark::Counter::kIsRate};
  state.counters["of_roof"] = {gflops / roof, benchmark::Counter::kIsRate};
}

// The attention of a small MLA model in training: 4 heads of 64 + 32 and 64 numbers.
struct Causal {
  static constexpr AttentionShape kShape{4, 4, 96, 64, 0.1f};
  int64_t T;
  std::vector<AttentionSpan> spans;
  Matrix q, k, v, d_o, o, lse, dq, dk, dv;
  Arena scratch;
  explicit Causal(int64_t tokens, int64_t sequences)
      : T(tokens * sequences),
        q(random_matrix(T, 4 * 96, 1)),
        k(random_matrix(T, 4 * 96, 2)),
        v(random_matrix(T, 4 * 64, 3)),
        d_o(random_matrix(T, 4 * 64, 4)),
        o({T, 4 * 64}),
        lse({T, 4}),
        dq({T, 4 * 96}),
        dk({T, 4 * 96}),
        dv({T, 4 * 64}) {
    for (int64_t t = 0; t < T; t += tokens) spans.push_back({t, t + tokens, t, t + tokens});
    forward();
    backward();
  }
  void forward() { attention(q, k, v, spans, kShape, o, lse, scratch); }
  void backward() { attention_backward(d_o, q, k, v, o, lse, spans, kShape, dq, dk, dv, scratch); }
  // Multiply-adds below the diagonal, of a product over n numbers of a head.
  double flops(int64_t n) const {
    const double tokens = static_cast<double>(spans[0].q_end);
    return static_cast<double>(spans.size()) * tokens * (tokens + 1) * 4 * static_cast<double>(n);
  }
};

void sequences(benchmark::internal::Benchmark* b) {
  b->ArgNames({"tokens", "sequences"})->Args({512, 1})->Args({512, 8})->Args({4096, 1});
  b->UseRealTime();
}

void attention_forward(benchmark::State& state) {
  Causal c(state.range(0), state.range(1));
  for (auto _ : state) c.forward();
  report(state, c.flops(96 + 64));
}
BENCHMARK(attention_forward)->Apply(sequences);

// Five products: the scores again, dP, dV, dQ and dK.
void attention_gradient(benchmark::State& state) {
  Causal c(state.range(0), state.range(1));
  for (auto _ : state) c.backward();
  report(state, c.flops(3 * 96 + 2 * 64));
}
BENCHMARK(attention_gradient)->Apply(sequences);

// One generated token at some depth of a BF16 cache on pages of 64 tokens.
void decode(benchmark::State& state, AttentionShape shape, int64_t row_elements) {
  const int64_t depth = state.range(0), pages = (depth + 63) / 64;
  const bool latent = shape.kv_heads == 1;
  const PagedLayout layout{{DType::kBF16, row_elements},
                           64,
                           0,
                           shape.qk_dim,
                           latent ? 0 : shape.kv_heads * shape.qk_dim,
                           shape.v_dim};
  Tensor<bf16, 2> cache({pages * 64, row_elements});
  Rng rng(1, 5);
  for (int64_t i = 0; i < cache.size(); ++i) {
    cache.data()[i] = to_bf16(static_cast<float>(rng.normal()));
  }
  std::vector<const std::byte*> rows;
  for (int64_t p = 0; p < pages; ++p) {
    rows.push_back(reinterpret_cast<const std::byte*>(cache.row(p * 64)));
  }
  shape.scale = 1 / std::sqrt(static_cast<float>(shape.qk_dim));
  const std::vector<PagedSequence> sequences{{rows, depth}};
  const Matrix q = random_matrix(1, shape.heads * shape.qk_dim, 1);
  Matrix o({1, shape.heads * shape.v_dim});
  Arena scratch;
  for (auto _ : state) paged_attention(q, sequences, layout, shape, o, scratch);
  const auto keys = static_cast<double>(depth);
  report(state, 2 * keys * static_cast<double>(shape.heads * (shape.qk_dim + shape.v_dim)));
  state.SetBytesProcessed(state.iterations() * depth * row_elements * 2);
}
void depths(benchmark::internal::Benchmark* b) {
  b->ArgName("depth")->Arg(1024)->Arg(8192)->UseRealTime();
}
BENCHMARK_CAPTURE(decode, latent_of_128_heads_as_v3, {128, 1, 576, 512, 0}, 576)->Apply(depths);
BENCHMARK_CAPTURE(decode, latent_of_16_heads, {16, 1, 576, 512, 0}, 576)->Apply(depths);
BENCHMARK_CAPTURE(decode, latent_of_8_heads, {8, 1, 576, 512, 0}, 576)->Apply(depths);
BENCHMARK_CAPTURE(decode, grouped_32_of_8, {32, 8, 128, 128, 0}, 2048)->Apply(depths);
BENCHMARK_CAPTURE(decode, multi_head_16, {16, 16, 128, 128, 0}, 4096)->Apply(depths);

}  // namespace
}  // namespace hadal
