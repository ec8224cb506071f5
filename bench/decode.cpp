// Decode speed of a shape with random BF16 weights, as a share of this machine's read roof measured
// just before and just after in the same process.
//   decode bench/shapes/S.json [--tokens 64] [--depth 0]
// Prints JSON: tokens_per_s (median step), bytes_per_token (weights read, each active one once, and
// the cache), read_gb_per_s before and after, share_of_roof.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "infer/sampler.h"
#include "kernels/selftest.h"
#include "model/inspect.h"
#include "model/transformer.h"

namespace hadal {
namespace {

using Clock = std::chrono::steady_clock;

int64_t flag(int argc, char** argv, const char* name, int64_t fallback) {
  for (int i = 2; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], name) == 0) return std::atoll(argv[i + 1]);
  }
  return fallback;
}

void fill_randomly(Transformer& model) {
  for (Param& p : model.params().all()) p.dtype = DType::kBF16;
  model.params().allocate_values();  // norms, biases and routers stay FP32
  auto& list = model.params().all();
  parallel_tasks(static_cast<int64_t>(list.size()), [&](int64_t i) {
    Param& p = list[static_cast<size_t>(i)];
    Rng rng(1, static_cast<uint64_t>(i));
    for (int64_t j = 0; j < p.size(); ++j) {
      const float x = p.group == ParamGroup::kNorm ? 1.0f : 0.04f * (float(rng.uniform()) - 0.5f);
      if (p.dtype == DType::kBF16) {
        static_cast<bf16*>(p.value)[j] = to_bf16(x);
      } else {
        static_cast<float*>(p.value)[j] = x;
      }
    }
  });
}

int run(int argc, char** argv) {
  HADAL_CHECK(argc >= 2, kUsage, "usage: decode CONFIG.json [--tokens N] [--depth N]");
  ConfigWarnings warnings;
  ModelConfig config = load_config(argv[1], warnings);
  config.num_nextn_predict_layers = 0;
  const int64_t tokens = flag(argc, argv, "--tokens", 64), depth = flag(argc, argv, "--depth", 0);
  const Inspection facts = inspect_model(config);
  Transformer model(config);
  fill_randomly(model);
  const double before = measure_roofs().read_gb_per_s.all_threads;

  Arena scratch;
  KvCache cache(model.cache_specs(), DType::kBF16);
  const auto sequence = cache.add_sequence();
  cache.extend(sequence, depth);  // zeros: the same bytes to read
  Tensor<float, 2> h({1, config.hidden_size}), logits({1, config.vocab_size});
  std::vector<double> seconds;
  int32_t token = 2;
  for (int64_t i = 0; i < tokens + 4; ++i) {
    const int32_t position = static_cast<int32_t>(depth + i);
    const auto start = Clock::now();
    cache.extend(sequence, 1);
    const StepSpan span{0, 1, sequence, position};
    StepPass pass{Path::kGenerated, cache, scratch, {&position, {1}}, {&span, 1}, Precision::kFp32};
    model.step({&token, {1}}, pass, h);
    model.head(h, pass, logits);
    token = sample_token({logits.data(), static_cast<size_t>(config.vocab_size)}, config.vocab_size,
                         {.temperature = 0}, position);
    if (i >= 4) seconds.push_back(std::chrono::duration<double>(Clock::now() - start).count());
  }
  const double after = measure_roofs().read_gb_per_s.all_threads;
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  const double bytes =
      2.0 * double(facts.active) + double(depth + tokens / 2) * double(facts.kv_bytes);
  std::printf(
      "{\"tokens_per_s\": %.2f, \"best_tokens_per_s\": %.2f, \"bytes_per_token\": %.0f, "
      "\"gb_per_s\": %.2f, \"read_gb_per_s_before\": %.2f, \"read_gb_per_s_after\": %.2f, "
      "\"share_of_roof\": %.3f, \"threads\": %lld, \"family\": \"%s\"}\n",
      1 / median, 1 / seconds.front(), bytes, bytes / median / 1e9, before, after,
      bytes / median / 1e9 / std::max(before, after), static_cast<long long>(num_threads()),
      kernels().family);
  return 0;
}

}  // namespace
}  // namespace hadal

int main(int argc, char** argv) {
  try {
    return hadal::run(argc, argv);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
