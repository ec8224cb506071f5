// Decode speed of a shape with random weights, as a share of this machine's read roof measured just
// before and just after in the same process.
//   decode bench/shapes/S.json [--format bf16|int8|int4|int4-uniform] [--tokens 64] [--depth 0]
//          [--prefill N]
// Prints JSON: tokens_per_s (median step), bytes_per_token (weights read, each active one once, and
// the cache), read_gb_per_s before and after, share_of_roof; with --prefill also how fast a prompt
// of N tokens was read (best of three).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "core/parallel.h"
#include "infer/sampler.h"
#include "kernels/panels.h"
#include "kernels/selftest.h"
#include "model/inspect.h"
#include "model/quantize.h"
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

const char* text_flag(int argc, char** argv, const char* name, const char* fallback) {
  for (int i = 2; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], name) == 0) return argv[i + 1];
  }
  return fallback;
}

// Panels of random codes; every scale is 2^-12.
void fill_panels(const Param& p, Rng& rng) {
  auto* bytes = static_cast<uint8_t*>(p.value);
  for (int64_t at = 0; at < p.value_bytes(); at += p.block_bytes) {
    for (int64_t i = 0; i < p.block_bytes; i += 8) {
      const uint64_t random = rng.next_u64() & 0x3f3f3f3f3f3f3f3full;
      std::memcpy(bytes + at + i, &random, sizeof random);
    }
    for (int64_t i = 0; i < kPanelRows; ++i) {
      const bf16 scale = to_bf16(0x1p-12f);
      std::memcpy(bytes + at + 2 * i, &scale, sizeof scale);
    }
  }
}

void fill_randomly(Transformer& model, const ModelFormat& format) {
  for (Param& p : model.params().all()) {
    const Format& stored = format_in(format, p, DType::kBF16);
    p.dtype = stored.dtype;
    p.block_bytes = stored.block_bytes;
  }
  model.params().allocate_values();  // norms, biases and routers stay FP32
  auto& list = model.params().all();
  parallel_tasks(static_cast<int64_t>(list.size()), [&](int64_t i) {
    Param& p = list[static_cast<size_t>(i)];
    Rng rng(1, static_cast<uint64_t>(i));
    if (p.block_bytes > 0) return fill_panels(p, rng);
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

// Bytes of weights that one token reads: of routed experts the chosen ones, no embedding.
double active_bytes(const Transformer& model) {
  const ModelConfig& c = model.config();
  double bytes = 0;
  for (const Param& p : model.params().all()) {
    if (p.group == ParamGroup::kEmbedding && !c.tie_word_embeddings) continue;
    const double share =
        p.expert ? double(c.num_experts_per_tok) / double(c.n_routed_experts) : 1.0;
    bytes += share * double(p.value_bytes());
  }
  return bytes;
}

// Seconds that a prompt takes, the best of three.
double prefill_seconds(Transformer& model, int64_t tokens) {
  const ModelConfig& config = model.config();
  Tensor<float, 2> h({tokens, config.hidden_size});
  std::vector<int32_t> ids, positions;
  Rng rng(3, 0);
  for (int64_t i = 0; i < tokens; ++i) {
    ids.push_back(static_cast<int32_t>(rng.next_u64() % uint64_t(config.vocab_size)));
    positions.push_back(static_cast<int32_t>(i));
  }
  double best = 1e30;
  for (int round = 0; round < 3; ++round) {
    Arena scratch;
    KvCache cache(model.cache_specs(), DType::kBF16);
    const auto sequence = cache.add_sequence();
    cache.extend(sequence, tokens);
    const auto start = Clock::now();
    const StepSpan span{0, tokens, sequence, 0};
    StepPass pass{Path::kPrompt, cache,           scratch, {positions.data(), {tokens}},
                  {&span, 1},    Precision::kBf16};
    model.step({ids.data(), {tokens}}, pass, h);
    best = std::min(best, std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

int run(int argc, char** argv) {
  HADAL_CHECK(argc >= 2, kUsage, "usage: decode CONFIG.json [--tokens N] [--depth N]");
  ConfigWarnings warnings;
  ModelConfig config = load_config(argv[1], warnings);
  config.num_nextn_predict_layers = 0;
  const int64_t tokens = flag(argc, argv, "--tokens", 64), depth = flag(argc, argv, "--depth", 0);
  const Inspection facts = inspect_model(config);
  const int64_t prompt = flag(argc, argv, "--prefill", 0);
  Transformer model(config);
  const char* format = text_flag(argc, argv, "--format", "bf16");
  fill_randomly(model, find_model_format(format));
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
  const double bytes = active_bytes(model) + double(depth + tokens / 2) * double(facts.kv_bytes);
  if (prompt > 0) {
    const double time = prefill_seconds(model, prompt);
    std::printf(
        "{\"format\": \"%s\", \"prefill\": %lld, \"prefill_tokens_per_s\": %.1f, "
        "\"giga_ops_per_s\": %.1f}\n",
        format, static_cast<long long>(prompt), double(prompt) / time,
        2 * double(facts.active) * double(prompt) / time / 1e9);
  }
  std::printf(
      "{\"format\": \"%s\", \"tokens_per_s\": %.2f, \"best_tokens_per_s\": %.2f, "
      "\"bytes_per_token\": %.0f, "
      "\"gb_per_s\": %.2f, \"read_gb_per_s_before\": %.2f, \"read_gb_per_s_after\": %.2f, "
      "\"share_of_roof\": %.3f, \"threads\": %lld, \"family\": \"%s\"}\n",
      format, 1 / median, 1 / seconds.front(), bytes, bytes / median / 1e9, before, after,
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
