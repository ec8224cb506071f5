// hadal bench: how fast does a model serve here, and how near is that to what the machine allows?
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>

#include "cli/bench_trace.h"
#include "cli/command.h"
#include "cli/options.h"
#include "core/files.h"
#include "core/parallel.h"
#include "infer/bench.h"
#include "kernels/selftest.h"
#include "model/inspect.h"
#include "model/pretrained.h"

namespace hadal {
namespace {

struct Options {
  std::string model;
  int64_t prefill = 512, decode = 128;
  std::vector<int32_t> depths{0, 8192}, batches{1, 4};
  Precision precision = Precision::kFp32;
  std::string format, trace;
  double speed = 1;
  bool json = false;
};

struct Row {
  std::string phase;
  ServingWork work;
  ServingTime time;
  double roof = 0;  // the better of before and after: bytes/s read, for prompts operations/s
  bool unstable = false;

  double share() const {
    return time.tokens_per_s * (decoding() ? time.bytes_per_token : time.flops_per_token) / roof;
  }
  bool decoding() const { return phase == "decode"; }
};

// A folder's weights, or for a config.json alone random ones.
Pretrained load(const std::string& path, const std::string& format) {
  ConfigWarnings warnings;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.path().extension() != ".safetensors") continue;
      HADAL_CHECK(format.empty(), kUsage, path,
                  " has weights, which have a format; --format is for a config.json alone");
      return load_pretrained(path, {}, warnings);
    }
  }
  ModelConfig config = load_config(path, warnings);
  config.num_nextn_predict_layers = 0;
  Pretrained random{std::make_unique<Transformer>(config), nullptr};
  fill_randomly(*random.model, find_model_format(format.empty() ? "bf16" : format));
  return random;
}

// Weights in panels are multiplied as int8, whatever the precision.
bool in_int8(const Transformer& model) {
  const auto& all = model.params().all();
  return std::any_of(all.begin(), all.end(), [](const Param& p) { return p.block_bytes > 0; });
}

double roof_now(const Transformer& model, const Row& row) {
  if (row.decoding()) return read_roof();
  const Kernels& k = kernels();
  if (in_int8(model)) return arithmetic_roof(k.peak_int8);
  return arithmetic_roof(row.work.precision == Precision::kFp32 ? k.peak_fp32 : k.peak_bf16);
}

// The most memory this process has had since forget_peak(), in bytes: what measuring the roof takes
// is none of the model's. Where the system does not let it be forgotten, it counts too.
int64_t peak_memory() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return 1024 * std::atoll(line.c_str() + 6);
  }
  return 0;
}
void forget_peak() {
  std::ofstream("/proc/self/clear_refs") << 5;
}

// Once more when the machine changed meanwhile. Returns the most memory it took.
int64_t measure(Transformer& model, Row& row) {
  int64_t peak = 0;
  for (int attempt = 0; attempt < 2; ++attempt) {
    const double before = roof_now(model, row);
    forget_peak();
    row.time = row.decoding() ? time_decode(model, row.work) : time_prefill(model, row.work);
    peak = std::max(peak, peak_memory());
    const double after = roof_now(model, row);
    row.roof = std::max(before, after);
    row.unstable = std::abs(before - after) > 0.1 * row.roof;
    if (!row.unstable) break;
  }
  return peak;
}

// Of a config's random weights, or what a folder's config says.
std::string format_name(const Options& o, const ModelConfig& config) {
  if (!o.format.empty()) return o.format;
  return fs::is_directory(o.model) ? std::string(stored_format(config).name) : "bf16";
}

OrderedJson row_json(const Row& row) {
  return {{"phase", row.phase},
          {"depth", row.work.depth},
          {"batch", row.work.batch},
          {"tokens_per_s", row.time.tokens_per_s},
          {"bytes_per_token", row.time.bytes_per_token},
          {"flops_per_token", row.time.flops_per_token},
          {"share_of_roof", row.share()},
          {row.decoding() ? "roof_bytes_per_s" : "roof_flops_per_s", row.roof},
          {"unstable", row.unstable}};
}

void print_row(const Row& row) {
  fmt::print("{:<8}{:>8}{:>7}{:>12.1f}{:>12.1f}{:>10.0f}%{}\n", row.phase, row.work.depth,
             row.work.batch, row.time.tokens_per_s, row.time.bytes_per_token / 1e6,
             100 * row.share(), row.unstable ? "  unstable" : "");
  std::fflush(stdout);
}

int run(const Options& o) {
  const Pretrained pretrained = load(o.model, o.format);
  Transformer& model = *pretrained.model;
  if (!o.trace.empty()) {
    const int code = bench_trace(model, o.trace, o.speed, o.precision, o.json);
    pretrained.check_intact();
    return code;
  }
  OrderedJson rows = OrderedJson::array();
  int64_t peak = peak_memory();
  if (!o.json) {
    fmt::print("{:<8}{:>8}{:>7}{:>12}{:>12}{:>11}\n", "phase", "depth", "batch", "tokens/s",
               "MB/token", "of roof");
  }
  for (const char* const phase : {"prefill", "decode"}) {
    const int64_t tokens = phase == std::string("prefill") ? o.prefill : o.decode;
    for (int32_t depth : o.depths) {
      for (int32_t batch : o.batches) {
        if (tokens == 0) continue;
        HADAL_CHECK(batch >= 1 && batch <= 1024, kUsage, "--batch ", batch,
                    " is not between 1 and 1024");
        Row row{phase, {depth, batch, tokens, o.precision}, {}};
        peak = std::max(peak, measure(model, row));
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
      "zeros. Roofs are measured before and after each row; one whose roofs differ by a tenth is\n"
      "repeated once, then called unstable.\n");
  auto o = std::make_shared<Options>();
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
  add_precision(command, o->precision);
  add_json(command, o->json);
  add_threads(command);
  on_run(cli, command, [o] { return run(*o); });
}

}  // namespace hadal
