// hadal inspect: what a config.json says of a model, without its weights.
#include <spdlog/spdlog.h>

#include <iostream>

#include "cli/command.h"
#include "cli/options.h"
#include "kernels/selftest.h"
#include "model/memory.h"

namespace hadal {
namespace {

struct InspectArguments {
  std::string model, format;  // of the weights; empty: what config.json says
  bool memory = false, json = false;
  ServingNeed need;
};

int run_inspect(const InspectArguments& o) {
  ConfigWarnings warnings;
  const ModelConfig config = load_config(o.model, warnings);
  for (const std::string& line : warnings.lines) spdlog::warn("{}", line);
  const Inspection inspection = inspect_model(config);
  OrderedJson json = inspection_json(inspection);
  if (!o.json) std::cout << inspection_text(inspection);
  HADAL_CHECK(o.memory || (o.need.context == 0 && o.need.batch == 1 && o.format.empty()), kUsage,
              "--context, --batch and --format go with --memory");
  if (o.memory) {
    const ModelFormat& format =
        o.format.empty() ? stored_format(config) : find_model_format(o.format);
    const MemoryPlan plan = plan_memory(config, format, o.need);
    const MachineMemory here = machine_memory();
    const double read = measure_roofs().read_gb_per_s.all_threads * 1e9;
    json["memory"] = memory_json(plan, here, read);
    if (!o.json) std::cout << "\n" << memory_text(plan, here, read);
  }
  if (o.json) print_json(json);
  return 0;
}

}  // namespace

void add_inspect(Cli& cli) {
  CLI::App* command = add_command(
      cli, "inspect", "parameters, cache bytes and operations of a model, from its config alone",
      "  hadal inspect MODEL\n"
      "  hadal inspect config.json --json\n"
      "  hadal inspect config.json --memory --context 32768 --batch 4 --format int4\n");
  auto o = std::make_shared<InspectArguments>();
  add_option(command, "MODEL", o->model, "model folder or config.json").required();
  add_flag(command, "--memory", o->memory,
           "what serving it takes, and the speed that this machine's read roof allows");
  add_option(command, "--context", o->need.context,
             "with --memory: tokens of each text (8192, or the model's)")
      .range(1, int64_t{1} << 30);
  add_option(command, "--batch", o->need.batch, "with --memory: texts at a time (1)")
      .range(1, 1 << 20);
  add_option(command, "--format", o->format,
             "with --memory: of the weights, as of hadal quantize (what config.json says)");
  add_cache_dtype(
      command, [o](DType dtype) { o->need.cache_dtype = dtype; },
      "with --memory: of the KV cache, bf16, fp32 or fp8 (bf16)");
  add_json(command, o->json);
  on_run(cli, command, [o] { return run_inspect(*o); });
}

}  // namespace hadal
