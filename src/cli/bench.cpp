// hadal bench: how fast does a model serve here, and how near is that to what the machine allows?
#include <algorithm>
#include <optional>

#include "cli/bench_rows.h"
#include "cli/bench_trace.h"
#include "cli/command.h"
#include "cli/options.h"
#include "core/files.h"
#include "core/parallel.h"
#include "infer/served_model.h"
#include "kernels/selftest.h"
#include "model/pretrained.h"

namespace hadal {
namespace {

struct BenchArguments {
  std::string model;
  int64_t prefill = 512, decode = 128;
  std::vector<int32_t> depths{0, 8192}, batches{1, 4};
  std::optional<Precision> precision;
  DType cache = DType::kBF16;
  std::string format, trace;
  double speed = 1;
  bool allow_paging = false, json = false;
};

// What the longest row takes.
ServingNeed need_of(const BenchArguments& o) {
  ServingNeed need{.cache_dtype = o.cache};
  if (!o.trace.empty() || o.depths.empty() || o.batches.empty()) return need;
  need.context = *std::ranges::max_element(o.depths) + std::max(o.prefill, o.decode);
  need.batch = *std::ranges::max_element(o.batches);
  return need;
}

// A folder's weights, or for a config.json alone random ones.
Pretrained load(const BenchArguments& o) {
  ConfigWarnings warnings;
  if (fs::is_directory(o.model)) {
    for (const auto& entry : fs::directory_iterator(o.model)) {
      if (entry.path().extension() != ".safetensors") continue;
      HADAL_CHECK(o.format.empty(), kUsage, o.model,
                  " has weights, which have a format; --format is for a config.json alone");
      return load_for_serving(o.model, {.serving = need_of(o), .allow_paging = o.allow_paging});
    }
  }
  HADAL_CHECK(!o.allow_paging, kUsage, o.model, " has no weights that --allow-paging could read");
  ModelConfig config = load_config(o.model, warnings);
  config.num_nextn_predict_layers = 0;
  const ModelFormat& format = find_model_format(o.format.empty() ? "bf16" : o.format);
  check_memory(plan_memory(config, format, need_of(o)), machine_memory(), o.model);
  Pretrained random{std::make_unique<Transformer>(config), nullptr};
  fill_randomly(*random.model, format);
  return random;
}

// Of a config's random weights, or what a folder's config says.
std::string format_name(const BenchArguments& o, const ModelConfig& config) {
  if (!o.format.empty()) return o.format;
  return fs::is_directory(o.model) ? std::string(stored_format(config).name) : "bf16";
}

int run_bench(const BenchArguments& o) {
  const Pretrained pretrained = load(o);
  Transformer& model = *pretrained.model;
  if (!o.trace.empty()) {
    const int code = bench_trace(model, {o.trace, o.speed, o.precision, o.cache, o.json});
    pretrained.check_intact();
    return code;
  }
  const Precision precision = o.precision.value_or(prompt_precision(model.params()));
  OrderedJson rows = OrderedJson::array();
  int64_t peak = peak_memory();
  if (!o.json) print_head();
  for (const char* const phase : {"prefill", "decode"}) {
    const int64_t tokens = phase == std::string("prefill") ? o.prefill : o.decode;
    for (int32_t depth : o.depths) {
      for (int32_t batch : o.batches) {
        if (tokens == 0) continue;
        HADAL_CHECK(batch >= 1 && batch <= 1024, kUsage, "--batch ", batch,
                    " is not between 1 and 1024");
        BenchRow row{phase, {depth, batch, tokens, precision, o.cache}};
        measure(model, row);
        peak = std::max(peak, row.peak_bytes);
        rows.push_back(row_json(row));
        if (!o.json) print_row(row);
      }
    }
  }
  pretrained.check_intact();
  if (!o.json) return 0;
  print_json({{"engine", "hadal"},
              {"family", kernels().family},
              {"threads", num_threads()},
              {"format", format_name(o, model.config())},
              {"cache_dtype", dtype_name(o.cache)},
              {"prompt_dtype", precision == Precision::kFp32 ? "fp32" : "bf16"},
              {"weight_bytes", model.params().value_bytes()},
              {"peak_rss_bytes", peak},
              {"rows", rows}});
  return 0;
}

}  // namespace

void add_bench(Cli& cli) {
  CLI::App* command = add_command(
      cli, "bench", "time prompts and decoding, against this machine's roofs",
      "  hadal bench MODEL --depth 0,8192 --batch 1,4\n"
      "  hadal bench bench/shapes/S.json --prefill 512 --decode 128 --json\n"
      "  hadal bench bench/shapes/M.json --format int8 --depth 0 --batch 1,4,16\n"
      "  hadal bench MODEL --trace requests.jsonl --speed 2\n"
      "A config.json without weights runs on random ones. The cache of --depth tokens is\n"
      "synthetic: random numbers, no prompt was read. Memory is the most that a row took; reading\n"
      "prompts takes more than decoding, for keys and values are made anew from the cache. Roofs\n"
      "are measured before and after each row; one whose roofs differ by a tenth is repeated "
      "once,\n"
      "then called unstable.\n");
  auto o = std::make_shared<BenchArguments>();
  add_option(command, "MODEL", o->model, "model folder or config.json").required();
  add_option(command, "--prefill", o->prefill, "tokens of a prompt (512)").range(0, 1 << 20);
  add_option(command, "--decode", o->decode, "tokens generated (128)").range(0, 1 << 20);
  add_option(command, "--depth", o->depths, "tokens in the cache before (0,8192)").delimiter(',');
  add_option(command, "--batch", o->batches, "texts at a time (1,4)").delimiter(',');
  add_option(command, "--format", o->format,
             "of random weights: bf16 (default), fp32, fp16, fp8, int8, int4, int4-uniform");
  add_option(command, "--trace", o->trace,
             "replay requests instead, JSON lines: arrival (s), prompt_tokens, output_tokens; or\n"
             "timestamp (ms), input_length, output_length, hash_ids");
  add_option(command, "--speed", o->speed, "replay so many times as fast (1)");
  add_cache_dtype(
      command, [o](DType dtype) { o->cache = dtype; }, "of the KV cache: bf16, fp32 or fp8 (bf16)");
  add_allow_paging(command, o->allow_paging);
  add_prompt_precision(command, o->precision);
  add_json(command, o->json);
  add_threads(command);
  on_run(cli, command, [o] { return run_bench(*o); });
}

}  // namespace hadal
